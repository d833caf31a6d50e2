package cluster

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	peerv1 "sluice/api/peer/v1"
	"sluice/api/reason"
)

// toLeader sends a batch to the leader in one call; several may be under way. What a peer sent goes no further.
func (p *proposer) toLeader(ctx context.Context, first *proposal) {
	select {
	case p.calls <- struct{}{}:
	case <-ctx.Done():
		first.finish(nil, stopping())
		return
	}
	b := p.gather(first)
	own := b.proposals[:0]
	for _, q := range b.proposals {
		if q.forwarded {
			q.finish(nil, reason.NoLeader.Errorf("node %s is not the leader", p.node.cfg.NodeID))
			continue
		}
		own = append(own, q)
	}
	b.proposals = own
	addr := p.node.LeaderAddress()
	if addr == "" || len(own) == 0 || p.node.isLeader() {
		b.fail(reason.NoLeader.Errorf("there is no leader at the moment"))
		<-p.calls
		return
	}
	p.node.running.Go(func() error {
		defer func() { <-p.calls }()
		p.call(ctx, addr, b)
		return nil
	})
}

// call forwards one batch and deals the answers out.
func (p *proposer) call(ctx context.Context, addr string, b *batch) {
	req := &peerv1.ForwardRequest{}
	for _, q := range b.proposals {
		req.Commands = append(req.Commands, q.commands...)
		req.Sessions = append(req.Sessions, q.sessions...)
	}
	resp := &peerv1.ForwardResponse{}
	ctx, cancel := p.node.whileLeader(ctx, addr)
	defer cancel()
	if err := p.node.callPeer(ctx, addr, methodForward, req, resp); err != nil {
		b.fail(changeRefusal(err))
		return
	}
	if len(resp.Outcomes) != len(req.Commands) {
		b.fail(reason.OutcomeUnknown.Errorf("the leader gave %d outcomes for %d commands", len(resp.Outcomes), len(req.Commands)))
		return
	}
	p.node.metrics.forwarded.Add(float64(len(req.Commands)))
	b.answer(resp.Outcomes)
}

// What one forwarded batch may hold, whatever the nodes are configured to: above every batch that a node gathers, and
// below what a call between nodes may carry.
const (
	forwardBytesMost    = 48 << 20
	forwardCommandsMost = 16_384
)

// serveForward takes a batch of a peer, if this node leads.
func (n *Node) serveForward(ctx context.Context, req *peerv1.ForwardRequest) (*peerv1.ForwardResponse, error) {
	if !n.isLeader() {
		return nil, n.notLeader()
	}
	if len(req.Commands) == 0 {
		return nil, reason.BadField.Errorf("the batch is empty")
	}
	size := 0
	for _, c := range req.Commands {
		size += len(c)
	}
	if size > forwardBytesMost || len(req.Commands) > forwardCommandsMost {
		return nil, reason.BadField.Errorf("a batch of %d commands with %d bytes is too large: at most %d with %d are taken", len(req.Commands), size, forwardCommandsMost, forwardBytesMost)
	}
	q := newProposal(req.Commands, size)
	q.forwarded, q.sessions = true, req.Sessions
	outcomes, err := n.proposer.submit(ctx, q)
	if err != nil {
		return nil, err
	}
	return &peerv1.ForwardResponse{Outcomes: outcomes}, nil
}

// peerTimeout bounds every call to another node; a long poll takes up to 60 s.
const peerTimeout = 70 * time.Second

// whileLeader makes a context that ends when another node leads: a call to a leader that hangs must not hold up what
// the new one could do.
func (n *Node) whileLeader(ctx context.Context, addr string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	go func() {
		for {
			news := n.leaderNews.next()
			if now := n.LeaderAddress(); now != "" && now != addr {
				cancel()
				return
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

func (n *Node) notLeader() error {
	return reason.NoLeader.Errorf("node %s is not the leader", n.cfg.NodeID)
}

// callPeer asks another node something.
func (n *Node) callPeer(ctx context.Context, addr, method string, req, resp proto.Message) error {
	body, err := proto.Marshal(req)
	if err != nil {
		return err
	}
	answer, err := n.cfg.Transport.CallPeer(ctx, addr, method, body)
	if err != nil {
		return err
	}
	return proto.Unmarshal(answer, resp)
}

// outcomeOf checks that a command answered what it should.
func outcomeOf[T any](out *logv1.Outcome, err error, pick func(*logv1.Outcome) *T) (*T, error) {
	if err != nil {
		return nil, err
	}
	if got := pick(out); got != nil {
		return got, nil
	}
	return nil, reason.OutcomeUnknown.Errorf("the command answered %T", out.Result)
}

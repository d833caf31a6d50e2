package cluster

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	logv1 "sluice/api/log/v1"
	peerv1 "sluice/api/peer/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// OpenSession gives a worker a session under a new id. A ttl and capacity of zero mean the defaults.
func (n *Node) OpenSession(ctx context.Context, req *sluicev1.OpenSessionRequest, actor string) (*sluicev1.OpenSessionResponse, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, reason.Overloaded.Errorf("no session id could be made: %v", err)
	}
	cmd := &logv1.Command{Actor: actor, Kind: &logv1.Command_OpenSession{OpenSession: &logv1.OpenSession{
		SessionId: id.String(), Application: req.Application, Name: req.Name, TtlMs: req.Ttl.AsDuration().Milliseconds(), Capacity: req.Capacity,
	}}}
	out, err := n.Propose(ctx, cmd)
	return outcomeOf(out, err, (*logv1.Outcome).GetSessionOpened)
}

// CloseSession ends a session in good order.
func (n *Node) CloseSession(ctx context.Context, sessionID string) (*sluicev1.CloseSessionResponse, error) {
	cmd := &logv1.Command{Actor: SessionActor(sessionID), Kind: &logv1.Command_CloseSession{CloseSession: &logv1.CloseSession{SessionId: sessionID}}}
	out, err := n.Propose(ctx, cmd)
	return outcomeOf(out, err, (*logv1.Outcome).GetSessionClosed)
}

// SessionActor is who acts, for histories, where a worker's session does.
func SessionActor(id string) string { return "session " + id }

// Settle ends the lives of messages, in order, and renews the session's lease.
func (n *Node) Settle(ctx context.Context, req *sluicev1.SettleRequest) (*sluicev1.SettleResponse, error) {
	cmd := &logv1.Command{Actor: SessionActor(req.SessionId), Kind: &logv1.Command_Settle{Settle: req}}
	out, err := n.propose(ctx, cmd, req.SessionId)
	return outcomeOf(out, err, (*logv1.Outcome).GetSettle)
}

// KeepAlive renews a session's lease and answers its length. UNKNOWN_SESSION: it was closed, or it ran out.
func (n *Node) KeepAlive(ctx context.Context, sessionID string) (ttl time.Duration, err error) {
	resp := &sluicev1.KeepAliveResponse{}
	err = n.atLeader(ctx, n.cfg.LeaderWait, methodKeepAlive, &sluicev1.KeepAliveRequest{SessionId: sessionID}, resp, func(l *leadership) error {
		ttl, err := l.renewSession(sessionID)
		resp.Ttl = durationpb.New(ttl)
		return err
	})
	return resp.Ttl.AsDuration(), err
}

// Poll answers what is out with a session and was not handed out yet, or waits for it: at most the request's wait and
// 60 s, and not beyond two thirds of the lease unless KeepAlive renews it meanwhile. It renews the lease. With afresh everything that is out is handed out again. The request id of the session's
// last poll gives the same deliveries again, those that are still out. Deliveries count as not handed out if ctx has
// ended when the answer is ready.
func (n *Node) Poll(ctx context.Context, req *sluicev1.PollRequest, afresh bool) (*sluicev1.PollResponse, error) {
	return n.poll(ctx, req, afresh, "")
}

// PollStream is Poll for a stream, which has a name of its own and begins afresh: what it brought before has arrived, or
// the stream is over. What another stream brought, or a Poll, may not have arrived and goes along once more.
func (n *Node) PollStream(ctx context.Context, req *sluicev1.PollRequest, stream string, afresh bool) (*sluicev1.PollResponse, error) {
	return n.poll(ctx, req, afresh, stream)
}

func (n *Node) poll(ctx context.Context, req *sluicev1.PollRequest, afresh bool, stream string) (*sluicev1.PollResponse, error) {
	wait := min(max(req.Wait.AsDuration(), 0), pollLongest)
	deadline := time.Now().Add(wait)
	call := &peerv1.PollRequest{Poll: proto.CloneOf(req), Afresh: afresh, Stream: stream}
	resp := &sluicev1.PollResponse{}
	err := n.untilLeader(ctx, max(wait, n.cfg.LeaderWait), func() error {
		call.Poll.Wait = durationpb.New(max(time.Until(deadline), 0))
		proto.Reset(resp)
		err := n.onceAtLeader(ctx, methodPoll, call, resp, func(l *leadership) error {
			got, err := l.poll(ctx, call)
			if err == nil {
				resp = got
			}
			return err
		})
		// What the leader handed out may have been lost with its answer: the next try does not follow it.
		call.Afresh = call.Afresh || err != nil
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// Quiesced tells whether an instance is in recovery and no handler of an earlier epoch that the cluster knows of is
// still at work. It is the leader's own knowledge: a new leader says no until it knows.
func (n *Node) Quiesced(ctx context.Context, id fsm.InstanceID) (bool, error) {
	resp := &peerv1.QuiescedResponse{}
	req := &peerv1.QuiescedRequest{Application: id.Application, Instance: id.Key}
	err := n.atLeader(ctx, n.cfg.LeaderWait, methodQuiesced, req, resp, func(l *leadership) (err error) {
		resp.Quiesced, err = l.quiesced(ctx, id)
		return err
	})
	return resp.Quiesced, err
}

func (l *leadership) quiesced(ctx context.Context, id fsm.InstanceID) (bool, error) {
	if _, err := l.node.reader.index(ctx); err != nil {
		return false, err
	}
	i, err := l.node.groupOf(id).view().Instance(id)
	if err != nil {
		return false, err
	}
	if i.Mode != sluicev1.Mode_MODE_RECOVERY {
		return false, nil
	}
	return i.Owner == "" || l.dispatch.quiesced(id, i.Owner, i.Epoch), nil
}

// atLeader does something at the leader: here if this node leads, else by a call to it; again while there is none.
func (n *Node) atLeader(ctx context.Context, wait time.Duration, method string, req, resp proto.Message, here func(*leadership) error) error {
	return n.untilLeader(ctx, wait, func() error { return n.onceAtLeader(ctx, method, req, resp, here) })
}

// onceAtLeader is atLeader without another try.
func (n *Node) onceAtLeader(ctx context.Context, method string, req, resp proto.Message, here func(*leadership) error) error {
	return n.viaLeader(ctx, method, req, resp, here, readRefusal)
}

// viaLeader does something at the leader; refusal tells what may be concluded when a call to it brings no answer.
func (n *Node) viaLeader(ctx context.Context, method string, req, resp proto.Message, here func(*leadership) error, refusal func(error) error) error {
	if l := n.lead.Load(); l != nil {
		return here(l)
	}
	addr := n.LeaderAddress()
	if addr == "" || n.isLeader() {
		return reason.NoLeader.Errorf("there is no leader at the moment")
	}
	ctx, cancel := n.whileLeader(ctx, addr)
	defer cancel()
	return refusal(n.callPeer(ctx, addr, method, req, resp))
}

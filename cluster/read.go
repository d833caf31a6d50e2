package cluster

import (
	"context"
	"time"

	peerv1 "sluice/api/peer/v1"
	"sluice/api/reason"
	"sluice/fsm"
)

// ReadInfo tells how fresh a View is.
type ReadInfo struct {
	// Index is the last log index that the view holds.
	Index uint64
	// Stale: the view was read without asking the leader.
	Stale bool
	// Age is, of a stale view, how old it may be: how long ago a leader told of nothing committed that the view lacks. Of
	// the leader itself it is the lease, after which one that is cut off leads no more; of a cluster of one it is zero.
	Age time.Duration
}

// readsWaiting bounds the linearizable reads that wait for a read index at a node.
const readsWaiting = 4096

// readWorkers is how many rounds of asking for a read index may be under way at a node at once.
const readWorkers = 2

// View reads the state. A linearizable view holds every change whose outcome anybody was told before the call; it
// answers NO_LEADER when no leader with a quorum can be asked within Config.LeaderWait. A stale one is what this node
// has applied, at once.
func (n *Node) View(ctx context.Context, stale bool) (*fsm.View, ReadInfo, error) {
	if stale {
		v := n.group.view()
		index, _ := v.Applied()
		return v, ReadInfo{Index: index, Stale: true, Age: n.age(index)}, nil
	}
	err := n.untilLeader(ctx, n.cfg.LeaderWait, func() error {
		index, err := n.reader.index(ctx)
		if err != nil {
			return err
		}
		return n.Reached(ctx, index)
	})
	if err != nil {
		return nil, ReadInfo{}, err
	}
	v := n.group.view()
	index, _ := v.Applied()
	return v, ReadInfo{Index: index}, nil
}

// Reached waits until this node has applied an index; NO_LEADER when ctx or the node ends before.
func (n *Node) Reached(ctx context.Context, index uint64) error {
	c, giveUp := n.group.applied.wait(index)
	defer giveUp()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return reason.NoLeader.Errorf("node %s has not caught up with index %d in time", n.cfg.NodeID, index)
	case <-n.stopped:
		return stopping()
	}
}

// reader finds read indexes: what waits shares one question. A question asked for a read begins after the read did.
type reader struct {
	node    *Node
	waiting chan chan readIndex
}

type readIndex struct {
	index uint64
	err   error
}

func newReader(n *Node) *reader {
	return &reader{node: n, waiting: make(chan chan readIndex, readsWaiting)}
}

// index asks for an index; who has applied it may answer a read that begins now.
func (r *reader) index(ctx context.Context) (uint64, error) {
	c := make(chan readIndex, 1)
	select {
	case r.waiting <- c:
	default:
		return 0, reason.Overloaded.Errorf("%d reads wait: try again later, or read stale", readsWaiting)
	}
	select {
	case got := <-c:
		return got.index, got.err
	case <-ctx.Done():
		return 0, reason.NoLeader.Errorf("the leader was not asked in time: %v", context.Cause(ctx))
	case <-r.node.stopped:
		return 0, stopping()
	}
}

// run asks for all that wait, round by round, until ctx ends. Several may run at once.
func (r *reader) run(ctx context.Context) {
	for {
		var round []chan readIndex
		select {
		case c := <-r.waiting:
			round = append(round, c)
		case <-ctx.Done():
			return
		}
		for more := true; more; {
			select {
			case c := <-r.waiting:
				round = append(round, c)
			default:
				more = false
			}
		}
		index, err := r.ask(ctx)
		for _, c := range round {
			c <- readIndex{index, err}
		}
	}
}

func (r *reader) ask(ctx context.Context) (uint64, error) {
	if r.node.isLeader() {
		return r.node.confirmedIndex()
	}
	addr := r.node.LeaderAddress()
	if addr == "" {
		return 0, reason.NoLeader.Errorf("there is no leader at the moment")
	}
	ctx, cancel := r.node.whileLeader(ctx, addr)
	defer cancel()
	resp := &peerv1.ReadIndexResponse{}
	if err := r.node.callPeer(ctx, addr, methodReadIndex, &peerv1.ReadIndexRequest{}, resp); err != nil {
		return 0, readRefusal(err)
	}
	return resp.Index, nil
}

// confirmedIndex is what this leader has applied, confirmed by a quorum to be the leader's still. All that a former
// leader has answered is in it, because this leader's duties begin after it has applied an entry of its own term.
func (n *Node) confirmedIndex() (uint64, error) {
	lead := n.lead.Load()
	if lead == nil {
		return 0, reason.NoLeader.Errorf("node %s is about to lead, and not ready yet", n.cfg.NodeID)
	}
	index := n.group.applied.index()
	if err := n.verify(); err != nil {
		return 0, err
	}
	// A node that lost the lead and was elected anew may not have noticed: what it has applied may lack what another leader
	// answered between.
	if n.lead.Load() != lead || n.raft().CurrentTerm() != lead.term {
		return 0, n.notLeader()
	}
	return index, nil
}

package cluster

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
)

// Propose asks the cluster for one change and answers its outcome once the change is committed and applied. It may be
// called at any node and by many goroutines; what they ask is gathered into few raft entries.
//
// Errors are *reason.Error: NO_LEADER, OVERLOADED and DISK_FULL mean not done; OUTCOME_UNKNOWN means that it may be
// done; every other is the refusal that is the command's outcome. The command must not be changed during the call.
func (n *Node) Propose(ctx context.Context, cmd *logv1.Command) (*logv1.Outcome, error) {
	return n.propose(ctx, cmd, "")
}

// propose is Propose of a command that renews a session's lease when the leader takes it; empty: none.
func (n *Node) propose(ctx context.Context, cmd *logv1.Command, session string) (*logv1.Outcome, error) {
	data, err := proto.Marshal(cmd)
	if err != nil {
		return nil, reason.BadField.Errorf("the command cannot be encoded: %v", err)
	}
	if len(data) > n.cfg.MaxCommandBytes {
		return nil, reason.BadField.Errorf("the call has %d bytes, at most %d are allowed", len(data), n.cfg.MaxCommandBytes)
	}
	began := time.Now()
	var outcomes []*logv1.Outcome
	err = n.untilLeader(ctx, n.cfg.LeaderWait, func() error {
		p := newProposal([][]byte{data}, len(data))
		if session != "" {
			p.sessions = []string{session}
		}
		outcomes, err = n.proposer.submit(ctx, p)
		return err
	})
	if notDone(err) && n.disk.full() {
		err = n.diskFull()
	}
	n.metrics.proposed(began, err)
	if err != nil {
		return nil, err
	}
	if f := outcomes[0].Fault; f != nil {
		return nil, reason.FromFault(f)
	}
	return outcomes[0], nil
}

func (n *Node) diskFull() error {
	return reason.DiskFull.Errorf("the disk of node %s is full: free some space", n.cfg.NodeID)
}

// retryPause is how long a refused call waits for news of a leader before it asks again without any.
const retryPause = 100 * time.Millisecond

// untilLeader calls once and, while the answer is NO_LEADER, again: at each news of a leader, or after a pause, until
// the wait or ctx is over.
func (n *Node) untilLeader(ctx context.Context, wait time.Duration, call func() error) error {
	deadline := time.Now().Add(wait)
	for {
		news := n.leaderNews.next()
		err := call()
		left := time.Until(deadline)
		if !notDone(err) || left <= 0 || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(min(retryPause, left))
		select {
		case <-news:
		case <-timer.C:
		case <-n.stopped:
			timer.Stop()
			return err
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// The stages of a proposal.
const (
	stageQueued int32 = iota
	stageTaken
	stageGivenUp
)

// proposal is one or more commands that go into the same entry. Its fields belong to the proposer from submit on;
// outcomes and err are valid once done is closed.
type proposal struct {
	// commands are marshalled logv1.Commands, bytes long in all.
	commands [][]byte
	bytes    int
	// sessions are the leases that the commands renew.
	sessions []string
	// forwarded: a peer sent it, so it must not travel on.
	forwarded bool
	// opening: it is what a leadership begins with, and goes before all others.
	opening bool
	// stage decides between the proposer that takes it and the caller that gives up: whoever moves it first.
	stage    atomic.Int32
	outcomes []*logv1.Outcome
	err      error
	done     chan struct{}
}

func newProposal(commands [][]byte, bytes int) *proposal {
	return &proposal{commands: commands, bytes: bytes, done: make(chan struct{})}
}

func (p *proposal) finish(outcomes []*logv1.Outcome, err error) {
	p.outcomes, p.err = outcomes, err
	close(p.done)
}

// submit queues a proposal and waits for its outcome.
func (p *proposer) submit(ctx context.Context, q *proposal) ([]*logv1.Outcome, error) {
	bytes, commands := p.queued(1, q)
	if bytes > int64(p.node.cfg.QueueBytes) {
		p.queued(-1, q)
		return nil, reason.Overloaded.Errorf("more than %d bytes wait to be proposed: try again later", p.node.cfg.QueueBytes)
	}
	select {
	case p.queue <- q:
		if p.fills(bytes, commands) {
			p.room.ring()
		}
	default:
		p.queued(-1, q)
		return nil, reason.Overloaded.Errorf("%d calls wait to be proposed: try again later", cap(p.queue))
	}
	select {
	case <-q.done:
		return q.outcomes, q.err
	case <-ctx.Done():
	case <-p.node.stopped:
	}
	if q.stage.CompareAndSwap(stageQueued, stageGivenUp) {
		if ctx.Err() == nil {
			return nil, stopping()
		}
		return nil, reason.Overloaded.Errorf("it was not proposed in time: %v", context.Cause(ctx))
	}
	select {
	case <-q.done:
		return q.outcomes, q.err
	default:
		return nil, reason.OutcomeUnknown.Errorf("the call ended before its outcome was known; the same call with the same id is safe")
	}
}

package cluster

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A node answers heartbeats while raft gets nowhere with a message for stallFactor heartbeat timeouts, and for stallLongest
// at most if that is more than one of them: a disk that hangs for longer costs its node the leader's trust.
const (
	stallFactor  = 10
	stallLongest = 5 * time.Second
)

// relay takes what has come for raft, until the node has stopped.
func (t *raftTransport) relay() {
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			t.node.hear(rpc)
			if req, ok := heartbeat(rpc); ok {
				go t.beat(rpc, req)
			} else {
				go t.carry(rpc)
			}
		case <-t.node.halted:
			return
		case <-t.node.abandoned:
			return
		}
	}
}

// heartbeat tells whether a message is one of those by which a leader only shows that it is there.
func heartbeat(rpc raft.RPC) (*raft.AppendEntriesRequest, bool) {
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	return req, ok && len(req.Entries) == 0 && req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && req.LeaderCommitIndex == 0
}

// carry hands a message to raft, and looks at it first: then, and until raft has answered, raft is at no other one but
// heartbeats, so that what was seen of the log holds.
func (t *raftTransport) carry(rpc raft.RPC) {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-t.node.halted:
		return
	case <-t.node.abandoned:
		return
	}
	if !t.node.settleTail(rpc) {
		rpc.Respond(nil, raft.ErrRaftShutdown)
		return
	}
	if t.spares(rpc) {
		return
	}
	rpc = t.votable(t.trimmed(rpc))
	answer, answered := rpc.RespChan, make(chan raft.RPCResponse, 1)
	rpc.RespChan = answered
	if rpc.Reader != nil {
		rpc.Reader = &progressReader{rpc.Reader, t.node.engaged.goesOn}
	}
	select {
	case t.rpcs <- rpc:
	case <-t.node.halted:
		return
	case <-t.node.abandoned:
		return
	}
	t.node.engaged.begins()
	defer t.node.engaged.ends()
	select {
	case a := <-answered:
		answer <- a
	case <-t.node.halted:
	case <-t.node.abandoned:
	}
}

// beat hands a heartbeat to raft. While raft's main loop is at a message for long, it answers in raft's place, if raft
// knows the leader and its term: a disk that is slow is no reason to take a leader for lost. That answer says what raft's
// would: at a moment after the heartbeat came, this node knew of no later term, so it had voted in none. Raft takes note of
// the leader itself when it is done with the message, unless that fails.
func (t *raftTransport) beat(rpc raft.RPC, req *raft.AppendEntriesRequest) {
	often := time.NewTicker(t.node.cfg.HeartbeatTimeout / 10) // as often as a leader sends them
	defer often.Stop()
	for {
		select {
		case t.rpcs <- rpc:
			return
		case <-often.C:
			if t.vouches(req) {
				t.node.metrics.beatsBeside.Inc()
				rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: req.RPCHeader, Term: req.Term, LastLog: t.node.raft().LastIndex(), Success: true}, nil)
				return
			}
		case <-t.node.halted:
			return
		case <-t.node.abandoned:
			return
		}
	}
}

// vouches tells whether raft is at a message, and would thank for a heartbeat.
func (t *raftTransport) vouches(req *raft.AppendEntriesRequest) bool {
	r, timeout := t.node.raft(), t.node.cfg.HeartbeatTimeout
	if r == nil || !t.node.engaged.lately(max(timeout, min(stallFactor*timeout, stallLongest))) {
		return false
	}
	_, leader := r.LeaderWithID()
	return leader == raft.ServerID(req.ID) && r.State() == raft.Follower && r.CurrentTerm() == req.Term
}

// engagement knows whether raft's main loop is at a message, and when that was last seen to go on.
type engagement struct {
	mu   sync.Mutex
	seen time.Time // zero: it is at none
}

func (e *engagement) begins() { e.set(time.Now()) }
func (e *engagement) ends()   { e.set(time.Time{}) }

func (e *engagement) set(seen time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = seen
}

// goesOn notes that something was done for the message that raft is at, if it is at one.
func (e *engagement) goesOn() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.seen.IsZero() {
		e.seen = time.Now()
	}
}

// lately tells whether there is a message that went on within a time.
func (e *engagement) lately(within time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.seen.IsZero() && time.Since(e.seen) < within
}

// progressReader is a snapshot on its way to raft, or to the state machine: as long as some of it is read, raft goes on.
type progressReader struct {
	io.Reader
	goesOn func()
}

func (r *progressReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.goesOn()
	}
	return n, err
}

// SetHeartbeatHandler does nothing: raft's own way beside its main loop is not taken.
func (t *raftTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// Consumer gives what has come for raft.
func (t *raftTransport) Consumer() <-chan raft.RPC { return t.rpcs }

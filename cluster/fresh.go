package cluster

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// fresh knows since when what this node has applied may be out of date: not since it heard from a leader, for one that
// was cut off hears heartbeats long before it is sent what it missed.
type fresh struct {
	mu sync.Mutex
	// asOf: all that a leader had committed then is applied.
	asOf time.Time
	// told is when a leader said that it had committed index, which was not applied then; zero: none did.
	told  time.Time
	index uint64
}

// tell notes what a leader said of itself.
func (f *fresh) tell(now time.Time, committed, applied uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reach(applied)
	switch {
	case applied >= committed && f.told.IsZero(): // else this may be late, of a leader that is gone
		f.asOf = later(f.asOf, now)
	case f.told.IsZero():
		f.told, f.index = now, committed
	}
}

// since answers the time as of which a view of an index holds all that was committed; zero: no leader has told yet.
func (f *fresh) since(applied uint64) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reach(applied)
	return f.asOf
}

// reach takes in what has been applied since it was told of.
func (f *fresh) reach(applied uint64) {
	if !f.told.IsZero() && applied >= f.index {
		f.asOf, f.told = later(f.asOf, f.told), time.Time{}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// hear takes what a leader says of itself from a message to raft. A heartbeat says nothing, and neither does a leader
// of a term that is over.
func (n *Node) hear(rpc raft.RPC) {
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if r := n.raft(); ok && r != nil && req.LeaderCommitIndex > 0 && req.Term >= r.CurrentTerm() {
		n.fresh.tell(time.Now(), req.LeaderCommitIndex, n.group.applied.index())
	}
}

// age is how old a view of an index may be. A leader may have been cut off for as long as its lease without knowing it.
func (n *Node) age(index uint64) time.Duration {
	if n.lead.Load() != nil {
		if len(n.servers()) == 1 {
			return 0
		}
		return n.cfg.LeaderLeaseTimeout
	}
	asOf := n.fresh.since(index)
	if asOf.IsZero() {
		asOf = n.started
	}
	return time.Since(asOf)
}

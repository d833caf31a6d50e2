package cluster

import (
	"math"

	"github.com/hashicorp/raft"
)

// laterLog is a raft log that need not be waited for: see raftlog.Store.
type laterLog interface {
	StoreLater(logs []*raft.Log, stored func(error)) error
	Unwritten(index uint64) <-chan struct{}
}

// besideFollowers tells whether entries may be written while the followers are sent them already. They may if raft hands
// them to this node as a leader that cannot commit without another voter, whose word it is not told before they are on its
// own disk. What is not a command is waited for: with the first entry of its term a leader has all before it on its disk, and
// a configuration decides who counts.
func (n *Node) besideFollowers(logs []*raft.Log) bool {
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			return false
		}
	}
	// Raft changes its state and its configuration where it writes as a leader, on its main loop: they cannot change
	// under this.
	r := n.raft()
	return r != nil && r.State() == raft.Leader && voters(n.servers()) > 1
}

func voters(servers []raft.Server) int {
	count := 0
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			count++
		}
	}
	return count
}

// unwritten answers nil if all entries up to an index are on this node's disk, and else a channel that is closed when there
// is news: then ask again.
func (n *Node) unwritten(index uint64) <-chan struct{} {
	if later, ok := n.raftLog.(laterLog); ok {
		return later.Unwritten(index)
	}
	return nil
}

// written waits until all entries up to an index are on this node's disk; false: the node ends before.
func (n *Node) written(index uint64) bool {
	for news := n.unwritten(index); news != nil; news = n.unwritten(index) {
		select {
		case <-news:
		case <-n.ended.Done():
			return false
		}
	}
	return true
}

// acknowledges is the last entry that an answer acknowledges; 0: none.
func acknowledges(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) uint64 {
	if !resp.Success || len(req.Entries) == 0 {
		return 0
	}
	return req.Entries[len(req.Entries)-1].Index
}

// settleTail waits until all that this node has in its log now is on its disk, before it answers a leader that may count on
// it: false: the node ends before. A node that led a moment ago may hold entries that are still being written. An entry
// that the leader has in common with it was handed to its log before the leader sent for it, and so before the call came in.
func (n *Node) settleTail(rpc raft.RPC) bool {
	switch rpc.Command.(type) {
	case *raft.AppendEntriesRequest, *raft.InstallSnapshotRequest:
	default:
		return true
	}
	if n.unwritten(math.MaxUint64) == nil {
		return true
	}
	last, err := n.raftLog.LastIndex()
	return err == nil && n.written(last)
}

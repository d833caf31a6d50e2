package cluster

import (
	"io"

	"github.com/hashicorp/raft"
)

// spares answers in raft's place what raft would do harm with, and tells whether it did.
//
// Entries that the disk has no room for are an error of the call, after which the leader waits and tries again. Raft would
// refuse them as if they did not follow on what the node has; the leader would go back entry by entry, and then send a
// snapshot, again and again.
//
// A snapshot of what the node has already is thanked for. Raft would take it, and throw away all entries of a log that may
// have no gaps, those behind the snapshot among them, which the node has acknowledged and a majority may rest on; and it
// would go on as if it had them (raft 1.7.3, installSnapshot). Whoever has the last entry of a snapshot keeps what follows
// on it (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014, 7).
func (t *raftTransport) spares(rpc raft.RPC) bool {
	r := t.node.raft()
	if r == nil {
		return false
	}
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		if len(req.Entries) == 0 || !t.node.disk.critical() {
			return false
		}
		rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: req.RPCHeader, Term: r.CurrentTerm(), LastLog: r.LastIndex()}, errDiskFull)
		return true
	case *raft.InstallSnapshotRequest:
		term := r.CurrentTerm()
		if req.Term < term || !t.node.has(req.LastLogIndex, req.LastLogTerm) {
			return false
		}
		go func() { // it may be long, and all of it must be taken off the stream
			_, err := io.Copy(io.Discard, rpc.Reader)
			// Of a leader that raft has not heard of yet it is not taken: raft hears of it by a heartbeat.
			rpc.Respond(&raft.InstallSnapshotResponse{RPCHeader: req.RPCHeader, Term: term, Success: err == nil && req.Term == term}, err)
		}()
		return true
	}
	return false
}

// has tells whether an entry that a snapshot ends with is in this node's log, or is the last one of a snapshot of it, or comes
// before: all that is in snapshots is committed.
func (n *Node) has(index, term uint64) bool {
	if newest, _, ok := n.newestSnapshot(); ok && index < newest {
		return true
	}
	var l raft.Log
	if err := n.raftLog.GetLog(index, &l); err == nil {
		return l.Term == term
	}
	last, err := n.raftLog.LastIndex()
	if err != nil || last <= index { // nothing would be thrown away
		return false
	}
	at, ok := n.snapshotTerm(index)
	return ok && at == term
}

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

// trimmed is a call of raft without the entries that this node holds in its newest snapshot and no longer in its log. They
// are committed, so they are what the leader has in their place, and what follows on them follows on the snapshot. Raft
// would refuse them, for it cannot tell the term of what they follow on. The call tells of no more commits than it shows: what
// lies further on in the log was compared with nothing, and may be the tail of a leader that is gone.
func (t *raftTransport) trimmed(rpc raft.RPC) raft.RPC {
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if !ok || req.PrevLogEntry == 0 && len(req.Entries) == 0 { // a heartbeat follows on nothing
		return rpc
	}
	if r := t.node.raft(); r != nil && r.LastIndex() == req.PrevLogEntry { // as nearly all do: to ask the log costs more
		return rpc
	}
	first, err := t.node.raftLog.FirstIndex()
	if err != nil || first > 0 && req.PrevLogEntry+1 >= first {
		return rpc
	}
	index, term, ok := t.node.newestSnapshot()
	if !ok || req.PrevLogEntry >= index {
		return rpc
	}
	short := *req
	short.PrevLogEntry, short.PrevLogTerm = index, term
	short.Entries = nil
	last := index
	for n, e := range req.Entries {
		if e.Index > index {
			short.Entries = req.Entries[n:]
			last = req.Entries[len(req.Entries)-1].Index
			break
		}
	}
	short.LeaderCommitIndex = min(req.LeaderCommitIndex, last)
	rpc.Command = &short
	return rpc
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

// votable is a question before a vote (pre-vote) under the id of a node that votes as far as this one knows. Raft would look
// for the candidate there, and does nothing else with the id; this node may not have heard yet of the candidate's membership,
// nor that it votes itself.
func (t *raftTransport) votable(rpc raft.RPC) raft.RPC {
	req, ok := rpc.Command.(*raft.RequestPreVoteRequest)
	if !ok {
		return rpc
	}
	for _, s := range t.node.servers() {
		if s.Suffrage == raft.Voter {
			asked := *req
			asked.ID = []byte(s.ID)
			rpc.Command = &asked
			break
		}
	}
	return rpc
}

// Package cluster acts: it is a node of a Sluice cluster, from the raft log and the state beneath it to the duties
// of the leader.
//
// A change goes through Propose: commands of many clients are gathered into one raft entry, a follower forwards a
// batch to the leader, and the state machine (package fsm) decides when the entry is applied. A read goes through
// View: linearizable at any node, or stale with its age. Workers go through Poll, which only the leader answers,
// from memory that it can derive from the state at any time: what is handed out writes no log entry.
//
// The leader also keeps the sessions' leases, gives instances to sessions, and proposes what time brings: backoffs
// that end, messages that expire, outgoing messages, operations. All effects of Apply are hints for these duties; a
// new leader finds the same work in its View.
//
// This is the only package that knows raft and gossip. It knows nothing of HTTP.
package cluster

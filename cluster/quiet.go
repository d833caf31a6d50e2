package cluster

import (
	"log/slog"

	"github.com/hashicorp/raft"
)

// ordinary are the lines of raft that it holds for trouble and that a healthy cluster writes: when it is founded, when a
// node comes back, and when the lead changes.
var ordinary = map[string]slog.Level{
	"no known peers, aborting election":            slog.LevelDebug,
	"heartbeat timeout reached, starting election": slog.LevelInfo,
	"failed to get previous log":                   slog.LevelInfo,
	"appendEntries rejected, sending older logs":   slog.LevelInfo,
	"peer has newer term, stopping replication":    slog.LevelInfo,
}

// raftLevel is the level of a line of raft. While this node stops, streams that end are no news, and neither is it that
// a node that said good-bye is not reached.
func (n *Node) raftLevel(r slog.Record) slog.Level {
	select {
	case <-n.stopped:
		return slog.LevelDebug
	default:
	}
	level, known := ordinary[r.Message]
	if !known {
		level = r.Level
	}
	r.Attrs(func(a slog.Attr) bool {
		if n.hasLeft(a) {
			level = slog.LevelDebug
		}
		return true
	})
	return level
}

// hasLeft tells whether an attribute of a line of raft names a node that said good-bye.
func (n *Node) hasLeft(a slog.Attr) bool {
	switch peer := a.Value.Any().(type) {
	case raft.Server:
		return n.lastHealth(string(peer.ID)) == left
	case raft.ServerID:
		return n.lastHealth(string(peer)) == left
	case raft.ServerAddress:
		return n.leftFrom(string(peer))
	}
	return false
}

// leftFrom tells whether the node that gossip saw last at an address said good-bye.
func (n *Node) leftFrom(address string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for id, m := range n.seen {
		if m.Address == address && n.health[id] == left {
			return true
		}
	}
	return false
}

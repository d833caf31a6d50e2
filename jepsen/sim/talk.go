package sim

import (
	"strings"
	"sync"
)

// talk is what is known of what the two ends of a connection say, from how transport.hello and raft's requests begin.
type talk struct {
	// mu guards what follows.
	mu sync.Mutex
	// hello: its first bytes were said; welcomed: they were answered. raft: it is a connection of raft.
	hello, welcomed, raft bool
	// asked is the latest request of raft.
	asked string
}

// requests are raft's, by the byte that they begin with.
var requests = []string{"append", "vote", "snapshot", "hand-over", "vote"}

// kindRaft is how a connection of raft begins.
const kindRaft = 1

// says tells at which point a node is that writes something: asks if it made the connection. Empty: at none.
func (t *talk) says(asks bool, p []byte) point {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(p) == 0:
		return ""
	case asks && !t.hello:
		t.hello, t.raft = true, p[0] == kindRaft
		return ""
	case !asks && !t.welcomed:
		t.welcomed = true
		return ""
	case asks && !t.raft:
		return "call: asked"
	case !t.raft:
		return "call: answered"
	case !asks:
		return point(t.asked + ": answered")
	}
	// What follows the request for a snapshot are its pieces, each of which is a point of its own.
	if int(p[0]) < len(requests) && (t.asked != "snapshot" || len(p) < pieceLeast) {
		t.asked = requests[p[0]]
	}
	return point(t.asked + ": asked")
}

// pieceLeast is a size that raft's requests on the connection of a snapshot do not reach.
const pieceLeast = 4 << 10

// point is where an end is that writes; empty: at none, or its host is not watched.
func (c *conn) point(p []byte) point {
	switch {
	case c.host.watched == nil:
		return ""
	case isGuest(c.remoteName()):
		return "client: answered"
	}
	return c.talk.says(c.asks, p)
}

func (c *conn) remoteName() string {
	if c.asks {
		return c.out.link.to
	}
	return c.in.link.from
}

// isGuest tells clients and workers from nodes, by their address.
func isGuest(name string) bool { return !strings.HasPrefix(name, nodeNet) }

// nodeNet is where nodes are.
const nodeNet = "10.0.0."

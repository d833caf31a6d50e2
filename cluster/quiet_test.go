package cluster

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"sluice/cluster/gossip"
)

func TestWhatIsOrdinaryForRaftIsNoTrouble(t *testing.T) {
	t.Parallel()
	n := &Node{stopped: make(chan struct{}), log: testLogger(), seen: map[string]gossip.Member{}, health: map[string]string{}}
	at := func(id string) gossip.Member { return gossip.Member{Meta: gossip.Meta{NodeID: id, Address: id + ":1"}} }
	n.onGossip(gossip.Event{Kind: gossip.Left, Member: at("left")})
	n.onGossip(gossip.Event{Kind: gossip.Failed, Member: at("dead")})
	level := func(message string, attrs ...any) slog.Level {
		r := slog.NewRecord(time.Now(), slog.LevelError, message, 0)
		r.Add(attrs...)
		return n.raftLevel(r)
	}
	for _, c := range []struct {
		message string
		peer    any
		want    slog.Level
	}{
		{"failed to appendEntries to", raft.Server{ID: "left"}, slog.LevelDebug},
		{"failed to appendEntries to", raft.Server{ID: "dead"}, slog.LevelError},
		{"failed to contact", raft.ServerID("left"), slog.LevelDebug},
		{"failed to contact", raft.ServerID("dead"), slog.LevelError},
		{"failed to heartbeat to", raft.ServerAddress("left:1"), slog.LevelDebug},
		{"failed to heartbeat to", raft.ServerAddress("dead:1"), slog.LevelError},
		{"heartbeat timeout reached, starting election", "", slog.LevelInfo},
		{"failed to commit logs", "", slog.LevelError},
	} {
		if got := level(c.message, "peer", c.peer); got != c.want {
			t.Errorf("%s %v: %v, want %v", c.message, c.peer, got, c.want)
		}
	}
	close(n.stopped)
	if got := level("failed to decode incoming command"); got != slog.LevelDebug {
		t.Errorf("while the node stops: %v", got)
	}
}

func TestAStreamClosedOnThisSideEndsLikeAnyOther(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	defer there.Close()
	c := &greetedConn{Conn: &closedConn{here}}
	c.once.Do(func() {})
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v", err)
	}
	if other := errors.New("other"); ended(other) != other {
		t.Error("another error was changed")
	}
}

// closedConn is a connection that this side has closed.
type closedConn struct{ net.Conn }

func (closedConn) Read([]byte) (int, error) { return 0, &net.OpError{Op: "read", Err: net.ErrClosed} }

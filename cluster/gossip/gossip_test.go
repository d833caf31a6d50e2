package gossip

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node runs one node until the test ends; its events come through the channel.
func node(t *testing.T, id, cluster string, seeds ...string) (g *Gossip, events chan Event, stop func()) {
	t.Helper()
	events = make(chan Event, 100)
	g, err := Listen(Config{
		NodeID: id, Cluster: cluster, Bind: "127.0.0.1:0", Join: seeds, Timings: Local, Logger: slog.New(slog.DiscardHandler),
		Meta: Meta{NodeID: id, Address: id + ":1", Cluster: cluster, BootstrapExpect: 3}, OnEvent: func(e Event) { events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	t.Cleanup(stop)
	return g, events, stop
}

// until reads events until one fits.
func until(t *testing.T, events chan Event, kind EventKind, id string) Event {
	t.Helper()
	for {
		select {
		case e := <-events:
			if e.Kind == kind && e.Member.NodeID == id {
				return e
			}
		case <-t.Context().Done():
			t.Fatalf("no event %d of %s", kind, id)
		}
	}
}

func TestNodesFindEachOtherAndSayGoodBye(t *testing.T) {
	t.Parallel()
	a, seenByA, _ := node(t, "a", "x")
	b, seenByB, stopB := node(t, "b", "x", a.Addr(), "127.0.0.1:1")
	if e := until(t, seenByA, Joined, "b"); e.Member.Address != "b:1" || e.Member.BootstrapExpect != 3 || e.Member.GossipAddress != b.Addr() {
		t.Fatalf("a sees %+v", e.Member)
	}
	until(t, seenByB, Joined, "a")
	if m := a.Members(); len(m) != 2 || m[0].NodeID != "a" || m[1].NodeID != "b" || !m[1].Alive {
		t.Fatalf("members: %+v", m)
	}
	if err := b.UpdateMeta(Meta{NodeID: "b", Address: "b:2", Cluster: "x", HasState: true}); err != nil {
		t.Fatal(err)
	}
	if e := until(t, seenByA, Updated, "b"); e.Member.Address != "b:2" || !e.Member.HasState {
		t.Fatalf("a sees %+v", e.Member)
	}
	stopB()
	until(t, seenByA, Left, "b")
}

func TestAnotherClusterIsNotHeard(t *testing.T) {
	t.Parallel()
	a, _, _ := node(t, "a", "x")
	stranger, _, _ := node(t, "s", "y", a.Addr())
	if _, err := stranger.list.Join([]string{a.Addr()}); err == nil {
		t.Fatal("a node of another cluster was let in")
	}
	if m := a.Members(); len(m) != 1 {
		t.Fatalf("members: %+v", m)
	}
}

// warnings passes on what is logged, and drops it when nobody takes it.
type warnings chan string

func (w warnings) Write(p []byte) (int, error) {
	select {
	case w <- string(p):
	default:
	}
	return len(p), nil
}

func TestANodeThatFindsNobodyIsToldWhatMayBeWrong(t *testing.T) {
	t.Parallel()
	other, _, _ := node(t, "a", "x")
	for name, c := range map[string]struct{ seed, words string }{
		"another cluster": {other.Addr(), "another --cluster-name"},
		"nobody there":    {"127.0.0.1:1", "does that node run"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := make(warnings, 100)
			g, err := Listen(Config{
				NodeID: "s", Cluster: "y", Bind: "127.0.0.1:0", Join: []string{c.seed}, Timings: Local, Meta: Meta{NodeID: "s"},
				JoinRetryMin: time.Millisecond, JoinRetryMax: 10 * time.Millisecond,
				Logger: slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelWarn})),
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- g.Run(ctx) }()
			for line := range said {
				if strings.Contains(line, "no other node has been found yet") {
					if !strings.Contains(line, c.words) || !strings.Contains(line, "cluster=y") || !strings.Contains(line, c.seed) {
						t.Errorf("want %q, got %s", c.words, line)
					}
					break
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnAddressInUseIsTheSystemsError(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	for _, busy := range []string{tcp.Addr().String(), udp.LocalAddr().String()} {
		g, err := Listen(Config{NodeID: "a", Bind: busy, Logger: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), busy) {
			t.Errorf("got %v, want that %s is in use", err, busy)
		}
		if g != nil {
			_ = g.Close()
		}
	}
}

func TestBadConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	long := string(make([]byte, 600))
	for what, cfg := range map[string]Config{
		"bind":      {NodeID: "a", Bind: "nonsense"},
		"port":      {NodeID: "a", Bind: "127.0.0.1:70000"},
		"advertise": {NodeID: "a", Bind: "127.0.0.1:0", Advertise: "x"},
		"meta":      {NodeID: "a", Bind: "127.0.0.1:0", Meta: Meta{NodeID: long}},
	} {
		if g, err := Listen(cfg); err == nil {
			t.Errorf("%s: taken", what)
			_ = g.Close()
		}
	}
}

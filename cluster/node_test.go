package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/cluster/raftlog"
)

// A probe of memberlist that is under way when gossip ends takes its time to find out. Raft leaves what it was asked in
// the moment in which it stopped without an answer: settled waits no longer then, the future's own wait stays.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probe"), goleak.IgnoreAnyFunction("github.com/hashicorp/raft.(*deferError).Error"))
}

// patience bounds every wait of these tests; they wait for signals and never sleep it out.
const patience = 60 * time.Second

// world is a cluster within a test.
type world struct {
	t      *testing.T
	dir    string
	fabric *fabric
	nodes  map[string]*member
	change func(*Config)
	// stay: nodes keep their addresses over restarts.
	stay bool
	// logs keep what raft stored, across restarts, if the raft log is kept in memory.
	mu   sync.Mutex
	logs map[string]*memoryLog
}

// member is one node of a world, running or not.
type member struct {
	*Node
	world *world // nil: it is alone
	port  *port
	end   context.CancelFunc
	done  chan struct{}
	err   error
}

func newWorld(t *testing.T, change func(*Config)) *world {
	w := &world{t: t, dir: t.TempDir(), fabric: newFabric(), nodes: map[string]*member{}, change: change, logs: map[string]*memoryLog{}}
	t.Cleanup(w.stopAll)
	return w
}

func testLogger() *slog.Logger {
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// start starts a node, on its old data if it ran before.
func (w *world) start(id string, expect int) *member {
	w.t.Helper()
	dir := filepath.Join(w.dir, id)
	m := &member{world: w, port: w.listen(id), done: make(chan struct{})}
	n, err := New(w.config(id, dir, expect, m.port))
	if err != nil {
		w.t.Fatalf("start %s: %v", id, err)
	}
	m.Node = n
	ctx, cancel := context.WithCancel(context.Background())
	m.end = cancel
	w.nodes[id] = m
	go func() {
		defer close(m.done)
		m.err = n.Run(ctx)
	}()
	return m
}

// listen gives a node a new address, or its old one in a world in which nodes stay where they are.
func (w *world) listen(id string) *port {
	if before := w.nodes[id]; w.stay && before != nil {
		return w.fabric.listenAt(before.port.addr)
	}
	return w.fabric.listen()
}

func (w *world) config(id, dir string, expect int, p *port) Config {
	cfg := Config{
		NodeID: id, Cluster: "test", DataDir: dir, Transport: p, Logger: testLogger(), GossipBind: "test", BootstrapExpect: expect,
		HeartbeatTimeout: 200 * time.Millisecond, ElectionTimeout: 200 * time.Millisecond, LeaderLeaseTimeout: 150 * time.Millisecond,
		CommitTimeout: 5 * time.Millisecond, PromoteAfter: 200 * time.Millisecond, LeaderWait: 20 * time.Second,
	}
	cfg.ListenGossip = w.fabric.gossip
	cfg.OpenLog = func(string, raftlog.Config) (RaftLog, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.logs[id] == nil {
			w.logs[id] = &memoryLog{InmemStore: raft.NewInmemStore()}
		}
		return w.logs[id], nil
	}
	if w.change != nil {
		w.change(&cfg)
	}
	return cfg
}

// memoryLog is a raft log that survives its node, and that a test can break.
type memoryLog struct {
	*raft.InmemStore
	mu     sync.Mutex
	broken error
	// held, if set, is a disk that hangs until it is closed.
	held chan struct{}
}

func (m *memoryLog) breakWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

// hold makes writes wait until the function that it gives is called.
func (m *memoryLog) hold() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := make(chan struct{})
	m.held = held
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.held = nil
		close(held)
	})
}

func (m *memoryLog) StoreLogs(logs []*raft.Log) error {
	m.mu.Lock()
	held := m.held
	m.mu.Unlock()
	if held != nil {
		<-held
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	return m.InmemStore.StoreLogs(logs)
}

func (m *memoryLog) StoreLog(l *raft.Log) error { return m.StoreLogs([]*raft.Log{l}) }
func (m *memoryLog) Close() error               { return nil }

// IsMonotonic is true: as in a log on disk, there are no gaps.
func (m *memoryLog) IsMonotonic() bool { return true }

// founded starts a cluster of several nodes and waits until it stands.
func (w *world) founded(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		w.start(id, len(ids))
	}
	w.ready(ids...)
}

// ready waits until nodes are ready.
func (w *world) ready(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		w.until(id+" is ready", w.nodes[id].Node, func() bool {
			for _, c := range w.nodes[id].Ready() {
				if !c.OK {
					return false
				}
			}
			return true
		})
	}
}

// until waits for a condition, looking at each news of a leader and every few milliseconds.
func (w *world) until(what string, n *Node, condition func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		news := n.leaderNews.next()
		timer := time.NewTimer(5 * time.Millisecond)
		select {
		case <-news:
		case <-timer.C:
		}
		timer.Stop()
		if time.Now().After(deadline) {
			w.t.Fatalf("waited %v in vain: %s; %+v", patience, what, n.Ready())
		}
	}
}

// stop ends a node in good order.
func (w *world) stop(id string) error {
	m := w.nodes[id]
	m.end()
	<-m.done
	m.port.Close()
	return m.err
}

// kill ends a node without a word to the others.
func (w *world) kill(id string) {
	m := w.nodes[id]
	w.fabric.isolate(m.port.addr, true)
	m.Node.Abort(errors.New("killed"))
	<-m.done
	m.port.Close()
}

// forget ends a node without a word, and with it everything that it had on disk.
func (w *world) forget(id string) {
	w.t.Helper()
	w.kill(id)
	w.mu.Lock()
	delete(w.logs, id)
	w.mu.Unlock()
	if err := os.RemoveAll(filepath.Join(w.dir, id)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stopAll() {
	for _, m := range w.nodes {
		m.end()
	}
	for id, m := range w.nodes {
		<-m.done
		m.port.Close()
		if m.err != nil && !w.t.Failed() && m.err.Error() != "killed" {
			w.t.Logf("node %s ended with %v", id, m.err)
		}
	}
}

// leader waits for a node among those that leads.
func (w *world) leader(ids ...string) *member {
	w.t.Helper()
	var found *member
	w.until("a leader", w.nodes[ids[0]].Node, func() bool {
		for _, id := range ids {
			if w.nodes[id].lead.Load() != nil {
				found = w.nodes[id]
				return true
			}
		}
		return false
	})
	return found
}

func (w *world) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// must proposes a command that must succeed.
func (w *world) must(m *member, cmd *logv1.Command) *logv1.Outcome {
	w.t.Helper()
	for {
		out, err := m.Propose(w.context(), cmd)
		if errors.Is(err, reason.OutcomeUnknown) || errors.Is(err, reason.Overloaded) {
			continue
		}
		if err != nil {
			w.t.Fatalf("propose %T: %v", cmd.Kind, err)
		}
		return out
	}
}

func declare(app string) *logv1.Command {
	return &logv1.Command{Actor: "test", Kind: &logv1.Command_ApplyApplication{ApplyApplication: &sluicev1.Application{Name: app}}}
}

func sending(app, instance string, ids ...string) *logv1.Command {
	s := &logv1.Send{}
	for _, id := range ids {
		s.Messages = append(s.Messages, &sluicev1.Message{Application: app, Instance: instance, Id: id, Type: "step", Data: []byte(id)})
	}
	return &logv1.Command{Actor: "test", Kind: &logv1.Command_Send{Send: s}}
}

func (w *world) send(m *member, app, instance string, ids ...string) []*sluicev1.SendResult {
	w.t.Helper()
	results := w.must(m, sending(app, instance, ids...)).GetSend().GetResults()
	for n, r := range results {
		if r.Error != nil {
			w.t.Fatalf("send %s: %v", ids[n], r.Error)
		}
	}
	return results
}

func names(prefix string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%s%d", prefix, i))
	}
	return out
}

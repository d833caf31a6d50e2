package cluster

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// startHeld starts nodes, on their old data, with the wish to start held.
func (w *world) startHeld(ids ...string) {
	w.t.Helper()
	w.change = func(c *Config) { c.StartHeld = true }
	defer func() { w.change = nil }()
	for _, id := range ids {
		w.start(id, 3)
	}
}

func (w *world) generation(m *member, app string) uint64 {
	w.t.Helper()
	v, _, err := m.View(w.context(), false)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := v.Application(app)
	if err != nil {
		w.t.Fatal(err)
	}
	return a.RecoveryGeneration
}

func completing(app, instance string, through uint64) *logv1.Command {
	r := &sluicev1.CompleteRecoveryRequest{Application: app, Instance: instance, ProcessedThrough: through}
	return &logv1.Command{Actor: "test", Kind: &logv1.Command_CompleteRecovery{CompleteRecovery: r}}
}

func TestAClusterThatStartsHeldDeliversNothingBeforeCompletion(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	w.must(w.nodes["a"], declare("other"))
	s := w.open(w.nodes["a"], "app")
	w.send(w.nodes["a"], "app", "i", "out")
	w.poll(w.nodes["a"], s, 1)
	w.send(w.nodes["a"], "app", "idle", "before")
	for _, id := range []string{"a", "b", "c"} {
		w.kill(id)
	}
	w.startHeld("a", "b", "c")
	// What is sent while the cluster comes up is judged after the entry into recovery.
	if r := w.send(w.nodes["b"], "app", "i", "early"); r[0].Receipt.Disposition != sluicev1.Disposition_DISPOSITION_DEFERRED {
		t.Fatalf("sent while the cluster comes up: %v", r)
	}
	lead := w.leader("a", "b", "c")
	d := w.poll(lead, s, 8)
	if d[0].Kind != sluicev1.DeliveryKind_DELIVERY_RECOVERY || len(d) != 1 || len(d[0].Recovery.InDoubt) != 1 || d[0].Recovery.Cause != heldCause {
		t.Fatalf("want the recovery alone, with what was out in doubt, got %v", d)
	}
	for _, key := range []string{"i", "idle"} {
		i, err := lead.group.view().Instance(fsm.InstanceID{Application: "app", Key: key})
		if err != nil || i.Mode != sluicev1.Mode_MODE_RECOVERY {
			t.Fatalf("%s: %v %v", key, i, err)
		}
	}
	h, err := lead.group.view().History(fsm.InstanceID{Application: "app", Key: "i"})
	if err != nil || h.Transitions[len(h.Transitions)-1].Actor[:5] != "node " {
		t.Fatal(h, err)
	}
	app, other := w.generation(lead, "app"), w.generation(lead, "other")
	if app == 0 || other == 0 {
		t.Fatalf("generations: %d %d", app, other)
	}
	w.must(lead, completing("app", "i", 1))
	if d := w.poll(lead, s, 1); d[0].Message.GetId() != "early" {
		t.Fatalf("after completion: %v", d)
	}
	// A failover afterwards holds nothing again.
	id := lead.cfg.NodeID
	rest := others(id)
	for _, o := range rest {
		w.until(o+" has seen the cluster at work", w.nodes[o].Node, func() bool { return !w.nodes[o].held.pending.Load() })
	}
	w.kill(id)
	next := w.leader(rest...)
	if got := w.generation(next, "app"); got != app {
		t.Fatalf("held again: generation %d, then %d", app, got)
	}
	if r := w.send(next, "other", "j", "m"); r[0].Receipt.Disposition != sluicev1.Disposition_DISPOSITION_ACCEPTED {
		t.Fatalf("an instance born since: %v", r)
	}
}

func TestANodeThatRestartsInARunningClusterHoldsNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	w.send(w.nodes["a"], "app", "i", "m")
	id := others(w.leader("a", "b", "c").cfg.NodeID)[0]
	if err := w.stop(id); err != nil {
		t.Fatal(err)
	}
	w.startHeld(id) // nothing at all is asked of the cluster from here on
	m := w.nodes[id]
	w.until(id+" has seen the cluster at work", m.Node, func() bool { return !m.held.pending.Load() })
	w.ready(id)
	if _, err := w.leader("a", "b", "c").TransferLeadership(w.context(), id); err != nil {
		t.Fatal(err)
	}
	w.until(id+" leads", m.Node, func() bool { return m.lead.Load() != nil })
	if got := w.generation(m, "app"); got != 0 {
		t.Fatalf("held at %d", got)
	}
}

// What was to be passed on to a leader before this node was elected is not proposed after it: it was not asked then whether it is
// to be kept back.
func TestWhatCameBeforeTheElectionIsNotProposedAfterIt(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.GossipBind = "" })
	m := w.start("a", 1)
	w.ready("a")
	data, err := marshal(declare("app"))
	if err != nil {
		t.Fatal(err)
	}
	q := newProposal([][]byte{data}, len(data))
	newProposer(m.Node).pass(t.Context(), q, false)
	<-q.done
	if !errors.Is(q.err, reason.NoLeader) {
		t.Errorf("want NO_LEADER, got %v", q.err)
	}
}

func TestOneNodeStartsHeld(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.GossipBind = "" })
	w.start("a", 1)
	w.ready("a")
	w.must(w.nodes["a"], declare("app"))
	w.send(w.nodes["a"], "app", "i", "m")
	if err := w.stop("a"); err != nil {
		t.Fatal(err)
	}
	w.change = func(c *Config) { c.GossipBind, c.StartHeld = "", true }
	m := w.start("a", 1)
	w.ready("a")
	first := w.generation(m, "app")
	if first == 0 || m.held.pending.Load() {
		t.Fatalf("not held: generation %d", first)
	}
	// Each start is a wish of its own.
	if err := w.stop("a"); err != nil {
		t.Fatal(err)
	}
	m = w.start("a", 1)
	w.ready("a")
	if second := w.generation(m, "app"); second <= first {
		t.Fatalf("generation %d, then %d", first, second)
	}
}

func TestWhatShowsAClusterAtWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.GossipBind = "" })
	m := w.start("a", 1)
	w.ready("a")
	now := m.raft().CurrentTerm()
	entry := func(cs ...*logv1.Command) []byte {
		data, err := proto.Marshal(&logv1.Entry{Commands: cs})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	elected := &logv1.Command{Kind: &logv1.Command_LeaderElected{LeaderElected: &logv1.LeaderElected{NodeId: "b"}}}
	for _, c := range []struct {
		what  string
		start uint64
		log   *raft.Log
		want  bool
	}{
		{"a command of the leader of now", now - 1, &raft.Log{Term: now, Type: raft.LogCommand, Data: entry(elected, declare("x"))}, true},
		{"an election alone", now - 1, &raft.Log{Term: now, Type: raft.LogCommand, Data: entry(elected)}, false},
		{"an entry of raft itself", now - 1, &raft.Log{Term: now, Type: raft.LogNoop}, false},
		{"a command of the term of the start", now, &raft.Log{Term: now, Type: raft.LogCommand, Data: entry(declare("x"))}, false},
		{"a command of an earlier leader that comes late", now - 2, &raft.Log{Term: now - 1, Type: raft.LogCommand, Data: entry(declare("x"))}, false},
	} {
		h := &heldStart{node: m.Node, term: c.start}
		h.pending.Store(true)
		h.applied([]*raft.Log{c.log})
		if got := !h.pending.Load(); got != c.want {
			t.Errorf("%s: spent %v, want %v", c.what, got, c.want)
		}
	}
}

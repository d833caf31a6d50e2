package fsm_test

import (
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

var exploreDepth = flag.Int("explore.depth", 0, "explore so many actions deep, instead of what each scope says; -1: to the end")

var seedFlag = flag.Uint64("seed", 0, "the seed of runs by chance; 0: a few fixed ones and one of the clock")

// seedOf is the seed of the nth run: fixed ones first, so that what fails here fails everywhere, then one that is new
// every time.
func seedOf(n int) uint64 {
	if *seedFlag != 0 {
		return *seedFlag + uint64(n)
	}
	if n == 1 {
		return uint64(time.Now().UnixNano()) >> 10
	}
	return uint64(n + 1)
}

var scopes = []*scope{
	{name: "smallest", instances: []string{"i"}, messages: []scopeMessage{{id: "n"}, {id: "r", recovery: true}}, window: 1, maxAttempts: 2, fail: true, skip: true, depth: 9, shallow: 5},
	{name: "smallest wide", instances: []string{"i"}, messages: []scopeMessage{{id: "n"}, {id: "r", recovery: true}}, window: 1, maxAttempts: 2, wide: true, depth: 9, shallow: 5},
	{name: "smallest deferring", instances: []string{"i"}, messages: []scopeMessage{{id: "n1"}, {id: "n2"}}, window: 2, maxAttempts: 9, depth: 0, shallow: 7},
	{name: "one instance", instances: []string{"i"}, messages: []scopeMessage{{id: "n1"}, {id: "n2"}, {id: "r", recovery: true}}, window: 2, maxAttempts: 9, depth: 10, shallow: 6},
	{name: "attempts", instances: []string{"i"}, messages: []scopeMessage{{id: "n1"}, {id: "n2"}, {id: "r", recovery: true}}, window: 1, maxAttempts: 2, fail: true, depth: 9, shallow: 6},
	{name: "redelivery", instances: []string{"i"}, messages: []scopeMessage{{id: "n1"}, {id: "n2"}}, window: 2, maxAttempts: 2, fail: true, redeliver: true, deadLetter: true, depth: 9, shallow: 6},
	{name: "operator", instances: []string{"i"}, messages: []scopeMessage{{id: "n1"}, {id: "n2"}, {id: "n3"}}, window: 2, maxAttempts: 2, fail: true, skip: true, redeliver: true, depth: 7, shallow: 5},
	{name: "surgery", instances: []string{"i"}, messages: []scopeMessage{{id: "n1"}, {id: "n2"}, {id: "n3"}}, window: 2, maxAttempts: 3, fail: true, surgery: true, depth: 7, shallow: 6},
	{name: "surgery and attempts", instances: []string{"i"}, messages: []scopeMessage{{id: "n1"}, {id: "n2"}, {id: "r", recovery: true}}, window: 1, maxAttempts: 2, fail: true, redeliver: true, deadLetter: true, surgery: true, depth: 7, shallow: 6},
	{name: "application", instances: []string{"i", "j"}, messages: []scopeMessage{{id: "n1"}, {id: "r", recovery: true}, {instance: 1, id: "n2"}}, window: 1, maxAttempts: 9, wide: true, depth: 7, shallow: 5},
	{name: "effects", instances: []string{"i", "j"}, messages: []scopeMessage{{id: "n"}, {instance: 1, id: "out", from: 1}, {id: "r", recovery: true}}, window: 1, maxAttempts: 9, effects: true, depth: 9, shallow: 6},
	{name: "refused effects", instances: []string{"i", "j"}, messages: []scopeMessage{{id: "n"}, {instance: 1, id: "out", from: 1, recovery: true}, {id: "self", from: 1}}, window: 2, maxAttempts: 2, fail: true, effects: true, depth: 8, shallow: 6},
	{name: "expiry", instances: []string{"i"}, messages: []scopeMessage{{id: "n1", expires: true}, {id: "n2", expires: true}, {id: "r", recovery: true, expires: true}}, window: 1, maxAttempts: 9, fail: true, expiry: true, depth: 8, shallow: 5},
	{name: "expiry in a wide window", instances: []string{"i"}, messages: []scopeMessage{{id: "n1"}, {id: "n2", expires: true}, {id: "n3", expires: true}}, window: 2, maxAttempts: 2, redeliver: true, expiry: true, skip: true, depth: 7, shallow: 5},
	{name: "frozen expiry", instances: []string{"i"}, messages: []scopeMessage{{id: "n1", expires: true}, {id: "n2", expires: true}, {id: "r", recovery: true, expires: true}}, window: 2, maxAttempts: 9, expiry: true, freeze: true, wide: true, depth: 7, shallow: 5},
	{name: "two instances", instances: []string{"i", "j"}, messages: []scopeMessage{{id: "n1"}, {id: "n2"}, {instance: 1, id: "r", recovery: true}}, window: 2, maxAttempts: 2, fail: true, depth: 8, shallow: 5},
}

// node is a state that was reached.
type node struct {
	store  *queue.MemoryStore
	g      ghost
	parent int
	via    string
	lag    int
}

// exploration goes breadth first through the states of a scope. States that differ only in positions, times and the names
// of the sessions are one.
type exploration struct {
	*scope
	t           *testing.T
	seen        map[[16]byte]struct{}
	nodes       []node // the stores of those done with are dropped
	transitions int
}

// TestExploration goes through every interleaving at small scope and checks the invariants in every state.
func TestExploration(t *testing.T) {
	t.Parallel()
	percent := debug.SetGCPercent(400)
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	for _, s := range scopes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			depth := s.depth
			switch {
			case *exploreDepth < 0:
				depth = 0
			case *exploreDepth > 0:
				depth = *exploreDepth
			case testing.Short() || underRace:
				depth = s.shallow
			}
			(&exploration{scope: s, t: t, seen: map[[16]byte]struct{}{}}).run(depth)
		})
	}
}

func (x *exploration) run(depth int) {
	began := time.Now()
	x.begin()
	from, level := 0, 0
	for ; from < len(x.nodes) && (depth == 0 || level < depth); level++ {
		until := len(x.nodes)
		for n := from; n < until; n++ {
			x.expand(n)
			x.nodes[n].store = nil
			if x.t.Failed() {
				return
			}
		}
		from = until
	}
	whole := "bounded"
	if from == len(x.nodes) {
		whole = "exhausted"
	}
	x.t.Logf("%s: %d states, %d transitions, depth %d, %s, %v", x.name, len(x.nodes), x.transitions, level, whole, time.Since(began).Round(time.Millisecond))
}

// TestWalks goes far into the same worlds, by chance: every state on the way is checked as the exploration does.
func TestWalks(t *testing.T) {
	t.Parallel()
	walks := 12
	if testing.Short() || underRace {
		walks = 2
	}
	for _, s := range scopes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for n := range walks {
				seed := seedOf(n)
				(&exploration{scope: s, t: t, seen: map[[16]byte]struct{}{}}).walk(rand.New(rand.NewPCG(seed, 1)), 250)
				if t.Failed() {
					t.Fatalf("seed %d: go test -run 'TestWalks' -seed %d", seed, seed)
				}
			}
		})
	}
}

// walk takes so many actions by chance. It keeps the nodes, to tell how it got where it is.
func (x *exploration) walk(r *rand.Rand, steps int) {
	x.begin()
	for n := 0; n < steps && !x.t.Failed(); n++ {
		at := len(x.nodes) - 1
		as := x.alphabet(&x.nodes[at].g, x.nodes[at].lag)
		a := as[r.IntN(len(as))]
		clear(x.seen)
		x.take(at, a)
		x.nodes[at].store = nil
	}
}

// begin makes the first state: the application is declared, nothing else.
func (x *exploration) begin() {
	r := setup(x.t, window(uint32(x.window)), maxAttempts(uint32(x.maxAttempts)), backoff(time.Second, time.Second), dedup(366*24*time.Hour), historyLimit(1), func(a *sluicev1.Application) {
		if x.redeliver {
			redeliver(a)
		}
		if x.freeze {
			freeze(a)
		}
		if x.deadLetter {
			a.Delivery.OnMaxAttempts = sluicev1.Policy_POLICY_DEAD_LETTER
		}
	})
	g := newGhost()
	g.index, g.window = r.index, x.window
	s := &step{scope: x.scope, store: r.store, m: r.m, g: g}
	x.arrive(s, -1, "begin")
}

// copyOf gives a step that starts at a state.
func (x *exploration) copyOf(n int) *step {
	store := x.nodes[n].store.Clone()
	m, err := fsm.Open(store, fsm.Options{CacheInstances: 4, LatelyBytes: 4 << 10, BucketRecords: 2})
	if err != nil {
		x.t.Fatal(err)
	}
	return &step{scope: x.scope, store: store, m: m, g: x.nodes[n].g}
}

func (x *exploration) expand(n int) {
	for _, a := range x.alphabet(&x.nodes[n].g, x.nodes[n].lag) {
		if x.take(n, a); x.t.Failed() {
			return
		}
	}
}

// take takes an action from a state.
func (x *exploration) take(n int, a action) {
	s := x.copyOf(n)
	a.do(s)
	s.letAllBack()
	if len(s.trouble) == 0 {
		s.epochs()
		s.remember(&x.nodes[n].g)
		s.others(a, &step{store: x.nodes[n].store})
	}
	x.transitions++
	x.arrive(s, n, a.name)
}

// arrive checks where a step has led, and keeps it if it is new.
func (x *exploration) arrive(s *step, parent int, via string) {
	key, lag := x.key(s)
	if _, known := x.seen[key]; !known && len(s.trouble) == 0 {
		s.checkState()
		if err := s.store.Flush(); err != nil {
			x.t.Fatal(err)
		}
		x.seen[key] = struct{}{}
		x.nodes = append(x.nodes, node{s.store, s.g, parent, via, lag})
		if len(s.trouble) == 0 {
			x.probe(s, key)
			return
		}
	}
	if len(s.trouble) > 0 {
		x.t.Errorf("after %s:\n%s", x.path(parent, via), s.describe())
	}
}

// probe tries on a copy what must leave the state as it is.
func (x *exploration) probe(from *step, key [16]byte) {
	s := x.copyOf(len(x.nodes) - 1)
	s.probe()
	s.epochs()
	switch after, _ := x.key(s); {
	case len(s.trouble) > 0:
	case x.effects, x.nodes[len(x.nodes)-1].lag > 0: // an instance that was looked at has caught up: it shows the same
		s.checkState()
	case after != key:
		s.say("what must have no effect changed the state")
	}
	from.trouble = s.trouble
	if len(s.trouble) > 0 {
		last := x.nodes[len(x.nodes)-1]
		x.t.Errorf("repeats and refusals after %s:\n%s", x.path(last.parent, last.via), s.describe())
	}
}

func (x *exploration) path(n int, via string) string {
	steps := []string{via}
	for ; n > 0; n = x.nodes[n].parent {
		steps = append([]string{x.nodes[n].via}, steps...)
	}
	return strings.Join(steps, ", ")
}

// key is a state without its positions, times and the names of the sessions; lag is how many application-wide entries
// an instance is behind, at most.
func (x *exploration) key(s *step) (sum [16]byte, lag int) {
	app := &logv1.ApplicationRecord{}
	if err := queue.Load(s.store, []byte("aapp"), app); err != nil {
		x.t.Fatal(err)
	}
	var instances []*logv1.InstanceRecord
	for n := range x.instances {
		rec := &logv1.InstanceRecord{}
		if err := queue.Load(s.store, []byte("iapp\x00"+x.instances[n]), rec); err != nil {
			rec = nil
		}
		instances = append(instances, rec)
	}
	var best []byte
	for _, order := range [2][2]int{{0, 1}, {1, 0}} {
		b := []byte{}
		for _, rec := range instances {
			if rec == nil {
				b = append(b, 0)
				continue
			}
			norm, behind := normalize(rec, app, order)
			lag = max(lag, behind)
			raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(norm)
			if err != nil {
				x.t.Fatal(err)
			}
			b = append(binary.AppendUvarint(b, uint64(len(raw)+1)), raw...)
			b = append(b, byte(behind))
		}
		b = s.g.append(b, order)
		if best == nil || string(b) < string(best) {
			best = b
		}
	}
	full := sha256.Sum256(best)
	return [16]byte(full[:16]), lag
}

func flagOf(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// normalize takes from a header what cannot matter for what comes: positions, times, texts and counts of the past.
func normalize(rec *logv1.InstanceRecord, app *logv1.ApplicationRecord, order [2]int) (*logv1.InstanceRecord, int) {
	r := proto.CloneOf(rec)
	behind, last := 0, uint64(0)
	for _, g := range app.Generations {
		if g.Position > r.Generation {
			behind++
		}
		last = g.Position
	}
	r.Uid, r.Epoch, r.Generation, r.Cause, r.ModeTimeMs, r.ModeIndex = 0, 0, 0, "", 0, 0
	r.RecoveryGeneration = flagOf(r.RecoveryGeneration != 0) + flagOf(r.RecoveryGeneration == last)
	r.DoubtSince, r.RecoveryDoubtSince = 0, 0
	r.WorkPosition, r.Memory, r.Transitions, r.CreatedTimeMs = flagOf(r.WorkPosition != 0), nil, 0, 0
	r.FrozenMs, r.FrozenSinceMs = 0, int64(flagOf(r.FrozenSinceMs != 0))
	r.RecoveryWaitMs, r.HeldDueMs = int64(flagOf(r.RecoveryWaitMs != 0)), int64(flagOf(r.HeldDueMs != 0))
	for _, l := range []*logv1.LaneRecord{r.Normal, r.Recovery} {
		if l != nil {
			l.HeadWaitMs = int64(flagOf(l.HeadWaitMs != 0))
		}
	}
	if c := r.LastCompletion; c != nil {
		c.Epoch, c.AnswerEpoch = 0, 0
	}
	for n, name := range sessionNames {
		if rec.Owner == name {
			r.Owner = sessionNames[order[n]]
		}
	}
	return r, behind
}

// append adds what matters of a ghost to a key. Epochs matter only as to whether they are those of now.
func (g *ghost) append(b []byte, order [2]int) []byte {
	for n := range g.msgs {
		m := &g.msgs[n]
		b = fmt.Append(b, m.sent, m.past, m.deferred, m.lane, m.seq, m.kind, m.failed.attempt, m.by.attempt, m.by.outcome, ";")
	}
	for n := range g.inst {
		i := &g.inst[n]
		owner := i.owner
		if owner >= 0 {
			owner = order[owner]
		}
		b = fmt.Append(b, i.exists, i.mode, owner, i.lanes, i.next, i.mark, i.doubt, i.recAttempts, i.recWaits, i.wide, i.last.done, i.last.through, i.last.set, i.state, i.outDead, i.waiting, i.behind, ";")
	}
	for _, k := range order {
		h := &g.hands[k]
		b = fmt.Append(b, g.open[k], h.held)
		if h.held {
			failed, by := g.inst[h.instance].recFailed, who{}
			if h.message >= 0 {
				failed, by = g.msgs[h.message].failed, g.msgs[h.message].by
			}
			b = fmt.Append(b, h.instance, h.lane, h.seq, h.attempt, h.epoch == g.inst[h.instance].epoch, h.epoch == failed.epoch, h.epoch == by.epoch, ";")
		}
	}
	return fmt.Append(b, g.wides > 0, g.outbox)
}

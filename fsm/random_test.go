package fsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

// replica applies the entries of a run in its own manner: batches, caches, restarts.
type replica struct {
	name  string
	t     testing.TB
	store queue.Store
	m     *fsm.Machine
	cache int
	batch int // most entries in one call
	at    int // entries applied
	// What it answered, and what it counted: accepted, settled, and settled but put back.
	outcomes                   [][]byte
	learned                    bool
	accepted, settled, revoked uint64
}

func newReplica(t testing.TB, name string, store queue.Store, cache, batch int) *replica {
	t.Helper()
	r := &replica{name: name, t: t, store: store, cache: cache, batch: batch}
	r.reopen()
	return r
}

func (r *replica) reopen() {
	r.t.Helper()
	m, err := fsm.Open(r.store, fsm.Options{CacheInstances: r.cache, LatelyBytes: 1024 * r.cache, BucketRecords: 3})
	if err != nil {
		r.t.Fatal(err)
	}
	r.m, r.learned = m, false
}

// learn has a machine that was taken up learn what is remembered, once.
func (r *replica) learn() {
	r.t.Helper()
	if r.learned {
		return
	}
	r.learned = true
	if _, err := r.m.Learn(func() bool { return false }); err != nil {
		r.t.Fatalf("%s: %v", r.name, err)
	}
}

// follow applies entries up to one, in batches by chance.
func (r *replica) follow(entries []fsm.Entry, until int, chance *rand.Rand) {
	r.t.Helper()
	for r.at < until {
		if chance.IntN(8) == 0 {
			r.learn()
		}
		from := max(r.at-chance.IntN(2), 0) // what was applied before is skipped
		to := min(r.at+1+chance.IntN(r.batch), until)
		results, fx, err := r.m.Apply(entries[from:to])
		if err != nil {
			r.t.Fatalf("%s: %v", r.name, err)
		}
		for _, res := range results[r.at-from:] {
			for _, o := range res.Outcomes {
				b, err := proto.MarshalOptions{Deterministic: true}.Marshal(o)
				if err != nil {
					r.t.Fatal(err)
				}
				r.outcomes = append(r.outcomes, b)
			}
		}
		c := fx.Counters
		r.accepted += c.Accepted + c.Deferred + c.Recovery
		r.revoked += c.Events[sluicev1.EventType_EVENT_MESSAGE_PUT_BACK]
		for _, n := range c.Settled {
			r.settled += n
		}
		r.at = to
	}
}

// same wants two replicas to hold the same, byte for byte.
func (r *replica) same(other *replica) {
	r.t.Helper()
	i, d := r.m.Digest()
	j, e := other.m.Digest()
	if i != j || !bytes.Equal(d, e) {
		r.t.Fatalf("%s is at %d with %x, %s at %d with %x", r.name, i, d, other.name, j, e)
	}
	a, err1 := contents(r.store)
	b, err2 := contents(other.store)
	if err1 != nil || err2 != nil {
		r.t.Fatal(err1, err2)
	}
	if !equalRecords(a, b) {
		r.t.Fatalf("%s and %s hold something else:\n%s", r.name, other.name, difference(a, b))
	}
}

// difference tells the first records that differ.
func difference(a, b []record) string {
	for n := range max(len(a), len(b)) {
		switch {
		case n >= len(a):
			return fmt.Sprintf("only the other holds %q", b[n].key)
		case n >= len(b):
			return fmt.Sprintf("only the one holds %q", a[n].key)
		case !bytes.Equal(a[n].key, b[n].key) || !bytes.Equal(a[n].value, b[n].value):
			return fmt.Sprintf("%q: %x\n%q: %x", a[n].key, a[n].value, b[n].key, b[n].value)
		}
	}
	return ""
}

// course makes the entries of a run by letting one replica go ahead, one entry a call.
type course struct {
	leader  *replica
	g       *generator
	entries []fsm.Entry
	handled map[string]uint64 // instance and lane → last sequence number that a handler settled
}

func newCourse(t testing.TB, seed uint64) *course {
	c := &course{leader: newReplica(t, "leader", queue.NewMemoryStore(), 4, 1), handled: map[string]uint64{}}
	c.g = &generator{r: rand.New(rand.NewPCG(seed, 2)), v: c.leader.m.View(), now: start}
	for _, name := range []string{"app", "flow", "strict"} {
		for {
			cmd := c.g.declare()
			if cmd.GetApplyApplication().Name == name {
				c.add(cmd)
				break
			}
		}
	}
	return c
}

// add makes an entry, which the leader applies.
func (c *course) add(cs ...*logv1.Command) {
	t := c.leader.t
	t.Helper()
	c.entries = append(c.entries, fsm.Entry{Index: uint64(len(c.entries) + 1), Term: 1, Data: encode(t, &logv1.Entry{TimeMs: c.g.now, Commands: cs})})
	n := len(c.leader.outcomes)
	c.leader.follow(c.entries, len(c.entries), c.g.r)
	for k, cmd := range cs {
		out := &logv1.Outcome{}
		if err := proto.Unmarshal(c.leader.outcomes[n+k], out); err != nil {
			t.Fatal(err)
		}
		c.ordered(cmd, out)
	}
}

// ordered checks I3: handlers settle a lane in the order of its sequence numbers.
func (c *course) ordered(cmd *logv1.Command, out *logv1.Outcome) {
	if i := out.GetInstance(); cmd.GetTerminate() != nil && i != nil && !i.Duplicate {
		for _, l := range []int32{1, 2} {
			delete(c.handled, fmt.Sprint(i.Application, "/", i.Key, l))
		}
	}
	for n, res := range out.GetSettle().GetResults() {
		s := cmd.GetSettle().Settlements[n]
		if verdict(res) != "" || s.Outcome == outFailed {
			continue
		}
		at := fmt.Sprint(s.Application, "/", s.Instance, int32(s.Lane))
		if s.Seq <= c.handled[at] && !c.putBack(s) {
			c.leader.t.Fatalf("I3: %s: seq %d was settled after %d", at, s.Seq, c.handled[at])
		}
		c.handled[at] = max(c.handled[at], s.Seq)
	}
}

// putBack tells that what was settled had been a dead letter before, and was put back.
func (c *course) putBack(s *sluicev1.Settlement) bool {
	rec := &logv1.InstanceRecord{}
	all, err := contents(c.leader.store)
	if err = errors.Join(err, queue.Load(c.leader.store, []byte("i"+s.Application+"\x00"+s.Instance), rec)); err != nil {
		c.leader.t.Fatal(err)
	}
	for _, r := range all {
		past := &logv1.SettledRecord{}
		if r.key[0] != 'b' || be(r.key[17:25]) != rec.Uid || r.key[25] != 's' || proto.Unmarshal(r.value, past) != nil || past.Seq != s.Seq {
			continue
		}
		return slices.ContainsFunc(past.Edits, func(e *sluicev1.Edit) bool { return e.Action == "put back" })
	}
	return false
}

// run makes so many entries more.
func (c *course) run(entries int) {
	for range entries {
		switch n := c.g.r.IntN(100); {
		case n < 3:
			c.g.now += c.g.r.Int64N(30_000)
		case n < 6:
			c.g.now -= c.g.r.Int64N(1000) // another leader's clock
		case n < 60:
			c.g.now += c.g.r.Int64N(300)
		}
		var cs []*logv1.Command
		for range c.g.r.IntN(5) {
			cs = append(cs, c.g.command())
		}
		if n := c.g.r.IntN(50); n == 0 {
			index, digest := c.leader.m.Digest()
			cs = append(cs, digestCommand(index, digest))
		}
		c.add(cs...)
	}
}

// sound checks the leader's store, and that nothing accepted was lost or settled twice (I1, I2).
func (c *course) sound() {
	t, l := c.leader.t, c.leader
	t.Helper()
	if trouble := structure(l.store); len(trouble) > 0 {
		t.Fatalf("after %d entries:\n%s", len(c.entries), strings.Join(trouble, "\n"))
	}
	all, err := contents(l.store)
	if err != nil {
		t.Fatal(err)
	}
	unsettled := uint64(0)
	for _, r := range all {
		if r.key[0] == 'n' {
			unsettled++
		}
	}
	if l.accepted+l.revoked != l.settled+unsettled {
		t.Fatalf("accepted %d, put back %d, settled %d, unsettled %d", l.accepted, l.revoked, l.settled, unsettled)
	}
}

func runsOf(t *testing.T, runs, short int) int {
	t.Helper()
	if testing.Short() {
		return short
	}
	return runs
}

// TestReplicas lets replicas apply the same entries each in its own manner.
func TestReplicas(t *testing.T) {
	t.Parallel()
	for n := range runsOf(t, 6, 2) {
		seed := seedOf(n)
		t.Run(fmt.Sprint("run ", n), func(t *testing.T) {
			t.Parallel()
			defer func() {
				if t.Failed() {
					t.Logf("to see it again: go test -run 'TestReplicas/run_0' -seed %d", seed)
				}
			}()
			replicas(t, seed)
		})
	}
}

func replicas(t *testing.T, seed uint64) {
	const legs, length = 4, 400
	chance := rand.New(rand.NewPCG(seed, 3))
	c := newCourse(t, seed)
	store := queue.NewMemoryStore()
	followers := []*replica{newReplica(t, "in batches", queue.NewMemoryStore(), 1000, 40), newReplica(t, "with no cache to speak of", store, 1, 3)}
	for leg := range legs {
		c.run(length)
		c.sound()
		for _, f := range followers {
			f.follow(c.entries, len(c.entries), chance)
			f.same(c.leader)
		}
		followers[1].reopen()
		if leg == 1 { // one more is restored from a copy
			copied := newReplica(t, "restored", store.Clone(), 7, 11)
			copied.at, copied.outcomes = followers[1].at, slices.Clone(followers[1].outcomes)
			followers = append(followers, copied)
		}
	}
	for _, f := range followers {
		for n := range c.leader.outcomes {
			if !bytes.Equal(f.outcomes[n], c.leader.outcomes[n]) {
				t.Fatalf("%s answers otherwise to command %d", f.name, n)
			}
		}
	}
	refused, done := 0, 0
	for _, b := range c.leader.outcomes {
		if o := (&logv1.Outcome{}); proto.Unmarshal(b, o) == nil && o.Fault != nil {
			refused++
		} else {
			done++
		}
	}
	t.Logf("seed %d: %d entries, %d commands, %d refused as a whole, %d messages accepted, %d settled", seed, len(c.entries), done+refused, refused, c.leader.accepted, c.leader.settled)
}

// TestReplicasOnDisk lets a replica on Pebble, under a layer that is often written out, apply what one in memory does, and be closed and opened in between.
func TestReplicasOnDisk(t *testing.T) {
	t.Parallel()
	seed := seedOf(1)
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 4))
	c := newCourse(t, seed)
	dir := t.TempDir()
	open := func() *replica {
		store, err := queue.OpenPebble(dir, queue.PebbleConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return newReplica(t, "on disk", queue.NewWriteBack(store, 16<<10), 10, 20)
	}
	disk := open()
	for range runsOf(t, 3, 1) {
		c.run(250)
		disk.follow(c.entries, len(c.entries), chance)
		disk.same(c.leader)
		at := disk.at
		if err := disk.store.Close(); err != nil {
			t.Fatal(err)
		}
		disk = open()
		// After a plain end everything that was flushed is there; what was not is applied again.
		index, _ := disk.m.Applied()
		if disk.at = int(index); disk.at > at {
			t.Fatal(disk.at, at)
		}
		disk.follow(c.entries, len(c.entries), chance)
		disk.same(c.leader)
	}
	c.sound()
	if err := disk.store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCrashes takes replicas up again from every prefix that a crash may leave of a memory store.
func TestCrashes(t *testing.T) {
	t.Parallel()
	seed := seedOf(1)
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 5))
	c := newCourse(t, seed)
	store := queue.NewMemoryStore()
	f := newReplica(t, "crashing", store, 5, 10)
	for range 20 {
		c.run(20)
		f.follow(c.entries, len(c.entries), chance)
		if chance.IntN(2) == 0 {
			if err := f.store.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		crashed := f.store.(*queue.MemoryStore)
		f.store = crashed.CrashCopy(chance.IntN(crashed.Unflushed() + 1))
		f.reopen()
		index, _ := f.m.Applied()
		f.at = int(index)
	}
	f.follow(c.entries, len(c.entries), chance)
	f.same(c.leader)
}

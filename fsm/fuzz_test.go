package fsm_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

// prepared is a store with something of everything in it, for entries to meet.
func prepared(t testing.TB) *queue.MemoryStore {
	t.Helper()
	c := newCourse(t, 1)
	c.run(150)
	return c.leader.store.(*queue.MemoryStore)
}

// FuzzEntry gives any bytes to a machine as an entry: it refuses them as a whole, or carries them out and is sound after
// that. It never panics.
func FuzzEntry(f *testing.F) {
	store := prepared(f)
	for _, e := range sampleEntries(f) {
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := store.Clone()
		m, err := fsm.Open(s, fsm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		index, _ := m.Applied()
		results, _, err := m.Apply([]fsm.Entry{{Index: index + 1, Term: 2, Data: data}})
		switch {
		case err == nil:
			for _, o := range results[0].Outcomes {
				if o == nil || o.Fault == nil && o.Result == nil {
					t.Fatalf("an outcome that says nothing: %v", o)
				}
			}
		case errors.Is(err, fsm.ErrCorruptEntry), errors.Is(err, fsm.ErrUnknownCommand), errors.Is(err, fsm.ErrDiverged):
		default:
			t.Fatal(err)
		}
		if trouble := structure(s); len(trouble) > 0 {
			t.Fatal(strings.Join(trouble, "\n"))
		}
	})
}

// sampleEntries are entries with every kind of command.
func sampleEntries(t testing.TB) (es [][]byte) {
	c := newCourse(t, 3)
	c.g.now = start
	for _, k := range kinds {
		es = append(es, encode(t, &logv1.Entry{TimeMs: start + 1, Commands: []*logv1.Command{k.make(c.g)}}))
	}
	settle := settleCommand("s1", &sluicev1.Settlement{Application: "app", Instance: "i1", Seq: 1, Epoch: 9, Lane: laneNormal, Outcome: outCompleted, Outgoing: []*sluicev1.Message{message("i2", "", "x")}})
	return append(es, nil, []byte("nonsense"), encode(t, &logv1.Entry{TimeMs: -1, Commands: []*logv1.Command{settle, settle, advanceCommand(0)}}))
}

// bytesSource makes chance of bytes, and goes on by itself when they are used up.
type bytesSource struct {
	data []byte
	rest *rand.PCG
}

// Uint64 spends a byte; its bits are the upper ones, which a generator looks at first.
func (b *bytesSource) Uint64() uint64 {
	v := b.rest.Uint64()
	if len(b.data) > 0 {
		v = uint64(b.data[0])<<56 | v>>8
		b.data = b.data[1:]
	}
	return v
}

// FuzzCommands lets bytes choose commands, and compares two replicas that batch and cache in different manners.
func FuzzCommands(f *testing.F) {
	for n := range uint64(4) {
		seed := make([]byte, 600)
		r := rand.New(rand.NewPCG(n, 6))
		for k := range seed {
			seed[k] = byte(r.Uint64())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8192 {
			return
		}
		source := &bytesSource{data, rand.NewPCG(1, 7)}
		c := newCourse(t, 1)
		c.g.r = rand.New(source)
		for len(source.data) > 0 {
			c.run(1)
		}
		c.sound()
		other := newReplica(t, "in one batch", queue.NewMemoryStore(), 1, len(c.entries))
		other.follow(c.entries, len(c.entries), rand.New(rand.NewPCG(1, 1)))
		other.same(c.leader)
	})
}

package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// pair is a store that is written as a Recent sees it, and one that is written alike without it.
type pair struct {
	t             *testing.T
	recent        *queue.Recent
	with, without queue.Batch
	stored, plain queue.Store
}

func (p *pair) open() {
	p.with, p.without = p.recent.Over(p.stored.NewBatch()), p.plain.NewBatch()
}

func (p *pair) commit() {
	p.t.Helper()
	must(p.t, errors.Join(p.with.Commit(), p.without.Commit()))
	p.open()
}

func (p *pair) both(do func(queue.Writer) error) {
	p.t.Helper()
	must(p.t, errors.Join(do(p.with), do(p.without)))
}

// same wants a question to be answered alike by both.
func (p *pair) same(ask func(queue.Reader) (proto.Message, error)) {
	p.t.Helper()
	got, err := ask(p.with)
	want, wanted := ask(p.without)
	if errors.Is(err, queue.ErrNotFound) != errors.Is(wanted, queue.ErrNotFound) || err == nil && !proto.Equal(got, want) {
		p.t.Fatalf("got %v, %v; the store says %v, %v", got, err, want, wanted)
	}
}

// sameOf wants whatever may be asked of an instance to be answered alike by both.
func (p *pair) sameOf(m queue.Memory, seq uint64, id string) {
	p.t.Helper()
	p.same(func(r queue.Reader) (proto.Message, error) {
		return queue.Message(r, m.Instance, sluicev1.Lane_LANE_NORMAL, seq)
	})
	p.same(func(r queue.Reader) (proto.Message, error) { return m.SettledByID(r, id) })
	p.same(func(r queue.Reader) (proto.Message, error) { return m.SettledBySeq(r, seq) })
	p.same(func(r queue.Reader) (proto.Message, error) { return m.Called(r, "method", id) })
}

// again starts the process again: what was known is gone, and half of the runs learn it anew.
func (p *pair) again(learns bool, most int, standing map[int64]bool) (old []queue.Bucket) {
	p.recent = queue.NewRecent(most)
	if learns {
		for name := range standing {
			old = append(old, queue.Bucket{Application: 7, Name: name})
		}
		p.recent.Expect(old)
	}
	p.commit()
	return old
}

// learn has what is known learn of old buckets, while more comes into them.
func (p *pair) learn(old []queue.Bucket, most int) {
	p.t.Helper()
	l, err := queue.Learn(p.stored, old, most, never)
	must(p.t, err)
	p.commit()
	p.recent.Learned(l)
}

func never() bool { return false }

// Whatever is written, removed, dropped and begun anew, what is read is what the store holds; also by one that begins to
// remember in the midst.
func TestWhatIsReadIsWhatTheStoreHolds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		most := int(500 << (seed % 8))
		p := &pair{t: t, recent: queue.NewRecent(most), stored: queue.NewMemoryStore(), plain: queue.NewMemoryStore()}
		p.open()
		standing := map[int64]bool{}
		var old []queue.Bucket // to be learned
		records := map[[2]uint64]*logv1.MessageRecord{}
		for range 2000 {
			uid, seq, span, part := 1+rng.Uint64N(3), 1+rng.Uint64N(12), int64(1000*(1+rng.IntN(3))), int64(rng.IntN(3))
			end := span + part
			id := fmt.Sprint("id", rng.IntN(30))
			m := queue.Memory{Application: 7, Instance: uid, Buckets: []int64{1000, 1001, 1002, 2000, 2001, 2002, 3000, 3001, 3002}}
			at := [2]uint64{uid, seq}
			switch rng.IntN(10) {
			case 0:
				p.commit()
			case 1:
				old = p.again(seed%2 == 0, most, standing)
			case 9:
				if len(old) > 0 && rng.IntN(4) == 0 {
					p.learn(old, most)
					old = nil
				}
			case 2, 3:
				if records[at] == nil {
					records[at] = &logv1.MessageRecord{Seq: seq, Lane: sluicev1.Lane_LANE_NORMAL, Message: &sluicev1.Message{Id: fmt.Sprint("m", seq), Data: bytes.Repeat([]byte{byte(seq)}, rng.IntN(300))}}
					p.both(func(w queue.Writer) error { return queue.Append(w, uid, records[at]) })
				} else {
					p.both(func(w queue.Writer) error { return queue.Replace(w, uid, records[at]) })
				}
			case 4:
				if r := records[at]; r != nil {
					p.both(func(w queue.Writer) error { return queue.Remove(w, uid, r) })
					delete(records, at)
				}
			case 5, 6:
				if !standing[end] {
					standing[end] = true
					p.recent.Begin(7, end, max(span, end-1))
				}
				p.both(func(w queue.Writer) error {
					return errors.Join(m.Remember(w, end, &logv1.SettledRecord{Id: id, Seq: seq}), m.RememberCall(w, end, "method", id, &logv1.RequestRecord{TimeMs: end}))
				})
			case 7:
				p.both(func(w queue.Writer) error { return m.Forget(w, id, seq) })
			case 8:
				if rng.IntN(4) == 0 {
					delete(standing, end)
					p.both(func(w queue.Writer) error { return queue.DropBucket(w, 7, end) })
				}
				if rng.IntN(20) == 0 {
					p.both(func(w queue.Writer) error { return queue.DropInstance(w, uid) })
					for n := range records {
						if n[0] == uid {
							delete(records, n)
						}
					}
				}
			}
			p.sameOf(m, seq, id)
		}
	}
}

// asked counts what a batch is asked.
type asked struct {
	queue.Batch
	gets int
}

func (c *asked) Get(key []byte) ([]byte, error) {
	c.gets++
	return c.Batch.Get(key)
}

// An id that never came is known to be new without the store.
func TestNewIDsAreNotAskedFor(t *testing.T) {
	t.Parallel()
	recent := queue.NewRecent(0)
	b := &asked{Batch: queue.NewMemoryStore().NewBatch()}
	w := recent.Over(b)
	m := queue.Memory{Application: 1, Instance: 2, Buckets: []int64{1000, 1001}}
	recent.Begin(1, 1000, 1000)
	recent.Begin(1, 1001, 1000)
	for n := range 10_000 {
		must(t, m.Remember(w, m.Buckets[n/5000], &logv1.SettledRecord{Id: fmt.Sprint("known", n), Seq: uint64(n)}))
	}
	for n := range 10_000 {
		if _, err := m.SettledByID(w, fmt.Sprint("new", n)); !errors.Is(err, queue.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if b.gets > 500 {
		t.Errorf("the store was asked for %d of 10,000 ids that are new", b.gets)
	}
}

// Of what is remembered from before the process was started everything is known once it was learned, and new ids are known to
// be new.
func TestWhatIsRememberedIsLearned(t *testing.T) {
	t.Parallel()
	store := queue.NewMemoryStore()
	b := store.NewBatch()
	m := queue.Memory{Application: 1, Instance: 2, Buckets: []int64{1000, 2000}}
	for n := range 10_000 {
		must(t, m.Remember(b, m.Buckets[n%2], &logv1.SettledRecord{Id: fmt.Sprint("known", n), Seq: uint64(n)}))
	}
	must(t, b.Commit())
	buckets := []queue.Bucket{{Application: 1, Name: 2000}, {Application: 1, Name: 1000}}
	// There is room for one bucket, and nothing is known of the other.
	for most, gets := range map[int][2]int{0: {0, 500}, 15_000: {9_500, 10_500}} {
		recent := queue.NewRecent(0)
		recent.Expect(buckets)
		c := &asked{Batch: store.NewBatch()}
		w := recent.Over(c)
		must(t, m.Remember(w, 2000, &logv1.SettledRecord{Id: "while it was learned", Seq: 20_000}))
		l, err := queue.Learn(store, buckets, most, never)
		if err != nil || most == 0 && l.IDs() != 10_000 {
			t.Fatalf("learned %d ids, %v", l.IDs(), err)
		}
		recent.Learned(l)
		for n := range 10_000 {
			if _, err := m.SettledByID(w, fmt.Sprint("new", n)); !errors.Is(err, queue.ErrNotFound) {
				t.Fatal(err)
			}
		}
		if c.gets < gets[0] || c.gets > gets[1] {
			t.Errorf("at most %d: the store was asked %d times for 10,000 ids that are new", most, c.gets)
		}
		for _, id := range []string{"known0", "known9999", "while it was learned"} {
			if s, err := m.SettledByID(w, id); err != nil || s.Id != id {
				t.Errorf("at most %d: %s: %v, %v", most, id, s, err)
			}
		}
	}
	if _, err := queue.Learn(store, buckets, 0, func() bool { return true }); !errors.Is(err, queue.ErrStopped) {
		t.Errorf("told to stop, and answered %v", err)
	}
}

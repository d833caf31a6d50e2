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

// Whatever is written, removed, dropped and begun anew, what is read is what the store holds; also by one that begins to
// remember in the midst.
func TestWhatIsReadIsWhatTheStoreHolds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		p := &pair{t: t, recent: queue.NewRecent(), stored: queue.NewMemoryStore(), plain: queue.NewMemoryStore()}
		p.open()
		standing := map[int64]bool{}
		records := map[[2]uint64]*logv1.MessageRecord{}
		for range 2000 {
			uid, seq, end := 1+rng.Uint64N(3), 1+rng.Uint64N(12), int64(1000*(1+rng.IntN(4)))
			id := fmt.Sprint("id", rng.IntN(30))
			m := queue.Memory{Application: 7, Instance: uid, Buckets: []int64{1000, 2000, 3000, 4000}}
			at := [2]uint64{uid, seq}
			switch rng.IntN(10) {
			case 0:
				p.commit()
			case 1:
				p.recent = queue.NewRecent() // the process was started again
				p.commit()
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
					p.recent.Begin(7, end)
				}
				p.both(func(w queue.Writer) error {
					return errors.Join(m.Remember(w, end, &logv1.SettledRecord{Id: id, Seq: seq}), m.RememberCall(w, end, "method", id, &logv1.RequestRecord{TimeMs: end}))
				})
			case 7:
				p.both(func(w queue.Writer) error { return m.Forget(w, id, seq) })
			case 8:
				if rng.IntN(4) == 0 {
					standing[end] = false
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
			p.same(func(r queue.Reader) (proto.Message, error) {
				return queue.Message(r, uid, sluicev1.Lane_LANE_NORMAL, seq)
			})
			p.same(func(r queue.Reader) (proto.Message, error) { return m.SettledByID(r, id) })
			p.same(func(r queue.Reader) (proto.Message, error) { return m.SettledBySeq(r, seq) })
			p.same(func(r queue.Reader) (proto.Message, error) { return m.Called(r, "method", id) })
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
	recent := queue.NewRecent()
	b := &asked{Batch: queue.NewMemoryStore().NewBatch()}
	w := recent.Over(b)
	recent.Begin(1, 1000)
	m := queue.Memory{Application: 1, Instance: 2, Buckets: []int64{1000}}
	for n := range 10_000 {
		must(t, m.Remember(w, 1000, &logv1.SettledRecord{Id: fmt.Sprint("known", n), Seq: uint64(n)}))
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

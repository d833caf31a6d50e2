package fsm_test

import (
	"fmt"
	"testing"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

// walks counts where walks over a store begin, by table.
type walks struct {
	*queue.MemoryStore
	from map[byte][]string
}

func (w *walks) note(lower []byte) { w.from[lower[0]] = append(w.from[lower[0]], string(lower)) }

func (w *walks) NewSnapshot() queue.Snapshot { return &walkedSnapshot{w.MemoryStore.NewSnapshot(), w} }

func (w *walks) NewBatch() queue.Batch { return &walkedBatch{w.MemoryStore.NewBatch(), w} }

type walkedSnapshot struct {
	queue.Snapshot
	w *walks
}

func (s *walkedSnapshot) NewIter(lower, upper []byte) (queue.Iterator, error) {
	s.w.note(lower)
	return s.Snapshot.NewIter(lower, upper)
}

type walkedBatch struct {
	queue.Batch
	w *walks
}

func (b *walkedBatch) NewIter(lower, upper []byte) (queue.Iterator, error) {
	b.w.note(lower)
	return b.Batch.NewIter(lower, upper)
}

func walked(t *testing.T) (*rig, *walks) {
	r := setup(t, backoff(time.Millisecond, time.Millisecond), maxAttempts(0))
	w := &walks{r.store, map[byte][]string{}}
	m, err := fsm.Open(w, fsm.Options{CacheInstances: 2, BucketRecords: 3})
	if err != nil {
		t.Fatal(err)
	}
	r.m = m
	return r, w
}

// A walk does not begin where everything has been removed: with a store that keeps what is removed for a while, what
// handles a million things would walk over each of them a million times.
func TestWalksBeginAtTheFront(t *testing.T) {
	t.Parallel()
	const many = 200
	for name, c := range map[string]struct {
		table byte
		each  func(r *rig, n int)
	}{
		"lane": {'n', func(r *rig, n int) {
			r.send("i", fmt.Sprint("m", n+1))
			r.work("s", "i", fmt.Sprint("m", n))
			_ = r.instance("i")
		}},
		"due": {'d', func(r *rig, _ int) {
			r.fail("s", "i", 1)
			r.advance(time.Millisecond)
			if _, _, err := r.m.View().NextDeadline(); err != nil {
				r.t.Fatal(err)
			}
		}},
		"outgoing": {'x', func(r *rig, n int) {
			r.send("i", fmt.Sprint("m", n+1))
			s := r.head("i")
			r.settle("s", &sluicev1.Settlement{Application: "app", Instance: "i", Seq: s.Seq, Epoch: s.Epoch, Lane: laneNormal, Outcome: outCompleted, Outgoing: []*sluicev1.Message{message("j", fmt.Sprint("o", n), "step")}})
			r.ok(forwardCommand(1))
			if _, err := r.m.View().HasOutgoing(); err != nil {
				r.t.Fatal(err)
			}
		}},
		"waiting": {'w', func(r *rig, n int) {
			r.send(fmt.Sprint("k", n), "m")
			if _, err := r.m.View().Waiting("app", 10); err != nil {
				r.t.Fatal(err)
			}
			r.assign(fmt.Sprint("k", n), "s")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := walked(t)
			r.send("i", "m0")
			r.open("s", many+1)
			r.assign("i", "s")
			for n := range many {
				c.each(r, n)
			}
			starts := map[string]int{}
			for _, from := range w.from[c.table] {
				starts[from]++
			}
			for from, n := range starts {
				if n > many/10 {
					t.Errorf("%d walks began at %q", n, from)
				}
			}
			if len(starts) < 3 {
				t.Errorf("walks began at %v", starts)
			}
		})
	}
}

// What cannot be in a lane, by its header, is not looked for there.
func TestWhatIsGoneIsNotWalkedFor(t *testing.T) {
	t.Parallel()
	r, w := walked(t)
	r.declare("app", dedup(time.Second))
	r.send("i", "a", "b", "c", "d")
	r.own("i", "s")
	r.work("s", "i", "a", "b")
	e := r.instance("i").Epoch
	r.advance(time.Hour)
	clear(w.from)
	for _, at := range []struct {
		lane sluicev1.Lane
		seq  uint64
	}{{laneNormal, 1}, {laneNormal, 5}, {laneRecovery, 3}} {
		s := &sluicev1.Settlement{Application: "app", Instance: "i", Epoch: e, Seq: at.seq, Lane: at.lane, Outcome: outCompleted}
		if got := r.settle("s", s); got != "UNKNOWN_MESSAGE" {
			t.Errorf("seq %d of %v: %q", at.seq, at.lane, got)
		}
	}
	if n := len(w.from['n']); n > 0 {
		t.Errorf("%d walks", n)
	}
}

// A walk over expiries that are held begins where the last one ended.
func TestThawGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	r, w := walked(t)
	r.declare("app", freeze)
	r.enter("i")
	for n := range 600 {
		r.put(r.mortal("i", fmt.Sprint("m", n), time.Second))
	}
	r.advance(time.Second)
	r.complete("i", 0)
	clear(w.from)
	for range 5 {
		r.ok(&logv1.Command{Kind: &logv1.Command_Advance{Advance: &logv1.Advance{Limit: 1}}})
	}
	if starts := w.from['g']; len(starts) < 3 || starts[0] == starts[1] {
		t.Fatalf("walks began at %q", starts)
	}
}

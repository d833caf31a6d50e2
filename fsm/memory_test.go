package fsm_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

func TestMemoryLastsTheWindowToTheMillisecond(t *testing.T) {
	t.Parallel()
	for _, w := range []time.Duration{time.Second, 5 * time.Second, 8 * time.Second, time.Minute, 24 * time.Hour} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			r := setup(t, dedup(w))
			for _, offset := range []time.Duration{0, 1, 333, 999} {
				r.tick(offset * time.Millisecond)
				id := fmt.Sprint("m", offset)
				first := r.send("i", id)
				r.advance(100 * w) // what is unsettled is always remembered
				want := proto.CloneOf(first)
				want.Duplicate = true
				r.own2("i", "s")
				d := r.head("i")
				r.work("s", "i", id)
				e := taking(d, outCompleted)
				r.ok(closeCommand("s"))
				r.advance(w - time.Millisecond)
				if got := r.send("i", id); !proto.Equal(got, want) {
					t.Fatalf("%v after: %v", offset, got)
				}
				if v := r.settle("nobody", e); v != "duplicate" {
					t.Fatal(v)
				}
				r.wantSettled("i", id, kindCompleted)
				r.tick(time.Millisecond)
				r.ok(advanceCommand(1000))
				_, err := r.m.View().Message(fsm.InstanceID{Application: "app", Key: "i"}, id)
				wantReason(t, err, "UNKNOWN_MESSAGE")
				if got := r.send("i", id); got.Duplicate || got.Seq <= first.Seq {
					t.Fatal(got)
				}
				r.skip("i", r.instance("i").NextSeq-1)
				if v := r.settle("s", e); v != "UNKNOWN_SESSION" {
					t.Fatal(v)
				}
			}
		})
	}
}

// own2 opens a session anew and gives it an instance.
func (r *rig) own2(key, session string) {
	r.t.Helper()
	r.open(session, 10)
	r.assign(key, session)
}

func TestMemoryIsForgottenByTheBucket(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(8*time.Second))
	r.own0("i", "s")
	r.work("s", "i", "zero")
	most := 0
	for n := range 200 {
		id := fmt.Sprint("m", n)
		r.send("i", id)
		r.work("s", "i", id)
		r.advance(100 * time.Millisecond)
		most = max(most, len(r.contents('b')))
	}
	// Two keys a message; the window, and an eighth of it or a second more.
	if most > 2*(80+2*10+2) {
		t.Fatal(most)
	}
	r.advance(8*time.Second + 2*time.Second)
	if left := r.contents('b', 'd'); len(left) != 0 {
		t.Fatalf("%q", left)
	}
	if v := r.instance("i"); v.NextSeq != 202 {
		t.Fatal(v)
	}
}

// What is remembered is spread over more buckets the more there is, of ever more records; all of it is found, and forgotten in
// time.
func TestAFullBucketIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	const messages = 200
	r := setup(t, dedup(time.Minute)) // buckets of three records at first
	r.own0("i", "s")
	r.work("s", "i", "zero")
	for n := range messages {
		r.send("i", fmt.Sprint("m", n))
		r.work("s", "i", fmt.Sprint("m", n))
	}
	buckets := map[string]int{}
	for _, k := range r.contents('b') {
		buckets[k[:1+8+8]]++
	}
	// Eight of 3, of 6 and of 12 records hold 168; two of 24 take what is left. A record has two keys.
	if len(buckets) != 26 {
		t.Errorf("%d messages lie in %d buckets", messages+1, len(buckets))
	}
	for bucket, keys := range buckets {
		if keys > 2*24 {
			t.Errorf("bucket %x has %d keys", bucket, keys)
		}
	}
	for n := range messages {
		id := fmt.Sprint("m", n)
		r.wantSettled("i", id, kindCompleted)
		if got := r.send("i", id); !got.Duplicate {
			t.Fatalf("%s is taken for new", id)
		}
	}
	r.advance(time.Minute + 10*time.Second)
	if left := r.contents('b', 'd'); len(left) != 0 {
		t.Errorf("%q", left)
	}
}

// counted counts what is read of a store for what is remembered.
type counted struct {
	queue.Store
	reads atomic.Int64
}

func (c *counted) NewBatch() queue.Batch { return &countedBatch{c.Store.NewBatch(), c} }

type countedBatch struct {
	queue.Batch
	store *counted
}

func (b *countedBatch) Get(key []byte) ([]byte, error) {
	if key[0] == 'b' {
		b.store.reads.Add(1)
	}
	return b.Batch.Get(key)
}

// A machine that was taken up learns which ids are remembered while it goes on; before, in the midst and after that, what was
// sent before is known, and what was not is new.
func TestWhatIsRememberedIsLearnedBesideTheWork(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(time.Hour))
	r.own0("i", "s")
	r.work("s", "i", "zero")
	turn := func(from, until int) {
		for n := from; n < until; n++ {
			id := fmt.Sprint("m", n)
			if got := r.send("i", id); got.Duplicate {
				t.Fatalf("%s is taken for one that came before", id)
			}
			r.work("s", "i", id)
			if got := r.send("i", fmt.Sprint("m", n/2)); !got.Duplicate {
				t.Fatalf("m%d is taken for new", n/2)
			}
		}
	}
	turn(0, 100)
	store := &counted{Store: r.store}
	m, err := fsm.Open(store, fsm.Options{BucketRecords: 3})
	if err != nil {
		t.Fatal(err)
	}
	r.m = m
	learned := make(chan error, 1)
	go func() {
		ids, err := r.m.Learn(func() bool { return false })
		if err == nil && ids < 101 {
			err = fmt.Errorf("learned %d ids", ids)
		}
		learned <- err
	}()
	turn(100, 200)
	if err := <-learned; err != nil {
		t.Fatal(err)
	}
	turn(200, 201) // Apply takes what was learned
	before := store.reads.Load()
	for n := range 100 {
		r.send("j", fmt.Sprint("never sent", n))
		r.send("i", fmt.Sprint("never sent", n))
	}
	if reads := store.reads.Load() - before; reads > 50 {
		t.Errorf("the store was asked %d times about 200 ids that are new", reads)
	}
}

func TestTheWindowMayChange(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(time.Minute))
	again := func(want bool) {
		t.Helper()
		if got := r.send("i", "a"); got.Duplicate != want {
			t.Fatal(got)
		}
	}
	r.send("i", "a")
	r.skip("i", 1)
	r.declare("app", dedup(time.Hour)) // longer: what stands is kept longer
	r.advance(time.Hour - time.Millisecond)
	again(true)
	r.declare("app", dedup(time.Minute)) // shorter: forgotten at once
	again(false)
	r.skip("i", 2)
	r.declare("app", dedup(time.Hour))
	r.advance(30 * time.Minute)
	again(true)
	r.advance(30*time.Minute - time.Millisecond)
	again(true)
	r.advance(time.Millisecond)
	again(false)
}

// A window that shrinks and grows again within a span of time: an id that was forgotten in between and came again is
// remembered as it came last, whatever is written to the older buckets' span since.
func TestWhatIsRememberedLastIsFound(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(24*time.Hour))
	settle := func(ids ...string) {
		for _, id := range ids {
			r.send("i", id)
			r.skip("i", r.instance("i").NextSeq-1)
		}
	}
	settle("a", "b", "c", "x") // x is the first of a second bucket
	r.declare("app", dedup(time.Second))
	r.advance(time.Second)
	if got := r.send("i", "x"); got.Duplicate {
		t.Fatal(got)
	}
	seq := r.instance("i").NextSeq - 1
	r.send("j", "short")
	r.skip("j", 1)
	r.declare("app", dedup(24*time.Hour))
	r.skip("i", seq)
	settle("d", "e", "f", "g", "h", "j", "k", "l", "m")
	if got := r.send("i", "x"); !got.Duplicate || got.Seq != seq {
		t.Fatalf("x was sent last with seq %d: %v", seq, got)
	}
}

func TestMemoryOfRequestsOfAnApplication(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(time.Minute))
	q := &sluicev1.EnterApplicationRecoveryRequest{Cause: "x", RequestId: "q"}
	r.ok(enterAllRequest(q))
	r.advance(time.Minute - time.Millisecond)
	if a := r.ok(enterAllRequest(q)).GetApplication(); !a.Duplicate {
		t.Fatal(a)
	}
	r.advance(time.Millisecond)
	if a := r.ok(enterAllRequest(q)).GetApplication(); a.Duplicate {
		t.Fatal(a)
	}
}

// A request that was forgotten because the window shrank, and was made again, is remembered as it was made last.
func TestARequestIsRememberedAsItWasMadeLast(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(24*time.Hour))
	q := &sluicev1.EnterApplicationRecoveryRequest{Cause: "x", RequestId: "q"}
	for n, again := range []bool{false, false, true} {
		if a := r.ok(enterAllRequest(q)).GetApplication(); a.Duplicate != again {
			t.Fatalf("request %d: %v", n+1, a)
		}
		if n == 0 {
			r.declare("app", dedup(10*time.Second))
			r.advance(10 * time.Second)
		}
	}
}

package fsm_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
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

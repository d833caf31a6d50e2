package fsm_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

func TestAFailedAttemptCountsOnce(t *testing.T) {
	t.Parallel()
	r := setup(t, backoff(time.Second, time.Minute))
	r.send("i", "a")
	r.own("i", "s")
	one := taking(r.head("i"), outFailed)
	one.ErrorText = "first"
	r.settle("s", one)
	other := proto.CloneOf(one)
	other.ErrorText = "another text, the same attempt"
	if v := r.settle("s", other); v != "duplicate" {
		t.Fatal(v)
	}
	r.advance(time.Second)
	if v := r.settle("s", one); v != "duplicate" {
		t.Fatal(v)
	}
	d := r.head("i")
	if d.Attempt != 2 {
		t.Fatal(d)
	}
	// With no attempt named, what is out now is meant.
	two := taking(d, outFailed)
	two.Attempt, two.ErrorText = 0, "first"
	if v := r.settle("s", two); v != "" {
		t.Fatal(v)
	}
	if v := r.settle("s", two); v != "duplicate" {
		t.Fatal(v)
	}
	if s := r.status("i", "a"); s.Attempts != 2 || s.Status != queued {
		t.Fatal(s)
	}
	r.advance(2 * time.Second)
	r.work("s", "i", "a")
	if s := r.wantSettled("i", "a", kindCompleted); s.Attempts != 2 {
		t.Fatal(s)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	r := setup(t, backoff(time.Second, 3*time.Second), window(2))
	r.send("i", "a", "b")
	r.own("i", "s")
	for n, wait := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		s := taking(r.head("i"), outFailed)
		if s.Attempt != uint32(n+1) {
			t.Fatal(s)
		}
		s.ErrorText = fmt.Sprint("error ", n)
		r.settle("s", s)
		r.wantOuts("i", "")
		if i := r.instance("i"); i.InFlight != 0 {
			t.Fatal(i)
		}
		// While it waits, neither it nor what is behind it can be settled.
		s.Attempt, s.Outcome = uint32(n+2), outCompleted
		if v := r.settle("s", s); v != "NOT_IN_FLIGHT" {
			t.Fatal(v)
		}
		r.advance(wait - time.Millisecond)
		r.wantOuts("i", "")
		r.advance(time.Millisecond)
		r.wantOuts("i", "a b")
	}
	m := r.messages(&sluicev1.ListMessagesRequest{Instance: "i"})[0]
	if m.Attempts != 4 || m.LastError != "error 3" {
		t.Fatal(m)
	}
}

// TestAFailedAttemptIsOfferedAgainThoughItWasNotGivenAsTheHead: what was handed out behind the head, and fails once it
// is the head itself, is offered again, whether or not anybody looked at the offer in between.
func TestAFailedAttemptIsOfferedAgainThoughItWasNotGivenAsTheHead(t *testing.T) {
	t.Parallel()
	r := setup(t, backoff(time.Second, time.Minute), window(3))
	r.send("i", "a", "b", "c")
	r.own("i", "s")
	given := r.offer("i").Given
	r.work("s", "i", "a")
	r.fail("s", "i", 1)
	r.advance(time.Second)
	o, err := r.m.View().Offer(fsm.InstanceID{Application: "app", Key: "i"}, given, 10)
	if err != nil || len(o.Deliveries) != 2 || o.Deliveries[0].Message.Id != "b" || o.Deliveries[0].Attempt != 2 || o.Deliveries[1].Message.Id != "c" {
		t.Fatalf("want the second attempt of b, and c behind it: %v %v", o, err)
	}
	o, err = r.m.View().Offer(fsm.InstanceID{Application: "app", Key: "i"}, o.Given, 10)
	if err != nil || len(o.Deliveries) != 0 {
		t.Fatalf("offered twice: %v %v", o, err)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	r := setup(t, backoff(time.Second, time.Minute))
	r.send("i", "a")
	r.own("i", "s")
	s := taking(r.head("i"), outFailed)
	s.RetryAfter = durationpb.New(20 * time.Second)
	r.settle("s", s)
	r.advance(20*time.Second - time.Millisecond)
	r.wantOuts("i", "")
	r.advance(time.Millisecond)
	r.wantOuts("i", "a")
	s = taking(r.head("i"), outFailed)
	s.RetryAfter = durationpb.New(0)
	r.settle("s", s)
	r.advance(time.Millisecond)
	r.wantOuts("i", "a")
	// The backoff goes on by the number of attempts.
	r.settle("s", taking(r.head("i"), outFailed))
	r.advance(4*time.Second - time.Millisecond)
	r.wantOuts("i", "")
	r.advance(time.Millisecond)
	r.wantOuts("i", "a")
}

// fail lets the head fail so many times, waiting for the backoff in between.
func (r *rig) fail(session, key string, times int) {
	r.t.Helper()
	for n := range times {
		s := taking(r.head(key), outFailed)
		s.ErrorText = fmt.Sprint("error ", s.Attempt)
		if v := r.settle(session, s); v != "" {
			r.t.Fatal(v)
		}
		if n < times-1 {
			r.advance(time.Minute)
		}
	}
}

func TestPoisonSendsIntoRecovery(t *testing.T) {
	t.Parallel()
	r := setup(t, maxAttempts(3), window(2))
	r.send("i", "a", "b")
	r.send("j", "x")
	r.own("i", "s")
	r.assign("j", "s")
	e := r.instance("i").Epoch
	r.fail("s", "i", 3)
	i := r.wantMode("i", recovery)
	if grew(t, "poison", e, i.Epoch); i.Owner != "s" || i.Cause != "poison message: a (seq 1) failed 3 times: error 3" {
		t.Fatal(i)
	}
	if d := r.doubts("i"); d != "a b" {
		t.Fatal(d)
	}
	r.wantMode("j", normal)
	r.wantOuts("j", "x")
	// After a completed recovery attempts start again; the total stays on record.
	r.complete("i", 0)
	if d := r.head("i"); d.Attempt != 1 || d.Message.Id != "a" {
		t.Fatal(d)
	}
	r.fail("s", "i", 2)
	r.wantMode("i", normal)
	if s := r.status("i", "a"); s.Attempts != 5 {
		t.Fatal(s)
	}
}

func TestPoisonIsDeadLettered(t *testing.T) {
	t.Parallel()
	r := setup(t, maxAttempts(2), atMaxAttempts(sluicev1.Policy_POLICY_DEAD_LETTER))
	r.send("i", "a", "b")
	r.own("i", "s")
	r.fail("s", "i", 2)
	s := r.wantSettled("i", "a", kindDead)
	if d := s.DeadLetter; s.Attempts != 2 || d.Reason != "MAX_ATTEMPTS: 2 attempts failed" || d.FirstError != "error 1" || d.LastError != "error 2" {
		t.Fatal(s)
	}
	r.wantMode("i", normal)
	r.wantOuts("i", "b")
	if ds := r.deadLetters("i"); len(ds) != 1 || ds[0].Message.Id != "a" || ds[0].Attempts != 2 || ds[0].LastError != "error 2" {
		t.Fatal(ds)
	}
}

func TestNoLimitOfAttempts(t *testing.T) {
	t.Parallel()
	r := setup(t, maxAttempts(0), backoff(time.Second, time.Second))
	r.send("i", "a")
	r.own("i", "s")
	r.fail("s", "i", 30)
	r.wantMode("i", normal)
	r.advance(time.Second)
	if d := r.head("i"); d.Attempt != 31 {
		t.Fatal(d)
	}
}

func TestRejected(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a", "b", "c")
	r.own("i", "s")
	s := taking(r.head("i"), outRejected)
	s.ErrorText = "no good"
	r.settle("s", s)
	got := r.wantSettled("i", "a", kindDead)
	if d := got.DeadLetter; got.Attempts != 1 || d.Reason != "REJECTED: the worker rejected the message" || d.FirstError != "no good" || d.LastError != "no good" {
		t.Fatal(got)
	}
	r.fail("s", "i", 1)
	r.advance(time.Minute)
	s = taking(r.head("i"), outRejected)
	s.ErrorText = "no good"
	r.settle("s", s)
	if d := r.wantSettled("i", "b", kindDead); d.Attempts != 2 || d.DeadLetter.FirstError != "error 1" || d.DeadLetter.LastError != "no good" {
		t.Fatal(d)
	}
	r.wantOuts("i", "c")
	r.wantMode("i", normal)
}

func TestRecoveryMessageThatKeepsFailing(t *testing.T) {
	t.Parallel()
	for _, p := range []sluicev1.Policy{sluicev1.Policy_POLICY_RECOVER, sluicev1.Policy_POLICY_DEAD_LETTER} {
		r := setup(t, maxAttempts(2), atMaxAttempts(p))
		r.enter("i")
		r.sendRecovery("i", "r1")
		r.sendRecovery("i", "r2")
		r.own("i", "s")
		e := r.instance("i").Epoch
		r.settle("s", taking(r.head("i"), outFailed))
		r.wantOuts("i", "!") // the announcement stands; the lane waits
		r.advance(time.Minute)
		if d := r.head("i"); d.Attempt != 2 {
			t.Fatal(d)
		}
		r.settle("s", taking(r.head("i"), outFailed))
		r.wantSettled("i", "r1", kindDead)
		if i := r.wantMode("i", recovery); i.Epoch != e {
			t.Fatal(i)
		}
		r.wantOuts("i", "! r2")
	}
}

func failure(d *sluicev1.Delivery, text string) *sluicev1.Settlement {
	s := taking(d, outFailed)
	s.ErrorText = text
	return s
}

func TestRecoveryHandlerThatFails(t *testing.T) {
	t.Parallel()
	r := setup(t, maxAttempts(2), backoff(time.Second, 4*time.Second))
	r.send("i", "a")
	r.own("i", "s")
	r.enter("i")
	r.sendRecovery("i", "r")
	e := r.instance("i").Epoch
	for n, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second} {
		d := r.announcement("i")
		if d.Attempt != uint32(n+1) || d.Seq != 0 || d.Lane != laneRecovery || len(d.Recovery.InDoubt) != 1 {
			t.Fatal(d)
		}
		if v := r.settle("s", failure(d, "no")); v != "" {
			t.Fatal(v)
		}
		if v := r.settle("s", failure(d, "no")); v != "duplicate" {
			t.Fatal(v)
		}
		r.wantOuts("i", "") // nothing, not the recovery lane either
		if v := r.settle("s", &sluicev1.Settlement{Application: "app", Instance: "i", Epoch: e, Seq: 2, Lane: laneRecovery, Outcome: outCompleted}); v != "NOT_IN_FLIGHT" {
			t.Fatal(v)
		}
		r.advance(wait - time.Millisecond)
		r.wantOuts("i", "")
		r.advance(time.Millisecond)
		r.wantOuts("i", "! r")
	}
	if i := r.wantMode("i", recovery); i.Epoch != e { // for as long as it takes
		t.Fatal(i)
	}
	// An attempt that is not out is refused; a new recovery counts from one.
	d := r.announcement("i")
	d.Attempt += 2
	if v := r.settle("s", failure(d, "no")); v != "NOT_IN_FLIGHT" {
		t.Fatal(v)
	}
	r.enter("i")
	if d := r.announcement("i"); d.Attempt != 1 {
		t.Fatal(d)
	}
	s := failure(r.announcement("i"), "no")
	s.RetryAfter = durationpb.New(time.Hour)
	r.settle("s", s)
	r.advance(time.Hour - time.Millisecond)
	r.wantOuts("i", "")
	// Completion ends the wait; what was to come due finds nothing to do.
	r.complete2("i", &sluicev1.CompleteRecoveryRequest{DiscardRecoveryMessages: true})
	r.wantOuts("i", "a")
	r.advance(time.Hour)
	r.wantOuts("i", "a")
}

package fsm_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
)

func outage(instances uint32, window time.Duration) func(*sluicev1.Application) {
	return func(a *sluicev1.Application) {
		a.Supervision = &sluicev1.Supervision{OutageInstances: &instances, OutageWindow: durationpb.New(window)}
	}
}

// crowd gives each of so many instances i0, i1, … the messages a and b, and all of them to the session s.
func (r *rig) crowd(n int) {
	r.t.Helper()
	r.open("s", uint32(n))
	for k := range n {
		key := fmt.Sprint("i", k)
		r.send(key, "a", "b")
		r.assign(key, "s")
	}
}

// failAs lets the head of an instance fail once with an error text, when it is out.
func (r *rig) failAs(key, text string) {
	r.t.Helper()
	if v := r.settle("s", failure(r.head(key), text)); v != "" {
		r.t.Fatalf("%s: %s", key, v)
	}
}

// wantWhole wants the application to be in recovery as a whole, or not.
func (r *rig) wantWhole(want bool) *sluicev1.ApplicationRecovery {
	r.t.Helper()
	rec := r.application("app").Recovery
	if (rec != nil) != want {
		r.t.Fatalf("in recovery as a whole: want %v, got %v", want, rec)
	}
	return rec
}

func TestOutageAtTheThreshold(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(3, time.Minute), backoff(time.Hour, time.Hour))
	r.declare("other", outage(2, time.Minute))
	r.crowd(5)
	r.failAs("i0", "order 4711: dial tcp 10.0.0.1:5432: refused")
	r.tick(20 * time.Second)
	r.failAs("i1", "order 12: dial tcp 10.0.0.1:5432: refused")
	r.wantWhole(false)
	r.tick(21500 * time.Millisecond)
	e := r.instance("i2").Epoch
	third := failure(r.head("i2"), "order 9: dial tcp 10.0.0.2:5432: refused")
	if v := r.settle("s", third); v != "" {
		t.Fatal(v)
	}
	rec := r.wantWhole(true)
	if o := rec.Outage; rec.Actor != "outage" || rec.Cause != "outage: 3 instances failed alike within 42 s: "+third.ErrorText || rec.Time.AsTime().UnixMilli() != r.now ||
		o.GetInstances() != 3 || o.GetError() != third.ErrorText || len(o.GetFingerprint()) != 16 || o.GetFirstTime().AsTime().UnixMilli() != start {
		t.Errorf("%v", rec)
	}
	if rec.Generation != r.application("app").RecoveryGeneration || len(r.fx.Entered) != 1 {
		t.Errorf("%v, %v", rec, r.fx.Entered)
	}
	r.wantCounts(0, 5, 0)
	if r.application("other").Recovery != nil {
		t.Error("another application entered recovery, too")
	}
	// The one that showed it is fenced off as all others are, and its answer is the same again.
	i := r.wantMode("i2", recovery)
	if grew(t, "outage", e, i.Epoch); i.Cause != rec.Cause || i.Epoch != rec.Generation {
		t.Error(i)
	}
	if v := r.settle("s", third); v != "duplicate" {
		t.Error(v)
	}
	h := r.history("i4")
	if last := h[len(h)-1]; last.Actor != "outage" || last.Cause != rec.Cause {
		t.Error(last)
	}
	// What had failed is not in doubt; what was out is.
	for key, want := range map[string]string{"i0": "", "i1": "", "i2": "", "i3": "a", "i4": "a"} {
		if got := r.doubts(key); got != want {
			t.Errorf("in doubt in %s: %q, want %q", key, got, want)
		}
	}
}

func TestWhatIsNoOutage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setting func(*sluicev1.Application)
		act     func(*rig)
	}{
		"one short": {outage(3, time.Minute), func(r *rig) { r.failAs("i0", "no"); r.failAs("i1", "no") }},
		"other fingerprints": {outage(3, time.Minute), func(r *rig) {
			for k, text := range []string{"no", "never", "not now", "no", "never"} {
				r.failAs(fmt.Sprint("i", k), text)
			}
		}},
		"one instance again and again": {outage(2, time.Hour), func(r *rig) {
			for range 5 {
				r.failAs("i0", "no")
				r.advance(time.Second)
			}
		}},
		"one instance whose errors vary": {outage(2, time.Hour), func(r *rig) {
			for _, text := range []string{"a", "b", "a", "b", "c", "a"} {
				r.failAs("i0", text)
				r.advance(time.Second)
			}
		}},
		"the window has passed": {outage(3, time.Minute), func(r *rig) {
			r.failAs("i0", "no")
			r.failAs("i1", "no")
			r.tick(time.Minute)
			r.failAs("i2", "no")
			r.failAs("i3", "no")
		}},
		"never": {outage(0, time.Minute), func(r *rig) {
			for k := range 5 {
				r.failAs(fmt.Sprint("i", k), "no")
			}
		}},
		"rejected": {outage(2, time.Minute), func(r *rig) {
			for k := range 5 {
				r.finish("s", r.head(fmt.Sprint("i", k)), outRejected)
			}
		}},
		"lost owners": {outage(2, time.Minute), func(r *rig) { r.expire("s") }},
		"in recovery": {outage(2, time.Minute), func(r *rig) {
			for k := range 4 {
				key := fmt.Sprint("i", k)
				r.enter(key)
				r.sendRecovery(key, "r")
				r.settle("s", failure(r.head(key), "no"))
				r.settle("s", failure(r.announcement(key), "no"))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, c.setting, backoff(time.Second, time.Second), redeliver)
			r.crowd(5)
			c.act(r)
			r.wantWhole(false)
		})
	}
}

func TestTheWindowOfAnOutageToTheMillisecond(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(2, time.Minute))
	r.crowd(3)
	r.failAs("i0", "no")
	r.tick(time.Minute - time.Millisecond)
	r.failAs("i1", "no")
	r.wantWhole(true)
}

func TestADrainingInstanceCountsToo(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(2, time.Minute))
	r.crowd(2)
	r.enter("i0")
	r.send("i0", "c")
	r.complete("i0", 0)
	r.wantMode("i0", draining)
	r.failAs("i0", "no")
	r.failAs("i1", "no")
	r.wantWhole(true)
}

func TestAnInstanceCountsForItsLastFailure(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(3, time.Hour), backoff(time.Second, time.Second))
	r.crowd(4)
	for _, key := range []string{"i0", "i1"} {
		r.failAs(key, "timeout")
		r.advance(time.Second)
	}
	r.failAs("i0", "refused")
	r.failAs("i2", "timeout") // the second of this pattern still: i0 has left it
	r.wantWhole(false)
	r.failAs("i3", "timeout")
	if o := r.wantWhole(true).Outage; o.Instances != 3 || o.Error != "timeout" {
		t.Error(o)
	}
}

func TestAnOutageBurnsNoAttempts(t *testing.T) {
	t.Parallel()
	for _, policy := range []sluicev1.Policy{sluicev1.Policy_POLICY_RECOVER, sluicev1.Policy_POLICY_DEAD_LETTER} {
		r := setup(t, outage(2, time.Minute), maxAttempts(1), atMaxAttempts(policy))
		r.crowd(2)
		r.failAs("i0", "no") // before the outage is known: poison, or a dead letter
		r.failAs("i1", "no") // the last attempt, and not burnt
		r.wantWhole(true)
		if d := r.deadLetters("i1"); len(d) != 0 {
			t.Fatal(d)
		}
		if i := r.wantMode("i1", recovery); i.NormalMessages != 2 {
			t.Fatal(i)
		}
		if policy == sluicev1.Policy_POLICY_DEAD_LETTER {
			if d := r.deadLetters("i0"); len(d) != 1 || r.doubts("i0") != "b" {
				t.Fatal(d) // a dead letter stays one, and what was behind it was out already
			}
			r.completeWhole(1, 1)
		} else {
			r.completeWhole(2, 0)
		}
		if d := r.head("i1"); d.Message.Id != "a" || d.Attempt != 1 {
			t.Fatal(d)
		}
	}
}

// completeWhole completes the application-wide recovery, and compares how many were done and passed over.
func (r *rig) completeWhole(done, passedOver uint64) {
	r.t.Helper()
	id := r.ok(operationRequest(&sluicev1.CompleteApplicationRecoveryRequest{})).GetOperation().Id
	r.ok(stepCommand(id, 1000))
	op, err := r.m.View().Operation(id)
	if err != nil || op.Done != done || op.PassedOver != passedOver {
		r.t.Fatalf("want %d done and %d passed over, got %v, %v", done, passedOver, op, err)
	}
}

func TestPoisonOfAnOutageIsCompletedWithIt(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(3, time.Hour), maxAttempts(1), window(2))
	r.crowd(7)
	r.failAs("i0", "no")
	r.failAs("i1", "poison of its own")
	r.enter("i2") // what is in doubt here may have taken effect
	r.failAs("i3", "no")
	r.complete("i3", 0)
	r.enter("i3")
	if r.doubts("i0") != "a b" || r.doubts("i3") != "a b" {
		t.Fatal("what is poison is in doubt")
	}
	r.failAs("i4", "no")
	r.wantWhole(true)
	// i4 was not out when the application entered, and i0 is poison no more: what the others hold is in doubt.
	r.completeWhole(2, 5)
	for key, want := range map[string]sluicev1.Mode{"i0": normal, "i1": recovery, "i2": recovery, "i3": recovery, "i4": normal, "i5": recovery} {
		r.wantMode(key, want)
	}
	r.work("s", "i0", "a", "b")
	r.work("s", "i4", "a", "b")
}

func TestAnOutageIsDeclaredAgainIfItGoesOn(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(2, time.Hour))
	r.crowd(3)
	r.failAs("i0", "no")
	r.failAs("i1", "no")
	first := r.wantWhole(true)
	r.complete("i2", 9)
	r.completeWhole(2, 0)
	// Counting began anew, even within the same millisecond: one is not enough, and two are.
	r.failAs("i0", "no")
	if again := r.wantWhole(true); again.Generation != first.Generation {
		t.Fatal(again)
	}
	r.failAs("i1", "no")
	if again := r.wantWhole(true); again.Generation <= first.Generation {
		t.Fatal(again)
	}
}

// While the leader's clock is behind the cluster's time stands still, so that patterns of failures begin at the same time.
func TestAPatternThatGoesAndComesAgainCountsAnewWhileTheClockStandsStill(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(2, time.Hour))
	r.crowd(19)
	r.failAs("i17", "no")
	for k := range 16 {
		r.failAs(fmt.Sprint("i", k), string(rune('a'+k))) // the last of them is one pattern too many, and the first goes
	}
	r.failAs("i18", "no")
	r.wantWhole(false)
	r.advance(time.Hour - time.Millisecond)
	r.failAs("i17", "no")
	r.wantWhole(true)
}

func TestAnOutageSurvivesARestartInMidCount(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(3, time.Minute))
	r.crowd(3)
	r.failAs("i0", "no")
	r.failAs("i1", "no")
	r.reopen()
	r.failAs("i2", "no")
	r.wantWhole(true)
}

func TestAtMostSixteenPatternsAreCounted(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(2, time.Hour))
	r.crowd(20)
	texts := []string{"a", "b", "c", "d", "e", "f", "g", "h", "j", "k", "l", "m", "n", "o", "p", "q", "r"}
	for k, text := range texts {
		r.failAs(fmt.Sprint("i", k), text)
	}
	rec := r.applicationRecord("app")
	if n := len(rec.Failures); n != 16 || rec.Failures[0].Error != "b" || rec.Failures[15].Error != "r" {
		t.Fatal(rec.Failures)
	}
	r.failAs("i17", "a") // it went, and begins anew
	r.wantWhole(false)
	r.failAs("i18", "r")
	r.wantWhole(true)
	if rec := r.applicationRecord("app"); len(rec.Failures) != 0 {
		t.Fatal(rec.Failures)
	}
}

// applicationRecord reads what is stored of an application.
func (r *rig) applicationRecord(name string) *logv1.ApplicationRecord {
	r.t.Helper()
	v, err := r.store.NewSnapshot().Get([]byte("a" + name))
	rec := &logv1.ApplicationRecord{}
	if err == nil {
		err = proto.Unmarshal(v, rec)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

func TestAFailureThatCountsNothingWritesNoApplication(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(3, time.Hour), backoff(100*time.Millisecond, 100*time.Millisecond))
	r.crowd(1)
	r.failAs("i0", "no")
	before := r.applicationRecord("app")
	r.advance(100 * time.Millisecond)
	r.failAs("i0", "no")
	if after := r.applicationRecord("app"); !proto.Equal(before, after) {
		t.Errorf("%v, then %v", before, after)
	}
	r.advance(time.Second)
	r.failAs("i0", "no")
	if p := r.applicationRecord("app").Failures[0]; p.LastTimeMs != r.now || p.Instances != 1 || p.FirstTimeMs != start {
		t.Error(p)
	}
}

func TestThresholdsOfAnOutageAreChecked(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, bad := range []func(*sluicev1.Application){outage(1, time.Minute), outage(1_000_001, time.Minute), outage(2, 999*time.Millisecond), outage(2, time.Hour+time.Millisecond)} {
		a := &sluicev1.Application{Name: "app"}
		bad(a)
		r.refused("BAD_FIELD", &logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: a}})
	}
	for _, good := range []func(*sluicev1.Application){outage(0, time.Second), outage(2, time.Second), outage(1_000_000, time.Hour)} {
		r.declare("app", good)
	}
	// By default it takes a hundred.
	r.declare("app")
	r.crowd(100)
	for k := range 99 {
		r.failAs(fmt.Sprint("i", k), "no")
	}
	r.wantWhole(false)
	r.failAs("i99", "no")
	r.wantWhole(true)
}

func TestAnOperatorsEntryShowsNoOutage(t *testing.T) {
	t.Parallel()
	r := setup(t)
	a := r.enterAll("stock count")
	if rec := a.Recovery; rec.GetCause() != "stock count" || rec.GetActor() != "tester" || rec.Outage != nil || rec.Generation != a.RecoveryGeneration {
		t.Fatal(rec)
	}
	// What only answers carry is not kept of a declaration.
	if again := r.declare("app", func(d *sluicev1.Application) { d.Recovery = &sluicev1.ApplicationRecovery{Cause: "mine"} }); again.Recovery.Cause != "stock count" {
		t.Fatal(again)
	}
}

// TestAnOutageLeavesNothingInDoubtOfWhatWasPutBack: the attempt that shows it ends the waiting, too.
func TestAnOutageLeavesNothingInDoubtOfWhatWasPutBack(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(2, time.Minute), backoff(time.Hour, time.Hour), window(2))
	r.crowd(2)
	r.send("i1", "c")
	r.bury("i1", 1)
	r.putBack("i1", true, 1)
	r.failAs("i0", "down")
	r.failAs("i1", "down")
	r.wantWhole(true)
	r.wantLane("i1", "a b c")
	if got := r.doubts("i1"); got != "" {
		t.Fatalf("in doubt: %q", got)
	}
	r.completeWhole(2, 0)
	r.work("s", "i1", "a", "b", "c")
}

package fsm_test

import (
	"strings"
	"testing"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

const (
	holdNoWorker   = sluicev1.HoldKind_HOLD_NO_WORKER
	holdNoCapacity = sluicev1.HoldKind_HOLD_NO_CAPACITY
	holdRecovery   = sluicev1.HoldKind_HOLD_RECOVERY
	holdWhole      = sluicev1.HoldKind_HOLD_APPLICATION_RECOVERY
	holdInDoubt    = sluicev1.HoldKind_HOLD_IN_DOUBT
	holdPending    = sluicev1.HoldKind_HOLD_RECOVERY_MESSAGES
	holdBackoff    = sluicev1.HoldKind_HOLD_BACKOFF
	holdInFlight   = sluicev1.HoldKind_HOLD_IN_FLIGHT
	holdDraining   = sluicev1.HoldKind_HOLD_DRAINING
	holdTerminated = sluicev1.HoldKind_HOLD_TERMINATED
)

func (r *rig) explain(key string) *sluicev1.Explanation {
	r.t.Helper()
	e, err := r.m.View().Explain(fsm.InstanceID{Application: "app", Key: key}, true)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// hold is what is wanted of a hold: parts of its texts, and in how long it ends; 0: it does not by itself.
type hold struct {
	kind          sluicev1.HoldKind
	text, release string
	in            time.Duration
}

func (r *rig) wantHolds(key string, want []hold) {
	r.t.Helper()
	got := r.explain(key).Holds
	if len(got) != len(want) {
		r.t.Fatalf("%d holds, want %d: %v", len(got), len(want), got)
	}
	for n, w := range want {
		g, until := got[n], time.Duration(0)
		if g.Until != nil {
			until = g.Until.AsTime().Sub(time.UnixMilli(r.now))
		}
		if g.Kind != w.kind || !strings.Contains(g.Text, w.text) || !strings.Contains(g.Release, w.release) || until != w.in {
			r.t.Errorf("hold %d: want %+v, got %v", n, w, g)
		}
	}
}

func TestWhatHoldsAnInstance(t *testing.T) {
	t.Parallel()
	alone := func(r *rig) { r.send("i", "a") }
	for name, c := range map[string]struct {
		act  func(*rig)
		want []hold
	}{
		"normal, idle":                    {func(r *rig) { r.send("i", "a"); r.own("i", "s"); r.work("s", "i", "a") }, nil},
		"normal, with nothing and nobody": {func(r *rig) { r.enter("i"); r.complete("i", 0) }, nil},
		"queued, no worker": {alone, []hold{
			{holdNoWorker, "no worker of application app is connected; 1 message waits", "start one, as with: sluice worker exec --app app -- COMMAND", 0},
		}},
		"queued, a worker that has not asked": {func(r *rig) { r.open("s", 1); r.send("i", "a", "b") }, []hold{
			{holdNoCapacity, "of 1 worker 1 could own more", "start another worker, as with: sluice worker exec --app app", 0},
		}},
		"queued, workers are full": {func(r *rig) {
			r.send("j", "x")
			r.open("s", 1)
			r.assign("j", "s")
			r.open("u", 1)
			r.send("k", "x")
			r.assign("k", "u")
			r.send("i", "a")
		}, []hold{
			{holdNoCapacity, "2 workers of application app, and none may own more", "greater capacity", 0},
		}},
		"in flight": {func(r *rig) { r.send("i", "a"); r.own("i", "s") }, []hold{
			{holdInFlight, "seq 1 (step, a) is with worker worker s", "if the worker dies, the end of its lease; if the handler hangs, an operator fences it off: sluice instance recover app/i", 0},
		}},
		"backoff": {func(r *rig) {
			r.send("i", "a")
			r.own("i", "s")
			r.failAs("i", "no luck")
			r.tick(200 * time.Millisecond)
			r.send("j", "x")
		}, []hold{
			{holdBackoff, "seq 1 (step, a) failed 1 of 10 times: no luck", "sluice instance resolve app/i --lane normal --seq 1 --action skip", 300 * time.Millisecond},
		}},
		"recovery, nothing else": {func(r *rig) { r.enter("i") }, []hold{
			{holdRecovery, "it is in recovery: because (by tester)", "a worker's recovery handler; or an operator: sluice instance complete app/i", 0},
		}},
		"recovery, in doubt, no worker": {func(r *rig) { r.send("i", "a", "b"); r.own("i", "s"); r.expire("s") }, []hold{
			{holdNoWorker, "no worker of application app", "a worker of application app: start one", 0},
			{holdInDoubt, "2 messages are in doubt, up to seq 2", "sluice instance complete app/i --processed-through 2 if all of them did, --processed-through 0 if none did", 0},
			{holdRecovery, "owner lost: the lease of session s (worker s) ran out", "a worker's recovery handler; or an operator: sluice instance complete app/i --processed-through SEQ", 0},
		}},
		"recovery, messages pending": {func(r *rig) { r.enter("i"); r.sendRecovery("i", "r"); r.own("i", "s") }, []hold{
			{holdPending, "1 recovery message is unsettled", "sluice instance complete app/i --discard-recovery-messages", 0},
			{holdInFlight, "seq 1 (recovery.step, r) is with worker", "", 0},
			{holdRecovery, "because (by tester); its recovery handler is at work, with worker worker s", "that handler's completion; or an operator, who fences it off: sluice instance complete app/i --discard-recovery-messages", 0},
		}},
		"recovery, its handler failed": {func(r *rig) {
			r.enter("i")
			r.own("i", "s")
			r.settle("s", failure(r.announcement("i"), "not yet"))
		}, []hold{
			{holdBackoff, "the recovery failed 1 time: not yet", "the recovery is delivered again then; or an operator: sluice instance complete app/i", 500 * time.Millisecond},
			{holdRecovery, "because (by tester)", "a worker's recovery handler; or an operator: sluice instance complete app/i", 0},
		}},
		"recovery, until": {func(r *rig) {
			r.ok(enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "i", Cause: "because", Until: r.at(time.Minute)}))
		}, []hold{
			{holdRecovery, "because", "sluice instance complete app/i", time.Minute},
		}},
		"recovery, until, and in doubt": {func(r *rig) {
			r.send("i", "a")
			r.own("i", "s")
			r.ok(enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "i", Until: r.at(time.Minute)}))
		}, []hold{
			{holdInDoubt, "1 message is in doubt, up to seq 1", "", 0},
			{holdRecovery, "no reason given (by tester)", "", 0},
		}},
		"the whole application": {func(r *rig) { r.enter("i"); r.complete("i", 0); r.enterAll("stock count") }, []hold{
			{holdWhole, "application app is in recovery as a whole: stock count (by tester)", "a worker's recovery handler, once it is sent something: nothing was wanted of it since; or an operator: sluice app complete app; or for this instance alone: sluice instance complete app/i", 0},
		}},
		"the whole application, and then sent something": {func(r *rig) { r.enter("i"); r.complete("i", 0); r.enterAll("stock count"); r.send("i", "a") }, []hold{
			{holdNoWorker, "1 message waits", "", 0},
			{holdWhole, "stock count", "a worker's recovery handler; or an operator: sluice app complete app; or for this instance alone: sluice instance complete app/i", 0},
		}},
		"the whole application, in doubt": {func(r *rig) { r.send("i", "a"); r.own("i", "s"); r.enterAll("stock count") }, []hold{
			{holdInDoubt, "1 message is in doubt, up to seq 1", "those are delivered again", 0},
			{holdWhole, "stock count", "sluice instance complete app/i --processed-through SEQ (sluice app complete app passes it over: messages are in doubt)", 0},
		}},
		"the whole application, messages pending": {func(r *rig) { r.enter("i"); r.enterAll("stock count"); r.sendRecovery("i", "r"); r.open("s", 1) }, []hold{
			{holdNoCapacity, "it waits for an owner", "", 0},
			{holdPending, "1 recovery message is unsettled", "who dead-letters them: sluice instance complete app/i --discard-recovery-messages", 0},
			{holdWhole, "stock count", "sluice instance complete app/i --discard-recovery-messages (sluice app complete app passes it over: recovery messages are unsettled)", 0},
		}},
		"the whole application, its handler at work": {func(r *rig) { r.enter("i"); r.enterAll("stock count"); r.own("i", "s") }, []hold{
			{holdWhole, "stock count (by tester); its recovery handler is at work, with worker worker s", "sluice instance complete app/i (sluice app complete app passes it over: its recovery handler is at work)", 0},
		}},
		"the whole application, and then for itself": {func(r *rig) { r.enterAll("stock count"); r.enter("i") }, []hold{
			{holdRecovery, "because", "sluice instance complete app/i", 0},
		}},
		"draining": {func(r *rig) { r.enter("i"); r.send("i", "a", "b"); r.complete("i", 0); r.own("i", "s") }, []hold{
			{holdInFlight, "seq 1 (step, a)", "", 0},
			{holdDraining, "2 deferred messages are unsettled; it is normal again when those up to seq 2 are settled", "see it pass: sluice instance watch app/i", 0},
		}},
		"terminated": {func(r *rig) {
			r.send("i", "a")
			r.own("i", "s")
			r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i", Reason: "test data"}))
		}, []hold{
			{holdTerminated, "it was terminated: test data", "free again", 24 * time.Hour},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, window(2))
			c.act(r)
			r.wantHolds("i", c.want)
		})
	}
}

func TestExplanation(t *testing.T) {
	t.Parallel()
	r := setup(t, window(2), maxAttempts(1), outage(0, time.Minute))
	r.send("i", "a", "b", "c")
	r.own("i", "s")
	r.open("u", 1)
	r.failAs("i", "no luck")
	r.settle("s", failure(r.announcement("i"), "not yet"))
	r.sendRecovery("i", "r")
	e := r.explain("i")
	if e.Instance.Mode != recovery || !e.Instance.Quiesced || e.Actor != "tester" || e.InDoubtMessages != 2 || e.Until != nil || e.OwnerName != "worker s" ||
		e.RecoveryAttempts != 1 || e.RecoveryError != "not yet" || e.Sessions != 2 || e.SessionsWithRoom != 2 || e.Head.GetMessage().GetId() != "r" || e.DeadLetters != 0 {
		t.Error(e)
	}
	// After completion the head is that of the normal lane, with what happened to it.
	r.advance(time.Second)
	r.complete2("i", &sluicev1.CompleteRecoveryRequest{DiscardRecoveryMessages: true})
	e = r.explain("i")
	if e.Instance.Quiesced || e.Head.GetMessage().GetId() != "a" || numbers(e.Head.GetAttemptHistory()) != "1:no luck:s" || e.DeadLetters != 1 || e.Head.Time.AsTime().UnixMilli() != start {
		t.Error(e)
	}
	// One that is behind its application is explained as if it had caught up.
	r.actor = "alice"
	r.enterAll("stock count")
	if e = r.explain("i"); e.Actor != "alice" || e.Instance.Cause != "stock count" || e.InDoubtMessages != 2 || e.Holds[0].Kind != holdInDoubt || e.Holds[1].Kind != holdWhole {
		t.Error(e)
	}
	_, err := r.m.View().Explain(fsm.InstanceID{Application: "app", Key: "none"}, false)
	wantReason(t, err, "UNKNOWN_INSTANCE")
}

func TestOfAnOutageWhatFailedAsTheOthersDidIsReleasedWithThem(t *testing.T) {
	t.Parallel()
	r := setup(t, outage(2, time.Hour), maxAttempts(1))
	r.crowd(3)
	r.failAs("i0", "no") // poison
	r.failAs("i1", "no") // shows the outage
	r.settle("s", failure(r.announcement("i0"), "not yet"))
	r.wantHolds("i0", []hold{
		{holdInDoubt, "1 message is in doubt, up to seq 1", "--processed-through 0 if none did: those are delivered again; sluice app complete app delivers them again, too: they failed as the others did", 0},
		{holdBackoff, "the recovery failed 1 time: not yet", "an operator: sluice instance complete app/i0 --processed-through SEQ", 500 * time.Millisecond},
		{holdWhole, "outage: 2 instances failed alike within 1 s: no (by outage)", "sluice app complete app; or for this instance alone: sluice instance complete app/i0 --processed-through SEQ", 0},
	})
	r.settle("s", failure(r.announcement("i1"), "not yet"))
	r.wantHolds("i1", []hold{
		{holdBackoff, "not yet", "", 500 * time.Millisecond},
		{holdWhole, "(by outage)", "a worker's recovery handler; or an operator: sluice app complete app; or", 0},
	})
	r.settle("s", failure(r.announcement("i2"), "not yet")) // it was out when the outage was declared
	r.wantHolds("i2", []hold{
		{holdInDoubt, "1 message is in doubt", "", 0},
		{holdBackoff, "not yet", "", 500 * time.Millisecond},
		{holdWhole, "(by outage)", "passes it over: messages are in doubt", 0},
	})
}

func TestAnOwnerThatIsNotKnownToHaveTakenTheRecovery(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	r.own("i", "s")
	e, err := r.m.View().Explain(fsm.InstanceID{Application: "app", Key: "i"}, false)
	if err != nil {
		t.Fatal(err)
	}
	const want = "the recovery handler of worker worker s, which is not known to have taken the recovery yet; or an operator: sluice instance complete app/i"
	if h := e.Holds[0]; h.Release != want || h.Text != "it is in recovery: because (by tester)" {
		t.Error(h)
	}
}

func TestReleasesQuoteTheirTarget(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("it's 1")
	if got := r.explain("it's 1").Holds[0].Release; got != `a worker's recovery handler; or an operator: sluice instance complete 'app/it'\''s 1'` {
		t.Error(got)
	}
}

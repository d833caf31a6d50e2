package fsm_test

import (
	"testing"
	"time"

	"sluice/fsm"
)

// TestATouchRests only if the message that was settled was the last, and if nothing was handed out since.
func TestATouchRests(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a", "b")
	r.own("i", "s")
	r.work("s", "i", "a")
	if touch := r.fx.Touched[0]; touch.Rests(fsm.Given{}) {
		t.Fatal("a message is left")
	}
	r.work("s", "i", "b")
	touch := r.fx.Touched[0]
	given := func() fsm.Given {
		t.Helper()
		o, err := r.m.View().Offer(fsm.InstanceID{Application: "app", Key: "i"}, fsm.Given{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		return o.Given
	}
	if !touch.Rests(given()) {
		t.Fatal("nothing is left")
	}
	r.send("i", "c")
	if touch.Rests(given()) {
		t.Fatal("what was handed out came after it")
	}
	r.work("s", "i", "c")
	touch = r.fx.Touched[0]
	r.enter("i")
	if touch.Rests(given()) {
		t.Fatal("a recovery was announced after it")
	}
}

func TestEffectsTellTheLeader(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	if fx := r.fx; len(fx.Work) != 1 || fx.Work[0] != "app" || fx.Counters.Accepted != 1 || fx.Counters.Commands != 1 {
		t.Fatal(fx)
	}
	r.own("i", "s")
	if fx := r.fx; len(fx.Touched) != 1 || fx.Touched[0].Owner != "s" || fx.Touched[0].Key != "i" {
		t.Fatal(fx)
	}
	r.fail("s", "i", 1)
	if fx := r.fx; fx.DeadlineMS != r.now+500 {
		t.Fatal(fx)
	}
	if at, ok, err := r.m.View().NextDeadline(); err != nil || !ok || at.UnixMilli() != r.now+500 {
		t.Fatal(at, ok, err)
	}
	r.advance(500 * time.Millisecond)
	if fx := r.fx; len(fx.Touched) != 1 {
		t.Fatal(fx)
	}
	r.work("s", "i", "a")
	if fx := r.fx; len(fx.Touched) != 1 || !fx.Touched[0].Rests(fsm.Given{}) {
		t.Fatal(fx)
	}
	if fx := r.fx; len(fx.Settled) != 1 || fx.Settled[0] != (fsm.MessageRef{InstanceID: fsm.InstanceID{Application: "app", Key: "i"}, ID: "a"}) || fx.Counters.Settled[kindCompleted] != 1 {
		t.Fatal(fx)
	}
	r.send("i", "a")
	if fx := r.fx; fx.Counters.Duplicates != 1 {
		t.Fatal(fx)
	}
	r.noSend("NOT_SUITABLE", message("i", "r", "recovery.x"))
	if fx := r.fx; fx.Counters.Refused["NOT_SUITABLE"] != 1 {
		t.Fatal(fx)
	}
	r.enterAll("x")
	if fx := r.fx; len(fx.Entered) != 1 || fx.Entered[0] != "app" {
		t.Fatal(fx)
	}
	r.send("i", "b")
	if fx := r.fx; fx.Counters.Deferred != 1 || fx.Counters.Transitions[recovery] != 1 {
		t.Fatal(fx)
	}
}

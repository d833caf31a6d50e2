package cluster

import (
	"testing"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// drainedAtOnce is what an entry makes room for in these tests.
const drainedAtOnce = 8

// beside is a dispatcher with a session whose instance "drains" is drained, and whose instance "other" was handed
// something at the start.
func beside(t *testing.T) (*dispatcher, *session) {
	t.Helper()
	d := newTestDispatcher()
	s := d.opened("s", 10, time.Minute)
	d.touch(fsm.Touch{InstanceID: inst("other"), Owner: "s"})
	offered(t, d, s, delivery("s", 1), start)
	d.touch(fsm.Touch{InstanceID: inst("drains"), Owner: "s", Drains: true})
	d.applied(1)
	return d, s
}

// drains is an offer of so many messages of an instance that is drained, with more to come.
func drains(messages int) *fsm.Offer {
	o := &fsm.Offer{Owner: "s", Epoch: 7, Mode: sluicev1.Mode_MODE_DRAINING, More: true}
	for seq := range uint64(messages) {
		o.Deliveries = append(o.Deliveries, &sluicev1.Delivery{Seq: seq + 1, Attempt: 1})
	}
	return o
}

// exhausted is a dispatcher in which all that may be drained before the next entry was handed out.
func exhausted(t *testing.T) (*dispatcher, *session, *held) {
	t.Helper()
	d, s := beside(t)
	h, given, version := d.pick(s, start)
	if h == nil {
		t.Fatal("there is room, and nothing is drained")
	}
	if room, _ := d.share(h, start); room != drainedAtOnce {
		t.Fatalf("want room for %d, got %d", drainedAtOnce, room)
	}
	d.handed(h, version, "", given, drains(drainedAtOnce), start)
	if again, _, _ := d.pick(s, start); again != nil {
		t.Fatalf("%v is drained on without room", again.id)
	}
	return d, s, h
}

func TestADrainLeavesRoom(t *testing.T) {
	d, s, h := exhausted(t)
	d.touch(fsm.Touch{InstanceID: inst("drains"), Owner: "s", Drains: true})
	if again, _, _ := d.pick(s, start); again != nil {
		t.Fatal("what was settled made room before its entry was counted")
	}
	d.touch(fsm.Touch{InstanceID: inst("other"), Owner: "s"})
	if other, _, _ := d.pick(s, start); other == nil || other.id != inst("other") {
		t.Fatalf("others do not go on: got %v", other)
	}
	d.applied(2)
	if again, _, _ := d.pick(s, start); again != h {
		t.Fatalf("two entries were applied, and the drain does not go on: got %v", again)
	}
	if room, _ := d.share(h, start); room != 2*drainedAtOnce {
		t.Fatalf("want room for %d, got %d", 2*drainedAtOnce, room)
	}
}

func TestRoomIsSharedAmongThoseThatDrain(t *testing.T) {
	d, s, first := exhausted(t)
	second := inst("drains, too")
	d.touch(fsm.Touch{InstanceID: second, Owner: "s", Drains: true})
	if h, _, _ := d.pick(s, start); h != nil {
		t.Fatalf("%v is drained without room", h.id)
	}
	d.applied(1)
	h, given, version := d.pick(s, start)
	if h != first {
		t.Fatalf("want the one that waits longest, got %v", h)
	}
	d.handed(h, version, "", given, drains(drainedAtOnce), start)
	d.applied(1)
	if h, _, _ := d.pick(s, start); h == nil || h.id != second {
		t.Fatalf("want the other one in its turn, got %v", h)
	}
}

func TestADrainAloneIsNotHeldUp(t *testing.T) {
	d, s := beside(t)
	late := start.Add(busyLasts)
	for range 3 {
		h, given, version := d.pick(s, late)
		if h == nil {
			t.Fatal("nobody else has work, and the drain does not go on")
		}
		if room, _ := d.share(h, late); room != pollMost {
			t.Fatalf("nobody else has work, and there is room for %d only", room)
		}
		d.handed(h, version, "", given, drains(2*drainedAtOnce), late)
	}
}

func TestADrainGoesOnOnceOthersHaveNoWork(t *testing.T) {
	d, s, h := exhausted(t)
	if wait := d.paced(time.Minute, start.Add(busyLasts/2)); wait != busyLasts/2 {
		t.Fatalf("want a poll to wait until others count as idle, in %v, got %v", busyLasts/2, wait)
	}
	if again, _, _ := d.pick(s, start.Add(busyLasts)); again != h {
		t.Fatalf("others have no work, and the drain does not go on: got %v", again)
	}
	if wait := d.paced(time.Minute, start.Add(busyLasts)); wait != time.Minute {
		t.Fatalf("nothing waits for room, and a poll waits for %v only", wait)
	}
}

// TestWhatDrainsNoMoreIsLookedAt: its recovery was entered again, and the announcement is not to wait for room.
func TestWhatDrainsNoMoreIsLookedAt(t *testing.T) {
	d, s, h := exhausted(t)
	d.touch(fsm.Touch{InstanceID: inst("drains"), Owner: "s"})
	if again, _, _ := d.pick(s, start); again != h {
		t.Fatalf("got %v", again)
	}
	d, s, h = exhausted(t)
	d.enter("app")
	if again, _, _ := d.pick(s, start); again == nil {
		t.Fatal("the application entered recovery, and nothing is looked at")
	}
	if again, _, _ := d.pick(s, start); again != h {
		t.Fatalf("got %v", again)
	}
}

func TestWhatWaitsForRoomIsForgottenWithItsOwner(t *testing.T) {
	d, _, _ := exhausted(t)
	d.end("s")
	if n := d.pace.waiting.Len(); n != 0 {
		t.Fatalf("%d instances of a session that ended wait for room", n)
	}
}

// TestNothingNeedBeAppliedForADrainToGoOn: nobody settles anything, so that no entry makes room; a poll that waits is
// answered all the same once others count as idle.
func TestNothingNeedBeAppliedForADrainToGoOn(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	app, window := declare("app"), uint32(4*drainedAtOnce)
	app.GetApplyApplication().Delivery = &sluicev1.Application_Delivery{Window: &window}
	w.must(m, app)
	s := w.open(m, "app")
	w.send(m, "app", "drains", "first")
	w.settle(m, s, w.poll(m, s, 1)[0])
	w.must(m, entering("app", "drains"))
	w.poll(m, s, 1)
	w.send(m, "app", "drains", names("deferred", int(window))...)
	w.send(m, "app", "other", "m")
	w.poll(m, s, 1)
	w.must(m, completing("app", "drains", 1))
	dispatch := m.lead.Load().dispatch
	dispatch.mu.Lock()
	dispatch.pace.busyUntil = time.Now().Add(20 * busyLasts) // however slow this machine is
	dispatch.mu.Unlock()
	if d := w.poll(m, s, window); len(d) != m.cfg.DrainBeside {
		t.Fatalf("%d messages are handed out beside others' work, want %d", len(d), m.cfg.DrainBeside)
	}
	began := time.Now()
	if d := w.poll(m, s, window); len(d) != int(window) {
		t.Fatalf("%d of %d messages are handed out once others are idle", len(d), window)
	}
	if took := time.Since(began); took > 100*busyLasts { // a poll that nothing wakes waits for as long as its session lasts
		t.Fatalf("that others are idle was noticed after %v", took)
	}
}

package cluster

import (
	"fmt"
	"testing"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// drainedAtOnce is for how many messages room is made at a time in these tests.
const drainedAtOnce = 8

// beside is a dispatcher with a session whose instance "drains" is drained, and whose instance "other" was handed
// something at the start.
func beside(t *testing.T) (*dispatcher, *session) {
	t.Helper()
	d := newTestDispatcher()
	s := d.opened("s", 100, time.Minute)
	d.touch(fsm.Touch{InstanceID: inst("other"), Owner: "s"})
	offered(t, d, s, delivery("s", 1), start)
	d.touch(draining("drains"))
	d.pace.made, d.pace.left = start, drainedAtOnce
	return d, s
}

func draining(key string) fsm.Touch {
	return fsm.Touch{InstanceID: inst(key), Owner: "s", Drains: true}
}

// drains is an offer of so many messages of an instance that is drained, with more to come.
func drains(messages int) *fsm.Offer {
	o := &fsm.Offer{Owner: "s", Epoch: 7, Mode: sluicev1.Mode_MODE_DRAINING, More: true}
	for seq := range uint64(messages) {
		o.Deliveries = append(o.Deliveries, &sluicev1.Delivery{Seq: seq + 1, Attempt: 1})
	}
	return o
}

// exhausted is a dispatcher in which all that there was room for was handed out.
func exhausted(t *testing.T) (*dispatcher, *session, *held) {
	t.Helper()
	d, s := beside(t)
	h, given, version := d.pick(s, start)
	if h == nil {
		t.Fatal("there is room, and nothing is drained")
	}
	if room, _ := d.allowance(h, start); room != drainedAtOnce {
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
	d.touch(draining("drains"))
	if again, _, _ := d.pick(s, start); again != nil {
		t.Fatal("what was settled made room")
	}
	d.touch(fsm.Touch{InstanceID: inst("other"), Owner: "s"})
	if other, _, _ := d.pick(s, start); other == nil || other.id != inst("other") {
		t.Fatalf("others do not go on: got %v", other)
	}
	if !d.makeRoom(start.Add(roomOftenest - 1)) {
		t.Fatal("there is room too early")
	}
	now := start.Add(roomOftenest)
	if d.makeRoom(now) {
		t.Fatal("there is room, and somebody waits")
	}
	if again, _, _ := d.pick(s, now); again != h {
		t.Fatalf("there is room, and the drain does not go on: got %v", again)
	}
	d.makeRoom(start.Add(2 * roomsKept * roomOftenest))
	if room, _ := d.allowance(h, start); room != roomsKept*drainedAtOnce {
		t.Fatalf("room for %d was kept, want %d", room, roomsKept*drainedAtOnce)
	}
}

// TestWhoseTurnCameInVainIsNext: each look takes all the room there is, and polls come more rarely than room is made.
func TestWhoseTurnCameInVainIsNext(t *testing.T) {
	for _, made := range []int{1, 10} {
		const instances, rounds = drainedAtOnce + 2, 1000
		d, s := beside(t)
		now, got := start, map[fsm.InstanceID]int{}
		d.pace.busyUntil = start.Add(time.Hour)
		for i := range instances - 1 {
			d.touch(draining(fmt.Sprint("drains ", i)))
		}
		for range rounds {
			for h, given, version := d.pick(s, now); h != nil; h, given, version = d.pick(s, now) {
				room, _ := d.allowance(h, now)
				d.handed(h, version, "stream", given, drains(room), now)
				got[h.id]++
			}
			for range made {
				now = now.Add(roomOftenest)
				d.makeRoom(now)
			}
		}
		least, most := rounds, 0
		for _, n := range got {
			least, most = min(least, n), max(most, n)
		}
		if len(got) != instances || most > least+1 {
			t.Fatalf("room made %d times a round: of %d instances %d were handed something, %d to %d times", made, instances, len(got), least, most)
		}
	}
}

// TestRoomIsSharedAmongThoseThatDrain, also where each has one message out at a time, so that those that were just drained
// are there again before room is made.
func TestRoomIsSharedAmongThoseThatDrain(t *testing.T) {
	const instances, rounds = 3*drainedAtOnce + 1, 1000
	d, s := beside(t)
	now := start
	d.pace.busyUntil = start.Add(time.Hour)
	got := map[fsm.InstanceID]int{}
	for i := range instances - 1 {
		d.touch(draining(fmt.Sprint("drains ", i)))
	}
	for range rounds {
		var settled []fsm.InstanceID
		for h, given, version := d.pick(s, now); h != nil; h, given, version = d.pick(s, now) {
			o := drains(1)
			o.More = false
			d.handed(h, version, "stream", given, o, now)
			got[h.id]++
			settled = append(settled, h.id)
		}
		for _, id := range settled {
			d.touch(draining(id.Key))
		}
		now = now.Add(roomOftenest)
		d.makeRoom(now)
	}
	least, most := rounds, 0
	for _, n := range got {
		least, most = min(least, n), max(most, n)
	}
	if len(got) != instances || most > least+drainedAtOnce {
		t.Fatalf("of %d instances %d were handed something, %d to %d times", instances, len(got), least, most)
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
		if room, _ := d.allowance(h, late); room != pollMost {
			t.Fatalf("nobody else has work, and there is room for %d only", room)
		}
		d.handed(h, version, "", given, drains(2*drainedAtOnce), late)
	}
}

// TestADrainGoesOnOnceOthersHaveNoWork, however many wait, some at a time.
func TestADrainGoesOnOnceOthersHaveNoWork(t *testing.T) {
	d, s, h := exhausted(t)
	for i := range 2*resumedAtOnce - 1 {
		d.touch(draining(fmt.Sprint(i)))
	}
	if again, _, _ := d.pick(s, start); again != nil {
		t.Fatalf("%v is drained without room", again.id)
	}
	late := start.Add(busyLasts)
	if !d.makeRoom(late) || d.makeRoom(late) {
		t.Fatalf("others have no work, and of %d instances %d wait", 2*resumedAtOnce, d.pace.waiting())
	}
	if again, _, _ := d.pick(s, late); again != h {
		t.Fatalf("others have no work, and the drain does not go on: got %v", again)
	}
	if room, _ := d.allowance(h, late); room != pollMost {
		t.Fatalf("others have no work, and there is room for %d only", room)
	}
}

// TestADrainThatKeepsOthersFromTheirOwnerIsNotHeldUp: its session is full.
func TestADrainThatKeepsOthersFromTheirOwnerIsNotHeldUp(t *testing.T) {
	d, s, h := exhausted(t)
	s.capacity = len(s.owned)
	d.starve("app")
	d.makeRoom(start.Add(roomOftenest))
	for range 3 {
		again, given, version := d.pick(s, start)
		if again != h {
			t.Fatalf("the drain does not go on: got %v", again)
		}
		if room, _ := d.allowance(h, start); room != pollMost {
			t.Fatalf("there is room for %d only", room)
		}
		d.handed(h, version, "", given, drains(drainedAtOnce), start)
	}
}

func TestRoomIsMadeAsOftenAsEntriesTake(t *testing.T) {
	d, _ := beside(t)
	for _, c := range []struct{ entry, want time.Duration }{{0, roomOftenest}, {3 * time.Millisecond, 3 * time.Millisecond}, {time.Second, roomRarest}} {
		for range 200 {
			d.pace.committed(c.entry)
		}
		if got := d.nextRoom(start).Round(100 * time.Microsecond); got != c.want {
			t.Errorf("entries take %v: room is made every %v, want %v", c.entry, got, c.want)
		}
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
	one, _, _ := d.pick(s, start)
	two, _, _ := d.pick(s, start)
	if one != h && two != h {
		t.Fatalf("the application entered recovery, and %v and %v are looked at", one, two)
	}
}

// TestALookOfBeforeDoesNotMakeARecoveryWait: one poll read that the instance drains, another that it is in recovery again.
func TestALookOfBeforeDoesNotMakeARecoveryWait(t *testing.T) {
	d, s := beside(t)
	h, given, version := d.pick(s, start)
	d.touch(fsm.Touch{InstanceID: h.id, Owner: "s"})
	_, given2, version2 := d.pick(s, start)
	d.handed(h, version, "", given, drains(drainedAtOnce), start)
	announced := &fsm.Offer{Owner: "s", Epoch: 8, Mode: sluicev1.Mode_MODE_RECOVERY, RecoveryTaken: true, Deliveries: []*sluicev1.Delivery{{}}}
	if d.handed(h, version2, "", given2, announced, start) != nil {
		t.Fatal("two polls were handed the same")
	}
	if again, _, _ := d.pick(s, start); again != h {
		t.Fatalf("the recovery is not looked at again: got %v", again)
	}
}

// TestALookOfBeforeDoesNotDropWhatWaits: it was read while nobody owned the instance, which drains and waits by now.
func TestALookOfBeforeDoesNotDropWhatWaits(t *testing.T) {
	d, s, _ := exhausted(t)
	d.touch(fsm.Touch{InstanceID: inst("late"), Owner: "s"})
	h, given, version := d.pick(s, start)
	d.touch(draining("late"))
	if again, _, _ := d.pick(s, start); again != nil {
		t.Fatalf("%v is drained without room", again.id)
	}
	if d.handed(h, version, "", given, &fsm.Offer{}, start) != nil || d.owner[h.id] != h || h.inLine == nil {
		t.Fatal("an instance that waits for room was dropped")
	}
}

func TestWhatWaitsForRoomIsForgottenWithItsOwner(t *testing.T) {
	d, _, _ := exhausted(t)
	d.end("s")
	if n := d.pace.waiting(); n != 0 {
		t.Fatalf("%d instances of a session that ended wait for room", n)
	}
}

// TestADrainBesideOthersIsHandedOutByAndBy: a poll that waits is answered though nobody settles anything.
func TestADrainBesideOthersIsHandedOutByAndBy(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	app, window := declare("app"), uint32(64)
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
	dispatch, began := m.lead.Load().dispatch, time.Now()
	dispatch.mu.Lock()
	dispatch.pace.busyUntil = began.Add(patience) // however slow this machine is
	dispatch.mu.Unlock()
	for got := 0; got < int(window); {
		d := w.poll(m, s, window)
		if most := (roomsKept + 1 + int(time.Since(began)/roomOftenest)) * m.cfg.DrainBeside; len(d) <= got || len(d) > most {
			t.Fatalf("after %d messages %d of %d are handed out, and there was room for %d", got, len(d), window, most)
		}
		got = len(d)
	}
}

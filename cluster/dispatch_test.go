package cluster

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

var start = time.Unix(1_000_000, 0)

func inst(key string) fsm.InstanceID { return fsm.InstanceID{Application: "app", Key: key} }

func newTestDispatcher() *dispatcher { return newDispatcher(5*time.Second, drainedAtOnce) }

func (d *dispatcher) opened(id string, capacity uint32, ttl time.Duration) *session {
	return d.open(&logv1.SessionRecord{Id: id, Application: "app", Capacity: capacity, TtlMs: ttl.Milliseconds()}, start)
}

// offered hands out one made-up delivery of the next ready instance.
func offered(t *testing.T, d *dispatcher, s *session, o *fsm.Offer, now time.Time) (*held, *handOut) {
	t.Helper()
	h, given, version := d.pick(s, start)
	if h == nil {
		t.Fatal("nothing is ready")
	}
	return h, d.handed(h, version, "", given, o, now)
}

func delivery(owner string, seq uint64) *fsm.Offer {
	return &fsm.Offer{Owner: owner, Epoch: 7, Deliveries: []*sluicev1.Delivery{{Seq: seq, Attempt: 1}}}
}

func TestReadyInstancesAreTakenOnceInOrder(t *testing.T) {
	d := newTestDispatcher()
	s := d.opened("s", 10, time.Minute)
	for _, key := range []string{"b", "a", "b", "c", "a"} {
		if !d.touch(fsm.Touch{InstanceID: inst(key), Owner: "s"}) {
			t.Fatal("the session is not known")
		}
	}
	var got []string
	for h, _, _ := d.pick(s, start); h != nil; h, _, _ = d.pick(s, start) {
		got = append(got, h.id.Key)
	}
	if !slices.Equal(got, []string{"b", "a", "c"}) {
		t.Fatalf("got %v", got)
	}
	if d.touch(fsm.Touch{InstanceID: inst("x"), Owner: "nobody"}) {
		t.Fatal("a touch of an unknown session was taken")
	}
}

func TestTakenBackIsOfferedAgain(t *testing.T) {
	d := newTestDispatcher()
	s := d.opened("s", 10, time.Minute)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"})
	o := delivery("s", 1)
	o.RecoveryTaken = true
	_, out := offered(t, d, s, o, start)
	if !d.quiesced(inst("i"), "s", 7) || d.quiesced(inst("i"), "s", 8) || d.quiesced(inst("i"), "other", 7) {
		t.Fatal("the recovery of epoch 7 is taken, by this session")
	}
	d.takeBack([]*handOut{out})
	if d.quiesced(inst("i"), "s", 7) {
		t.Fatal("an answer that reached nobody counts as taken")
	}
	if h, given, _ := d.pick(s, start); h == nil || given != (fsm.Given{}) {
		t.Fatalf("want it offered again from the start, got %v %v", h, given)
	}
}

func TestUnsettledIsOfferedAgainAfterAWhile(t *testing.T) {
	d := newTestDispatcher()
	s := d.opened("s", 10, time.Minute)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"})
	offered(t, d, s, delivery("s", 1), start)
	d.begin(s, false, start.Add(4*time.Second))
	if h, _, _ := d.pick(s, start); h != nil {
		t.Fatal("offered again too early")
	}
	d.begin(s, false, start.Add(5*time.Second))
	if h, _, _ := d.pick(s, start); h == nil {
		t.Fatal("not offered again")
	}
	short := d.opened("short", 10, 2*time.Second)
	d.touch(fsm.Touch{InstanceID: inst("j"), Owner: "short"})
	offered(t, d, short, delivery("short", 1), start)
	d.begin(short, false, start.Add(time.Second))
	if h, _, _ := d.pick(short, start); h == nil {
		t.Fatal("half the ttl is over: not offered again")
	}
	offeredAfresh := d.opened("afresh", 10, time.Minute)
	d.touch(fsm.Touch{InstanceID: inst("k"), Owner: "afresh"})
	offered(t, d, offeredAfresh, delivery("afresh", 1), start)
	d.begin(offeredAfresh, true, start)
	if h, _, _ := d.pick(offeredAfresh, start); h == nil {
		t.Fatal("not offered afresh")
	}
}

func TestAnOfferForAnotherOwnerIsDropped(t *testing.T) {
	d := newTestDispatcher()
	s, other := d.opened("s", 10, time.Minute), d.opened("other", 10, time.Minute)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"})
	h, given, version := d.pick(s, start)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "other"}) // meanwhile
	if out := d.handed(h, version, "", given, delivery("other", 1), start); out != nil {
		t.Fatal("handed out to the former owner")
	}
	if h, _, _ := d.pick(other, start); h == nil {
		t.Fatal("the owner is offered nothing")
	}
	d.touch(fsm.Touch{InstanceID: inst("j"), Owner: "s"})
	if _, out := offered(t, d, s, delivery("", 1), start); out != nil || len(s.owned) != 0 {
		t.Fatal("an instance without an owner stays with the session")
	}
}

// TestATouchDuringAReadIsNotLost: the offer was read while the instance had no owner; it is the session's again by the
// time that the offer is judged.
func TestATouchDuringAReadIsNotLost(t *testing.T) {
	d := newTestDispatcher()
	s := d.opened("s", 10, time.Minute)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"}) // released
	h, given, version := d.pick(s, start)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"}) // assigned again
	if out := d.handed(h, version, "", given, &fsm.Offer{}, start); out != nil {
		t.Fatal("an offer of nobody's was handed out")
	}
	if _, out := offered(t, d, s, delivery("s", 1), start); out == nil {
		t.Fatal("the owner is offered nothing")
	}
}

func TestTwoPollsDoNotShareADelivery(t *testing.T) {
	d := newTestDispatcher()
	s := d.opened("s", 10, time.Minute)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"})
	h, given, version := d.pick(s, start)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"}) // ready again while the first poll reads
	_, out := offered(t, d, s, delivery("s", 1), start)
	if out == nil {
		t.Fatal("the second poll got nothing")
	}
	if d.handed(h, version, "", given, delivery("s", 1), start) != nil {
		t.Fatal("the first poll handed the same out")
	}
	if h, _, _ := d.pick(s, start); h == nil {
		t.Fatal("what the first poll found must be looked at again")
	}
}

func TestEndedSessionsAreForgotten(t *testing.T) {
	d := newTestDispatcher()
	s := d.opened("s", 10, time.Minute)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"})
	w := d.waits(s, 1)
	d.end("s")
	select {
	case <-w.wake:
	default:
		t.Fatal("the poll was not woken")
	}
	if n, polls, owned, _ := d.counts(); n+polls+owned != 0 {
		t.Fatalf("left: %d sessions, %d polls, %d instances", n, polls, owned)
	}
}

func TestChooseSpreadsByLoadAndSticks(t *testing.T) {
	small := &candidate{session: &session{id: "small"}, wants: 10, room: 2, capacity: 2}
	large := &candidate{session: &session{id: "large"}, wants: 10, room: 8, capacity: 8}
	var waiting []fsm.InstanceID
	for i := range 12 {
		waiting = append(waiting, inst(fmt.Sprint(i)))
	}
	plan := choose(waiting, []*candidate{small, large}, map[fsm.InstanceID]string{inst("0"): "small"})
	got := map[string]int{}
	for n, a := range plan.Assignments {
		if a.Instance != waiting[n].Key {
			t.Fatalf("assignment %d: want the oldest first, got %v", n, a)
		}
		got[a.SessionId]++
	}
	if plan.Assignments[0].SessionId != "small" {
		t.Error("an instance does not go back to its former owner")
	}
	if got["small"] != 2 || got["large"] != 8 {
		t.Errorf("want both filled, got %v", got)
	}
}

func TestChooseTakesIdleInstancesBackToMakeRoom(t *testing.T) {
	s := &session{id: "s"}
	old := &held{id: inst("old"), session: s}
	c := &candidate{session: s, wants: 5, capacity: 1, owns: 1, spare: []*held{old}}
	plan := choose([]fsm.InstanceID{inst("a"), inst("b")}, []*candidate{c}, nil)
	if len(plan.Assignments) != 1 || len(plan.Releases) != 1 || plan.Releases[0].Instance != "old" {
		t.Fatalf("want old released for a, got %v", plan)
	}
}

func TestPlanGivesOnlyToSessionsThatWantWork(t *testing.T) {
	d := newTestDispatcher()
	busy, waits := d.opened("busy", 10, time.Minute), d.opened("waits", 10, time.Minute)
	d.starve("app")
	if got := d.hungryWanted(start); len(got) != 0 {
		t.Fatalf("nobody wants work, got %v", got)
	}
	d.waits(busy, 1)
	d.touch(fsm.Touch{InstanceID: inst("x"), Owner: "busy"})
	d.waits(waits, 2)
	plan := d.plan("app", []fsm.InstanceID{inst("a"), inst("b"), inst("c")}, start)
	if len(plan.Assignments) != 2 || plan.Assignments[0].SessionId != "waits" || plan.Assignments[1].SessionId != "waits" {
		t.Fatalf("want two for the one that waits for two, got %v", plan)
	}
	if more := d.plan("app", []fsm.InstanceID{inst("c")}, start); len(more.Assignments) != 0 {
		t.Fatalf("what is reserved was planned again: %v", more)
	}
	d.planned(plan)
	if d.plan("app", nil, start) != nil || len(d.hungryWanted(start)) != 0 {
		t.Fatal("with nothing waiting the application is hungry no more")
	}
}

func TestAPollThatOnlyLooksInLeavesItsWish(t *testing.T) {
	d := newTestDispatcher()
	s := d.opened("s", 10, time.Minute)
	d.waitsNoMore(s, d.waits(s, 3), true, start)
	if plan := d.plan("app", []fsm.InstanceID{inst("a")}, start.Add(500*time.Millisecond)); len(plan.Assignments) != 1 {
		t.Fatal("the wish was forgotten")
	}
	if plan := d.plan("app", []fsm.InstanceID{inst("b")}, start.Add(2*time.Second)); len(plan.Assignments) != 0 {
		t.Fatal("the wish lasts too long")
	}
}

func TestLeasesRunOut(t *testing.T) {
	d := newTestDispatcher()
	d.opened("short", 1, time.Second)
	d.opened("long", 1, time.Minute)
	ids, next := d.expired(start.Add(700*time.Millisecond), 10)
	if len(ids) != 0 || !next.Equal(start.Add(time.Second)) {
		t.Fatalf("want none and a look at 1 s, got %v %v", ids, next)
	}
	now := start.Add(time.Second)
	if ids, _ = d.expired(now, 10); !slices.Equal(ids, []string{"short"}) {
		t.Fatalf("want short, got %v", ids)
	}
	if _, ok := d.renew("short", now); !ok {
		t.Fatal("a lease whose end is not under way can be renewed")
	}
	if got := d.condemn(ids, now); len(got) != 0 {
		t.Fatalf("renewed in time and condemned: %v", got)
	}
	late := now.Add(time.Second)
	if got := d.condemn(ids, late); !slices.Equal(got, []string{"short"}) {
		t.Fatalf("want short condemned, got %v", got)
	}
	if _, ok := d.renew("short", late); ok {
		t.Fatal("a condemned session was renewed")
	}
	d.pardon(ids)
	if _, ok := d.renew("short", late); !ok {
		t.Fatal("a pardoned session was not renewed")
	}
	d.grace(time.Hour)
	if ids, _ = d.expired(late.Add(time.Minute), 10); len(ids) != 0 {
		t.Fatalf("after a pause of the leader: %v", ids)
	}
}

func TestOperationsKeepTheirRate(t *testing.T) {
	a := &allowance{rate: 50, at: start}
	total := 0
	for tick := range 100 {
		total += a.take(start.Add(time.Duration(tick+1) * 100 * time.Millisecond))
	}
	if total < 499 || total > 500 {
		t.Fatalf("10 s at 50 a second: %d", total)
	}
	if n := a.take(start.Add(time.Hour)); n > 50 {
		t.Fatalf("after a pause: %d at once", n)
	}
	slow := &allowance{rate: 0.5, at: start}
	if n := slow.take(start.Add(time.Second)); n != 0 {
		t.Fatalf("one every two seconds: %d after one", n)
	}
	if n := slow.take(start.Add(2 * time.Second)); n != 1 {
		t.Fatalf("one every two seconds: %d after two", n)
	}
}

func TestEffectsBeyondTheBoundAreFoundAgain(t *testing.T) {
	q := newEffectQueue(func(string) {})
	q.push(&fsm.Effects{})
	if got, lost := q.pop(); len(got) != 0 || lost {
		t.Fatal("an empty effect was kept")
	}
	for range touchesMax {
		q.push(&fsm.Effects{Work: []string{"app"}})
	}
	if _, lost := q.pop(); lost {
		t.Fatal("lost within the bound")
	}
	for range touchesMax + 1 {
		q.push(&fsm.Effects{Work: []string{"app"}})
	}
	if got, lost := q.pop(); !lost || len(got) > touchesMax {
		t.Fatalf("want the loss noticed, got %d %v", len(got), lost)
	}
}

func TestWatermarkWakesThoseItReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w watermark
		three, _ := w.wait(3)
		five, giveUp := w.wait(5)
		time.AfterFunc(time.Second, func() { w.reach(4) })
		<-three
		select {
		case <-five:
			t.Fatal("woken too early")
		default:
		}
		giveUp()
		w.reach(5)
		synctest.Wait()
		if len(w.waiting) != 0 {
			t.Fatal("waiters are left")
		}
		now, _ := w.wait(2)
		<-now
	})
}

func TestNewsReachesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n news
		n.tell() // nobody waits
		woken := make(chan int, 3)
		for i := range 3 {
			c := n.next()
			go func() {
				<-c
				woken <- i
			}()
		}
		synctest.Wait()
		n.tell()
		for range 3 {
			<-woken
		}
	})
}

// lastTouch is the touch by the settlement of an instance's only message.
func lastTouch(t *testing.T) fsm.Touch {
	t.Helper()
	m, err := fsm.Open(queue.NewMemoryStore(), fsm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	i := inst("i")
	var touched []fsm.Touch
	for n, c := range []*logv1.Command{
		{Kind: &logv1.Command_ApplyApplication{ApplyApplication: &sluicev1.Application{Name: i.Application}}},
		{Kind: &logv1.Command_OpenSession{OpenSession: &logv1.OpenSession{SessionId: "s", Application: i.Application, Capacity: 1}}},
		{Kind: &logv1.Command_Send{Send: &logv1.Send{Messages: []*sluicev1.Message{{Application: i.Application, Instance: i.Key, Id: "a", Type: "step"}}}}},
		{Kind: &logv1.Command_Assign{Assign: &logv1.Assign{Assignments: []*logv1.Assignment{{Application: i.Application, Instance: i.Key, SessionId: "s"}}}}},
		nil, // its settlement
	} {
		if c == nil {
			o, err := m.View().Offer(i, fsm.Given{}, 1)
			if err != nil || len(o.Deliveries) != 1 {
				t.Fatal(o, err)
			}
			d := o.Deliveries[0]
			c = &logv1.Command{Kind: &logv1.Command_Settle{Settle: &sluicev1.SettleRequest{SessionId: "s", Settlements: []*sluicev1.Settlement{
				{Application: i.Application, Instance: i.Key, Epoch: d.Epoch, Seq: d.Seq, Lane: d.Lane, Outcome: sluicev1.Outcome_OUTCOME_COMPLETED},
			}}}}
		}
		data, err := proto.Marshal(&logv1.Entry{TimeMs: 1, Commands: []*logv1.Command{c}})
		if err != nil {
			t.Fatal(err)
		}
		_, fx, err := m.Apply([]fsm.Entry{{Index: uint64(n + 1), Term: 1, Data: data}})
		if err != nil {
			t.Fatal(err)
		}
		touched = fx.Touched
	}
	if len(touched) != 1 || !touched[0].Rests(fsm.Given{}) {
		t.Fatal(touched)
	}
	return touched[0]
}

// TestWhatRestsIsNotOffered, and what was read of it before is not handed out: a settled message would be.
func TestWhatRestsIsNotOffered(t *testing.T) {
	d := newTestDispatcher()
	s := d.opened("s", 10, time.Minute)
	rests := lastTouch(t)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"})
	offered(t, d, s, delivery("s", 1), start)
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"})
	h, given, version := d.pick(s, start)
	d.touch(rests)
	if s.idle.Len() != 1 || s.handed.Len() != 0 || s.ready.Len() != 0 {
		t.Fatalf("%d idle, %d handed, %d ready; want it to be idle", s.idle.Len(), s.handed.Len(), s.ready.Len())
	}
	if out := d.handed(h, version, "", given, delivery("s", 1), start); out != nil {
		t.Fatal("what was read before it came to rest was handed out")
	}
	if _, out := offered(t, d, s, delivery("s", 2), start); out == nil {
		t.Fatal("it is not looked at once more")
	}
	// What was read while nobody owned it says nothing of who does now.
	d.touch(fsm.Touch{InstanceID: inst("i"), Owner: "s"})
	h, given, version = d.pick(s, start)
	d.touch(rests)
	if out := d.handed(h, version, "", given, &fsm.Offer{}, start); out != nil || d.owner[inst("i")] != h {
		t.Fatal("an offer of before was handed out, or took the instance from its owner")
	}
}

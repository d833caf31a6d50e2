package fsm_test

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

func TestOpenSession(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for want, o := range map[string]*logv1.OpenSession{
		"UNKNOWN_APPLICATION": {SessionId: "s", Application: "none"},
		"BAD_NAME":            {SessionId: "s", Application: ""},
		"BAD_FIELD":           {SessionId: "", Application: "app"},
	} {
		r.refused(want, openCommand(o))
	}
	for _, ttl := range []int64{-1, 1, 999, 3_600_001} {
		r.refused("BAD_FIELD", openCommand(&logv1.OpenSession{SessionId: "s", Application: "app", TtlMs: ttl}))
	}
	r.refused("BAD_FIELD", openCommand(&logv1.OpenSession{SessionId: "s", Application: "app", Capacity: 65_537}))
	got := r.ok(openCommand(&logv1.OpenSession{SessionId: "s", Application: "app", Name: "w"})).GetSessionOpened()
	if got.SessionId != "s" || got.Ttl.AsDuration() != 15*time.Second || len(r.fx.Opened) != 1 {
		t.Fatal(got)
	}
	s, err := r.m.View().Session("s")
	if err != nil || s.Capacity != 64 || s.TtlMs != 15_000 || s.Name != "w" || s.OpenedTimeMs != r.now {
		t.Fatal(s, err)
	}
	r.send("i", "a")
	r.assign("i", "s")
	// The same once more leaves what it owns alone.
	if again := r.ok(openCommand(&logv1.OpenSession{SessionId: "s", Application: "app", Name: "w"})).GetSessionOpened(); again.SessionId != "s" || len(r.fx.Opened) != 0 {
		t.Fatal(again)
	}
	if ids, err := r.m.View().Owned("s"); err != nil || len(ids) != 1 || ids[0].Key != "i" {
		t.Fatal(ids, err)
	}
	got = r.ok(openCommand(&logv1.OpenSession{SessionId: "t", Application: "app", TtlMs: 1500})).GetSessionOpened()
	if got.Ttl.AsDuration() != 1500*time.Millisecond {
		t.Fatal(got)
	}
	if all, err := r.m.View().Sessions(); err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	_, err = r.m.View().Session("none")
	wantReason(t, err, "UNKNOWN_SESSION")
	_, err = r.m.View().Owned("none")
	wantReason(t, err, "UNKNOWN_SESSION")
}

func TestAssignment(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.declare("other")
	r.ok(openCommand(&logv1.OpenSession{SessionId: "elsewhere", Application: "other"}))
	r.open("s", 2)
	r.open("s2", 2)
	r.send("i", "a")
	r.send("idle", "a")
	r.skip("idle", 1)
	r.send("gone", "a")
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "gone"}))
	nothing := func(why string, c *logv1.Command) {
		t.Helper()
		if n := r.ok(c).GetProgress().Done; n != 0 {
			t.Fatalf("%s: assigned", why)
		}
	}
	nothing("an instance that does not exist", assignCommand("none", "s"))
	nothing("a session that is gone", assignCommand("i", "none"))
	nothing("a session of another application", assignCommand("i", "elsewhere"))
	nothing("no work", assignCommand("idle", "s"))
	nothing("terminated", assignCommand("gone", "s"))
	r.assign("i", "s")
	nothing("owned", assignCommand("i", "s2"))
	nothing("owned by the same", assignCommand("i", "s"))
	nothing("has work", releaseCommand("i", "s"))
	r.send("j", "a")
	r.assign("j", "s")
	r.send("k", "a")
	nothing("capacity", assignCommand("k", "s"))
	r.work("s", "i", "a")
	nothing("not its own", releaseCommand("i", "s2"))
	// One entry makes room and gives: releases come first.
	give := &logv1.Assign{
		Assignments: []*logv1.Assignment{{Application: "app", Instance: "k", SessionId: "s"}},
		Releases:    []*logv1.Assignment{{Application: "app", Instance: "i", SessionId: "s"}},
	}
	if n := r.ok(&logv1.Command{Kind: &logv1.Command_Assign{Assign: give}}).GetProgress().Done; n != 2 {
		t.Fatal(n)
	}
	if o := r.instance("i").Owner + r.instance("k").Owner; o != "s" {
		t.Fatal(o)
	}
	// In recovery an instance has work, even with nothing in its lanes, and is not released.
	r.enter("i")
	r.assign("i", "s2")
	nothing("in recovery", releaseCommand("i", "s2"))
	r.complete("i", 0)
	r.ok(releaseCommand("i", "s2"))
	if o := r.instance("i").Owner; o != "" {
		t.Fatal(o)
	}
}

func TestWaitingIsInOrder(t *testing.T) {
	t.Parallel()
	r := setup(t)
	wait := func(want string) {
		t.Helper()
		ids, err := r.m.View().Waiting("app", 10)
		got := ""
		for _, id := range ids {
			got += id.Key
		}
		if err != nil || got != want {
			t.Fatalf("want %q, got %q %v", want, got, err)
		}
	}
	r.send("c", "1")
	r.send("a", "1")
	r.enter("b")
	r.send("c", "2")
	wait("cab")
	if ids, _ := r.m.View().Waiting("app", 2); len(ids) != 2 {
		t.Fatal(ids)
	}
	r.open("s", 10)
	r.assign("c", "s")
	wait("ab")
	r.skip("a", 1)
	wait("b")
	r.complete("b", 0)
	wait("")
	r.expire("s")
	wait("c")
	// One whose head waits for its backoff does not wait for an owner until that ends.
	r.complete("c", 0)
	r.own("c", "s")
	r.fail("s", "c", 1)
	r.ok(closeCommand("s"))
	wait("")
	r.advance(time.Minute)
	wait("c")
}

func TestCloseInGoodOrder(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.refused("UNKNOWN_SESSION", closeCommand("s"))
	r.open("s", 10)
	for _, key := range []string{"i", "j", "k"} {
		r.send(key, "a", "b")
		r.assign(key, "s")
	}
	r.enter("k")
	d := r.head("i")
	e := r.instance("k").Epoch
	if n := r.ok(closeCommand("s")).GetSessionClosed().Released; n != 3 || len(r.fx.Ended) != 1 {
		t.Fatal(n)
	}
	if i := r.wantMode("i", normal); i.Owner != "" || i.InFlight != 0 {
		t.Fatal(i)
	}
	if doubts := r.doubts("i"); doubts != "" {
		t.Fatal(doubts)
	}
	// What is in recovery stays there, with its doubts, under a newer epoch.
	if doubts := r.doubts("k"); doubts != "a" {
		t.Fatal(doubts)
	}
	grew(t, "close in recovery", e, r.instance("k").Epoch)
	if h := r.history("k"); len(h) != 1 {
		t.Fatal(h)
	}
	// The old worker is fenced off, the next one gets the same message as its first attempt.
	if v := r.settle("s", taking(d, outCompleted)); v != "UNKNOWN_SESSION" {
		t.Fatal(v)
	}
	r.own("i", "s2")
	if v := r.settle("s2", taking(d, outCompleted)); v != "STALE_EPOCH" {
		t.Fatal(v)
	}
	if next := r.head("i"); next.Message.Id != "a" || next.Attempt != 1 {
		t.Fatal(next)
	}
}

func TestOwnerLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options []func(*sluicev1.Application)
		before  func(*rig)
		mode    sluicev1.Mode
		doubts  string
		attempt uint32 // of the head, if a message is out with the next owner
	}{
		"something out":             {nil, func(r *rig) {}, recovery, "a", 0},
		"two out":                   {[]func(*sluicev1.Application){window(2)}, func(r *rig) {}, recovery, "a b", 0},
		"nothing in flight":         {nil, func(r *rig) { r.work("s", "i", "a", "b", "c") }, normal, "", 0},
		"the head waits":            {nil, func(r *rig) { r.fail("s", "i", 1) }, normal, "", 0},
		"in recovery":               {nil, func(r *rig) { r.enter("i") }, recovery, "a", 0},
		"the recovery waits":        {nil, func(r *rig) { r.enter("i"); r.settle("s", failure(r.announcement("i"), "no")) }, recovery, "a", 0},
		"draining":                  {nil, func(r *rig) { r.enter("i"); r.send("i", "h"); r.complete("i", 0) }, recovery, "a", 0},
		"redeliver":                 {[]func(*sluicev1.Application){redeliver, window(2)}, func(r *rig) {}, normal, "", 2},
		"redeliver, in recovery":    {[]func(*sluicev1.Application){redeliver}, func(r *rig) { r.enter("i") }, recovery, "a", 0},
		"redeliver, the last time":  {[]func(*sluicev1.Application){redeliver, maxAttempts(1)}, func(r *rig) {}, recovery, "a", 0},
		"redeliver, dead letter":    {[]func(*sluicev1.Application){redeliver, maxAttempts(1), atMaxAttempts(sluicev1.Policy_POLICY_DEAD_LETTER)}, func(r *rig) {}, normal, "", 1},
		"redeliver while draining":  {[]func(*sluicev1.Application){redeliver}, func(r *rig) { r.enter("i"); r.send("i", "h"); r.complete("i", 0) }, draining, "", 2},
		"redeliver, nothing is out": {[]func(*sluicev1.Application){redeliver}, func(r *rig) { r.fail("s", "i", 1) }, normal, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, c.options...)
			r.send("i", "a", "b", "c")
			r.own("i", "s")
			c.before(r)
			e := r.instance("i").Epoch
			r.expire("s", "none")
			i := r.wantMode("i", c.mode)
			grew(t, "owner lost", e, i.Epoch)
			if d := r.doubts("i"); i.Owner != "" || d != c.doubts {
				t.Fatal(i, d)
			}
			r.ok(openCommand(&logv1.OpenSession{SessionId: "s2", Application: "app"}))
			r.ok(assignCommand("i", "s2"))
			if ds := r.offer("i").Deliveries; c.attempt != 0 && (len(ds) == 0 || ds[0].Attempt != c.attempt) {
				t.Fatal(ds)
			}
		})
	}
}

func TestCauseOfALostOwner(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	r.own("i", "s")
	r.enter("i")
	lost := "owner lost: the lease of session %s (worker %s) ran out"
	for n := range 3 {
		id := fmt.Sprint("s", n)
		if n == 0 {
			id = "s"
		} else {
			r.own("i", id)
		}
		r.expire(id)
		if got, want := r.instance("i").Cause, fmt.Sprintf(lost, id, id)+"; in recovery before: because"; got != want {
			t.Fatalf("want %q, got %q", want, got)
		}
	}
	if s := r.instance("i"); s.Owner != "" {
		t.Fatal(s)
	}
}

func TestRedeliveredAttemptsCount(t *testing.T) {
	t.Parallel()
	r := setup(t, redeliver, maxAttempts(3))
	r.send("i", "a")
	for n := range 2 {
		r.own("i", "s")
		if d := r.head("i"); d.Attempt != uint32(n+1) {
			t.Fatal(d)
		}
		r.expire("s")
		if s := r.status("i", "a"); s.Attempts != uint32(n+1) {
			t.Fatal(s)
		}
	}
	r.own("i", "s")
	r.expire("s")
	if i := r.wantMode("i", recovery); i.Cause != "poison message: a (seq 1) failed 3 times: owner lost" {
		t.Fatal(i)
	}
}

// TestAnOfferIsBoundedInBytes: however wide the window, an offer does not hold all of its messages in memory.
func TestAnOfferIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	r := setup(t, window(100))
	for n := range 12 {
		m := message("i", fmt.Sprint("m", n), "step")
		m.Data = make([]byte, 1<<20)
		r.put(m)
	}
	r.own("i", "s")
	o := r.offer("i")
	if len(o.Deliveries) != 5 || !o.More {
		t.Fatalf("want 5 of 12 MiB and more to come, got %d, more: %v", len(o.Deliveries), o.More)
	}
	o, err := r.m.View().Offer(fsm.InstanceID{Application: "app", Key: "i"}, o.Given, 1000)
	if err != nil || len(o.Deliveries) != 5 || o.Deliveries[0].Seq != 6 {
		t.Fatal(o, err)
	}
}

// TestWhatMayNotHaveArrivedComesWithItsState: until something of an epoch is settled, its deliveries are offered again
// with the state and the announcement, without which the worker could not handle them.
func TestWhatMayNotHaveArrivedComesWithItsState(t *testing.T) {
	t.Parallel()
	r := setup(t, window(3))
	id := fsm.InstanceID{Application: "app", Key: "i"}
	var given fsm.Given
	again := func(want string, state bool) {
		t.Helper()
		o, err := r.m.View().Offer(id, given.Again(), 9)
		got := ""
		for _, d := range o.Deliveries {
			got += cmp.Or(d.Message.GetId(), "!") + " "
		}
		if err != nil || got != want || o.Deliveries[0].HasState != state {
			t.Fatalf("want %q with its state: %v; got %v %v", want, state, o.Deliveries, err)
		}
		given = o.Given
	}
	r.send("i", "a", "b", "c")
	r.own("i", "s")
	s := taking(r.head("i"), outCompleted)
	s.SetState, s.State = true, []byte("state")
	if v := r.settle("s", s); v != "" {
		t.Fatal(v)
	}
	r.ok(closeCommand("s"))
	r.own("i", "s")
	again("b c ", true)
	r.send("i", "d")
	again("b c d ", true)
	r.work("s", "i", "b")
	again("c d ", false)
	r.enter("i")
	again("! ", true)
	r.sendRecovery("i", "r1")
	again("! r1 ", true)
	r.sendRecovery("i", "r2")
	again("! r1 r2 ", true)
	r.work("s", "i", "r1")
	again("r2 ", false)
	// That an operator settled the first proves nothing of the worker.
	r.work("s", "i", "r2")
	r.complete("i", 1<<40)
	r.send("i", "e", "f")
	r.ok(closeCommand("s"))
	r.own("i", "s")
	again("e f ", true)
	r.skip("i", r.head("i").Seq)
	again("f ", true)
	r.bury("i", r.head("i").Seq)
	r.send("i", "g")
	again("g ", true)
}

func TestDeliveriesAreOfferedOnce(t *testing.T) {
	t.Parallel()
	r := setup(t, window(3))
	id := fsm.InstanceID{Application: "app", Key: "i"}
	var given fsm.Given
	next := func(most int, want string) *fsm.Offer {
		t.Helper()
		o, err := r.m.View().Offer(id, given, most)
		got := ""
		for _, d := range o.Deliveries {
			got += fmt.Sprintf("%s%d ", d.Message.GetId(), d.Attempt)
		}
		if err != nil || got != want {
			t.Fatalf("want %q, got %q %v", want, got, err)
		}
		given = o.Given
		return o
	}
	r.send("i", "a", "b", "c", "d")
	next(9, "") // nobody owns it
	r.own("i", "s")
	if o := next(2, "a1 b1 "); !o.More || o.Idle || o.Owner != "s" {
		t.Fatal(o)
	}
	if o := next(2, "c1 "); o.More {
		t.Fatal(o)
	}
	next(2, "")
	ds := r.offer("i").Deliveries
	r.finish("s", ds[0], outCompleted)
	next(2, "d1 ") // the window moves on
	r.finish("s", ds[1], outFailed)
	next(9, "")
	r.advance(time.Minute)
	next(9, "b2 c1 d1 ") // b again, and with it what is behind it
	given = given.Again()
	next(9, "b2 c1 d1 ")
	// Under another epoch everything that is out is new.
	r.ok(closeCommand("s"))
	r.own("i", "s2")
	next(9, "b2 c1 d1 ")
	r.enter("i")
	r.sendRecovery("i", "r")
	if o := next(0, ""); !o.More || o.RecoveryTaken {
		t.Fatal(o)
	}
	if o := next(1, "1 "); !o.More || !o.RecoveryTaken {
		t.Fatal(o)
	}
	if o := next(1, "r1 "); o.More || !o.RecoveryTaken {
		t.Fatal(o)
	}
	r.settle("s2", failure(r.announcement("i"), "no"))
	if o := next(9, ""); o.RecoveryTaken {
		t.Fatal(o)
	}
	r.advance(time.Minute)
	next(9, "2 r1 ")
	r.complete2("i", &sluicev1.CompleteRecoveryRequest{DiscardRecoveryMessages: true, ProcessedThrough: 9})
	if o := next(9, ""); !o.Idle || o.Mode != normal {
		t.Fatal(o)
	}
}

func TestTheWindowIsThatOfItsEpoch(t *testing.T) {
	t.Parallel()
	r := setup(t, window(1))
	r.send("i", "a", "b", "c")
	r.own("i", "s")
	r.declare("app", window(2))
	r.wantOuts("i", "a")
	r.enter("i")
	if d := r.doubts("i"); d != "a" {
		t.Fatal(d)
	}
	r.sendRecovery("i", "r1")
	r.sendRecovery("i", "r2")
	r.wantOuts("i", "! r1 r2")
	// An application-wide entry begins an epoch, too: what is declared after it counts for the next one.
	r.enterAll("x")
	r.wantOuts("i", "! r1 r2")
	r.declare("app", window(1))
	r.wantOuts("i", "! r1 r2")
	r.send("i", "h")
	r.wantOuts("i", "! r1 r2")
	r.complete2("i", &sluicev1.CompleteRecoveryRequest{DiscardRecoveryMessages: true})
	r.wantOuts("i", "a")
}

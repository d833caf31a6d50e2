package fsm_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

func TestInDoubt(t *testing.T) {
	t.Parallel()
	r := setup(t, window(2))
	r.send("i", "a", "b", "c")
	r.enter("i")
	if d := r.doubts("i"); d != "" {
		t.Fatalf("in doubt without an owner: %s", d)
	}
	r.complete("i", 0)
	r.own("i", "s")
	r.wantOuts("i", "a b")
	r.enter("i")
	if d := r.doubts("i"); d != "a b" {
		t.Fatal(d)
	}
	an := r.announcement("i")
	if w := an.Recovery; w.Cause != "because" || len(w.InDoubt) != 2 || w.InDoubt[0].Seq != 1 || w.InDoubt[1].Message.Id != "b" || w.InDoubt[0].Lane != laneNormal {
		t.Fatal(w)
	}
	// Entered again, and with more messages held, it is the same two.
	r.send("i", "h")
	r.enter("i")
	r.expire("s")
	r.enterAll("x")
	r.own("i", "s2")
	if d := r.doubts("i"); d != "a b" {
		t.Fatal(d)
	}
	if w := r.announcement("i").Recovery; len(w.InDoubt) != 2 || w.DeferredMessages != 1 {
		t.Fatal(w)
	}
	// One that an operator takes is in doubt no more.
	r.skip("i", 1)
	if d := r.doubts("i"); d != "b" {
		t.Fatal(d)
	}
	// What was processed is completed; a greater number is taken as the last of them.
	r.complete("i", 99)
	r.wantSettled("i", "b", kindCompleted)
	if i := r.wantMode("i", draining); i.NormalMessages != 2 {
		t.Fatal(i)
	}
	r.wantOuts("i", "c h")
	if d := r.doubts("i"); d != "" {
		t.Fatal(d)
	}
	// What was out while draining is in doubt, though it had been deferred before.
	r.enter("i")
	if d := r.doubts("i"); d != "c h" {
		t.Fatal(d)
	}
	r.complete("i", 3) // c took effect, h did not
	r.wantSettled("i", "c", kindCompleted)
	r.wantOuts("i", "h")
}

func TestProcessedThroughDoesNotTouchWhatWasNotOut(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a", "b")
	r.enter("i")
	r.complete("i", 2)
	if i := r.wantMode("i", normal); i.NormalMessages != 2 {
		t.Fatal(i)
	}
	// A head that waits for its backoff is not out, nor is what is behind it.
	r.own("i", "s")
	r.finish("s", r.head("i"), outFailed)
	r.enter("i")
	if d := r.doubts("i"); d != "" {
		t.Fatal(d)
	}
}

func TestRecoveryMessagesInDoubt(t *testing.T) {
	t.Parallel()
	r := setup(t, window(2))
	r.enter("i")
	for _, id := range []string{"r1", "r2", "r3"} {
		r.sendRecovery("i", id)
	}
	r.own("i", "s")
	r.wantOuts("i", "! r1 r2")
	marks := func() (ids string) {
		for _, d := range r.offer("i").Deliveries {
			if d.InDoubt {
				ids += " " + d.Message.Id
			}
		}
		return ids
	}
	if m := marks(); m != "" {
		t.Fatal(m)
	}
	r.enter("i")
	if m := marks(); m != " r1 r2" {
		t.Fatal(m)
	}
	if w := r.announcement("i").Recovery; len(w.InDoubt) != 2 || w.InDoubt[0].Lane != laneRecovery || w.InDoubt[1].Message.Id != "r2" {
		t.Fatal(w)
	}
	r.work("s", "i", "r1")
	if m, d := marks(), r.doubts("i"); m != " r2" || d != "r2" {
		t.Fatal(m, d)
	}
	r.expire("s") // r2 and r3 were out
	r.own("i", "s")
	if m := marks(); m != " r2 r3" {
		t.Fatal(m)
	}
	r.work("s", "i", "r2", "r3")
	r.complete("i", 0)
	r.enter("i")
	r.sendRecovery("i", "r4")
	if m := marks(); m != "" {
		t.Fatal(m)
	}
}

func TestDraining(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	r.enter("i")
	r.send("i", "b", "c")
	done := r.complete("i", 0)
	if d := r.send("i", "d"); d.Disposition != dispDeferred || d.Mode != draining || d.Ahead != 3 {
		t.Fatal(d)
	}
	r.own("i", "s")
	r.work("s", "i", "a", "b")
	r.wantMode("i", draining)
	if i := r.instance("i"); i.DeferredMessages != 2 {
		t.Fatal(i)
	}
	r.tick(time.Second)
	r.work("s", "i", "c") // the head passes the mark; d was accepted after it
	i := r.wantMode("i", normal)
	if i.Epoch != done.Epoch || i.DeferredMessages != 1 || i.ModeTime.AsTime().UnixMilli() != r.now {
		t.Fatal(i)
	}
	r.wantCounts(1, 0, 0)
	if e := r.send("i", "e"); e.Disposition != dispAccepted || e.Ahead != 1 {
		t.Fatal(e)
	}
	if d := r.offer("i").Deliveries[0]; !d.Deferred {
		t.Fatal(d)
	}
	r.work("s", "i", "d", "e")
	if i := r.instance("i"); i.DeferredMessages != 0 || i.OldestDeferredTime != nil {
		t.Fatal(i)
	}
}

func TestOldestDeferred(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	r.send("i", "a")
	want := r.now
	r.tick(time.Second)
	r.send("i", "b")
	if got := r.instance("i").OldestDeferredTime.AsTime().UnixMilli(); got != want {
		t.Fatal(got)
	}
	r.skip("i", 1)
	if got := r.instance("i").OldestDeferredTime.AsTime().UnixMilli(); got != want+1000 {
		t.Fatal(got)
	}
}

// A window may hold more than an answer can carry: what is in doubt is told in whole, its data as far as there is room.
func TestTheDataOfWhatIsInDoubtIsBounded(t *testing.T) {
	t.Parallel()
	r := setup(t, window(12))
	for n := range 12 {
		m := message("i", fmt.Sprint("m", n), "step")
		m.Data = bytes.Repeat([]byte{byte(n)}, 1<<20)
		r.put(m)
	}
	r.own("i", "s")
	r.enter("i")
	doubt := r.announcement("i").Recovery.InDoubt
	if len(doubt) != 12 {
		t.Fatalf("%d are in doubt", len(doubt))
	}
	for n, d := range doubt {
		if omitted := n >= 8; d.DataOmitted != omitted || (len(d.Message.Data) == 0) != omitted || d.Message.Id != fmt.Sprint("m", n) {
			t.Errorf("%d: omitted %v, %d bytes of %s", n, d.DataOmitted, len(d.Message.Data), d.Message.Id)
		}
	}
}

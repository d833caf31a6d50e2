package fsm_test

import (
	"strings"
	"testing"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

var heldTooLong = fsm.EventFilter{Types: map[sluicev1.EventType]bool{sluicev1.EventType_EVENT_HELD_TOO_LONG: true}}

// wantHeld wants so many events of recoveries that last too long.
func (r *rig) wantHeld(want int) []*sluicev1.Event {
	r.t.Helper()
	got := r.events(fsm.EventPlace{}, heldTooLong)
	if len(got) != want {
		r.t.Fatalf("%d events of long recoveries, want %d: %v", len(got), want, got)
	}
	return got
}

func TestHeldTooLong(t *testing.T) {
	t.Parallel()
	r := setup(t, heldAfter(time.Minute))
	r.enter("i")
	r.send("i", "a")
	since := time.UnixMilli(r.now).UTC().Format(time.RFC3339)
	r.advance(59 * time.Second)
	r.wantHeld(0)
	r.advance(time.Second)
	e := r.wantHeld(1)[0]
	if e.Instance != "i" || e.Detail != "in recovery since "+since+": because" || e.DeferredMessages != 1 || e.Mode != recovery {
		t.Fatal(e)
	}
	r.advance(time.Minute)
	r.wantHeld(2)
	r.advance(30 * time.Second)
	r.enter("i") // it begins anew
	r.advance(45 * time.Second)
	r.wantHeld(2)
	r.advance(15 * time.Second)
	r.wantHeld(3)
	r.complete("i", 0)
	r.advance(time.Hour)
	r.wantHeld(3)
	if left := r.contents('d'); len(left) != 0 {
		t.Fatalf("still due: %q", left)
	}
}

func TestHeldAfterByDefaultAndNever(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options []func(*sluicev1.Application)
		want    int
	}{
		"by default after ten minutes": {nil, 6},
		"never":                        {[]func(*sluicev1.Application){heldAfter(0)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, c.options...)
			r.enter("i")
			for range 60 {
				r.advance(time.Minute)
			}
			r.wantHeld(c.want)
		})
	}
}

// TestHeldAfterIsChanged: the setting in force when it comes due says whether it is told of, and when again.
func TestHeldAfterIsChanged(t *testing.T) {
	t.Parallel()
	r := setup(t, heldAfter(time.Minute))
	r.enter("i")
	r.declare("app", heldAfter(time.Hour))
	r.advance(time.Minute)
	r.wantHeld(1)
	r.advance(59 * time.Minute)
	r.wantHeld(1)
	r.advance(time.Minute)
	r.wantHeld(2)
	r.declare("app", heldAfter(0))
	r.advance(3 * time.Hour)
	r.wantHeld(2)
}

func TestHeldAfterIsWithinLimits(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, d := range []time.Duration{-1, time.Millisecond, 31 * 24 * time.Hour} {
		a := &sluicev1.Application{Name: "app"}
		heldAfter(d)(a)
		r.refused("BAD_FIELD", &logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: a}})
	}
	for _, d := range []time.Duration{0, time.Second, 30 * 24 * time.Hour} {
		r.declare("app", heldAfter(d))
	}
}

// TestATerminatedInstanceIsNotHeld wants nothing to come due for what is no more.
func TestATerminatedInstanceIsNotHeld(t *testing.T) {
	t.Parallel()
	r := setup(t, heldAfter(time.Minute))
	r.enter("i")
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	r.advance(48 * time.Hour)
	r.wantHeld(0)
	if left := r.contents('d', 'i'); len(left) != 0 {
		t.Fatalf("left: %q", left)
	}
}

// TestAnApplicationIsHeldAsOne: one event for the whole, none for an instance that is caught up with it.
func TestAnApplicationIsHeldAsOne(t *testing.T) {
	t.Parallel()
	r := setup(t, heldAfter(time.Minute))
	r.send("i", "a")
	r.send("j", "a")
	r.enter("i")
	r.advance(30 * time.Second)
	r.enterAll("fire")
	r.send("j", "b") // caught up
	r.advance(59 * time.Second)
	r.wantHeld(0) // that of i on its own was overtaken
	r.advance(time.Second)
	e := r.wantHeld(1)[0]
	if e.Instance != "" || e.Application != "app" || !strings.HasPrefix(e.Detail, "2 instances are in recovery; the application is in recovery since ") {
		t.Fatal(e)
	}
	r.advance(30 * time.Second)
	r.enterAll("again") // a new generation begins anew, and the old one is forgotten
	r.advance(time.Minute)
	r.wantHeld(2)
	r.complete("i", 0)
	r.complete("j", 0)
	r.advance(time.Hour)
	r.wantHeld(2)
}

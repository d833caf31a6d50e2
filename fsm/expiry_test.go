package fsm_test

import (
	"fmt"
	"testing"
	"time"

	sluicev1 "sluice/api/sluice/v1"
)

// mortal is a normal message that expires a while from now.
func (r *rig) mortal(key, id string, after time.Duration) *sluicev1.Message {
	m := message(key, id, "step")
	m.ExpireTime = r.at(after)
	return m
}

func (r *rig) unsettled(key, id string) {
	r.t.Helper()
	if s := r.status(key, id); s.Status == settled {
		r.t.Fatalf("%s is settled: %v", id, s)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		freeze bool
		do     func(*rig)
		after  time.Duration // when it expires, counted from a minute; negative: not at all
	}{
		"waiting":                   {false, func(r *rig) {}, 0},
		"behind a head that is out": {false, func(r *rig) { r.own("i", "s") }, 0},
		"held in recovery":          {false, func(r *rig) { r.enter("i") }, 0},
		"in draining":               {false, func(r *rig) { r.enter("i"); r.send("i", "h"); r.complete("i", 0) }, 0},
		"out":                       {false, func(r *rig) { r.own("i", "s"); r.work("s", "i", "head") }, -1},
		"in doubt":                  {false, func(r *rig) { r.own("i", "s"); r.work("s", "i", "head"); r.enter("i") }, -1},
		"released":                  {false, func(r *rig) { r.own("i", "s"); r.work("s", "i", "head"); r.ok(closeCommand("s")) }, 0},
		"the head of it waits":      {false, func(r *rig) { r.own("i", "s"); r.work("s", "i", "head"); r.fail("s", "i", 1) }, -1},
		"frozen in recovery":        {true, func(r *rig) { r.enter("i") }, -1},
		"frozen for a while":        {true, func(r *rig) { r.enter("i"); r.tick(7 * time.Second); r.complete("i", 0) }, 7 * time.Second},
		"frozen twice":              {true, func(r *rig) { r.freezeFor(3 * time.Second); r.freezeFor(4 * time.Second) }, 7 * time.Second},
		"frozen by the application": {true, func(r *rig) { r.enterAll("x"); r.tick(7 * time.Second); r.complete("i", 0) }, 7 * time.Second},
		"frozen once, entered twice": {true, func(r *rig) {
			r.enter("i")
			r.tick(3 * time.Second)
			r.enter("i")
			r.tick(4 * time.Second)
			r.complete("i", 0)
		}, 7 * time.Second},
		"not frozen in normal mode":     {true, func(r *rig) {}, 0},
		"it runs in recovery otherwise": {false, func(r *rig) { r.freezeFor(7 * time.Second) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var options []func(*sluicev1.Application)
			if c.freeze {
				options = append(options, freeze)
			}
			r := setup(t, options...)
			end := r.now + time.Minute.Milliseconds() + c.after.Milliseconds()
			r.send("i", "head")
			r.put(r.mortal("i", "m", time.Minute))
			c.do(r)
			r.advance(time.Duration(end-r.now-1) * time.Millisecond)
			r.unsettled("i", "m")
			if c.after < 0 {
				r.advance(time.Hour)
				r.unsettled("i", "m")
				return
			}
			r.advance(time.Millisecond)
			r.wantSettled("i", "m", kindExpired)
		})
	}
}

// TestAClockThatIsDeclaredToFreezeLater: only the time since its acceptance is added to a message's, also if the clock ran
// then.
func TestAClockThatIsDeclaredToFreezeLater(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	r.advance(10 * time.Second)
	m := message("i", "m", "step")
	m.ExpireTime = r.at(5 * time.Second)
	r.put(m)
	r.declare("app", freeze)
	r.advance(2 * time.Second)
	r.complete("i", 0)
	r.advance(5*time.Second - time.Millisecond)
	r.wantStatus("i", "m", sluicev1.Status_MESSAGE_STATUS_DEFERRED)
	r.advance(time.Millisecond)
	r.wantSettled("i", "m", kindExpired)
}

// freezeFor keeps i in recovery for a while.
func (r *rig) freezeFor(d time.Duration) {
	r.t.Helper()
	r.enter("i")
	r.tick(d)
	r.complete("i", 0)
}

func TestExpiryIsHeldUntilItMayTakeEffect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after func(*rig)
		expired       bool
	}{
		"out, then released":        {func(r *rig) {}, func(r *rig) { r.ok(closeCommand("s")) }, true},
		"out, then failed":          {func(r *rig) {}, func(r *rig) { r.fail("s", "i", 1) }, true},
		"out, then completed":       {func(r *rig) {}, func(r *rig) { r.work("s", "i", "m") }, false},
		"out, then lost":            {func(r *rig) {}, func(r *rig) { r.expire("s") }, false}, // in doubt now
		"in doubt, then given back": {func(r *rig) { r.enter("i"); r.ok(closeCommand("s")) }, func(r *rig) { r.complete("i", 0) }, true},
		"in doubt, then processed":  {func(r *rig) { r.enter("i") }, func(r *rig) { r.complete("i", 1) }, false},
		"in doubt, then out again":  {func(r *rig) { r.enter("i") }, func(r *rig) { r.complete("i", 0) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, backoff(time.Hour, time.Hour))
			r.put(r.mortal("i", "m", time.Minute))
			r.own("i", "s")
			c.before(r)
			r.advance(time.Minute)
			r.unsettled("i", "m")
			c.after(r)
			r.advance(0)
			if s := r.status("i", "m"); (s.Settlement == kindExpired) != c.expired {
				t.Fatal(s)
			}
		})
	}
}

func TestRecoveryMessagesExpire(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	for _, id := range []string{"r1", "r2", "r3"} {
		m := message("i", id, "recovery.x")
		m.ExpireTime = r.at(time.Minute)
		r.put(m)
	}
	r.own("i", "s")
	r.advance(time.Minute)
	r.unsettled("i", "r1") // it is out
	r.wantSettled("i", "r2", kindExpired)
	r.work("s", "i", "r1")
	r.complete("i", 0)
}

// A recovery whose handler has failed waits for its backoff: nothing of its lane is out then.
func TestRecoveryMessagesExpireWhileTheRecoveryWaits(t *testing.T) {
	t.Parallel()
	r := setup(t, backoff(time.Hour, time.Hour))
	r.enter("i")
	m := message("i", "r", "recovery.x")
	m.ExpireTime = r.at(time.Minute)
	r.put(m)
	r.own("i", "s")
	r.advance(time.Minute)
	r.unsettled("i", "r")
	r.finish("s", r.announcement("i"), outFailed)
	r.advance(0)
	r.wantSettled("i", "r", kindExpired)
}

func TestExpiryAlreadyPast(t *testing.T) {
	t.Parallel()
	for _, options := range [][]func(*sluicev1.Application){nil, {freeze}} {
		r := setup(t, options...)
		r.own0("i", "s")
		for n, after := range []time.Duration{-time.Hour, 0, time.Millisecond} {
			id := fmt.Sprint("m", n)
			got := r.put(r.mortal("i", id, after))
			if got.Seq != uint64(n+2) || got.Disposition != dispAccepted {
				t.Fatal(got)
			}
			if st := r.status("i", id); (st.Settlement == kindExpired) != (after <= 0) {
				t.Fatal(st)
			}
			if again := r.put(r.mortal("i", id, after)); !again.Duplicate {
				t.Fatal(again)
			}
		}
		if i := r.instance("i"); i.NormalMessages != 2 || i.InFlight != 1 {
			t.Fatal(i)
		}
		r.enter("i")
		if got := r.put(r.mortal("i", "held", 0)); got.Disposition != dispDeferred {
			t.Fatal(got)
		}
		r.wantSettled("i", "held", kindExpired)
		if i := r.instance("i"); i.DeferredMessages != 0 {
			t.Fatal(i)
		}
	}
}

// own0 gives an instance that has a message to a session.
func (r *rig) own0(key, session string) {
	r.t.Helper()
	r.send(key, "zero")
	r.own(key, session)
}

func TestExpiryEndsDraining(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	r.put(r.mortal("i", "m", time.Minute))
	r.complete("i", 0)
	r.wantMode("i", draining)
	r.advance(time.Minute)
	r.wantSettled("i", "m", kindExpired)
	r.wantMode("i", normal)
}

func TestManyHeldExpiries(t *testing.T) {
	t.Parallel()
	const many = 600
	r := setup(t, freeze)
	r.enter("i")
	for n := range many {
		r.put(r.mortal("i", fmt.Sprint("m", n), time.Minute))
	}
	r.advance(time.Hour)
	if i := r.instance("i"); i.DeferredMessages != many {
		t.Fatal(i)
	}
	r.complete("i", 0)
	r.advance(time.Minute - time.Millisecond)
	if i := r.instance("i"); i.DeferredMessages != many {
		t.Fatal(i)
	}
	r.advance(time.Millisecond)
	if i := r.instance("i"); i.DeferredMessages != 0 || i.Mode != normal {
		t.Fatal(i)
	}
}

// TestHeldExpiriesPassedByALookAreLookedAtAgain: the owner is lost while a look at held expiries is under way, which found
// the first of them out still.
func TestHeldExpiriesPassedByALookAreLookedAtAgain(t *testing.T) {
	t.Parallel()
	const many = 300
	r := setup(t, window(many))
	for n := range many {
		r.put(r.mortal("i", fmt.Sprint("m", n), time.Minute))
	}
	r.own("i", "s")
	r.advance(time.Hour)
	r.enter("i")
	r.complete("i", 0)
	if p := r.ok(advanceCommand(1)).GetProgress(); p.Done != 1 {
		t.Fatal(p)
	}
	r.ok(closeCommand("s"))
	r.advance(0)
	if i := r.instance("i"); i.NormalMessages != 0 {
		t.Fatalf("%d messages did not expire", i.NormalMessages)
	}
}

func TestDueTimesTakeLimitedBites(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for n := range 10 {
		r.put(r.mortal("i", fmt.Sprint("m", n), time.Duration(n+1)*time.Second))
	}
	r.tick(8 * time.Second)
	for _, want := range []struct {
		done uint32
		more bool
	}{{3, true}, {3, true}, {2, false}, {0, false}} {
		if p := r.ok(advanceCommand(3)).GetProgress(); p.Done != want.done || p.More != want.more {
			t.Fatal(p)
		}
	}
	if at, ok, err := r.m.View().NextDeadline(); err != nil || !ok || at.UnixMilli() != start+9000 {
		t.Fatal(at, ok, err)
	}
}

func TestTheClockNeverRunsBack(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.put(r.mortal("i", "m", time.Minute))
	r.tick(-time.Hour)
	r.advance(0)
	r.unsettled("i", "m")
	if _, clock := r.m.View().Applied(); clock.UnixMilli() != start {
		t.Fatal(clock)
	}
	r.put(r.mortal("i", "n", 30*time.Minute)) // past, by the state's clock
	r.wantSettled("i", "n", kindExpired)
}

package fsm_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// grew wants an epoch to be newer than the one before, and gives it.
func grew(t testing.TB, what string, before, after uint64) uint64 {
	t.Helper()
	if after <= before {
		t.Fatalf("%s: the epoch went from %d to %d", what, before, after)
	}
	return after
}

func TestModes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		held bool
		do   func(*rig)
		want sluicev1.Mode
	}{
		"enter":                          {false, func(r *rig) { r.enter("i") }, recovery},
		"enter again":                    {false, func(r *rig) { r.enter("i"); r.enter("i") }, recovery},
		"complete, none held":            {false, func(r *rig) { r.enter("i"); r.complete("i", 0) }, normal},
		"complete, held":                 {true, func(r *rig) { r.enter("i"); r.send("i", "h"); r.complete("i", 0) }, draining},
		"enter while draining":           {true, func(r *rig) { r.enter("i"); r.send("i", "h"); r.complete("i", 0); r.enter("i") }, recovery},
		"enter application":              {false, func(r *rig) { r.enterAll("x") }, recovery},
		"enter application, then i":      {false, func(r *rig) { r.enterAll("x"); r.enter("i") }, recovery},
		"enter i, then application":      {false, func(r *rig) { r.enter("i"); r.enterAll("x") }, recovery},
		"enter application, complete":    {false, func(r *rig) { r.enterAll("x"); r.complete("i", 0) }, normal},
		"application while draining":     {true, func(r *rig) { r.enter("i"); r.send("i", "h"); r.complete("i", 0); r.enterAll("x") }, recovery},
		"complete, what is held is gone": {false, func(r *rig) { r.enter("i"); r.send("i", "h"); r.skip("i", 2); r.complete("i", 0) }, normal},
		"draining ends with its skip":    {true, func(r *rig) { r.enter("i"); r.send("i", "h"); r.complete("i", 0); r.skip("i", 1); r.skip("i", 2) }, normal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.send("i", "first")
			c.do(r)
			i := r.wantMode("i", c.want)
			counts := map[sluicev1.Mode][]uint64{normal: {1, 0, 0}, recovery: {0, 1, 0}, draining: {0, 0, 1}}
			r.wantCounts(counts[c.want]...)
			h := r.history("i")
			if last := h[len(h)-1]; last.To != c.want || last.Epoch != i.Epoch {
				t.Fatalf("%v", h)
			}
			for n := 1; n < len(h); n++ {
				if h[n].From != h[n-1].To || h[n].Index < h[n-1].Index {
					t.Fatalf("transitions do not follow: %v", h)
				}
			}
		})
	}
}

func (r *rig) skip(key string, seq uint64) *sluicev1.MessageStatus {
	r.t.Helper()
	return r.ok(resolveRequest(&sluicev1.ResolveMessageRequest{Instance: key, Seq: seq, Lane: laneNormal, Action: sluicev1.ResolveAction_ACTION_SKIP})).GetMessageStatus()
}

func TestModeMakesAnInstance(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.refused("UNKNOWN_INSTANCE", completeRequest(&sluicev1.CompleteRecoveryRequest{Instance: "i"}))
	i := r.enter("i")
	if i.Mode != recovery || i.NextSeq != 1 || i.Cause != "because" || i.ModeTime.AsTime().UnixMilli() != r.now {
		t.Fatal(i)
	}
	r.wantCounts(0, 1, 0)
	// One born after an application-wide entry is normal.
	r.enterAll("x")
	r.send("j", "a")
	r.wantMode("j", normal)
	r.wantCounts(1, 1, 0)
}

func TestHistory(t *testing.T) {
	t.Parallel()
	r := setup(t, historyLimit(3))
	r.send("i", "a")
	r.tick(time.Second)
	r.actor = "alice"
	one := r.enter("i")
	r.tick(time.Second)
	r.actor = "bob"
	r.ok(enterCommand("i", "again"))
	r.send("i", "b")
	done := r.complete("i", 0)
	want := []*sluicev1.Transition{
		{Index: 3, From: normal, To: recovery, Cause: "because", Actor: "alice", Epoch: one.Epoch},
		{Index: 4, From: recovery, To: recovery, Cause: "again", Actor: "bob"},
		{Index: 6, From: recovery, To: draining, Cause: "recovery completed; was: again", Actor: "bob", Epoch: done.Epoch},
	}
	got := r.history("i")
	if len(got) != 3 {
		t.Fatal(got)
	}
	for n, w := range want {
		g := got[n]
		if g.Index != w.Index || g.From != w.From || g.To != w.To || g.Cause != w.Cause || g.Actor != w.Actor || w.Epoch != 0 && g.Epoch != w.Epoch {
			t.Errorf("transition %d: want %v, got %v", n, w, g)
		}
	}
	if d := got[1].Time.AsTime().Sub(got[0].Time.AsTime()); d != time.Second {
		t.Error(d)
	}
	// The limit holds, for what is written and for what is not yet.
	r.own("i", "s")
	r.work("s", "i", "a", "b")
	if got = r.history("i"); len(got) != 3 || got[2].Cause != "drained" || got[2].Epoch != done.Epoch {
		t.Fatal(got)
	}
	r.enterAll("fire")
	r.enterAll("flood")
	if got = r.history("i"); len(got) != 3 || got[1].Cause != "fire" || got[2].Cause != "flood" {
		t.Fatal(got)
	}
	r.send("i", "c")
	if after := r.history("i"); len(after) != 3 || !proto.Equal(after[1], got[1]) || !proto.Equal(after[2], got[2]) {
		t.Fatalf("before %v, written %v", got, after)
	}
}

func TestEpochs(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	e := r.instance("i").Epoch
	same := func(what string) {
		t.Helper()
		if now := r.instance("i").Epoch; now != e {
			t.Fatalf("%s: the epoch went from %d to %d", what, e, now)
		}
	}
	more := func(what string) {
		t.Helper()
		e = grew(t, what, e, r.instance("i").Epoch)
	}
	r.own("i", "s")
	same("assignment")
	r.work("s", "i", "a")
	same("settlement")
	r.ok(releaseCommand("i", "s"))
	more("release")
	r.send("i", "b")
	r.assign("i", "s")
	same("assignment again")
	r.ok(closeCommand("s"))
	more("close")
	r.own("i", "s")
	r.expire("s")
	more("owner lost")
	r.enter("i")
	more("enter")
	r.send("i", "h")
	r.complete("i", 0)
	more("complete")
	r.own("i", "s")
	r.work("s", "i", "b", "h")
	r.wantMode("i", normal)
	same("draining ended")
	r.expire("s")
	more("an idle owner lost")
	r.enterAll("x")
	more("application")
	if g := r.application("app").RecoveryGeneration; g != e {
		t.Fatalf("generation %d, epoch %d", g, e)
	}
	r.send("i", "late") // catches up
	same("catching up")
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	more("terminate")
}

func TestEpochsAreUniqueAcrossInstancesOfOneEntry(t *testing.T) {
	t.Parallel()
	r := setup(t)
	outs, err := r.apply(enterCommand("i", ""), enterCommand("j", ""), enterCommand("i", ""), sendCommand(message("k", "a", "step")), enterAllRequest(&sluicev1.EnterApplicationRecoveryRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for _, o := range outs[:3] {
		seen[o.GetInstance().Epoch] = true
	}
	seen[outs[3].GetSend().Results[0].Receipt.Epoch] = true
	seen[outs[4].GetApplication().RecoveryGeneration] = true
	if len(seen) != 5 {
		t.Fatal(outs)
	}
}

// TestCompletionErrors goes through the reasons in their order: each case keeps the troubles that come after its own.
func TestCompletionErrors(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.open("other", 1)
	try := func(want string, q *sluicev1.CompleteRecoveryRequest) {
		t.Helper()
		r.refused(want, completeRequest(q))
	}
	try("BAD_FIELD", &sluicev1.CompleteRecoveryRequest{Instance: "none", State: []byte("x"), SessionId: "nobody"})
	try("UNKNOWN_SESSION", &sluicev1.CompleteRecoveryRequest{Instance: "none", SessionId: "nobody"})
	try("UNKNOWN_INSTANCE", &sluicev1.CompleteRecoveryRequest{Instance: "none", SessionId: "other"})
	r.send("gone", "a")
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "gone"}))
	try("TERMINATED", &sluicev1.CompleteRecoveryRequest{Instance: "gone", SessionId: "other", Epoch: 1})
	r.send("i", "a")
	try("NOT_IN_RECOVERY", &sluicev1.CompleteRecoveryRequest{Instance: "i", SessionId: "other", Epoch: 1})
	e := r.enter("i").Epoch
	r.sendRecovery("i", "r")
	r.own("i", "s")
	try("STALE_EPOCH", &sluicev1.CompleteRecoveryRequest{Instance: "i", SessionId: "other", Epoch: e - 1})
	try("STALE_EPOCH", &sluicev1.CompleteRecoveryRequest{Instance: "i", SessionId: "other", Epoch: e + 1})
	try("NOT_OWNER", &sluicev1.CompleteRecoveryRequest{Instance: "i", SessionId: "other", Epoch: e})
	try("PENDING_RECOVERY_MESSAGES", &sluicev1.CompleteRecoveryRequest{Instance: "i", SessionId: "s", Epoch: e})
	if i := r.complete2("i", &sluicev1.CompleteRecoveryRequest{SessionId: "s", Epoch: e, DiscardRecoveryMessages: true}); i.Mode != normal || i.Owner != "s" {
		t.Fatal(i)
	}
	if s := r.wantSettled("i", "r", kindDead); s.DeadLetter.GetReason() == "" {
		t.Fatal(s)
	}
	if n := len(r.deadLetters("i")); n != 1 {
		t.Fatal(n)
	}
}

// TestACompletionThatSetsAnotherStateIsNoRepeat has a recovery end by itself before its handler completes it: the
// handler must not be told that its state stands.
func TestACompletionThatSetsAnotherStateIsNoRepeat(t *testing.T) {
	t.Parallel()
	r := setup(t)
	e := r.ok(enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "i", Until: r.at(time.Second)})).GetInstance().Epoch
	r.own("i", "s")
	r.advance(2 * time.Second)
	r.wantMode("i", normal)
	late := &sluicev1.CompleteRecoveryRequest{Instance: "i", SessionId: "s", Epoch: e, SetState: true, State: []byte("found")}
	r.refused("NOT_IN_RECOVERY", completeRequest(late))
	r.enter("i")
	r.refused("STALE_EPOCH", completeRequest(late))
	late.Epoch = 0
	first := r.ok(completeRequest(late)).GetInstance()
	last := r.history("i")
	late.Epoch = last[len(last)-2].Epoch // that of the entry
	if again := r.ok(completeRequest(late)).GetInstance(); !again.Duplicate || again.Epoch != first.Epoch {
		t.Fatalf("the same completion again: %v, and at first %v", again, first)
	}
	late.State = []byte("other")
	r.refused("NOT_IN_RECOVERY", completeRequest(late))
}

func TestEnterErrors(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.open("other", 1)
	try := func(want string, q *sluicev1.EnterRecoveryRequest) {
		t.Helper()
		r.refused(want, enterRequest(q))
	}
	try("BAD_FIELD", &sluicev1.EnterRecoveryRequest{Instance: "none", Epoch: 1})
	try("BAD_NAME", &sluicev1.EnterRecoveryRequest{Instance: ""})
	try("UNKNOWN_APPLICATION", &sluicev1.EnterRecoveryRequest{Application: "none", Instance: "i"})
	try("UNKNOWN_SESSION", &sluicev1.EnterRecoveryRequest{Instance: "none", SessionId: "nobody"})
	try("UNKNOWN_INSTANCE", &sluicev1.EnterRecoveryRequest{Instance: "none", SessionId: "other"})
	r.send("i", "a")
	e := r.instance("i").Epoch
	r.own("i", "s")
	try("STALE_EPOCH", &sluicev1.EnterRecoveryRequest{Instance: "i", SessionId: "other", Epoch: e + 1})
	try("NOT_OWNER", &sluicev1.EnterRecoveryRequest{Instance: "i", SessionId: "other", Epoch: e})
	// A worker's own wish, with and without its epoch.
	if i := r.ok(enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "i", SessionId: "s", Epoch: e})).GetInstance(); i.Mode != recovery || i.Owner != "s" {
		t.Fatal(i)
	}
	try("STALE_EPOCH", &sluicev1.EnterRecoveryRequest{Instance: "i", SessionId: "s", Epoch: e})
	r.ok(enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "i", SessionId: "s"}))
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	try("TERMINATED", &sluicev1.EnterRecoveryRequest{Instance: "i", SessionId: "s"})
	try("TERMINATED", &sluicev1.EnterRecoveryRequest{Instance: "i"})
}

func TestRepeatsByEpochAndProcessedThrough(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	r.own("i", "s")
	e := r.enter("i").Epoch
	r.send("i", "h")
	first := r.complete2("i", &sluicev1.CompleteRecoveryRequest{Epoch: e, ProcessedThrough: 1, SessionId: "s"})
	again := func(q *sluicev1.CompleteRecoveryRequest) {
		t.Helper()
		before := len(r.history("i"))
		got := r.complete2("i", q)
		if !got.Duplicate || got.Mode != first.Mode || got.Epoch != first.Epoch || len(r.history("i")) != before {
			t.Fatalf("first %v, again %v", first, got)
		}
	}
	again(&sluicev1.CompleteRecoveryRequest{Epoch: e, ProcessedThrough: 1, SessionId: "s"})
	r.work("s", "i", "h")
	r.wantMode("i", normal)
	again(&sluicev1.CompleteRecoveryRequest{Epoch: e, ProcessedThrough: 1})
	r.refused("NOT_IN_RECOVERY", completeRequest(&sluicev1.CompleteRecoveryRequest{Instance: "i", Epoch: e, ProcessedThrough: 2}))
	r.refused("NOT_IN_RECOVERY", completeRequest(&sluicev1.CompleteRecoveryRequest{Instance: "i"}))
	r.expire("s")
	r.enter("i")
	again(&sluicev1.CompleteRecoveryRequest{Epoch: e, ProcessedThrough: 1, SessionId: "s"}) // judged before the session, too
	r.refused("STALE_EPOCH", completeRequest(&sluicev1.CompleteRecoveryRequest{Instance: "i", Epoch: e, ProcessedThrough: 2}))
	// With epoch 0 it is never a repeat.
	r.complete("i", 1)
	r.refused("NOT_IN_RECOVERY", completeRequest(&sluicev1.CompleteRecoveryRequest{Instance: "i", ProcessedThrough: 1}))
}

func TestRepeatsByRequestID(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(time.Minute))
	enter := func(cause string) *logv1.Outcome {
		return r.do(enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "i", Cause: cause, RequestId: "q"}))
	}
	r.refused("UNKNOWN_SESSION", enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "i", Cause: "x", RequestId: "q", SessionId: "nobody"}))
	first := enter("x").GetInstance() // what was refused was not remembered
	r.send("i", "h")
	complete := &sluicev1.CompleteRecoveryRequest{Instance: "i", RequestId: "q"} // the same id for another method
	done := r.ok(completeRequest(complete)).GetInstance()
	for range 2 {
		again, undone := enter("x").GetInstance(), r.ok(completeRequest(complete)).GetInstance()
		for _, pair := range [][2]*sluicev1.Instance{{first, again}, {done, undone}} {
			want := proto.CloneOf(pair[0])
			want.Duplicate = true
			if !proto.Equal(want, pair[1]) {
				t.Fatalf("want %v, got %v", want, pair[1])
			}
		}
		r.enter("i")
	}
	if f := enter("y").Fault; f.GetReason() != "ID_REUSED" {
		t.Fatal(f)
	}
	// Of another instance it is another request.
	if j := r.ok(enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "j", Cause: "x", RequestId: "q"})).GetInstance(); j.Duplicate || j.Key != "j" {
		t.Fatal(j)
	}
	// It is remembered to the last millisecond of the window, and not a millisecond longer.
	r.tick(time.Minute - time.Millisecond)
	if again := enter("x").GetInstance(); !again.GetDuplicate() {
		t.Fatal(again)
	}
	r.tick(time.Millisecond)
	if again := enter("x").GetInstance(); again.GetDuplicate() || again.GetMode() != recovery {
		t.Fatal(again)
	}
}

func TestUntil(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after func(*rig)
		want          sluicev1.Mode
	}{
		"ends by itself":           {nil, nil, normal},
		"held messages":            {nil, func(r *rig) { r.send("i", "h") }, draining},
		"something in doubt":       {func(r *rig) { r.own("i", "s") }, nil, recovery},
		"a recovery message":       {nil, func(r *rig) { r.sendRecovery("i", "x") }, recovery},
		"entered again since":      {nil, func(r *rig) { r.enter("i") }, recovery},
		"the application since":    {nil, func(r *rig) { r.enterAll("x") }, recovery},
		"completed, entered since": {nil, func(r *rig) { r.complete("i", 0); r.enter("i") }, recovery},
		"terminated since":         {nil, func(r *rig) { r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"})) }, recovery},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.send("i", "a")
			if c.before != nil {
				c.before(r)
			}
			r.ok(enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "i", Until: r.at(time.Minute)}))
			if c.after != nil {
				c.after(r)
			}
			r.advance(time.Minute - time.Millisecond)
			r.wantMode("i", recovery)
			r.advance(time.Millisecond)
			r.wantMode("i", c.want)
			if at, ok, err := r.m.View().NextDeadline(); err != nil || ok && at.UnixMilli() <= r.now {
				t.Fatal(at, err)
			}
		})
	}
}

func TestUntilRoundsUp(t *testing.T) {
	t.Parallel()
	r := setup(t)
	until := r.at(time.Second)
	until.Nanos++
	r.ok(enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "i", Until: until}))
	r.advance(time.Second)
	r.wantMode("i", recovery)
	r.advance(time.Millisecond)
	r.wantMode("i", normal)
	if h := r.history("i"); h[1].Actor != "until" {
		t.Fatal(h)
	}
}

func TestOfferByMode(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	r.own("i", "s")
	r.wantOuts("i", "a")
	r.enter("i")
	r.wantOuts("i", "!")
	r.sendRecovery("i", "r")
	r.wantOuts("i", "! r")
	if i := r.instance("i"); i.InFlight != 1 {
		t.Fatal(i)
	}
	r.work("s", "i", "r")
	r.complete("i", 0)
	r.wantOuts("i", "a")
	r.enterAll("x")
	r.wantOuts("i", "!") // though nothing of i was written
	if o := r.offer("i"); o.Epoch != r.application("app").RecoveryGeneration || o.Mode != recovery || !o.RecoveryTaken {
		t.Fatal(o)
	}
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	r.wantOuts("i", "")
	if _, err := r.m.View().Offer(fsm.InstanceID{Application: "app", Key: "none"}, fsm.Given{}, 1); err == nil {
		t.Fatal("an offer of nothing")
	}
}

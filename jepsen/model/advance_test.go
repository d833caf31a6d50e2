package model

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
)

func freeze(d *sluicev1.Application) { d.ExpiryClock = sluicev1.ExpiryClock_EXPIRY_CLOCK_FREEZE }

// passes lets time pass, and what has come due be handled.
func (b *bench) passes(until int64) {
	b.Helper()
	b.at.Index++
	b.clock = until
	if err := b.advance(nil); err != nil {
		b.Fatal(err)
	}
}

// lasting takes a message that expires.
func (b *bench) lasting(id string, expires int64) *Life {
	m := b.message(id, "work")
	m.ExpireTime = &timestamppb.Timestamp{Nanos: int32(expires * 1e6)}
	b.at.Index++
	l, _, _ := b.judge(m, "")
	return l
}

func TestWhatIsOutOrInDoubtDoesNotExpire(t *testing.T) {
	b := setup(t, nil) // a window of two, a backoff of 100 ms
	b.clock = 10
	past := b.lasting("m0", 10)
	first, second, third := b.lasting("m1", 50), b.lasting("m2", 50), b.lasting("m3", 50)
	i := b.own()
	b.passes(60)
	if past.Settlement != "expired" || first.Settlement+second.Settlement != "" || third.Settlement != "expired" {
		t.Fatalf("past its time %q, out %q %q, behind them %q", past.Settlement, first.Settlement, second.Settlement, third.Settlement)
	}
	b.turnToRecovery(i, nil, Transition{})
	b.passes(70)
	if first.Settlement != "" {
		t.Fatal("in doubt, and expired")
	}
	i.Owner = ""
	b.turnBack(i, 0, nil)
	b.passes(80)
	if first.Settlement != "expired" || second.Settlement != "expired" {
		t.Errorf("neither out nor in doubt any more: %q %q", first.Settlement, second.Settlement)
	}
}

func TestWhatWaitsForItsBackoffExpires(t *testing.T) {
	b := setup(t, nil)
	b.clock = 10
	l := b.lasting("m1", 50)
	i := b.own()
	b.settleAs(i, inNormal, 1, failed) // waits until 110
	b.passes(60)
	if l.Settlement != "expired" {
		t.Errorf("nobody has it, and it is settled as %q", l.Settlement)
	}
	l = b.lasting("m2", 200)
	b.settleAs(i, inNormal, 2, failed) // until 160
	b.passes(300)
	if l.Settlement != "" {
		t.Error("its backoff had ended before its time, so that it was out, and it has expired")
	}
}

func TestAFrozenClockStandsStillInRecovery(t *testing.T) {
	b := setup(t, freeze)
	b.clock = 10
	l := b.lasting("m1", 100)
	i := b.instances[ID{"app", "i"}]
	b.clock = 20
	b.turnToRecovery(i, nil, Transition{})
	during := b.lasting("m2", 100)
	b.passes(500)
	b.turnBack(i, 0, nil)
	b.passes(579)
	if l.Settlement != "" {
		t.Fatal("expired before 480 ms of recovery were added")
	}
	b.passes(580)
	if l.Settlement != "expired" || during.Settlement != "expired" {
		t.Errorf("%q, %q", l.Settlement, during.Settlement)
	}
}

func TestARecoveryEndsByItselfUnlessSomethingStandsAgainstIt(t *testing.T) {
	for name, test := range map[string]struct {
		against func(*bench, *Instance)
		mode    string
	}{
		"nothing":                {func(*bench, *Instance) {}, Normal},
		"something in doubt":     {func(_ *bench, i *Instance) { i.Lanes[normalLane].Messages[0].doubt = true }, Recovery},
		"a recovery message":     {func(b *bench, _ *Instance) { b.take("r1", "fix") }, Recovery},
		"it was entered again":   {func(b *bench, i *Instance) { b.turnToRecovery(i, nil, Transition{}) }, Recovery},
		"a message was deferred": {func(b *bench, _ *Instance) { b.take("m2", "work") }, Draining},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, nil)
			b.take("m1", "work")
			i := b.instances[ID{"app", "i"}]
			b.turnToRecovery(i, nil, Transition{})
			i.until = 50
			test.against(b, i)
			b.passes(49)
			if i.Mode != Recovery {
				t.Fatal("it ended before its time")
			}
			b.passes(50)
			if i.Mode != test.mode {
				t.Errorf("the mode is %s", i.Mode)
			}
		})
	}
}

func watchful(d *sluicev1.Application) {
	two := uint32(2)
	d.Supervision = &sluicev1.Supervision{OutageInstances: &two}
}

// fails has an attempt of an instance's only message fail under s.
func (b *bench) fails(key, text string) *Instance {
	b.at.Index++
	i := b.find(ID{"app", key})
	if len(i.Lanes[normalLane].Messages) == 0 {
		m := b.message("m-"+key, "work")
		m.Instance = key
		b.judge(m, "")
		i = b.find(ID{"app", key})
	}
	i.Owner, i.Lanes[normalLane].wait = "s", 0
	l := i.Lanes[normalLane].Messages[0]
	b.carryOut(i, "s", &sluicev1.Settlement{Application: "app", Instance: key, Lane: inNormal, Seq: l.Seq, Outcome: failed, ErrorText: text})
	return i
}

func TestAnOutage(t *testing.T) {
	b := setup(t, watchful) // two attempts are allowed
	idle := b.fails("z", "another trouble")
	poisoned := b.fails("a", `store "east" is down, request 17`)
	if b.fails("a", "store 'west' is down, request 40"); poisoned.Mode != Recovery {
		t.Fatalf("after the last attempt: %s", poisoned.Mode)
	}
	i := b.fails("b", "store `x` is down, request 0a1b2c3d4e")
	if i.Mode != Recovery || idle.Mode != Recovery || i.inDoubt() || !poisoned.inDoubt() || i.Lanes[normalLane].attempts != 1 {
		t.Fatalf("%s and %s; in doubt: %v, poison %v; %d attempts", i.Mode, idle.Mode, i.inDoubt(), poisoned.inDoubt(), i.Lanes[normalLane].attempts)
	}
	if i.Epoch != idle.Epoch {
		t.Error("one entry, and two epochs")
	}
	b.operations["op"] = &operation{application: "app", state: "running", entered: i.entered}
	b.stepped("op", 3, false)
	if poisoned.Mode != Normal {
		t.Errorf("poison of the same outage is completed with it: %s", poisoned.Mode)
	}
}

func TestWhatIsNoOutage(t *testing.T) {
	for name, fail := range map[string]func(*bench) *Instance{
		"of one instance alone": func(b *bench) *Instance { b.fails("a", "down"); return b.fails("a", "down 2") },
		"of different kinds":    func(b *bench) *Instance { b.fails("a", "down"); return b.fails("b", "up") },
		"the last kind counts":  func(b *bench) *Instance { b.fails("a", "down"); b.fails("a", "up"); return b.fails("b", "down") },
		"too far from the first": func(b *bench) *Instance {
			b.clock = 5
			b.fails("a", "down")
			b.clock = 60_005
			return b.fails("b", "down")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, func(d *sluicev1.Application) { watchful(d); *d.Delivery.MaxAttempts = 9 })
			if i := fail(b); i.Mode != Normal {
				t.Errorf("it is in %s", i.Mode)
			}
		})
	}
}

func TestAnOperationOverASet(t *testing.T) {
	b := setup(t, nil)
	for _, key := range []string{"a", "b", "c"} {
		b.keep(b.find(ID{"app", key}))
	}
	b.turnToRecovery(b.instances[ID{"app", "b"}], nil, Transition{})
	answer := func(state sluicev1.OperationState, duplicate bool) *logv1.Outcome {
		return &logv1.Outcome{Result: &logv1.Outcome_Operation{Operation: &sluicev1.Operation{Id: "op", State: state, Duplicate: duplicate}}}
	}
	must := func(err error) {
		t.Helper()
		if err != nil || len(b.mismatches) > 0 {
			t.Fatal(err, b.mismatches)
		}
	}
	begin := &logv1.BeginOperation{Total: 4, Request: &sluicev1.StartOperationRequest{Application: "app", Kind: sluicev1.OperationKind_OPERATION_KIND_ENTER_RECOVERY, Until: &timestamppb.Timestamp{Seconds: 90}}}
	must(b.beginOperation(begin, answer(sluicev1.OperationState_OPERATION_SELECTING, false)))
	part := &logv1.AddOperationItems{Id: "op", Instances: []string{"a", "b", "nobody"}}
	must(b.addItems(part, answer(sluicev1.OperationState_OPERATION_SELECTING, false)))
	must(b.addItems(part, answer(sluicev1.OperationState_OPERATION_SELECTING, true)))
	b.stepped("op", 0, false)
	must(b.addItems(&logv1.AddOperationItems{Id: "op", Place: 3, Instances: []string{"c"}}, answer(sluicev1.OperationState_OPERATION_RUNNING, false)))
	must(b.steerOperation(&logv1.SteerOperation{Id: "op", State: sluicev1.OperationState_OPERATION_PAUSED}, answer(sluicev1.OperationState_OPERATION_PAUSED, false)))
	b.stepped("op", 0, false)
	must(b.steerOperation(&logv1.SteerOperation{Id: "op", State: sluicev1.OperationState_OPERATION_RUNNING}, answer(sluicev1.OperationState_OPERATION_RUNNING, false)))
	b.stepped("op", 2, false)
	op := b.operations["op"]
	if op.done != 2 || op.passed != 1 || op.failed != 1 || op.state != "done" || b.instances[ID{"app", "c"}].until != 90_000 {
		t.Errorf("the operation is %+v", op)
	}
}

func TestASetThatNobodyWritesDownIsGivenUp(t *testing.T) {
	b := setup(t, nil)
	b.operations["op"] = &operation{application: "app", state: "selecting", set: true, total: 3, lookAt: 60_000}
	op := b.operations["op"]
	op.items = []string{"a"}
	b.passes(60_000)
	if op.state != "selecting" {
		t.Fatal("a part came within the minute")
	}
	b.passes(120_000)
	if op.state != "cancelled" {
		t.Error("no part came within a minute")
	}
}

func TestATerminatedInstance(t *testing.T) {
	b := setup(t, nil)
	b.take("m1", "work")
	b.take("m2", "work")
	i := b.own()
	b.settleAs(i, inNormal, 1, rejected)
	b.returns(inNormal, 1)
	if err := b.terminate(&sluicev1.TerminateRequest{Application: "app", Instance: "i"}, &logv1.Outcome{Fault: &sluicev1.Fault{}}); err != nil {
		t.Fatal(err)
	}
	if got := []string{i.bySeq[normalLane][1].Settlement, i.bySeq[normalLane][2].Settlement}; !slices.Equal(got, []string{"dead-lettered", "dead-lettered"}) || i.Owner != "" || i.hasWork() {
		t.Errorf("settled as %v, owner %q, has work: %v", got, i.Owner, i.hasWork())
	}
	if b.enterWhole(i.app, 0, ""); i.Mode != Normal {
		t.Error("the whole application entered, and what was terminated with it")
	}
}

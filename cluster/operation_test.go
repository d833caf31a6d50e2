package cluster

import (
	"errors"
	"fmt"
	"testing"
	"time"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

const (
	opRunning = sluicev1.OperationState_OPERATION_RUNNING
	opPaused  = sluicev1.OperationState_OPERATION_PAUSED
	opDone    = sluicev1.OperationState_OPERATION_DONE
)

func enteringAll(app string) *logv1.Command {
	return &logv1.Command{Actor: "test", Kind: &logv1.Command_EnterApplicationRecovery{EnterApplicationRecovery: &sluicev1.EnterApplicationRecoveryRequest{Application: app, Cause: "flood"}}}
}

func completingAll(app string, rate float64) *logv1.Command {
	return &logv1.Command{Actor: "test", Kind: &logv1.Command_CompleteApplicationRecovery{CompleteApplicationRecovery: &sluicev1.CompleteApplicationRecoveryRequest{Application: app, Rate: rate}}}
}

func steering(id string, to sluicev1.OperationState) *logv1.Command {
	return &logv1.Command{Actor: "test", Kind: &logv1.Command_SteerOperation{SteerOperation: &logv1.SteerOperation{Id: id, State: to}}}
}

func holding(prefix, request string) *sluicev1.StartOperationRequest {
	return &sluicev1.StartOperationRequest{
		Application: "app", Kind: sluicev1.OperationKind_OPERATION_KIND_ENTER_RECOVERY, Selector: &sluicev1.Selector{Prefix: prefix}, Cause: "fire", RequestId: request,
	}
}

// populate makes instances, each with one message.
func (w *world) populate(m *member, n int) {
	w.t.Helper()
	for at := 0; at < n; at += 100 {
		s := &logv1.Send{}
		for k := at; k < min(at+100, n); k++ {
			s.Messages = append(s.Messages, &sluicev1.Message{Application: "app", Instance: fmt.Sprintf("i%05d", k), Id: "m", Type: "step"})
		}
		w.must(m, &logv1.Command{Actor: "test", Kind: &logv1.Command_Send{Send: s}})
	}
}

func (w *world) operation(m *member, id string) *sluicev1.Operation {
	w.t.Helper()
	v, _, err := m.View(w.context(), false)
	if err != nil {
		w.t.Fatal(err)
	}
	op, err := v.Operation(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return op
}

func TestCompletionGoesOnUnderTheNextLeaderAndKeepsItsRate(t *testing.T) {
	const instances, rate = 60, 50
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	w.populate(w.nodes["a"], instances)
	w.must(w.nodes["a"], enteringAll("app"))
	lead := w.leader("a", "b", "c")
	began := time.Now()
	op := w.must(lead, completingAll("app", rate)).GetOperation()
	w.until("some are done", lead.Node, func() bool { return w.operation(lead, op.Id).Done > 0 })
	w.kill(lead.cfg.NodeID)
	rest := others(lead.cfg.NodeID)
	next := w.leader(rest...)
	w.until("all are done", next.Node, func() bool { return w.operation(next, op.Id).State == opDone })
	got := w.operation(next, op.Id)
	if got.Done != instances || got.Total != instances || got.PassedOver != 0 {
		t.Fatal(got)
	}
	// Each leader begins with nothing saved, so what a rate allows is never exceeded over the whole.
	if took := time.Since(began); took < (instances-1)*time.Second/rate {
		t.Fatalf("%d instances at %d a second took %v", instances, rate, took)
	}
	v, _, err := next.View(w.context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := v.Application("app"); err != nil || a.Counts.Normal != instances || a.Counts.Recovery != 0 {
		t.Fatal(a, err)
	}
}

func TestAPauseOutlivesItsLeader(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	w.populate(w.nodes["a"], 600)
	w.must(w.nodes["a"], enteringAll("app"))
	lead := w.leader("a", "b", "c")
	op := w.must(lead, completingAll("app", 10)).GetOperation()
	w.until("some are done", lead.Node, func() bool { return w.operation(lead, op.Id).Done > 0 })
	paused := w.must(lead, steering(op.Id, opPaused)).GetOperation()
	w.kill(lead.cfg.NodeID)
	next := w.leader(others(lead.cfg.NodeID)...)
	// An operation that runs beside it comes to its end under the new leader, so the paused one had its turns, too.
	beside, err := next.StartOperation(w.context(), holding("i0000", ""), "test")
	if err != nil {
		t.Fatal(err)
	}
	w.until("the other is done", next.Node, func() bool { return w.operation(next, beside.Operation.Id).State == opDone })
	if got := w.operation(next, op.Id); got.State != opPaused || got.Done != paused.Done {
		t.Fatalf("paused with %d done, then %v", paused.Done, got)
	}
	w.must(next, steering(op.Id, opRunning))
	w.until("it goes on", next.Node, func() bool { return w.operation(next, op.Id).Done > paused.Done })
	w.must(next, steering(op.Id, sluicev1.OperationState_OPERATION_CANCELLED))
	if got := w.operation(next, op.Id); got.Done >= got.Total {
		t.Fatal(got)
	}
}

func TestHoldOverASetIsTakenByAnyNode(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	w.populate(w.nodes["a"], 9000) // three parts, and many steps
	lead := w.leader("a", "b", "c")
	follower := w.nodes[others(lead.cfg.NodeID)[0]]
	req := holding("i", "q")
	req.DryRun = true
	_, before, _ := lead.View(w.context(), false)
	dry, err := follower.StartOperation(w.context(), req, "alice")
	if err != nil || dry.Operation.Total != 9000 || dry.Operation.Id != "" || len(dry.Instances) != 100 || dry.Instances[0] != "i00000" {
		t.Fatal(dry, err)
	}
	if _, after, _ := lead.View(w.context(), false); after.Index != before.Index {
		t.Fatalf("a dry run grew the log from %d to %d", before.Index, after.Index)
	}
	req.DryRun = false
	got, err := follower.StartOperation(w.context(), req, "alice")
	if err != nil || got.Operation.Total != 9000 || got.Operation.State != opRunning || got.Operation.Actor != "alice" || got.Operation.Duplicate || len(got.Instances) != 100 {
		t.Fatal(got, err)
	}
	again, err := lead.StartOperation(w.context(), req, "alice")
	if err != nil || again.Operation.Id != got.Operation.Id || !again.Operation.Duplicate || fmt.Sprint(again.Instances) != fmt.Sprint(got.Instances) {
		t.Fatal(again, err)
	}
	w.until("it is done", lead.Node, func() bool { return w.operation(lead, got.Operation.Id).State == opDone })
	if op := w.operation(lead, got.Operation.Id); op.Done != 9000 || op.Failed+op.PassedOver != 0 {
		t.Fatal(op)
	}
	if _, err := lead.StartOperation(w.context(), holding("", ""), "alice"); !errors.Is(err, reason.BadField) {
		t.Fatalf("an empty selector: %v", err)
	}
	w.sameDigest("a", "b", "c")
}

func TestANewLeaderKnowsWhenToGiveASetUp(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	w.populate(m, 1)
	op := w.must(m, &logv1.Command{Actor: "test", Kind: &logv1.Command_BeginOperation{BeginOperation: &logv1.BeginOperation{Request: holding("i", ""), Total: 3}}}).GetOperation()
	lead := w.leader("a", "b", "c")
	w.kill(lead.cfg.NodeID)
	next := w.leader(others(lead.cfg.NodeID)...)
	at, ok, err := next.group.view().NextDeadline()
	if err != nil || !ok || at.Before(op.StartTime.AsTime().Add(59*time.Second)) {
		t.Fatalf("nothing will give it up: %v %v %v", at, ok, err)
	}
	// The clock of the state decides, which an entry of the leader moves on.
	data, err := marshal(&logv1.Command{Actor: dutyActor, Kind: &logv1.Command_Advance{Advance: &logv1.Advance{Limit: 10}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := next.proposer.submit(w.context(), newProposal([][]byte{data}, len(data))); err != nil {
		t.Fatal(err)
	}
	if got := w.operation(next, op.Id); got.State != sluicev1.OperationState_OPERATION_SELECTING {
		t.Fatalf("given up too early: %v", got)
	}
}

func TestCompletionPassesOverWhatARecoveryHandlerIsAtWorkOn(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	s := w.open(m, "app")
	for _, key := range []string{"taken", "untaken"} {
		w.send(m, "app", key, "m")
		w.settle(m, s, w.poll(m, s, 1)[0])
	}
	w.must(m, enteringAll("app"))
	d := w.poll(m, s, 1)[0]
	op := w.must(m, completingAll("app", 0)).GetOperation()
	w.until("it is done", m.Node, func() bool { return w.operation(m, op.Id).State == opDone })
	if got := w.operation(m, op.Id); got.Done != 1 || got.PassedOver != 1 {
		t.Fatal(got)
	}
	i, err := m.group.view().Instance(fsm.InstanceID{Application: "app", Key: d.Instance})
	if err != nil || i.Mode != sluicev1.Mode_MODE_RECOVERY || i.Epoch != d.Epoch {
		t.Fatalf("the recovery that was taken: %v %v", i, err)
	}
	// Once its handler has failed, and until it is delivered again, nobody is at work on it.
	settled, err := m.Settle(w.context(), &sluicev1.SettleRequest{SessionId: s, Settlements: []*sluicev1.Settlement{{
		Application: "app", Instance: d.Instance, Epoch: d.Epoch, Lane: sluicev1.Lane_LANE_RECOVERY, Outcome: sluicev1.Outcome_OUTCOME_FAILED,
	}}})
	if err != nil || settled.Results[0].Error != nil {
		t.Fatal(settled, err)
	}
	op = w.must(m, completingAll("app", 0)).GetOperation()
	w.until("it is done", m.Node, func() bool { return w.operation(m, op.Id).State == opDone })
	if got := w.operation(m, op.Id); got.Done != 1 {
		t.Fatal(got)
	}
}

func TestANewLeaderCompletesNothingBeforeItKnowsWhoIsAtWork(t *testing.T) {
	t.Parallel()
	complete, enter := &sluicev1.Operation{Kind: fsm.KindComplete}, &sluicev1.Operation{Kind: fsm.KindEnter}
	l := &leadership{node: &Node{cfg: Config{RedeliverAfter: time.Hour}}, inherited: true}
	if now := time.Now(); l.mayStep(complete, now) || !l.mayStep(enter, now) || !l.mayStep(complete, now.Add(-2*time.Hour)) {
		t.Fatal("with sessions of a leader before")
	}
	l.inherited = false
	if !l.mayStep(complete, time.Now()) {
		t.Fatal("without any")
	}
}

func TestAllowanceGivesBackWhatWasNotUsed(t *testing.T) {
	t.Parallel()
	a := &allowance{rate: 1000, at: start}
	if n := a.take(start.Add(time.Second)); n != operationBatch || !a.left() {
		t.Fatal(n)
	}
	a.giveBack(operationBatch)
	total := 0
	for n := a.take(start.Add(time.Second)); n > 0; n = a.take(start.Add(time.Second)) {
		total += n
	}
	if total != 1000 || a.left() {
		t.Fatalf("a second's worth is %d", total)
	}
}

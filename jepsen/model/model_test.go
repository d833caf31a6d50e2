package model

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// bench is a machine with one application, of one session that owns what it is given.
type bench struct {
	*testing.T
	*Machine
}

func setup(t *testing.T, change func(*sluicev1.Application)) *bench {
	t.Helper()
	t.Parallel()
	return benchOf(t, change)
}

func benchOf(t *testing.T, change func(*sluicev1.Application)) *bench {
	t.Helper()
	none, window, attempts := uint32(0), uint32(2), uint32(2)
	d := &sluicev1.Application{
		Name: "app", Supervision: &sluicev1.Supervision{OutageInstances: &none},
		Delivery: &sluicev1.Application_Delivery{Window: &window, MaxAttempts: &attempts, BackoffInitial: durationpb.New(100e6), BackoffMax: durationpb.New(300e6)},
		Patterns: []*sluicev1.Pattern{{Name: "main", Types: []*sluicev1.MessageType{
			{Name: "work", Suitable: sluicev1.Suitability_SUITABLE_NORMAL}, {Name: "fix", Suitable: sluicev1.Suitability_SUITABLE_RECOVERY},
			{Name: "note", Suitable: sluicev1.Suitability_SUITABLE_BOTH},
		}}},
	}
	if change != nil {
		change(d)
	}
	b := &bench{t, New()}
	if err := b.declare(d); err != nil {
		t.Fatal(err)
	}
	b.sessions["s"] = &session{application: "app", capacity: 10}
	return b
}

func (b *bench) message(id, typ string) *sluicev1.Message {
	return &sluicev1.Message{Application: "app", Instance: "i", Id: id, Type: typ, Data: []byte(id)}
}

// take has the gate judge a message.
func (b *bench) take(id, typ string) (*Life, reason.Reason) {
	b.Helper()
	b.at.Index++
	l, _, refusal := b.judge(b.message(id, typ), "")
	return l, refusal
}

func (b *bench) own() *Instance {
	i := b.instances[ID{"app", "i"}]
	i.Owner = "s"
	return i
}

// settleAs settles the head of a lane under the current epoch, and tells the refusal.
func (b *bench) settleAs(i *Instance, lane sluicev1.Lane, seq uint64, outcome sluicev1.Outcome) reason.Reason {
	b.at.Index++
	if i.Epoch.Number == 0 {
		i.Epoch.Number = i.Epoch.after + 1
	}
	s := &sluicev1.Settlement{Application: "app", Instance: "i", Epoch: i.Epoch.Number, Lane: lane, Seq: seq, Outcome: outcome}
	refusal := b.maySettle(i, "s", s, "")
	if refusal == "" {
		b.carryOut(i, "s", s)
	}
	return refusal
}

// stepped steps an operation, and holds what came of it against what is to.
func (b *bench) stepped(id string, acted uint32, more bool) {
	b.Helper()
	b.mismatches = nil
	b.at.Index++
	o := &logv1.Outcome{Result: &logv1.Outcome_Progress{Progress: &logv1.Progress{Done: acted, More: more}}}
	if err := b.stepOperation(&logv1.StepOperation{Id: id, Limit: 5}, o); err != nil || len(b.mismatches) > 0 {
		b.Errorf("step: %v, %v", err, b.mismatches)
	}
}

const (
	completed = sluicev1.Outcome_OUTCOME_COMPLETED
	failed    = sluicev1.Outcome_OUTCOME_FAILED
	rejected  = sluicev1.Outcome_OUTCOME_REJECTED
	inNormal  = sluicev1.Lane_LANE_NORMAL
	inFixing  = sluicev1.Lane_LANE_RECOVERY
)

func TestGate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		suitable    sluicev1.Suitability
		mode        string
		disposition string
		refusal     reason.Reason
	}{
		{sluicev1.Suitability_SUITABLE_NORMAL, Normal, "accepted", ""},
		{sluicev1.Suitability_SUITABLE_NORMAL, Recovery, "deferred", ""},
		{sluicev1.Suitability_SUITABLE_NORMAL, Draining, "deferred", ""},
		{sluicev1.Suitability_SUITABLE_RECOVERY, Normal, "", reason.NotSuitable},
		{sluicev1.Suitability_SUITABLE_RECOVERY, Recovery, "recovery", ""},
		{sluicev1.Suitability_SUITABLE_RECOVERY, Draining, "", reason.NotSuitable},
		{sluicev1.Suitability_SUITABLE_BOTH, Normal, "accepted", ""},
		{sluicev1.Suitability_SUITABLE_BOTH, Recovery, "recovery", ""},
		{sluicev1.Suitability_SUITABLE_BOTH, Draining, "deferred", ""},
	} {
		if d, r := gate(test.suitable, test.mode); d != test.disposition || r != test.refusal {
			t.Errorf("%v in %s: %q %q", test.suitable, test.mode, d, r)
		}
	}
}

func TestARecoveryFromEntryToDrain(t *testing.T) {
	b := setup(t, nil)
	for n := range 4 {
		b.take(fmt.Sprint("m", n+1), "work")
	}
	i := b.own()
	b.turnToRecovery(i, nil, Transition{})
	if first := i.Lanes[normalLane].Messages; !first[0].doubt || !first[1].doubt || first[2].doubt || !i.inDoubt() {
		t.Error("a window of two was out: these are in doubt, and nothing else")
	}
	if l, _ := b.take("m5", "work"); l.Disposition != "deferred" || l.Seq != 5 {
		t.Errorf("m5 is %+v", l)
	}
	if l, _ := b.take("r1", "fix"); l.Lane != recoveryLane || l.Seq != 6 || l.Ahead != 0 {
		t.Errorf("r1 is %+v", l)
	}
	if r := b.settleAs(i, inNormal, 1, completed); r != reason.NotInFlight {
		t.Errorf("a normal message was settled in recovery: %q", r)
	}
	c := &sluicev1.CompleteRecoveryRequest{Application: "app", Instance: "i", ProcessedThrough: 1}
	if r := b.mayComplete(i, c, ""); r != reason.PendingRecoveryMessages {
		t.Errorf("completed with a recovery message pending: %q", r)
	}
	if r := b.settleAs(i, inFixing, 6, completed); r != "" {
		t.Errorf("the recovery message: %q", r)
	}
	b.turnBack(i, 1, nil)
	if i.Mode != Draining || i.drainTo != 5 || i.bySeq[normalLane][1].Settlement != "completed" || len(i.Lanes[normalLane].Messages) != 4 {
		t.Fatalf("after the completion: %s to %d, %d left", i.Mode, i.drainTo, len(i.Lanes[normalLane].Messages))
	}
	late, _ := b.take("m7", "work")
	for seq := uint64(2); seq <= 5; seq++ {
		if late.Disposition != "deferred" || i.Mode != Draining {
			t.Fatalf("before seq %d: %s, m7 %s", seq, i.Mode, late.Disposition)
		}
		if r := b.settleAs(i, inNormal, seq, completed); r != "" {
			t.Fatalf("seq %d: %q", seq, r)
		}
	}
	if i.Mode != Normal {
		t.Errorf("the head passed the mark, and the mode is %s", i.Mode)
	}
}

func TestSettlementsAreFencedAndInOrder(t *testing.T) {
	b := setup(t, nil)
	for n := range 3 {
		b.take(fmt.Sprint("m", n+1), "work")
	}
	i := b.own()
	for _, test := range []struct {
		seq  uint64
		want reason.Reason
	}{{2, reason.OutOfOrder}, {3, reason.NotInFlight}, {9, reason.UnknownMessage}, {1, ""}, {1, reason.AlreadySettled}} {
		if r := b.settleAs(i, inNormal, test.seq, completed); r != test.want {
			t.Errorf("seq %d: %q, want %q", test.seq, r, test.want)
		}
	}
	old := &sluicev1.Settlement{Application: "app", Instance: "i", Epoch: i.Epoch.Number, Lane: inNormal, Seq: 2, Outcome: completed}
	b.disown(i, false)
	i.Owner = "s"
	if r := b.maySettle(i, "s", old, ""); r != reason.StaleEpoch {
		t.Errorf("under an old epoch: %q", r)
	}
	if i.Owner = "another"; b.settleAs(i, inNormal, 2, completed) != reason.NotOwner {
		t.Error("one who is not the owner settled")
	}
	if r := b.maySettle(i, "gone", old, ""); r != reason.UnknownSession {
		t.Errorf("of a session that is gone: %q", r)
	}
}

func TestAttempts(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*sluicev1.Application)
		want   string
		mode   string
	}{
		"recover":     {nil, "", Recovery},
		"dead-letter": {func(d *sluicev1.Application) { d.Delivery.OnMaxAttempts = sluicev1.Policy_POLICY_DEAD_LETTER }, "dead-lettered", Normal},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, test.change)
			l, _ := b.take("m1", "work")
			i := b.own()
			if r := b.settleAs(i, inNormal, 1, failed); r != "" || i.Lanes[normalLane].wait != 100 {
				t.Fatalf("the first attempt: %q, waits until %d", r, i.Lanes[normalLane].wait)
			}
			if r := b.settleAs(i, inNormal, 1, completed); r != reason.NotInFlight {
				t.Errorf("settled while it waits: %q", r)
			}
			b.clock = 100
			if err := b.advance(nil); err != nil {
				t.Fatal(err)
			}
			if r := b.settleAs(i, inNormal, 1, failed); r != "" || l.Settlement != test.want || i.Mode != test.mode {
				t.Errorf("the last attempt: %q, %q, %s", r, l.Settlement, i.Mode)
			}
		})
	}
	t.Run("reject", func(t *testing.T) {
		b := setup(t, nil)
		l, _ := b.take("m1", "work")
		if r := b.settleAs(b.own(), inNormal, 1, rejected); r != "" || l.Settlement != "dead-lettered" {
			t.Errorf("%q, %q", r, l.Settlement)
		}
	})
}

func TestALostOwner(t *testing.T) {
	for name, test := range map[string]struct {
		change   func(*sluicev1.Application)
		idle     bool
		mode     string
		attempts int
	}{
		"with something out": {nil, false, Recovery, 0},
		"idle":               {nil, true, Normal, 0},
		"redeliver":          {func(d *sluicev1.Application) { d.Delivery.OnOwnerLost = sluicev1.Policy_POLICY_REDELIVER }, false, Normal, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, test.change)
			b.take("m1", "work")
			i := b.own()
			if test.idle {
				b.settleAs(i, inNormal, 1, completed)
			}
			before := i.Epoch
			if err := b.expireSessions(&logv1.ExpireSessions{SessionIds: []string{"s"}}); err != nil {
				t.Fatal(err)
			}
			if i.Mode != test.mode || i.Owner != "" || i.Epoch == before || i.Lanes[normalLane].attempts != test.attempts {
				t.Errorf("%s, owner %q, %d attempts, a new epoch: %v", i.Mode, i.Owner, i.Lanes[normalLane].attempts, i.Epoch != before)
			}
		})
	}
}

func TestMemoryOfIDs(t *testing.T) {
	b := setup(t, nil)
	first, _ := b.take("m1", "work")
	again, _ := b.take("m1", "work")
	if again != first {
		t.Error("the same message was accepted twice")
	}
	other := b.message("m1", "work")
	other.Data = []byte("other")
	if _, _, refusal := b.judge(other, ""); refusal != reason.IDReused {
		t.Errorf("other content: %q", refusal)
	}
	if _, refusal := b.take("r1", "fix"); refusal != reason.NotSuitable {
		t.Errorf("a recovery message in normal mode: %q", refusal)
	}
	if _, refusal := b.take("x", "nonsense"); refusal != reason.UnknownType {
		t.Errorf("an unknown type: %q", refusal)
	}
}

func TestTheWholeApplicationAndBack(t *testing.T) {
	b := setup(t, nil)
	b.take("m1", "work")
	i := b.own()
	entered := &logv1.Outcome{Result: &logv1.Outcome_Application{Application: &sluicev1.Application{RecoveryGeneration: 70}}}
	if err := b.enterApplication(&sluicev1.EnterApplicationRecoveryRequest{Application: "app"}, entered); err != nil {
		t.Fatal(err)
	}
	if i.Mode != Recovery || i.Epoch.Number != 70 {
		t.Fatalf("%s, epoch %d", i.Mode, i.Epoch.Number)
	}
	begun := &logv1.Outcome{Result: &logv1.Outcome_Operation{Operation: &sluicev1.Operation{Id: "op", State: sluicev1.OperationState_OPERATION_RUNNING}}}
	if err := b.completeApplication(&sluicev1.CompleteApplicationRecoveryRequest{Application: "app"}, begun); err != nil {
		t.Fatal(err)
	}
	b.stepped("op", 0, false)
	if i.Mode != Recovery {
		t.Fatalf("with a message in doubt it is passed over: %s", i.Mode)
	}
	i.Lanes[normalLane].Messages[0].doubt = false
	b.operations["op"] = &operation{application: "app", state: "running", entered: 1}
	b.stepped("op", 1, false)
	if i.Mode != Normal {
		t.Fatalf("with nothing in doubt it is completed: %s", i.Mode)
	}
	if len(b.mismatches) != 0 {
		t.Errorf("mismatches: %v", b.mismatches)
	}
}

func TestOutgoingMessagesAreJudgedWhereTheyArrive(t *testing.T) {
	b := setup(t, nil)
	b.take("m1", "work")
	i := b.own()
	s := &sluicev1.Settlement{Application: "app", Instance: "i", Lane: inNormal, Seq: 1, Outcome: completed, Outgoing: []*sluicev1.Message{
		{Application: "app", Instance: "j", Type: "work"}, {Application: "app", Instance: "j", Type: "fix"},
	}}
	b.carryOut(i, "s", s)
	if err := b.forward(&logv1.ForwardOutgoing{Limit: 10}); err != nil {
		t.Fatal(err)
	}
	j := b.instances[ID{"app", "j"}]
	if j == nil || len(j.Lanes[normalLane].Messages) != 1 || i.DeadOutgoing != 1 || b.Outbox() != 0 {
		t.Errorf("the target is %+v, %d dead letters, %d on their way", j, i.DeadOutgoing, b.Outbox())
	}
}

func TestWhatIsBeyondTheModelIsNeverPassedOver(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Machine) (*logv1.Command, *logv1.Outcome){
		"no command at all": func(*Machine) (*logv1.Command, *logv1.Outcome) { return &logv1.Command{}, &logv1.Outcome{} },
		"more is due than is handled": func(*Machine) (*logv1.Command, *logv1.Outcome) {
			return &logv1.Command{Kind: &logv1.Command_Advance{Advance: &logv1.Advance{}}}, &logv1.Outcome{Result: &logv1.Outcome_Progress{Progress: &logv1.Progress{More: true}}}
		},
		"the memory of ids has passed": func(m *Machine) (*logv1.Command, *logv1.Outcome) {
			m.began, m.clock, m.memory = 1, 2001, 2000
			return &logv1.Command{Kind: &logv1.Command_LeaderElected{}}, &logv1.Outcome{}
		},
		"dead letters that are no longer kept": func(m *Machine) (*logv1.Command, *logv1.Outcome) {
			m.buried(&Instance{dead: deadMost}, &Life{Ending: Ending{Settlement: "expired"}})
			return &logv1.Command{Kind: &logv1.Command_LeaderElected{}}, &logv1.Outcome{}
		},
	} {
		m := New()
		c, o := spoil(m)
		_, err := m.Apply(1, &logv1.Entry{Commands: []*logv1.Command{c}}, []*logv1.Outcome{o})
		if beyond := (*Beyond)(nil); !errors.As(err, &beyond) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPointsAreOrdered(t *testing.T) {
	t.Parallel()
	points := []Point{{2, 0}, {1, 5}, {1, 0}}
	slices.SortFunc(points, func(a, b Point) int {
		if a.Before(b) {
			return -1
		}
		return 1
	})
	if fmt.Sprint(points) != "[1.0 1.5 2.0]" {
		t.Errorf("sorted: %v", points)
	}
}

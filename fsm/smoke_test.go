package fsm

import (
	"testing"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// bench is a machine under test that is fed one command an entry.
type smoke struct {
	t     *testing.T
	m     *Machine
	index uint64
	now   int64
}

func newSmoke(t *testing.T) *smoke {
	m, err := Open(queue.NewMemoryStore(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &smoke{t: t, m: m, now: 1_000_000}
	s.do(&logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: &sluicev1.Application{Name: "app"}}})
	return s
}

func (s *smoke) do(c *logv1.Command) *logv1.Outcome {
	s.t.Helper()
	s.index++
	s.now++
	data, err := proto.Marshal(&logv1.Entry{TimeMs: s.now, Commands: []*logv1.Command{c}})
	if err != nil {
		s.t.Fatal(err)
	}
	results, _, err := s.m.Apply([]Entry{{Index: s.index, Term: 1, Data: data}})
	if err != nil {
		s.t.Fatal(err)
	}
	return results[0].Outcomes[0]
}

func (s *smoke) send(id string) *sluicev1.Receipt {
	s.t.Helper()
	out := s.do(&logv1.Command{Kind: &logv1.Command_Send{Send: &logv1.Send{Messages: []*sluicev1.Message{{Application: "app", Instance: "i", Id: id, Type: "step", Data: []byte(id)}}}}})
	if f := out.GetSend().Results[0].Error; f != nil {
		s.t.Fatalf("send %s: %v", id, f)
	}
	return out.GetSend().Results[0].Receipt
}

// TestHoldRecoverDrain walks the main road: a message is held in recovery, let go at completion, and settled in order.
func TestHoldRecoverDrain(t *testing.T) {
	s := newSmoke(t)
	if r := s.send("a"); r.Disposition != accepted || r.Seq != 1 {
		t.Fatalf("a: %v", r)
	}
	s.do(&logv1.Command{Kind: &logv1.Command_EnterRecovery{EnterRecovery: &sluicev1.EnterRecoveryRequest{Application: "app", Instance: "i", Cause: "x"}}})
	if r := s.send("b"); r.Disposition != deferred || r.Ahead != 1 {
		t.Fatalf("b: %v", r)
	}
	i := s.do(&logv1.Command{Kind: &logv1.Command_CompleteRecovery{CompleteRecovery: &sluicev1.CompleteRecoveryRequest{Application: "app", Instance: "i"}}}).GetInstance()
	if i.GetMode() != drainingMode {
		t.Fatalf("completed: %v", i)
	}
	s.do(&logv1.Command{Kind: &logv1.Command_OpenSession{OpenSession: &logv1.OpenSession{SessionId: "s", Application: "app"}}})
	s.do(&logv1.Command{Kind: &logv1.Command_Assign{Assign: &logv1.Assign{Assignments: []*logv1.Assignment{{Application: "app", Instance: "i", SessionId: "s"}}}}})
	var given Given
	for _, want := range []string{"a", "b"} {
		o, err := s.m.View().Offer(InstanceID{"app", "i"}, given, 10)
		if err != nil || len(o.Deliveries) != 1 || o.Deliveries[0].Message.Id != want {
			t.Fatalf("offer: want %s, got %+v %v", want, o, err)
		}
		given = o.Given
		d := o.Deliveries[0]
		out := s.do(&logv1.Command{Kind: &logv1.Command_Settle{Settle: &sluicev1.SettleRequest{SessionId: "s", Settlements: []*sluicev1.Settlement{
			{Application: "app", Instance: "i", Epoch: d.Epoch, Seq: d.Seq, Lane: d.Lane, Attempt: d.Attempt, Outcome: sluicev1.Outcome_OUTCOME_COMPLETED}}}}})
		if f := out.GetSettle().Results[0].Error; f != nil {
			t.Fatal(f)
		}
	}
	now, err := s.m.View().Instance(InstanceID{"app", "i"})
	if err != nil || now.Mode != normalMode || now.DeferredMessages != 0 {
		t.Fatalf("at the end: %v %v", now, err)
	}
	h, err := s.m.View().History(InstanceID{"app", "i"})
	if err != nil || len(h.Transitions) != 3 {
		t.Fatalf("history: %v %v", h, err)
	}
	if st, err := s.m.View().Message(InstanceID{"app", "i"}, "a"); err != nil || st.Settlement != completed {
		t.Fatalf("status of a: %v %v", st, err)
	}
}

// TestWhatIsOutIsOfferedAgainFromTheHead proves that a lost answer leaves no hole: with Again the unsettled go first.
func TestWhatIsOutIsOfferedAgainFromTheHead(t *testing.T) {
	s := newSmoke(t)
	window := uint32(3)
	s.do(&logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: &sluicev1.Application{Name: "app", Delivery: &sluicev1.Application_Delivery{Window: &window}}}})
	s.do(&logv1.Command{Kind: &logv1.Command_OpenSession{OpenSession: &logv1.OpenSession{SessionId: "s", Application: "app"}}})
	for _, id := range []string{"a", "b"} {
		s.send(id)
	}
	s.do(&logv1.Command{Kind: &logv1.Command_Assign{Assign: &logv1.Assign{Assignments: []*logv1.Assignment{{Application: "app", Instance: "i", SessionId: "s"}}}}})
	offer := func(g Given, want ...string) Given {
		t.Helper()
		o, err := s.m.View().Offer(InstanceID{"app", "i"}, g, 10)
		if err != nil || len(o.Deliveries) != len(want) {
			t.Fatalf("want %v, got %v %v", want, o, err)
		}
		for n, d := range o.Deliveries {
			if d.Message.Id != want[n] {
				t.Fatalf("delivery %d: want %s, got %s", n, want[n], d.Message.Id)
			}
		}
		return o.Given
	}
	g := offer(Given{}, "a", "b")
	s.send("c")
	offer(g, "c")
	offer(g.Again(), "a", "b", "c")
}

package fsm_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
)

// TestSettleErrors goes through the reasons in their order: each case keeps the troubles that come after its own.
func TestSettleErrors(t *testing.T) {
	t.Parallel()
	r := setup(t, window(2))
	r.send("gone", "a")
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "gone"}))
	r.send("i", "a", "b", "c", "d")
	r.open("other", 1)
	r.own("i", "s")
	r.work("s", "i", "a")
	e := r.instance("i").Epoch
	s := func(seq, epoch uint64) *sluicev1.Settlement {
		return &sluicev1.Settlement{Application: "app", Instance: "i", Epoch: epoch, Seq: seq, Lane: laneNormal, Outcome: outCompleted}
	}
	at := func(key string, s *sluicev1.Settlement) *sluicev1.Settlement { s.Instance = key; return s }
	with := func(s *sluicev1.Settlement, change func(*sluicev1.Settlement)) *sluicev1.Settlement {
		change(s)
		return s
	}
	for n, c := range []struct {
		want, session string
		s             *sluicev1.Settlement
	}{
		{"UNKNOWN_APPLICATION", "nobody", &sluicev1.Settlement{Application: "none"}},
		{"BAD_FIELD", "nobody", &sluicev1.Settlement{Application: "app", Instance: "i", Seq: 1, Lane: laneNormal}},
		{"BAD_FIELD", "nobody", at("none", with(s(1, 1), func(s *sluicev1.Settlement) { s.Lane = laneOutgoing }))},
		{"BAD_NAME", "nobody", at("", s(1, 1))},
		{"duplicate", "nobody", s(1, e)},
		{"UNKNOWN_SESSION", "nobody", at("none", s(9, 1))},
		{"UNKNOWN_INSTANCE", "other", at("none", s(9, 1))},
		{"TERMINATED", "other", at("gone", s(9, 1))},
		{"UNKNOWN_MESSAGE", "other", s(9, 1)},
		{"UNKNOWN_MESSAGE", "s", with(s(2, e), func(s *sluicev1.Settlement) { s.Lane = laneRecovery })},
		{"UNKNOWN_MESSAGE", "s", with(s(1, e), func(s *sluicev1.Settlement) { s.Lane = laneRecovery })},
		{"STALE_EPOCH", "other", s(4, e-1)},
		{"STALE_EPOCH", "other", s(1, e+1)},
		{"NOT_OWNER", "other", s(4, e)},
		{"NOT_OWNER", "other", with(s(1, e), func(s *sluicev1.Settlement) { s.Outcome = outRejected })},
		{"ALREADY_SETTLED", "s", with(s(1, e), func(s *sluicev1.Settlement) { s.Outcome = outRejected })},
		{"ALREADY_SETTLED", "s", with(s(1, e), func(s *sluicev1.Settlement) { s.Reply = []byte("other") })},
		{"ALREADY_SETTLED", "s", with(s(1, e), func(s *sluicev1.Settlement) { s.Attempt = 2 })},
		{"NOT_IN_FLIGHT", "s", s(4, e)},
		{"OUT_OF_ORDER", "s", s(3, e)},
		{"NOT_IN_FLIGHT", "s", with(s(2, e), func(s *sluicev1.Settlement) { s.Attempt = 2 })},
		{"NOT_IN_FLIGHT", "s", with(s(0, e), func(s *sluicev1.Settlement) { s.Lane, s.Outcome = laneRecovery, outFailed })},
		{"", "s", with(s(2, e), func(s *sluicev1.Settlement) { s.Attempt = 1 })},
	} {
		if got := r.settle(c.session, c.s); got != c.want {
			t.Errorf("case %d: want %q, got %q", n, c.want, got)
		}
	}
}

func TestSettlementShapes(t *testing.T) {
	t.Parallel()
	r := setup(t, limits(&sluicev1.Limits{MaxStateBytes: number(4), MaxMessageBytes: number(4), MaxOutgoing: number(1)}))
	r.send("i", "a")
	r.own("i", "s")
	reply := func(s *sluicev1.Settlement, b string) { s.Reply = []byte(b) }
	for name, c := range map[string]struct {
		good   bool
		change func(*sluicev1.Settlement)
	}{
		"state without set_state": {false, func(s *sluicev1.Settlement) { s.State = []byte("x") }},
		"state too large":         {false, func(s *sluicev1.Settlement) { s.SetState, s.State = true, []byte("12345") }},
		"state that fits":         {true, func(s *sluicev1.Settlement) { s.SetState, s.State = true, []byte("1234") }},
		"reply too large":         {false, func(s *sluicev1.Settlement) { reply(s, "12345") }},
		"reply that fits":         {true, func(s *sluicev1.Settlement) { reply(s, "1234") }},
		"reply with FAILED":       {false, func(s *sluicev1.Settlement) { s.Outcome = outFailed; reply(s, "") }},
		"state with REJECTED":     {false, func(s *sluicev1.Settlement) { s.Outcome, s.SetState = outRejected, true }},
		"outgoing with FAILED": {false, func(s *sluicev1.Settlement) {
			s.Outcome, s.Outgoing = outFailed, []*sluicev1.Message{message("j", "", "x")}
		}},
		"too many outgoing": {false, func(s *sluicev1.Settlement) {
			s.Outgoing = []*sluicev1.Message{message("j", "", "x"), message("j", "", "x")}
		}},
		"a bad outgoing": {false, func(s *sluicev1.Settlement) { s.Outgoing = []*sluicev1.Message{message("j", "", "")} }},
		"a badly named outgoing": {false, func(s *sluicev1.Settlement) {
			s.Outgoing = []*sluicev1.Message{{Application: "A", Instance: "j", Type: "x"}}
		}},
		"an outgoing":             {true, func(s *sluicev1.Settlement) { s.Outgoing = []*sluicev1.Message{message("j", "", "x")} }},
		"long error":              {false, func(s *sluicev1.Settlement) { s.Outcome, s.ErrorText = outFailed, string(make([]byte, 4097)) }},
		"negative retry":          {false, func(s *sluicev1.Settlement) { s.Outcome, s.RetryAfter = outFailed, durationpb.New(-1) }},
		"long retry":              {false, func(s *sluicev1.Settlement) { s.Outcome, s.RetryAfter = outFailed, durationpb.New(24*time.Hour+1) }},
		"recovery completed":      {false, func(s *sluicev1.Settlement) { s.Seq, s.Lane = 0, laneRecovery }},
		"recovery in normal lane": {false, func(s *sluicev1.Settlement) { s.Seq, s.Outcome = 0, outFailed }},
	} {
		s := taking(r.head("i"), outCompleted)
		s.Epoch++ // so that nothing is carried out: what is well formed is stale
		c.change(s)
		want := "BAD_FIELD"
		if c.good {
			want = "STALE_EPOCH"
		}
		if got := r.settle("s", s); got != want {
			t.Errorf("%s: want %s, got %s", name, want, got)
		}
	}
}

func TestABatchOfSettlementsIsTakenInOrder(t *testing.T) {
	t.Parallel()
	r := setup(t, window(3))
	r.send("i", "a", "b", "c")
	r.own("i", "s")
	var ss []*sluicev1.Settlement
	for _, d := range r.offer("i").Deliveries {
		ss = append(ss, taking(d, outCompleted))
	}
	out := r.ok(settleCommand("s", ss[0], ss[2], ss[1], ss[0])).GetSettle().Results
	for n, want := range []string{"", "OUT_OF_ORDER", "", "duplicate"} {
		if got := verdict(out[n]); got != want {
			t.Errorf("%d: want %q, got %q", n, want, got)
		}
	}
	r.wantOuts("i", "c")
}

func TestRepeatsOfSettlements(t *testing.T) {
	t.Parallel()
	for _, o := range []sluicev1.Outcome{outCompleted, outRejected, outFailed} {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.send("i", "a", "b")
			r.own("i", "s")
			s := taking(r.head("i"), o)
			if v := r.settle("s", s); v != "" {
				t.Fatal(v)
			}
			again := func(when string) {
				t.Helper()
				for _, attempt := range []uint32{1, 0} {
					s := proto.CloneOf(s)
					s.Attempt = attempt
					before := r.instance("i")
					if v := r.settle("s", s); v != "duplicate" || !proto.Equal(before, r.instance("i")) {
						t.Fatalf("%s, attempt %d: %s", when, attempt, v)
					}
				}
			}
			again("at once")
			r.enter("i")
			again("in another epoch")
			r.expire("s")
			again("when the session is gone")
			r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
			if o != outFailed {
				again("when the instance is terminated")
			}
		})
	}
}

func TestStateAndReply(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a", "b", "c", "d")
	r.own("i", "s")
	if d := r.head("i"); d.HasState {
		t.Fatal(d)
	}
	s := taking(r.head("i"), outCompleted)
	s.SetState, s.State, s.Reply, s.ReplyContentType = true, []byte("one"), []byte("pong"), "text/plain"
	r.settle("s", s)
	if st := r.wantSettled("i", "a", kindCompleted); string(st.Reply) != "pong" || st.ReplyContentType != "text/plain" {
		t.Fatal(st)
	}
	if d := r.head("i"); !d.HasState || string(d.State) != "one" || r.instance("i").StateBytes != 3 {
		t.Fatal(d)
	}
	r.work("s", "i", "b") // leaves the state alone
	if st := r.status("i", "b"); st.Reply != nil {
		t.Fatal(st)
	}
	// A repeat does not set it again.
	other := taking(r.head("i"), outCompleted)
	other.SetState, other.State, other.Reply = true, []byte("two"), []byte{}
	r.settle("s", other)
	if v := r.settle("s", s); v != "duplicate" {
		t.Fatal(v)
	}
	if st := r.status("i", "c"); st.Reply == nil || len(st.Reply) != 0 {
		t.Fatalf("an empty reply is one: %v", st)
	}
	r.expire("s")
	r.own("i", "s2")
	if d := r.announcement("i"); string(d.State) != "two" {
		t.Fatal(d)
	}
	r.refused("BAD_FIELD", completeRequest(&sluicev1.CompleteRecoveryRequest{Instance: "i", SetState: true, State: make([]byte, 1<<20+1)}))
	r.complete2("i", &sluicev1.CompleteRecoveryRequest{SetState: true, State: []byte("three")})
	if d := r.head("i"); string(d.State) != "three" {
		t.Fatal(d)
	}
	s = taking(r.head("i"), outCompleted)
	s.SetState = true
	r.settle("s2", s)
	r.send("i", "e")
	if d := r.head("i"); d.HasState || r.instance("i").StateBytes != 0 {
		t.Fatal(d)
	}
}

func TestWhatIsRefusedHasNoEffect(t *testing.T) {
	t.Parallel()
	r := setup(t, window(2))
	r.send("i", "a", "b")
	r.own("i", "s")
	s := taking(r.offer("i").Deliveries[1], outCompleted)
	s.SetState, s.State, s.Reply, s.Outgoing = true, []byte("x"), []byte("y"), []*sluicev1.Message{message("j", "out", "x")}
	if v := r.settle("s", s); v != "OUT_OF_ORDER" {
		t.Fatal(v)
	}
	if r.instance("i").StateBytes != 0 || r.status("i", "b").Reply != nil {
		t.Fatal("state or reply")
	}
	if out, err := r.m.View().HasOutgoing(); out || err != nil {
		t.Fatal(out, err)
	}
}

func TestOutgoing(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a", "b")
	r.own("i", "s")
	s := taking(r.head("i"), outCompleted)
	s.Outgoing = []*sluicev1.Message{message("j", "", "step"), message("j", "named", "step"), message("k", "", "recovery.x"), {Application: "nowhere", Instance: "k", Type: "x"}, message("i", "self", "step")}
	r.settle("s", s)
	if out, err := r.m.View().HasOutgoing(); !out || err != nil || !r.fx.Outgoing {
		t.Fatal(out, err)
	}
	for n, more := range []bool{true, true, false} {
		if p := r.ok(forwardCommand(2)).GetProgress(); p.More != more {
			t.Fatal(n, p)
		}
	}
	got := r.messages(&sluicev1.ListMessagesRequest{Instance: "j"})
	if len(got) != 2 || len(got[0].Message.Id) != 32 || got[1].Message.Id != "named" || got[0].Message.Source != "app/i" {
		t.Fatal(got)
	}
	r.wantStatus("i", "self", queued)
	// What is refused at its target is a dead letter of the sender; the settlement stands.
	r.wantSettled("i", "a", kindCompleted)
	dead := r.messages(&sluicev1.ListMessagesRequest{Instance: "i", Lane: laneOutgoing})
	if len(dead) != 2 || dead[0].Seq != 1 || dead[0].DeadLetter.Reason != "REFUSED_AT_TARGET: NOT_SUITABLE" || dead[1].DeadLetter.Reason != "REFUSED_AT_TARGET: UNKNOWN_APPLICATION" || dead[0].Lane != laneOutgoing {
		t.Fatal(dead)
	}
	if all := r.deadLetters("i"); len(all) != 2 {
		t.Fatal(all)
	}
	// A derived id is the same for the same place, and another for another message.
	again := r.messages(&sluicev1.ListMessagesRequest{Instance: "j"})[0].Message.Id
	s = taking(r.head("i"), outCompleted)
	s.Outgoing = []*sluicev1.Message{message("j", "", "step"), message("j", "named", "step")}
	r.settle("s", s)
	r.ok(forwardCommand(10))
	got = r.messages(&sluicev1.ListMessagesRequest{Instance: "j"})
	if len(got) != 3 || got[2].Message.Id == again {
		t.Fatal(got)
	}
}

func TestOutgoingOfASenderThatIsGone(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(time.Minute))
	r.send("i", "a")
	r.own("i", "s")
	s := taking(r.head("i"), outCompleted)
	s.Outgoing = []*sluicev1.Message{{Application: "nowhere", Instance: "k", Type: "x"}, {Application: "app", Instance: "k", Type: "x"}}
	r.settle("s", s)
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	r.advance(2 * time.Minute)
	r.send("i", "anew")
	r.ok(forwardCommand(10))
	if dead := r.deadLetters("i"); len(dead) != 0 {
		t.Fatal(dead)
	}
	if n := r.instance("k").NormalMessages; n != 1 {
		t.Fatal(n)
	}
}

func TestSkippedInFlight(t *testing.T) {
	t.Parallel()
	r := setup(t, window(2))
	r.send("i", "a", "b", "c")
	r.own("i", "s")
	d := r.head("i")
	if st := r.skip("i", 1); st.Settlement != kindSkipped || st.Status != settled {
		t.Fatal(st)
	}
	if v := r.settle("s", taking(d, outCompleted)); v != "ALREADY_SETTLED" {
		t.Fatal(v)
	}
	r.wantOuts("i", "b c")
	r.wantSettled("i", "a", kindSkipped)
	// A head that waits for its backoff no longer holds up what is behind it once it is gone.
	r.fail("s", "i", 1)
	r.wantOuts("i", "")
	r.skip("i", 2)
	r.wantOuts("i", "c")
	if d := r.head("i"); d.Attempt != 1 {
		t.Fatal(d)
	}
}

package cluster

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
)

func TestRepeatedPollsGiveTheSameThatIsStillOut(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	cmd := declare("app")
	window := uint32(4)
	cmd.GetApplyApplication().Delivery = &sluicev1.Application_Delivery{Window: &window}
	w.must(m, cmd)
	w.send(m, "app", "i", names("m", 6)...)
	s := w.open(m, "app")
	poll := func(request string, afresh bool) (ids []string) {
		t.Helper()
		resp, err := m.Poll(w.context(), &sluicev1.PollRequest{SessionId: s, Max: 64, Wait: durationpb.New(patience), RequestId: request}, afresh)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range resp.Deliveries {
			ids = append(ids, d.Message.Id)
		}
		return ids
	}
	expect := func(got []string, want string) {
		t.Helper()
		if strings.Join(got, " ") != want {
			t.Fatalf("want %s, got %v", want, got)
		}
	}
	expect(poll("p", false), "m0 m1 m2 m3")
	expect(poll("p", false), "m0 m1 m2 m3")
	w.settle(m, s, &sluicev1.Delivery{Application: "app", Instance: "i", Epoch: m.epoch(t, "i"), Seq: 1, Lane: sluicev1.Lane_LANE_NORMAL, Attempt: 1})
	expect(poll("p", false), "m1 m2 m3")
	// What is out goes along ahead of what is new: the answer that brought it may have been lost.
	expect(poll("q", false), "m1 m2 m3 m4")
	expect(poll("q", false), "m1 m2 m3 m4")
	expect(poll("", true), "m1 m2 m3 m4")
}

// TestARecoveryThatMayNotHaveArrivedComesWithItsState: its announcement alone was handed out, and perhaps lost. The first
// message after it must not come without it, or the worker would take the instance for one without a state.
func TestARecoveryThatMayNotHaveArrivedComesWithItsState(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	app := declare("app")
	app.GetApplyApplication().Patterns = []*sluicev1.Pattern{{Name: "main", Types: []*sluicev1.MessageType{{Name: "step", Suitable: sluicev1.Suitability_SUITABLE_BOTH}}}}
	w.must(m, app)
	w.send(m, "app", "i", "first")
	s := w.open(m, "app")
	first := w.poll(m, s, 1)[0]
	settled, err := m.Settle(w.context(), &sluicev1.SettleRequest{SessionId: s, Settlements: []*sluicev1.Settlement{{
		Application: "app", Instance: "i", Epoch: first.Epoch, Seq: 1, Lane: first.Lane, Attempt: 1, Outcome: sluicev1.Outcome_OUTCOME_COMPLETED, SetState: true, State: []byte("state"),
	}}})
	if err != nil || settled.Results[0].Error != nil {
		t.Fatal(settled, err)
	}
	w.must(m, entering("app", "i"))
	w.poll(m, s, 8)
	w.send(m, "app", "i", "second")
	ds := w.poll(m, s, 8)
	if len(ds) != 2 || ds[0].Kind != sluicev1.DeliveryKind_DELIVERY_RECOVERY || string(ds[0].State) != "state" || ds[1].Seq != 2 {
		t.Fatalf("want the recovery with its state, and the message, got %v", ds)
	}
}

// TestPollsOfLargeMessagesAreBounded: what earlier answers brought goes along with what is new only as far as an answer
// may hold; what does not fit waits until something is settled, and nothing comes without what stands before it.
func TestPollsOfLargeMessagesAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	app := declare("app")
	app.GetApplyApplication().Delivery = &sluicev1.Application_Delivery{Window: proto.Uint32(64)}
	w.must(m, app)
	s := w.open(m, "app")
	for _, id := range names("m", 12) {
		cmd := sending("app", "i", id)
		cmd.GetSend().Messages[0].Data = make([]byte, 1<<20)
		w.must(m, cmd)
	}
	first := w.poll(m, s, 64)[0]
	reach := uint64(0)
	for range 6 {
		resp, err := m.Poll(w.context(), &sluicev1.PollRequest{SessionId: s, Max: 64}, false)
		if err != nil || proto.Size(resp) > 6<<20 {
			t.Fatalf("an answer of %d bytes, %v", proto.Size(resp), err)
		}
		for n, d := range resp.Deliveries {
			if d.Seq != uint64(n+1) {
				t.Fatalf("delivery %d is seq %d: something before it is left out", n, d.Seq)
			}
			reach = max(reach, d.Seq)
		}
	}
	w.settle(m, s, first)
	if ds := w.poll(m, s, 64); ds[0].Seq != 2 || ds[len(ds)-1].Seq != reach+1 {
		t.Fatalf("once the first is settled: want 2 to %d, got %d to %d", reach+1, ds[0].Seq, ds[len(ds)-1].Seq)
	}
}

// TestAStreamBringsAgainWhatAnotherBrought: a stream that was cut off, and of which its node has not noticed it yet, takes
// a message along. The stream that came after it must not bring the next message without that one.
func TestAStreamBringsAgainWhatAnotherBrought(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	app := declare("app")
	app.GetApplyApplication().Delivery = &sluicev1.Application_Delivery{Window: proto.Uint32(8)}
	w.must(m, app)
	s := w.open(m, "app")
	expect := func(stream string, afresh bool, want ...string) {
		t.Helper()
		resp, err := m.PollStream(w.context(), &sluicev1.PollRequest{SessionId: s, Max: 64, Wait: durationpb.New(patience)}, stream, afresh)
		var got []string
		for _, d := range resp.GetDeliveries() {
			got = append(got, d.Message.Id)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("stream %s: want %v, got %v %v", stream, want, got, err)
		}
	}
	w.send(m, "app", "i", "m1")
	expect("old", true, "m1")
	expect("new", true, "m1")
	w.send(m, "app", "i", "m2")
	expect("new", false, "m2")
	w.send(m, "app", "i", "m3")
	expect("old", false, "m1", "m2", "m3")
	w.send(m, "app", "i", "m4")
	expect("new", false, "m1", "m2", "m3", "m4")
	w.send(m, "app", "i", "m5")
	expect("new", false, "m5")
}

// TestAStreamBringsAgainWhatWasLostOnTheWayFromTheLeader: the node that holds the stream asks the leader once more, and
// what the lost answer held must not be left out of the stream.
func TestAStreamBringsAgainWhatWasLostOnTheWayFromTheLeader(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	app := declare("app")
	app.GetApplyApplication().Delivery = &sluicev1.Application_Delivery{Window: proto.Uint32(8)}
	w.must(w.nodes["a"], app)
	lead := w.leader("a", "b", "c")
	m := w.nodes[others(lead.cfg.NodeID)[0]]
	s := w.open(m, "app")
	w.send(m, "app", "i", "m1")
	poll := func(afresh bool) (got []uint64) {
		t.Helper()
		resp, err := m.PollStream(w.context(), &sluicev1.PollRequest{SessionId: s, Max: 64, Wait: durationpb.New(patience)}, "stream", afresh)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range resp.Deliveries {
			got = append(got, d.Seq)
		}
		return got
	}
	poll(true)
	w.send(m, "app", "i", "m2")
	lost := false
	w.fabric.lose(func(method string, answer []byte) bool {
		if method != methodPoll || lost || len(answer) == 0 {
			return false
		}
		lost = true
		return true
	})
	if got := poll(false); !lost || !slices.Contains(got, 2) {
		t.Fatalf("an answer with seq 2 was lost (%v), and the next brings %v", lost, got)
	}
}

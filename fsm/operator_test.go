package fsm_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

const (
	skip       = sluicev1.ResolveAction_ACTION_SKIP
	deadLetter = sluicev1.ResolveAction_ACTION_DEAD_LETTER
	replace    = sluicev1.ResolveAction_ACTION_REPLACE
)

func TestResolve(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a", "b", "c", "d")
	resolve := func(q *sluicev1.ResolveMessageRequest) *sluicev1.MessageStatus {
		t.Helper()
		q.Instance = "i"
		return r.ok(resolveRequest(q)).GetMessageStatus()
	}
	// From the middle of the lane; the rest keeps its order.
	st := resolve(&sluicev1.ResolveMessageRequest{Seq: 2, Lane: laneNormal, Action: deadLetter, Reason: "bad"})
	if st.Settlement != kindDead || st.DeadLetter.Reason != "OPERATOR: bad" {
		t.Fatal(st)
	}
	resolve(&sluicev1.ResolveMessageRequest{Seq: 3, Lane: laneNormal, Action: skip})
	r.own("i", "s")
	r.work("s", "i", "a", "d")
	if dead := r.deadLetters("i"); len(dead) != 1 || dead[0].Message.Id != "b" || string(dead[0].Message.Data) != "b" {
		t.Fatal(dead)
	}
	r.wantSettled("i", "c", kindSkipped)
	// The other lane.
	r.enter("i")
	r.sendRecovery("i", "r1")
	r.sendRecovery("i", "r2")
	resolve(&sluicev1.ResolveMessageRequest{Seq: 5, Lane: laneRecovery, Action: skip})
	r.wantOuts("i", "! r2")
}

func TestResolveErrors(t *testing.T) {
	t.Parallel()
	r := setup(t, limits(&sluicev1.Limits{MaxMessageBytes: number(3)}))
	r.send("i", "a", "b")
	r.skip("i", 2)
	q := func(seq uint64, l sluicev1.Lane, a sluicev1.ResolveAction) *sluicev1.ResolveMessageRequest {
		return &sluicev1.ResolveMessageRequest{Instance: "i", Seq: seq, Lane: l, Action: a}
	}
	r.refused("UNKNOWN_INSTANCE", resolveRequest(&sluicev1.ResolveMessageRequest{Instance: "none"}))
	r.refused("BAD_FIELD", resolveRequest(q(1, laneNormal, 0)))
	r.refused("BAD_FIELD", resolveRequest(q(1, laneOutgoing, skip)))
	r.refused("UNKNOWN_MESSAGE", resolveRequest(q(1, laneRecovery, skip)))
	r.refused("UNKNOWN_MESSAGE", resolveRequest(q(3, laneNormal, skip)))
	r.refused("ALREADY_SETTLED", resolveRequest(q(2, laneNormal, replace)))
	big := q(1, laneNormal, replace)
	big.Data = []byte("1234")
	r.refused("LIMIT_MESSAGE_BYTES", resolveRequest(big))
	r.own("i", "s")
	r.refused("IN_FLIGHT", resolveRequest(q(1, laneNormal, replace)))
	r.ok(resolveRequest(q(1, laneNormal, skip)))
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	r.refused("TERMINATED", resolveRequest(q(1, laneNormal, skip)))
}

func TestReplace(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	r.send("i", "a", "b")
	before := r.instance("i")
	q := &sluicev1.ResolveMessageRequest{Instance: "i", Seq: 1, Lane: laneNormal, Action: replace, Data: []byte("longer"), RequestId: "q"}
	for range 2 {
		if st := r.ok(resolveRequest(q)).GetMessageStatus(); st.Seq != 1 || st.MessageId != "a" || st.Status != held {
			t.Fatal(st)
		}
	}
	if i := r.instance("i"); i.DeferredBytes != before.DeferredBytes+5 || r.application("app").Counts.DeferredBytes != i.DeferredBytes {
		t.Fatal(i)
	}
	// The id still stands for the content as first sent.
	if again := r.put(message("i", "a", "step")); !again.Duplicate || again.Seq != 1 {
		t.Fatal(again)
	}
	r.noSend("ID_REUSED", func() *sluicev1.Message { m := message("i", "a", "step"); m.Data = []byte("longer"); return m }())
	r.ok(resolveRequest(&sluicev1.ResolveMessageRequest{Instance: "i", Seq: 1, Lane: laneNormal, Action: replace, Data: []byte("x")}))
	r.complete("i", 0)
	r.own("i", "s")
	if d := r.head("i"); string(d.Message.Data) != "x" || d.Message.Id != "a" {
		t.Fatal(d)
	}
	r.work("s", "i", "a", "b")
	if i := r.instance("i"); i.DeferredBytes != 0 {
		t.Fatal(i)
	}
	// One that waits for its backoff is not in flight.
	r.send("i", "c")
	r.fail("s", "i", 1)
	r.ok(resolveRequest(&sluicev1.ResolveMessageRequest{Instance: "i", Seq: 3, Lane: laneNormal, Action: replace, Data: []byte("fixed")}))
	r.advance(time.Minute)
	if d := r.head("i"); string(d.Message.Data) != "fixed" || d.Attempt != 2 {
		t.Fatal(d)
	}
}

func TestResolveRepeats(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	q := &sluicev1.ResolveMessageRequest{Instance: "i", Seq: 1, Lane: laneNormal, Action: skip, RequestId: "q"}
	one := r.ok(resolveRequest(q)).GetMessageStatus()
	two := r.ok(resolveRequest(q)).GetMessageStatus()
	if one.Duplicate || !two.Duplicate || two.Settlement != kindSkipped {
		t.Fatal(one, two)
	}
	r.refused("ALREADY_SETTLED", resolveRequest(&sluicev1.ResolveMessageRequest{Instance: "i", Seq: 1, Lane: laneNormal, Action: skip}))
}

func TestTerminate(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(time.Minute))
	r.refused("UNKNOWN_INSTANCE", terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	r.send("i", "done", "a")
	r.own("i", "s")
	s := taking(r.head("i"), outCompleted)
	s.SetState, s.State = true, []byte("state")
	r.settle("s", s)
	r.enter("i")
	r.send("i", "h")
	r.sendRecovery("i", "r")
	r.put(&sluicev1.Message{Application: "app", Instance: "i", Id: "t", Transaction: "t", Type: "x"})
	e := r.instance("i").Epoch
	q := &sluicev1.TerminateRequest{Instance: "i", Reason: "enough", RequestId: "q"}
	i := r.ok(terminateRequest(q)).GetInstance()
	if !i.Terminated || i.Owner != "" || i.NormalMessages != 0 || i.RecoveryMessages != 0 || i.DeferredMessages != 0 {
		t.Fatal(i)
	}
	grew(t, "terminate", e, i.Epoch)
	r.wantCounts(0, 0, 0)
	for _, id := range []string{"a", "h", "r", "t"} {
		if st := r.wantSettled("i", id, kindDead); st.DeadLetter.Reason != "INSTANCE_TERMINATED: enough" {
			t.Fatal(st)
		}
	}
	r.wantSettled("i", "done", kindCompleted)
	if n := len(r.deadLetters("i")); n != 4 {
		t.Fatal(n)
	}
	if ids, err := r.m.View().Owned("s"); err != nil || len(ids) != 0 {
		t.Fatal(ids, err)
	}
	if again := r.ok(terminateRequest(q)).GetInstance(); !again.Duplicate {
		t.Fatal(again)
	}
	r.refused("TERMINATED", terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	r.noSend("TERMINATED", message("i", "x", "step"))
	r.enterAll("fire")
	r.wantCounts(0, 0, 0)
	// The name is free again after the window, for an instance of its own.
	r.advance(time.Minute - time.Millisecond)
	r.noSend("TERMINATED", message("i", "x", "step"))
	if !r.put(message("i", "a", "step")).Duplicate {
		t.Fatal("forgotten too early")
	}
	r.advance(time.Millisecond)
	_, err := r.m.View().Instance(fsm.InstanceID{Application: "app", Key: "i"})
	wantReason(t, err, "UNKNOWN_INSTANCE")
	got := r.send("i", "a")
	if want := (&sluicev1.Receipt{MessageId: "a", Seq: 1, Disposition: dispAccepted, Mode: normal, Epoch: got.Epoch, Index: r.index}); !proto.Equal(got, want) || got.Epoch <= i.Epoch {
		t.Fatal(got)
	}
	if len(r.deadLetters("i")) != 0 || r.instance("i").StateBytes != 0 || len(r.history("i")) != 0 {
		t.Fatal("something is left")
	}
	if txs, err := r.m.View().Transactions(&sluicev1.ListTransactionsRequest{Application: "app", Instance: "i"}); err != nil || len(txs.Transactions) != 0 {
		t.Fatal(txs, err)
	}
	r.advance(time.Hour) // what else was to come due finds another instance
	r.wantStatus("i", "a", queued)
}

func TestTerminateWithALongerWindowSince(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(time.Minute))
	r.send("i", "a")
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	r.declare("app", dedup(time.Hour))
	r.advance(time.Hour - time.Millisecond)
	r.noSend("TERMINATED", message("i", "x", "step"))
	r.advance(time.Millisecond)
	r.send("i", "x")
}

// TestADeadLetterOverTheLimitIsKept: the oldest goes, in whichever lane it is, and never the one that has just come.
func TestADeadLetterOverTheLimitIsKept(t *testing.T) {
	t.Parallel()
	const most = 10_000
	r := setup(t, limits(&sluicev1.Limits{MaxOutgoing: proto.Uint64(0)}))
	r.send("i", "a", "b", "c")
	r.own("i", "s")
	s := taking(r.head("i"), outCompleted)
	for range most {
		s.Outgoing = append(s.Outgoing, &sluicev1.Message{Application: "none", Instance: "x", Type: "step"})
	}
	if v := r.settle("s", s); v != "" {
		t.Fatal(v)
	}
	r.tick(time.Second)
	r.ok(forwardCommand(most))
	r.tick(time.Second)
	r.finish("s", r.head("i"), outRejected)
	r.finish("s", r.head("i"), outRejected)
	dead := r.messages(&sluicev1.ListMessagesRequest{Instance: "i", Settlement: kindDead, Lane: laneNormal})
	if len(dead) != 2 || dead[0].Message.Id != "b" || dead[1].Message.Id != "c" {
		t.Fatalf("want b and c kept, for all others are older, got %v", dead)
	}
}

func TestTerminateInAnyMode(t *testing.T) {
	t.Parallel()
	for _, m := range []sluicev1.Mode{normal, recovery, draining} {
		for _, owner := range []bool{false, true} {
			r := setup(t)
			r.put(message("i", "zero", "plain"))
			r.toMode("i", m)
			if owner {
				r.own("i", "s")
			}
			r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
			r.wantCounts(0, 0, 0)
			r.wantSettled("i", "zero", kindDead)
			r.advance(48 * time.Hour)
			if n := len(r.contents('i', 'n', 'u', 'q', 'h', 'w', 'o', 'd', 'b')); n != 0 {
				t.Fatalf("%v, owned %v: %d keys are left", m, owner, n)
			}
		}
	}
}

// contents lists the keys of some tables.
func (r *rig) contents(tables ...byte) (keys []string) {
	r.t.Helper()
	all, err := contents(r.store)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, rec := range all {
		for _, table := range tables {
			if rec.key[0] == table {
				keys = append(keys, string(rec.key))
			}
		}
	}
	return keys
}

// TestReplaceKeepsTheLimits: longer data in a message's place is held as any other.
func TestReplaceKeepsTheLimits(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]*sluicev1.Limits{
		"LIMIT_INBOX_BYTES": {MaxInboxBytes: number(5)}, "LIMIT_DEFERRED_BYTES": {MaxDeferredBytes: number(5)},
		"LIMIT_APPLICATION_BYTES": {MaxApplicationDeferredBytes: number(5)},
	} {
		r := setup(t, limits(l))
		r.enter("i")
		r.send("i", "abc", "d")
		with := func(data string) *sluicev1.ResolveMessageRequest {
			return &sluicev1.ResolveMessageRequest{Instance: "i", Seq: 1, Lane: laneNormal, Action: replace, Data: []byte(data)}
		}
		r.refused(want, resolveRequest(with("12345")))
		r.ok(resolveRequest(with("1234")))
		r.ok(resolveRequest(with("1")))
	}
}

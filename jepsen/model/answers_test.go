package model

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// exchange is a command after a history, its right answer, and wrong ones with the invariant that each speaks against.
type exchange struct {
	name    string
	change  func(*sluicev1.Application)
	history func(*bench)
	command *logv1.Command
	right   *logv1.Outcome
	wrong   map[string]func(*logv1.Outcome)
}

// order is a pattern whose types have an order, beside the one of every bench.
func order(d *sluicev1.Application) {
	d.Patterns = append(d.Patterns, &sluicev1.Pattern{Name: "order", Types: []*sluicev1.MessageType{
		{Name: "open", After: []string{""}, Opens: true}, {Name: "item", After: []string{"open", "item"}}, {Name: "close", After: []string{"item"}, Closes: true},
		{Name: "note", Suitable: sluicev1.Suitability_SUITABLE_BOTH},
	}})
}

func few(d *sluicev1.Application) {
	one, bytes := uint64(1), uint64(4)
	d.Limits = &sluicev1.Limits{MaxDeferredMessages: &one, MaxInboxBytes: &bytes}
}

// in is a message of a transaction.
func in(transaction, id, typ string) *sluicev1.Message {
	return &sluicev1.Message{Application: "app", Instance: "i", Transaction: transaction, Id: id, Type: typ}
}

func sendOf(m *sluicev1.Message) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_Send{Send: &logv1.Send{Messages: []*sluicev1.Message{m}}}}
}

func received(r *sluicev1.Receipt) *logv1.Outcome {
	return &logv1.Outcome{Result: &logv1.Outcome_Send{Send: &sluicev1.SendResponse{Results: []*sluicev1.SendResult{{Receipt: r}}}}}
}

func refusedSend(r reason.Reason) *logv1.Outcome {
	return &logv1.Outcome{Result: &logv1.Outcome_Send{Send: &sluicev1.SendResponse{Results: []*sluicev1.SendResult{{Error: r.Fault("")}}}}}
}

func refused(r reason.Reason) *logv1.Outcome { return &logv1.Outcome{Fault: r.Fault("")} }

// done makes of a refusal that it is done.
func done(o *logv1.Outcome) {
	if o.Fault = nil; o.GetSend() != nil {
		o.GetSend().Results[0].Error = nil
	}
}

// two puts two messages into the inbox of i, which s owns with a window of one.
func two(b *bench) {
	b.take("m1", "work")
	b.take("m2", "work")
	b.own().window = 1
}

// buried is two with the second one a dead letter, and buriedAlone with both.
func buried(b *bench) {
	two(b)
	b.end(b.own().bySeq[normalLane][2], "dead-lettered")
}

func buriedAlone(b *bench) {
	buried(b)
	b.settleAs(b.own(), inNormal, 1, rejected)
}

func resolveOf(action sluicev1.ResolveAction, seq uint64, version string) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_ResolveMessage{ResolveMessage: &sluicev1.ResolveMessageRequest{
		Application: "app", Instance: "i", Seq: seq, Lane: inNormal, Action: action, Version: version, Data: []byte("mended"),
	}}}
}

func status(s *sluicev1.MessageStatus) *logv1.Outcome {
	return &logv1.Outcome{Result: &logv1.Outcome_MessageStatus{MessageStatus: s}}
}

func putBackOf(lane sluicev1.Lane, seqs ...uint64) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_PutBack{PutBack: &sluicev1.PutBackRequest{Application: "app", Instance: "i", Lane: lane, Seqs: seqs, RequestId: "r"}}}
}

func returned(results ...*sluicev1.PutBackResult) *logv1.Outcome {
	return &logv1.Outcome{Result: &logv1.Outcome_PutBack{PutBack: &sluicev1.PutBackResponse{Results: results}}}
}

// completedUnder5 is a recovery under epoch 5 that was completed.
func completedUnder5(b *bench) {
	b.turnToRecovery(b.own(), &Epoch{Number: 5}, Transition{})
	b.turnBack(b.own(), 0, nil)
}

var exchanges = []exchange{
	{
		name: "a type at its step", change: order, history: func(b *bench) { b.judge(in("t", "m1", "open"), "") },
		command: sendOf(in("t", "m2", "item")),
		right:   received(&sluicev1.Receipt{Seq: 2, Ahead: 1, Epoch: 5, Index: 99, Disposition: sluicev1.Disposition_DISPOSITION_ACCEPTED, Mode: sluicev1.Mode_MODE_NORMAL}),
		wrong:   map[string]func(*logv1.Outcome){"I4": func(o *logv1.Outcome) { o.GetSend().Results[0] = refusedSend(reason.OutOfPattern).GetSend().Results[0] }},
	},
	{
		name: "a type out of its turn", change: order, history: func(b *bench) { b.judge(in("t", "m1", "open"), "") },
		command: sendOf(in("t", "m2", "close")), right: refusedSend(reason.OutOfPattern), wrong: map[string]func(*logv1.Outcome){"I4": done},
	},
	{
		name: "after the end of a transaction", change: order, history: func(b *bench) {
			b.instances[ID{"app", "i"}].transactions["t"] = transaction{pattern: "order", closed: true}
		},
		command: sendOf(in("t", "m2", "open")), right: refusedSend(reason.OutOfPattern), wrong: map[string]func(*logv1.Outcome){"I4": done},
	},
	{
		name: "a transaction that nothing begins", change: order, command: sendOf(in("t", "m2", "item")),
		right: refusedSend(reason.UnknownTransaction), wrong: map[string]func(*logv1.Outcome){"I4": done},
	},
	{
		name: "a transaction is begun", change: order,
		command: &logv1.Command{Kind: &logv1.Command_BeginTransaction{BeginTransaction: &sluicev1.BeginTransactionRequest{Application: "app", Instance: "i", Transaction: "t", Pattern: "order", Client: "c"}}},
		right:   &logv1.Outcome{Result: &logv1.Outcome_Transaction{Transaction: &sluicev1.Transaction{Pattern: "order", Client: "c"}}},
		wrong: map[string]func(*logv1.Outcome){
			"I9": func(o *logv1.Outcome) { o.GetTransaction().Pattern = "main" }, "I10": func(o *logv1.Outcome) { o.GetTransaction().Duplicate = true },
		},
	},
	{
		name: "a transaction is ended again", change: order, history: func(b *bench) {
			b.instances[ID{"app", "i"}].transactions["t"] = transaction{pattern: "order", closed: true}
		},
		command: &logv1.Command{Kind: &logv1.Command_EndTransaction{EndTransaction: &sluicev1.EndTransactionRequest{Application: "app", Instance: "i", Transaction: "t"}}},
		right:   &logv1.Outcome{Result: &logv1.Outcome_Transaction{Transaction: &sluicev1.Transaction{Pattern: "order", Closed: true, Duplicate: true}}},
		wrong: map[string]func(*logv1.Outcome){
			"I9": func(o *logv1.Outcome) { o.GetTransaction().Closed = false }, "I10": func(o *logv1.Outcome) { o.GetTransaction().Duplicate = false },
		},
	},
	{
		name: "more is deferred than there may be", change: few, history: func(b *bench) {
			i := b.own()
			i.Owner = ""
			b.turnToRecovery(i, nil, Transition{})
			b.take("m1", "work")
		},
		command: sendOf(in("", "m2", "work")), right: refusedSend(reason.LimitDeferredMessages), wrong: map[string]func(*logv1.Outcome){"I4": done},
	},
	{
		name: "what has expired cannot be skipped", history: func(b *bench) {
			two(b)
			b.own().bySeq[normalLane][2].expires, b.clock = 50, 50
			_ = b.advance(nil)
		},
		command: resolveOf(sluicev1.ResolveAction_ACTION_SKIP, 2, ""), right: refused(reason.AlreadySettled), wrong: map[string]func(*logv1.Outcome){"I2": done},
	},
	{
		name: "a message is replaced", history: two, command: resolveOf(sluicev1.ResolveAction_ACTION_REPLACE, 2, "v"),
		right: status(&sluicev1.MessageStatus{Seq: 2}),
		wrong: map[string]func(*logv1.Outcome){
			"I2": func(o *logv1.Outcome) { o.GetMessageStatus().Settlement = sluicev1.SettlementKind_SETTLEMENT_SKIPPED },
			"I9": func(o *logv1.Outcome) { o.GetMessageStatus().Attempts = 3 },
		},
	},
	{
		name: "a message that is out is not replaced", history: two, command: resolveOf(sluicev1.ResolveAction_ACTION_REPLACE, 1, ""),
		right: refused(reason.InFlight), wrong: map[string]func(*logv1.Outcome){"I4": done},
	},
	{
		name: "a message that changed since", history: func(b *bench) {
			two(b)
			l := b.own().bySeq[normalLane][2]
			b.versions[version{l, "v"}] = l.revision
			l.revision++
		},
		command: resolveOf(sluicev1.ResolveAction_ACTION_SKIP, 2, "v"), right: refused(reason.Changed), wrong: map[string]func(*logv1.Outcome){"I9": done},
	},
	{
		name: "a dead letter is put back behind what is out", history: buried, command: putBackOf(inNormal, 2, 7),
		right: returned(&sluicev1.PutBackResult{Seq: 2, Waiting: true}, &sluicev1.PutBackResult{Seq: 7, Error: reason.UnknownMessage.Fault("")}),
		wrong: map[string]func(*logv1.Outcome){
			"I3": func(o *logv1.Outcome) { o.GetPutBack().Results[0].Waiting = false }, "I1": func(o *logv1.Outcome) { o.GetPutBack().Results[1].Error = nil },
		},
	},
	{
		name: "dead letters are put back at once where nothing is out", history: buriedAlone, command: putBackOf(inNormal, 2, 1),
		right: returned(&sluicev1.PutBackResult{Seq: 2}, &sluicev1.PutBackResult{Seq: 1}),
		wrong: map[string]func(*logv1.Outcome){"I3": func(o *logv1.Outcome) { o.GetPutBack().Results[1].Waiting = true }},
	},
	{
		name: "a recovery message is put back in recovery only", history: buried, command: putBackOf(inFixing, 2),
		right: refused(reason.NotInRecovery), wrong: map[string]func(*logv1.Outcome){"I9": done},
	},
	{
		name: "an instance is terminated", history: two,
		command: &logv1.Command{Kind: &logv1.Command_Terminate{Terminate: &sluicev1.TerminateRequest{Application: "app", Instance: "i"}}},
		right:   &logv1.Outcome{Result: &logv1.Outcome_Instance{Instance: &sluicev1.Instance{Mode: sluicev1.Mode_MODE_NORMAL, Epoch: 9, NextSeq: 3, Terminated: true}}},
		wrong: map[string]func(*logv1.Outcome){
			"I1": func(o *logv1.Outcome) { o.GetInstance().NormalMessages = 1 }, "I8": func(o *logv1.Outcome) { o.GetInstance().Owner = "s" },
			"I9": func(o *logv1.Outcome) { o.GetInstance().Terminated = false },
		},
	},
	{
		name: "nothing is sent to what was terminated", history: func(b *bench) { b.instances[ID{"app", "i"}].Terminated = true },
		command: sendOf(in("", "m2", "work")), right: refusedSend(reason.Terminated), wrong: map[string]func(*logv1.Outcome){"I9": done},
	},
	{
		name: "a recovery ends by itself", history: func(b *bench) {
			i := b.own()
			b.turnToRecovery(i, nil, Transition{})
			i.until, b.clock = 50, 50
			_ = b.advance(nil)
		},
		command: &logv1.Command{Kind: &logv1.Command_CompleteRecovery{CompleteRecovery: &sluicev1.CompleteRecoveryRequest{Application: "app", Instance: "i"}}},
		right:   refused(reason.NotInRecovery), wrong: map[string]func(*logv1.Outcome){"I9": done},
	},
	{
		name: "another state is no repeat of the last completion", history: completedUnder5,
		command: &logv1.Command{Kind: &logv1.Command_CompleteRecovery{CompleteRecovery: &sluicev1.CompleteRecoveryRequest{Application: "app", Instance: "i", Epoch: 5, SetState: true}}},
		right:   refused(reason.NotInRecovery), wrong: map[string]func(*logv1.Outcome){"I9": done},
	},
	{
		name: "the last completion again", history: completedUnder5,
		command: &logv1.Command{Kind: &logv1.Command_CompleteRecovery{CompleteRecovery: &sluicev1.CompleteRecoveryRequest{Application: "app", Instance: "i", Epoch: 5}}},
		right:   &logv1.Outcome{Result: &logv1.Outcome_Instance{Instance: &sluicev1.Instance{Mode: sluicev1.Mode_MODE_NORMAL, Epoch: 9, Duplicate: true}}},
		wrong: map[string]func(*logv1.Outcome){
			"I10": func(o *logv1.Outcome) { o.GetInstance().Duplicate = false }, "I7": func(o *logv1.Outcome) { o.GetInstance().Epoch = 5 },
		},
	},
	{
		name:    "an entry that ends by itself",
		command: &logv1.Command{Kind: &logv1.Command_EnterRecovery{EnterRecovery: &sluicev1.EnterRecoveryRequest{Application: "app", Instance: "i", Until: &timestamppb.Timestamp{Seconds: 5}}}},
		right:   &logv1.Outcome{Result: &logv1.Outcome_Instance{Instance: &sluicev1.Instance{Mode: sluicev1.Mode_MODE_RECOVERY, Epoch: 9, NextSeq: 1, Owner: "s"}}},
		wrong:   map[string]func(*logv1.Outcome){"I9": func(o *logv1.Outcome) { o.GetInstance().Mode = sluicev1.Mode_MODE_NORMAL }},
	},
}

// TestAnswers holds each right answer to be right, and each wrong one to be noticed as what it is.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, e := range exchanges {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			if found := e.play(t, e.right); len(found) > 0 {
				t.Errorf("the right answer: %v", found)
			}
			for invariant, spoil := range e.wrong {
				o := proto.CloneOf(e.right)
				spoil(o)
				found := e.play(t, o)
				if len(found) == 0 || found[0].Invariant != invariant {
					t.Errorf("a wrong answer that speaks against %s: %v", invariant, found)
				}
			}
		})
	}
}

func (e exchange) play(t *testing.T, o *logv1.Outcome) []Mismatch {
	t.Helper()
	b := benchOf(t, e.change)
	b.keep(b.find(ID{"app", "i"}))
	b.own()
	if e.history != nil {
		e.history(b)
	}
	found, err := b.Apply(99, &logv1.Entry{Commands: []*logv1.Command{e.command}}, []*logv1.Outcome{o})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

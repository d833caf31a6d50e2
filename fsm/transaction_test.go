package fsm_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// order is a pattern with steps; audit is another that the same application declares.
var (
	order = &sluicev1.Pattern{Name: "order", Types: []*sluicev1.MessageType{
		{Name: "place", Opens: true, After: []string{""}},
		{Name: "change", After: []string{"place", "change"}},
		{Name: "note"},
		{Name: "ship", After: []string{"place", "change"}, Closes: true},
		{Name: "repair", Suitable: sluicev1.Suitability_SUITABLE_RECOVERY},
	}}
	audited = &sluicev1.Pattern{Name: "audit", Types: []*sluicev1.MessageType{
		{Name: "begin", Opens: true},
		{Name: "look"},
		{Name: "place", Opens: true},
	}}
)

func (r *rig) transaction(key, id string) *sluicev1.Transaction {
	r.t.Helper()
	tx, err := r.m.View().Transaction(fsm.InstanceID{Application: "app", Key: key}, id)
	if err != nil {
		r.t.Fatal(err)
	}
	return tx
}

// speak sends messages "transaction:type" to i and compares what becomes of each: "" is accepted.
func (r *rig) speak(steps ...string) {
	r.t.Helper()
	for n := 0; n < len(steps); n += 2 {
		transaction, typ, _ := strings.Cut(steps[n], ":")
		m := message("i", time.Duration(r.index).String()+steps[n], typ)
		m.Transaction = transaction
		res := r.try(m)
		if got := res.Error.GetReason(); got != steps[n+1] {
			r.t.Fatalf("step %d, %s: want %q, got %v", n/2, steps[n], steps[n+1], res)
		}
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string][]string{
		"the default transaction follows the first pattern": {
			":look", "UNKNOWN_TYPE", ":note", "", ":change", "OUT_OF_PATTERN", ":place", "", ":place", "OUT_OF_PATTERN", ":change", "", ":note", "", ":change", "", ":ship", "",
		},
		"a type that opens begins it anew after one that closes": {
			":place", "", ":ship", "", ":note", "OUT_OF_PATTERN", ":ship", "OUT_OF_PATTERN", ":place", "", ":change", "",
		},
		"its name is the instance's": {"i:place", "", ":change", "", "i:ship", ""},
		"an unknown one is begun by a type that opens": {
			"t:note", "UNKNOWN_TRANSACTION", "t:nonsense", "UNKNOWN_TRANSACTION", "t:place", "", "t:change", "", "t:ship", "", "t:place", "OUT_OF_PATTERN", "t:note", "OUT_OF_PATTERN",
		},
		"under the first pattern in which it opens": {"t:begin", "", "t:look", "", "t:ship", "UNKNOWN_TYPE", "t:place", ""},
		"transactions are apart":                    {"t:place", "", "u:place", "", "t:ship", "", "u:change", "", ":change", "OUT_OF_PATTERN"},
		"a refused message moves nothing":           {":repair", "NOT_SUITABLE", ":place", "", ":repair", "NOT_SUITABLE", ":change", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setup(t, patterns(order, audited)).speak(steps...)
		})
	}
}

func TestARefusalSaysWhatThePatternAllows(t *testing.T) {
	t.Parallel()
	r := setup(t, patterns(order, audited))
	r.speak(":place", "")
	if text := r.try(message("i", "x", "nonsense")).Error.Message; !strings.Contains(text, `"order"`) || !strings.Contains(text, "place, change, note, ship, repair") {
		t.Error(text)
	}
	if text := r.try(message("i", "x", "place")).Error.Message; !strings.Contains(text, "allowed now: change, note, ship, repair") {
		t.Error(text)
	}
}

func TestAStepMovesAtAcceptance(t *testing.T) {
	t.Parallel()
	r := setup(t, patterns(order))
	r.speak(":place", "")
	r.ok(resolveRequest(&sluicev1.ResolveMessageRequest{Instance: "i", Seq: 1, Lane: laneNormal, Action: sluicev1.ResolveAction_ACTION_DEAD_LETTER}))
	r.speak(":place", "OUT_OF_PATTERN", ":note", "", ":change", "")
	if tx := r.transaction("i", "i"); tx.LastType != "change" || tx.Closed || tx.Pattern != "order" || tx.BeginTime == nil {
		t.Fatal(tx)
	}
	r.tick(time.Second)
	r.speak(":ship", "")
	if tx := r.transaction("i", "i"); tx.LastType != "ship" || !tx.Closed || tx.EndTime.AsTime().UnixMilli() != r.now {
		t.Fatal(tx)
	}
}

func TestTransactionsWithoutPatterns(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.speak("t:anything", "", ":whatever", "", "t:at all", "")
	if tx := r.transaction("i", "t"); tx.Pattern != "" || tx.Closed {
		t.Fatal(tx)
	}
	if tx := r.transaction("i", "i"); tx.Id != "i" || tx.Closed {
		t.Fatal(tx)
	}
	r.ok(endRequest(&sluicev1.EndTransactionRequest{Instance: "i", Transaction: "t"}))
	r.ok(endRequest(&sluicev1.EndTransactionRequest{Instance: "i", Transaction: "i"}))
	if tx := r.transaction("i", "i"); !tx.Closed {
		t.Fatal(tx)
	}
	r.speak("t:more", "OUT_OF_PATTERN", ":more", "")
	if tx := r.transaction("i", "i"); tx.Closed {
		t.Fatal(tx)
	}
}

func TestBegin(t *testing.T) {
	t.Parallel()
	r := setup(t, patterns(order, audited), dedup(time.Minute))
	begin := func(q *sluicev1.BeginTransactionRequest) *sluicev1.Transaction {
		t.Helper()
		q.Instance = "i"
		return r.ok(beginRequest(q)).GetTransaction()
	}
	r.refused("BAD_FIELD", beginRequest(&sluicev1.BeginTransactionRequest{Instance: "i", Transaction: "t", Pattern: "none"}))
	r.refused("BAD_NAME", beginRequest(&sluicev1.BeginTransactionRequest{Instance: "i"}))
	tx := begin(&sluicev1.BeginTransactionRequest{Transaction: "t", Pattern: "audit", Client: "me", RequestId: "q"})
	if tx.Pattern != "audit" || tx.Client != "me" || tx.Closed || tx.Duplicate || tx.BeginTime.AsTime().UnixMilli() != r.now {
		t.Fatal(tx)
	}
	r.wantMode("i", normal) // it exists now
	r.speak("t:look", "", "t:ship", "UNKNOWN_TYPE")
	want := proto.CloneOf(tx)
	want.Duplicate = true
	if again := begin(&sluicev1.BeginTransactionRequest{Transaction: "t", Pattern: "audit", Client: "me", RequestId: "q"}); !proto.Equal(again, want) {
		t.Fatal(again)
	}
	if again := begin(&sluicev1.BeginTransactionRequest{Transaction: "t", Client: "me"}); !again.Duplicate {
		t.Fatal(again)
	}
	for _, q := range []*sluicev1.BeginTransactionRequest{{Transaction: "t", Client: "you"}, {Transaction: "t", Client: "me", Pattern: "order"}} {
		q.Instance = "i"
		r.refused("ID_REUSED", beginRequest(q))
	}
	// With no pattern named it is the first.
	if tx := begin(&sluicev1.BeginTransactionRequest{Transaction: "u"}); tx.Pattern != "order" {
		t.Fatal(tx)
	}
	// The default one can be given another pattern, before it has begun and after it has ended.
	begin(&sluicev1.BeginTransactionRequest{Transaction: "i", Pattern: "audit"})
	r.speak(":look", "", ":ship", "UNKNOWN_TYPE")
	r.ok(endRequest(&sluicev1.EndTransactionRequest{Instance: "i", Transaction: "i"}))
	begin(&sluicev1.BeginTransactionRequest{Transaction: "i"})
	r.speak(":place", "", ":ship", "")
	r.enter("i") // Begin is judged by no mode
	begin(&sluicev1.BeginTransactionRequest{Transaction: "v"})
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	r.refused("TERMINATED", beginRequest(&sluicev1.BeginTransactionRequest{Instance: "i", Transaction: "w"}))
}

func TestEnd(t *testing.T) {
	t.Parallel()
	r := setup(t, patterns(order))
	r.speak("t:place", "", ":place", "")
	end := func(id, request string) *sluicev1.Transaction {
		t.Helper()
		return r.ok(endRequest(&sluicev1.EndTransactionRequest{Instance: "i", Transaction: id, RequestId: request})).GetTransaction()
	}
	r.refused("UNKNOWN_INSTANCE", endRequest(&sluicev1.EndTransactionRequest{Instance: "none", Transaction: "t"}))
	r.refused("UNKNOWN_TRANSACTION", endRequest(&sluicev1.EndTransactionRequest{Instance: "i", Transaction: "none"}))
	for _, id := range []string{"t", "i"} {
		if tx := end(id, "q"+id); !tx.Closed || tx.Duplicate || tx.EndTime == nil {
			t.Fatal(tx)
		}
		if tx := end(id, "q"+id); !tx.Duplicate {
			t.Fatal(tx)
		}
		if tx := end(id, ""); !tx.Duplicate {
			t.Fatal(tx)
		}
	}
	r.speak("t:change", "OUT_OF_PATTERN", ":change", "OUT_OF_PATTERN", "t:place", "OUT_OF_PATTERN", ":place", "", ":change", "")
	// The default one of an instance that never used it can be ended, too.
	r.enter("j")
	if tx := r.ok(endRequest(&sluicev1.EndTransactionRequest{Instance: "j", Transaction: "j"})).GetTransaction(); !tx.Closed || tx.Pattern != "order" {
		t.Fatal(tx)
	}
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	r.refused("TERMINATED", endRequest(&sluicev1.EndTransactionRequest{Instance: "i", Transaction: "t"}))
}

func TestListTransactions(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.speak("c:x", "", "a:x", "", "b:x", "", ":x", "")
	var got []string
	q := &sluicev1.ListTransactionsRequest{Application: "app", Instance: "i", PageSize: 2}
	for {
		page, err := r.m.View().Transactions(q)
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range page.Transactions {
			got = append(got, tx.Id)
		}
		if q.PageToken = page.NextPageToken; q.PageToken == "" {
			break
		}
	}
	if strings.Join(got, " ") != "a b c" {
		t.Fatal(got)
	}
	_, err := r.m.View().Transaction(fsm.InstanceID{Application: "app", Key: "i"}, "none")
	wantReason(t, err, "UNKNOWN_TRANSACTION")
}

func TestPatternsDeclaredLater(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.speak("t:x", "", ":x", "")
	r.declare("app", patterns(order))
	// What was begun without a pattern follows none that is declared; the default one begins with the first.
	r.speak("t:place", "OUT_OF_PATTERN", ":change", "OUT_OF_PATTERN", ":place", "")
	r.declare("app", patterns(audited))
	r.speak(":look", "OUT_OF_PATTERN", "u:begin", "")
	r.declare("app", patterns(order))
	r.speak(":change", "", "u:look", "OUT_OF_PATTERN")
	r.ok(&logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: &sluicev1.Application{Name: "app"}}})
	r.speak(":anything", "", "u:anything", "")
}

// What has ended is remembered for the deduplication window: an instance may live for ever.
func TestEndedTransactionsAreForgotten(t *testing.T) {
	t.Parallel()
	r := setup(t, dedup(time.Hour), patterns(order))
	r.speak("t1:place", "", "t1:ship", "", "t2:place", "", ":place", "", ":ship", "")
	r.advance(59 * time.Minute)
	r.speak("t1:place", "OUT_OF_PATTERN")
	r.declare("app", dedup(2*time.Hour), patterns(order)) // the window grows
	r.advance(2 * time.Minute)
	r.speak("t1:place", "OUT_OF_PATTERN")
	r.advance(time.Hour)
	r.speak("t1:note", "UNKNOWN_TRANSACTION", "t2:ship", "", ":note", "OUT_OF_PATTERN", "t1:place", "")
	if tx := r.transaction("i", "t1"); tx.Closed {
		t.Fatal(tx)
	}
	r.advance(3 * time.Hour) // t2 ended since, t1 stands
	r.speak("t2:note", "UNKNOWN_TRANSACTION", "t1:note", "")
}

package fsm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

func TestDeclarations(t *testing.T) {
	t.Parallel()
	r := setup(t)
	typ := func(name string, after ...string) *sluicev1.MessageType {
		return &sluicev1.MessageType{Name: name, After: after}
	}
	pattern := func(name string, types ...*sluicev1.MessageType) func(*sluicev1.Application) {
		return patterns(&sluicev1.Pattern{Name: name, Types: types})
	}
	for name, c := range map[string]struct {
		good   bool
		option func(*sluicev1.Application)
	}{
		"window 0":                     {false, window(0)},
		"window 1,024":                 {true, window(1024)},
		"window 1,025":                 {false, window(1025)},
		"redeliver at max attempts":    {false, atMaxAttempts(sluicev1.Policy_POLICY_REDELIVER)},
		"dead letter when owner lost":  {false, func(a *sluicev1.Application) { a.Delivery.OnOwnerLost = sluicev1.Policy_POLICY_DEAD_LETTER }},
		"negative backoff":             {false, backoff(-1, time.Second)},
		"a backoff of more than a day": {false, backoff(time.Second, 24*time.Hour+1)},
		"no backoff":                   {true, backoff(0, 0)},
		"history 0":                    {false, historyLimit(0)},
		"history 10,001":               {false, historyLimit(10_001)},
		"a window of 999 ms":           {false, dedup(999 * time.Millisecond)},
		"a window of a second":         {true, dedup(time.Second)},
		"a window of 367 days":         {false, dedup(367 * 24 * time.Hour)},
		"an impossible window":         {false, func(a *sluicev1.Application) { a.Retention.DedupWindow = &durationpb.Duration{Seconds: 1, Nanos: -1} }},
		"a pattern without a name":     {false, pattern("", typ("a"))},
		"a pattern without types":      {false, pattern("p")},
		"a type twice":                 {false, pattern("p", typ("a"), typ("a"))},
		"a type without a name":        {false, pattern("p", typ(""))},
		"after an unknown type":        {false, pattern("p", typ("a", "b"))},
		"after none yet":               {true, pattern("p", typ("a", ""))},
		"after itself":                 {true, pattern("p", typ("a", "", "a"))},
		"two patterns of a name":       {false, patterns(&sluicev1.Pattern{Name: "p", Types: []*sluicev1.MessageType{typ("a")}}, &sluicev1.Pattern{Name: "p", Types: []*sluicev1.MessageType{typ("a")}})},
		"an unknown suitability":       {false, pattern("p", &sluicev1.MessageType{Name: "a", Suitable: 9})},
	} {
		a := &sluicev1.Application{Name: "other", Delivery: &sluicev1.Application_Delivery{}, Retention: &sluicev1.Retention{}}
		c.option(a)
		out := r.do(&logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: a}})
		if good := out.Fault == nil; good != c.good || !good && out.Fault.Reason != "BAD_FIELD" {
			t.Errorf("%s: %v", name, out)
		}
	}
}

func TestDeclaringAgain(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	if a := r.declare("app"); a.Version != 1 || a.Counts.Normal != 1 {
		t.Fatal(a)
	}
	// What is output only does not make another declaration.
	same := r.application("app")
	same.Duplicate = true
	if a := r.ok(&logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: same}}).GetApplication(); a.Version != 1 || a.Duplicate {
		t.Fatal(a)
	}
	if a := r.declare("app", window(3)); a.Version != 2 || a.Delivery.GetWindow() != 3 || a.Counts.Normal != 1 {
		t.Fatal(a)
	}
	r.reopen()
	if a := r.application("app"); a.Version != 2 || a.Counts.Normal != 1 {
		t.Fatal(a)
	}
	r.declare("another")
	all, err := r.m.View().Applications()
	if err != nil || len(all) != 2 || all[0].Name != "another" {
		t.Fatal(all, err)
	}
	_, err = r.m.View().Application("none")
	wantReason(t, err, "UNKNOWN_APPLICATION")
	_, err = r.m.View().Application("None")
	wantReason(t, err, "BAD_NAME")
}

// counting counts the writes of a store's batches.
type counting struct {
	queue.Store
	writes int
}

type countingBatch struct {
	queue.Batch
	c *counting
}

func (c *counting) NewBatch() queue.Batch { return &countingBatch{c.Store.NewBatch(), c} }

func (b *countingBatch) Set(key, value []byte) error {
	b.c.writes++
	return b.Batch.Set(key, value)
}

func (b *countingBatch) Delete(key []byte) error {
	b.c.writes++
	return b.Batch.Delete(key)
}

func (b *countingBatch) SingleDelete(key []byte) error {
	b.c.writes++
	return b.Batch.SingleDelete(key)
}

func (b *countingBatch) DeleteRange(lower, upper []byte) error {
	b.c.writes++
	return b.Batch.DeleteRange(lower, upper)
}

func TestApplicationWideRecoveryCostsTheSameForAny(t *testing.T) {
	t.Parallel()
	cost := func(instances int) int {
		r := setup(t)
		r.open("s", 5000)
		for n := range instances {
			key := fmt.Sprint("i", n)
			r.send(key, "a")
			if n%2 == 0 {
				r.assign(key, "s")
			}
		}
		c := &counting{Store: r.store}
		m, err := fsm.Open(c, fsm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r.m = m
		r.enterAll("fire")
		if n := r.application("app").Counts.Recovery; n != uint64(instances) {
			t.Fatal(n)
		}
		return c.writes
	}
	if few, many := cost(10), cost(1000); few != many || few > 4 { // the application, its event, what comes due, and the meta record
		t.Fatalf("10 instances: %d writes; 1,000: %d", few, many)
	}
}

func TestApplicationWideRecovery(t *testing.T) {
	t.Parallel()
	r := setup(t, window(2))
	r.send("out", "a", "b", "c")
	r.own("out", "s")
	r.send("unowned", "a")
	r.send("idle", "a")
	r.skip("idle", 1)
	r.enter("before")
	r.declare("other")
	d := r.head("out")
	g := r.enterAll("fire").RecoveryGeneration
	r.wantCounts(0, 4, 0)
	for _, key := range []string{"out", "unowned", "idle", "before"} {
		if i := r.instance(key); i.Mode != recovery || i.Epoch != g || i.Cause != "fire" || i.ModeTime.AsTime().UnixMilli() != r.now {
			t.Fatal(i)
		}
	}
	if doubts := r.doubts("out") + r.doubts("unowned"); doubts != "a b" {
		t.Fatal(doubts)
	}
	if v := r.settle("s", taking(d, outCompleted)); v != "STALE_EPOCH" {
		t.Fatal(v)
	}
	// What a look shows, and what is written when it is next needed, are the same.
	r.enterAll("flood")
	before, was := r.history("unowned"), r.instance("unowned")
	if len(before) != 2 || before[0].Cause != "fire" || before[1].Cause != "flood" || before[1].From != recovery || before[0].Epoch != g {
		t.Fatal(before)
	}
	r.tick(time.Hour)
	r.noSend("ID_REUSED", message("unowned", "a", "other"))
	after, is := r.history("unowned"), r.instance("unowned")
	if len(after) != 2 || !proto.Equal(before[0], after[0]) || !proto.Equal(before[1], after[1]) || !proto.Equal(was, is) {
		t.Fatalf("before %v\nafter %v\nwas %v\nis %v", before, after, was, is)
	}
	r.wantCounts(0, 4, 0)
	if a := r.application("other"); a.Counts.Recovery != 0 {
		t.Fatal(a)
	}
	// A repeat answers as the first did.
	q := &sluicev1.EnterApplicationRecoveryRequest{Cause: "again", RequestId: "q"}
	one, two := r.ok(enterAllRequest(q)).GetApplication(), r.ok(enterAllRequest(q)).GetApplication()
	if !two.Duplicate || one.RecoveryGeneration != two.RecoveryGeneration || r.application("app").RecoveryGeneration != one.RecoveryGeneration {
		t.Fatal(one, two)
	}
	q.Cause = "other"
	r.refused("ID_REUSED", enterAllRequest(q))
	r.refused("UNKNOWN_APPLICATION", enterAllRequest(&sluicev1.EnterApplicationRecoveryRequest{Application: "none"}))
	r.refused("BAD_FIELD", enterAllRequest(&sluicev1.EnterApplicationRecoveryRequest{Cause: strings.Repeat("x", 4097)}))
}

func TestManyApplicationWideRecoveries(t *testing.T) {
	t.Parallel()
	r := setup(t, window(2))
	r.send("i", "a", "b", "c")
	r.own("i", "s")
	for n := range 20 {
		r.enterAll(fmt.Sprint("fire ", n))
	}
	if i := r.instance("i"); i.Cause != "fire 19" || i.Epoch != r.application("app").RecoveryGeneration {
		t.Fatal(i)
	}
	if d := r.doubts("i"); d != "a b" {
		t.Fatal(d)
	}
	r.complete("i", 1)
	r.wantOuts("i", "b c")
	r.wantCounts(1, 0, 0)
}

func listInstances(q *sluicev1.ListInstancesRequest) *sluicev1.ListInstancesRequest {
	q.Application = "app"
	return q
}

func TestListInstances(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, key := range []string{"a1", "a2", "b1", "b2", "c"} {
		r.send(key, "m")
	}
	r.enter("a2")
	r.send("a2", "h1", "h2")
	r.enter("b1")
	r.send("b1", "h1")
	r.complete("b1", 0)
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "c"}))
	list := func(want string, q *sluicev1.ListInstancesRequest) string {
		t.Helper()
		out, err := r.m.View().Instances(listInstances(q))
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, i := range out.Instances {
			keys = append(keys, i.Key)
		}
		if got := strings.Join(keys, " "); got != want {
			t.Fatalf("%v: want %q, got %q", q, want, got)
		}
		return out.NextPageToken
	}
	list("a1 a2 b1 b2 c", &sluicev1.ListInstancesRequest{})
	list("a2", &sluicev1.ListInstancesRequest{Mode: recovery})
	list("b1", &sluicev1.ListInstancesRequest{Mode: draining})
	list("a1 b2", &sluicev1.ListInstancesRequest{Mode: normal})
	list("a2 b1", &sluicev1.ListInstancesRequest{MinDeferred: 1})
	list("a2", &sluicev1.ListInstancesRequest{MinDeferred: 2})
	list("b1 b2", &sluicev1.ListInstancesRequest{Prefix: "b"})
	list("b2", &sluicev1.ListInstancesRequest{Prefix: "b", Mode: normal})
	token := list("a1 a2", &sluicev1.ListInstancesRequest{PageSize: 2})
	token = list("b1 b2", &sluicev1.ListInstancesRequest{PageSize: 2, PageToken: token})
	if token = list("c", &sluicev1.ListInstancesRequest{PageSize: 2, PageToken: token}); token != "" {
		t.Fatal(token)
	}
	if token = list("a1 a2 b1 b2 c", &sluicev1.ListInstancesRequest{PageSize: 5}); token != "" {
		t.Fatal(token)
	}
	token = list("b1", &sluicev1.ListInstancesRequest{PageSize: 1, Prefix: "b"})
	list("b2", &sluicev1.ListInstancesRequest{PageSize: 1, Prefix: "b", PageToken: token})
	// The filter goes by the effective mode.
	r.enterAll("fire")
	list("a1 a2 b1 b2", &sluicev1.ListInstancesRequest{Mode: recovery})
	list("", &sluicev1.ListInstancesRequest{Mode: normal})
	r.wantCounts(0, 4, 0)
	_, err := r.m.View().Instances(listInstances(&sluicev1.ListInstancesRequest{PageSize: 1001}))
	wantReason(t, err, "BAD_FIELD")
	_, err = r.m.View().Instances(&sluicev1.ListInstancesRequest{Application: "none"})
	wantReason(t, err, "UNKNOWN_APPLICATION")
	_, err = r.m.View().Instance(fsm.InstanceID{Application: "app", Key: "none"})
	wantReason(t, err, "UNKNOWN_INSTANCE")
}

func TestListMessages(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "n1", "n2", "n3")
	r.enter("i")
	r.sendRecovery("i", "r1")
	r.sendRecovery("i", "r2")
	for name, q := range map[string]*sluicev1.ListMessagesRequest{
		"n1 n2 n3 r1 r2": {Instance: "i"},
		"n1 n2 n3":       {Instance: "i", Lane: laneNormal},
		"r1 r2":          {Instance: "i", Lane: laneRecovery},
		"":               {Instance: "i", Settlement: kindDead},
	} {
		for _, size := range []uint32{0, 1, 2, 3} {
			var got []string
			q.PageSize, q.PageToken = size, ""
			for {
				q.Application = "app"
				page, err := r.m.View().Messages(q)
				if err != nil || size > 0 && len(page.Messages) > int(size) {
					t.Fatal(page, err)
				}
				for _, m := range page.Messages {
					got = append(got, m.Message.Id)
				}
				if q.PageToken = page.NextPageToken; q.PageToken == "" {
					break
				}
			}
			if strings.Join(got, " ") != name {
				t.Errorf("want %q, got %q", name, got)
			}
		}
	}
	for _, q := range []*sluicev1.ListMessagesRequest{{PageToken: "x"}, {PageToken: "00"}, {Settlement: kindCompleted}, {Lane: 9}, {PageSize: 1001}} {
		q.Application, q.Instance = "app", "i"
		_, err := r.m.View().Messages(q)
		wantReason(t, err, "BAD_FIELD")
	}
	_, err := r.m.View().Message(fsm.InstanceID{Application: "app", Key: "i"}, "none")
	wantReason(t, err, "UNKNOWN_MESSAGE")
}

func operationRequest(q *sluicev1.CompleteApplicationRecoveryRequest) *logv1.Command {
	q.Application = "app"
	return &logv1.Command{Kind: &logv1.Command_CompleteApplicationRecovery{CompleteApplicationRecovery: q}}
}

func stepCommand(id string, limit uint32, busy ...string) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_StepOperation{StepOperation: &logv1.StepOperation{Id: id, Limit: limit, Busy: busy}}}
}

func steerCommand(id string, s sluicev1.OperationState) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_SteerOperation{SteerOperation: &logv1.SteerOperation{Id: id, State: s}}}
}

// toOperate brings about one instance of each kind that a completion operation meets.
func (r *rig) toOperate() {
	r.t.Helper()
	for _, key := range []string{"a-plain", "b-doubt", "c-busy", "e-since", "f-pending", "h-lost"} {
		r.send(key, "1")
	}
	r.own("b-doubt", "s")
	r.enter("d-before")
	r.enterAll("fire")
	r.send("a-plain", "2")
	r.enter("e-since")
	r.sendRecovery("f-pending", "r")
	r.send("g-born", "1")
	r.own("h-lost", "s2")
	r.expire("s2")
}

func TestCompletionOperationStepByStep(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.refused("NOT_IN_RECOVERY", operationRequest(&sluicev1.CompleteApplicationRecoveryRequest{}))
	r.toOperate()
	q := &sluicev1.CompleteApplicationRecoveryRequest{RequestId: "q", Rate: 5}
	op := r.ok(operationRequest(q)).GetOperation()
	if op.State != sluicev1.OperationState_OPERATION_RUNNING || op.Total != 7 || op.Rate != 5 || op.Application != "app" || !r.fx.Operations {
		t.Fatal(op)
	}
	if again := r.ok(operationRequest(q)).GetOperation(); !again.Duplicate || again.Id != op.Id {
		t.Fatal(again)
	}
	for n := 0; ; n++ {
		p := r.ok(stepCommand(op.Id, 3, "c-busy")).GetProgress()
		if !p.More {
			break
		}
		if n > 3 {
			t.Fatal("no end")
		}
	}
	got, err := r.m.View().Operation(op.Id)
	if err != nil || got.State != sluicev1.OperationState_OPERATION_DONE || got.Done != 2 || got.PassedOver != 3 || got.EndTime == nil {
		t.Fatal(got, err)
	}
	for key, want := range map[string]sluicev1.Mode{
		"a-plain": draining, "b-doubt": recovery, "c-busy": recovery, "d-before": normal, "e-since": recovery, "f-pending": recovery, "g-born": normal, "h-lost": recovery,
	} {
		r.wantMode(key, want)
	}
	r.wantCounts(2, 5, 1)
	if h := r.history("a-plain"); h[len(h)-1].Actor != "operation "+op.Id {
		t.Fatal(h)
	}
	// What it passed over can be completed by another.
	r.complete2("f-pending", &sluicev1.CompleteRecoveryRequest{DiscardRecoveryMessages: true})
	op = r.ok(operationRequest(&sluicev1.CompleteApplicationRecoveryRequest{})).GetOperation()
	if p := r.ok(stepCommand(op.Id, 100)).GetProgress(); p.Done != 1 || p.More {
		t.Fatal(p)
	}
	r.wantMode("c-busy", normal)
	if ops, err := r.m.View().Operations("app"); err != nil || len(ops) != 2 || ops[1].Id != op.Id {
		t.Fatal(ops, err)
	}
}

func TestSteering(t *testing.T) {
	t.Parallel()
	const (
		running   = sluicev1.OperationState_OPERATION_RUNNING
		paused    = sluicev1.OperationState_OPERATION_PAUSED
		cancelled = sluicev1.OperationState_OPERATION_CANCELLED
	)
	r := setup(t)
	r.toOperate()
	op := r.ok(operationRequest(&sluicev1.CompleteApplicationRecoveryRequest{})).GetOperation()
	steer := func(s sluicev1.OperationState) *sluicev1.Operation {
		t.Helper()
		return r.ok(steerCommand(op.Id, s)).GetOperation()
	}
	if o := steer(paused); o.State != paused || o.Duplicate {
		t.Fatal(o)
	}
	if o := steer(paused); !o.Duplicate {
		t.Fatal(o)
	}
	if p := r.ok(stepCommand(op.Id, 100)).GetProgress(); p.Done != 0 || p.More {
		t.Fatal(p)
	}
	if o := steer(running); o.State != running {
		t.Fatal(o)
	}
	r.ok(stepCommand(op.Id, 1))
	if o := steer(cancelled); o.State != cancelled || o.EndTime == nil || o.Done != 1 {
		t.Fatal(o)
	}
	r.refused("BAD_FIELD", steerCommand(op.Id, running))
	if o := steer(cancelled); !o.Duplicate {
		t.Fatal(o)
	}
	r.wantMode("c-busy", recovery)
	r.refused("UNKNOWN_OPERATION", steerCommand("none", running))
	r.refused("UNKNOWN_OPERATION", stepCommand("none", 1))
	op = r.ok(operationRequest(&sluicev1.CompleteApplicationRecoveryRequest{})).GetOperation()
	r.refused("BAD_FIELD", steerCommand(op.Id, sluicev1.OperationState_OPERATION_UNSPECIFIED))
	r.refused("BAD_FIELD", steerCommand(op.Id, sluicev1.OperationState_OPERATION_DONE))
	r.refused("BAD_FIELD", operationRequest(&sluicev1.CompleteApplicationRecoveryRequest{Rate: -1}))
	_, err := r.m.View().Operation("none")
	wantReason(t, err, "UNKNOWN_OPERATION")
}

package fsm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

const (
	toHold    = sluicev1.OperationKind_OPERATION_KIND_ENTER_RECOVERY
	toRelease = sluicev1.OperationKind_OPERATION_KIND_COMPLETE_RECOVERY

	selecting = sluicev1.OperationState_OPERATION_SELECTING
	opRunning = sluicev1.OperationState_OPERATION_RUNNING
	opPaused  = sluicev1.OperationState_OPERATION_PAUSED
	opDone    = sluicev1.OperationState_OPERATION_DONE
	cancelled = sluicev1.OperationState_OPERATION_CANCELLED
)

// padded is a position as operation ids hold it.
func padded(position uint64) string { return fmt.Sprintf("%020d", position) }

func beginCommand(q *sluicev1.StartOperationRequest, total, frozen uint64) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_BeginOperation{BeginOperation: &logv1.BeginOperation{Request: q, Total: total, FrozenIndex: frozen}}}
}

func itemsCommand(id string, place uint64, keys ...string) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_AddOperationItems{AddOperationItems: &logv1.AddOperationItems{Id: id, Place: place, Instances: keys}}}
}

func overSet(kind sluicev1.OperationKind, s *sluicev1.Selector) *sluicev1.StartOperationRequest {
	return &sluicev1.StartOperationRequest{Application: "app", Kind: kind, Selector: s, Cause: "fire"}
}

// begin chooses a set, begins an operation over it and writes the set down.
func (r *rig) begin(q *sluicev1.StartOperationRequest) *sluicev1.Operation {
	r.t.Helper()
	set, err := r.m.View().Select(q)
	if err != nil {
		r.t.Fatal(err)
	}
	op := r.ok(beginCommand(q, uint64(len(set.Instances)), set.Index)).GetOperation()
	if len(set.Instances) == 0 {
		return op
	}
	return r.ok(itemsCommand(op.Id, 0, set.Instances...)).GetOperation()
}

// finishOperation steps until nothing is left.
func (r *rig) finishOperation(id string, busy ...string) *sluicev1.Operation {
	r.t.Helper()
	for r.ok(stepCommand(id, 2, busy...)).GetProgress().GetMore() {
	}
	return r.operation(id)
}

func (r *rig) operation(id string) *sluicev1.Operation {
	r.t.Helper()
	op, err := r.m.View().Operation(id)
	if err != nil {
		r.t.Fatal(err)
	}
	return op
}

// items are those of a set, one a line.
func (r *rig) items(id string) string {
	r.t.Helper()
	res, err := r.m.View().OperationItems(&sluicev1.ListOperationItemsRequest{Id: id})
	if err != nil {
		r.t.Fatal(err)
	}
	var b strings.Builder
	for _, i := range res.Items {
		fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintf("%s %s %s", i.Instance, strings.TrimPrefix(i.State.String(), "ITEM_"), i.Detail)))
	}
	return b.String()
}

func TestHoldOverAFrozenSet(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("eu-1", "m")
	r.send("eu-2", "m")
	r.enter("eu-3")
	r.send("eu-4", "m")
	r.send("eu-5", "m")
	r.send("us-1", "m")
	q := overSet(toHold, &sluicev1.Selector{Prefix: "eu-"})
	q.Until, q.Rate, q.RequestId = r.at(time.Minute), 7, "q"
	set, err := r.m.View().Select(q)
	if err != nil || fmt.Sprint(set.Instances) != "[eu-1 eu-2 eu-3 eu-4 eu-5]" || set.Index != r.index {
		t.Fatal(set, err)
	}
	op := r.ok(beginCommand(q, 5, set.Index)).GetOperation()
	if op.State != selecting || op.Total != 5 || op.FrozenIndex != set.Index || op.Kind != "enter-recovery" || op.Actor != "tester" || op.Cause != "fire" || op.Rate != 7 || op.Selector.Prefix != "eu-" {
		t.Fatal(op)
	}
	if again := r.ok(beginCommand(q, 9, set.Index+3)).GetOperation(); again.Id != op.Id || !again.Duplicate || again.Total != 5 {
		t.Fatal(again)
	}
	// What comes, goes and changes after the set was frozen does not move it.
	r.send("eu-0", "m")
	r.ok(&logv1.Command{Kind: &logv1.Command_Terminate{Terminate: &sluicev1.TerminateRequest{Application: "app", Instance: "eu-4", Reason: "gone"}}})
	if p := r.ok(stepCommand(op.Id, 10)).GetProgress(); p.Done != 0 || p.More {
		t.Fatal("a step before the set is written:", p)
	}
	if o := r.ok(itemsCommand(op.Id, 0, set.Instances[:2]...)).GetOperation(); o.State != selecting || r.fx.Operations {
		t.Fatal(o)
	}
	if o := r.ok(itemsCommand(op.Id, 0, set.Instances[:2]...)).GetOperation(); !o.Duplicate {
		t.Fatal(o)
	}
	if o := r.ok(itemsCommand(op.Id, 2, set.Instances[2:]...)).GetOperation(); o.State != opRunning || !r.fx.Operations {
		t.Fatal(o)
	}
	got := r.finishOperation(op.Id)
	if got.State != opDone || got.Total != 5 || got.Done != 3 || got.PassedOver != 1 || got.Failed != 1 || got.EndTime == nil {
		t.Fatal(got)
	}
	want := "eu-1 DONE\neu-2 DONE\neu-3 PASSED_OVER it is in recovery already: because\neu-4 FAILED it was terminated: gone\neu-5 DONE\n"
	if items := r.items(op.Id); items != want {
		t.Fatalf("items:\n%s", items)
	}
	for key, mode := range map[string]sluicev1.Mode{"eu-0": normal, "eu-1": recovery, "eu-2": recovery, "eu-5": recovery, "us-1": normal} {
		r.wantMode(key, mode)
	}
	if h := r.history("eu-1"); h[0].Cause != "fire" || h[0].Actor != "operation "+op.Id {
		t.Fatal(h)
	}
	r.advance(time.Minute)
	r.wantMode("eu-1", normal)
	r.wantMode("eu-3", recovery)
}

func TestReleaseOverASet(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.toOperate()
	op := r.begin(overSet(toRelease, &sluicev1.Selector{Instances: []string{"never", "a-plain", "b-doubt", "c-busy", "c-busy", "f-pending", "g-born", "e-since", "h-lost"}}))
	got := r.finishOperation(op.Id, "c-busy")
	if got.State != opDone || got.Total != 8 || got.Done != 3 || got.PassedOver != 4 || got.Failed != 1 || len(got.Selector.Instances) != 0 {
		t.Fatal(got)
	}
	doubt := " PASSED_OVER messages are in doubt: a recovery handler or an operator must say which took effect\n"
	want := "a-plain DONE\nb-doubt" + doubt + "c-busy PASSED_OVER its recovery handler is at work\ne-since DONE\nf-pending PASSED_OVER 1 recovery messages are unsettled\n" +
		"g-born PASSED_OVER it is not in recovery: it is in normal mode\nh-lost DONE\nnever FAILED there is no such instance\n"
	if items := r.items(op.Id); items != want {
		t.Fatalf("want\n%sgot\n%s", want, items)
	}
	r.wantMode("a-plain", draining)
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("a1", "m")
	r.send("a2", "m")
	r.own("a2", "s")
	r.enter("b1")
	r.send("b1", "1", "2")
	r.enter("b2")
	r.send("b2", "1")
	r.send("gone", "m")
	r.ok(&logv1.Command{Kind: &logv1.Command_Terminate{Terminate: &sluicev1.TerminateRequest{Application: "app", Instance: "gone", Reason: "r"}}})
	for _, c := range []struct {
		s    *sluicev1.Selector
		want string
	}{
		{&sluicev1.Selector{Prefix: "a"}, "[a1 a2]"},
		{&sluicev1.Selector{Prefix: "nothing"}, "[]"},
		{&sluicev1.Selector{Prefix: "g"}, "[]"},
		{&sluicev1.Selector{Mode: recovery}, "[b1 b2]"},
		{&sluicev1.Selector{Mode: normal}, "[a1 a2]"},
		{&sluicev1.Selector{Owner: "s"}, "[a2]"},
		{&sluicev1.Selector{MinDeferred: 2}, "[b1]"},
		{&sluicev1.Selector{Mode: recovery, Prefix: "b", MinDeferred: 1}, "[b1 b2]"},
		{&sluicev1.Selector{Instances: []string{"zz", "gone", "b1", "b1"}}, "[b1 gone zz]"},
		{&sluicev1.Selector{Instances: []string{"zz", "b1"}, Prefix: "z"}, "[zz]"},
		{&sluicev1.Selector{Instances: []string{"zz", "gone", "b1", "a1"}, Mode: recovery}, "[b1]"},
	} {
		set, err := r.m.View().Select(overSet(toHold, c.s))
		if err != nil || fmt.Sprint(set.Instances) != c.want {
			t.Errorf("%v: want %s, got %v %v", c.s, c.want, set, err)
		}
	}
	r.enterAll("all")
	if set, err := r.m.View().Select(overSet(toRelease, &sluicev1.Selector{Mode: recovery})); err != nil || fmt.Sprint(set.Instances) != "[a1 a2 b1 b2]" {
		t.Error("by effective mode:", set, err)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	r := setup(t)
	good := func() *sluicev1.StartOperationRequest { return overSet(toHold, &sluicev1.Selector{Prefix: "a"}) }
	for want, change := range map[string]func(*sluicev1.StartOperationRequest){
		"selector is empty":            func(q *sluicev1.StartOperationRequest) { q.Selector = nil },
		"selector is empty: ":          func(q *sluicev1.StartOperationRequest) { q.Selector = &sluicev1.Selector{} },
		"kind is":                      func(q *sluicev1.StartOperationRequest) { q.Kind = 0 },
		"rate is":                      func(q *sluicev1.StartOperationRequest) { q.Rate = -1 },
		"until goes":                   func(q *sluicev1.StartOperationRequest) { q.Kind, q.Until = toRelease, r.at(0) },
		"cause has":                    func(q *sluicev1.StartOperationRequest) { q.Cause = strings.Repeat("x", 5000) },
		"request_id has":               func(q *sluicev1.StartOperationRequest) { q.RequestId = strings.Repeat("x", 500) },
		"selector.mode is 9":           func(q *sluicev1.StartOperationRequest) { q.Selector.Mode = 9 },
		"selector.prefix has":          func(q *sluicev1.StartOperationRequest) { q.Selector.Prefix = strings.Repeat("x", 257) },
		"selector.owner has":           func(q *sluicev1.StartOperationRequest) { q.Selector.Owner = strings.Repeat("x", 257) },
		"selector.instances has":       func(q *sluicev1.StartOperationRequest) { q.Selector.Instances = []string{""} },
		"selector.instances holds 100": func(q *sluicev1.StartOperationRequest) { q.Selector.Instances = slices.Repeat([]string{"a"}, 10_001) },
	} {
		q := good()
		change(q)
		_, err := r.m.View().Select(q)
		wantReason(t, err, "BAD_FIELD")
		if err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		r.refused("BAD_FIELD", beginCommand(q, 1, 1))
	}
	dry := good()
	dry.DryRun = true
	r.refused("BAD_FIELD", beginCommand(dry, 1, 1))
	r.refused("BAD_FIELD", beginCommand(good(), fsm.MaxSet+1, 1))
	elsewhere := good()
	elsewhere.Application = "none"
	r.refused("UNKNOWN_APPLICATION", beginCommand(elsewhere, 1, 1))
	_, err := r.m.View().Select(elsewhere)
	wantReason(t, err, "UNKNOWN_APPLICATION")
}

func TestPartsOfASet(t *testing.T) {
	t.Parallel()
	r := setup(t)
	if op := r.begin(overSet(toHold, &sluicev1.Selector{Prefix: "a"})); op.State != opDone || op.Total != 0 || op.EndTime == nil {
		t.Fatal("an empty set:", op)
	}
	op := r.ok(beginCommand(overSet(toHold, &sluicev1.Selector{Prefix: "a"}), 3, 1)).GetOperation()
	r.refused("BAD_FIELD", itemsCommand(op.Id, 1, "a"))
	r.refused("BAD_FIELD", itemsCommand(op.Id, 0, "a", "b", "c", "d"))
	r.refused("BAD_FIELD", itemsCommand(op.Id, 0, "a", ""))
	r.refused("UNKNOWN_OPERATION", itemsCommand("none", 0, "a"))
	r.ok(itemsCommand(op.Id, 0, "a", "b"))
	r.refused("BAD_FIELD", itemsCommand(op.Id, 1, "b", "c"))
	r.refused("BAD_FIELD", steerCommand(op.Id, opRunning))
	r.refused("BAD_FIELD", steerCommand(op.Id, opPaused))
	// Within a minute of the last part it waits; then it is given up.
	r.advance(50 * time.Second)
	if got := r.operation(op.Id); got.State != selecting {
		t.Fatal(got)
	}
	r.advance(10 * time.Second)
	r.advance(59 * time.Second)
	if got := r.operation(op.Id); got.State != selecting {
		t.Fatal("it is counted from the last part on:", got)
	}
	r.advance(time.Second)
	if got := r.operation(op.Id); got.State != cancelled || got.EndTime == nil || got.Done != 0 {
		t.Fatal(got)
	}
	r.refused("BAD_FIELD", itemsCommand(op.Id, 2, "c"))
	if items := r.items(op.Id); items != "a PENDING\nb PENDING\n" {
		t.Fatal(items)
	}
}

func TestCancelLeavesTheRestPending(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for n := range 5 {
		r.send(fmt.Sprint("a", n), "m")
	}
	op := r.begin(overSet(toHold, &sluicev1.Selector{Prefix: "a"}))
	r.ok(stepCommand(op.Id, 2))
	r.ok(steerCommand(op.Id, opPaused))
	if p := r.ok(stepCommand(op.Id, 2)).GetProgress(); p.Done != 0 {
		t.Fatal("paused:", p)
	}
	r.ok(steerCommand(op.Id, cancelled))
	if got := r.items(op.Id); got != "a0 DONE\na1 DONE\na2 PENDING\na3 PENDING\na4 PENDING\n" {
		t.Fatal(got)
	}
	r.wantMode("a2", normal)
	res, err := r.m.View().OperationItems(&sluicev1.ListOperationItemsRequest{Id: op.Id, PageSize: 2})
	if err != nil || len(res.Items) != 2 || res.NextPageToken == "" {
		t.Fatal(res, err)
	}
	res, err = r.m.View().OperationItems(&sluicev1.ListOperationItemsRequest{Id: op.Id, State: sluicev1.ItemState_ITEM_PENDING, PageSize: 3, PageToken: res.NextPageToken})
	if err != nil || len(res.Items) != 3 || res.Items[0].Instance != "a2" || res.NextPageToken != "" {
		t.Fatal(res, err)
	}
	for _, q := range []*sluicev1.ListOperationItemsRequest{{Id: op.Id, PageToken: "x"}, {Id: op.Id, PageSize: 1001}, {Id: op.Id, State: 9}} {
		_, err = r.m.View().OperationItems(q)
		wantReason(t, err, "BAD_FIELD")
	}
	_, err = r.m.View().OperationItems(&sluicev1.ListOperationItemsRequest{Id: "none"})
	wantReason(t, err, "UNKNOWN_OPERATION")
}

func TestSetsAreDroppedOldestFirst(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("a", "m")
	first := r.begin(overSet(toHold, &sluicev1.Selector{Instances: []string{"a"}}))
	r.finishOperation(first.Id)
	// Ten sets of the greatest size fill what all may hold together: the ended one must go for the tenth.
	var open []*sluicev1.Operation
	for range 10 {
		open = append(open, r.ok(beginCommand(overSet(toHold, &sluicev1.Selector{Prefix: "a"}), fsm.MaxSet, 1)).GetOperation())
	}
	_, err := r.m.View().Operation(first.Id)
	wantReason(t, err, "UNKNOWN_OPERATION")
	r.refused("RATE", beginCommand(overSet(toHold, &sluicev1.Selector{Prefix: "a"}), 1, 1))
	r.ok(steerCommand(open[3].Id, cancelled))
	r.ok(beginCommand(overSet(toHold, &sluicev1.Selector{Prefix: "a"}), 1, 1))
	_, err = r.m.View().Operation(open[3].Id)
	wantReason(t, err, "UNKNOWN_OPERATION")
}

func TestCompletionCountsOnlyWhatItActsOn(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for n := range 40 {
		r.enter(fmt.Sprintf("k%02d", n))
	}
	r.enterAll("fire")
	for n := range 30 {
		r.enter(fmt.Sprintf("k%02d", n)) // since, each by itself
	}
	op := r.ok(operationRequest(&sluicev1.CompleteApplicationRecoveryRequest{})).GetOperation()
	if op.Total != 40 {
		t.Fatal(op)
	}
	// One step of one reaches the first that it may complete, past thirty that it only looks at.
	if p := r.ok(stepCommand(op.Id, 1)).GetProgress(); p.Done != 1 || !p.More {
		t.Fatal(p)
	}
	if got := r.operation(op.Id); got.Total != 10 || got.Done != 1 {
		t.Fatal("those put into recovery since are no part of it:", got)
	}
	ahead, err := r.m.View().Ahead(op.Id)
	if err != nil || len(ahead) != 9 || ahead[0].Key != "k31" {
		t.Fatal(ahead, err)
	}
	if got := r.finishOperation(op.Id); got.Total != 10 || got.Done != 10 || got.State != opDone {
		t.Fatal(got)
	}
}

func TestRecoveringTellsWhoMayBeAtWork(t *testing.T) {
	t.Parallel()
	r := setup(t)
	id := fsm.InstanceID{Application: "app", Key: "i"}
	want := func(owner string, epoch uint64) {
		t.Helper()
		if o, e, err := r.m.View().Recovering(id); err != nil || o != owner || e != epoch {
			t.Fatal(o, e, err)
		}
	}
	r.send("i", "m")
	r.own("i", "s")
	want("", 0)
	e := r.enter("i").Epoch
	want("s", e)
	r.finish("s", r.announcement("i"), outFailed)
	want("", 0) // until it is delivered again
}

// beginSet begins an operation over the set that a selector chooses now, or says it does.
func (g *generator) beginSet() *logv1.Command {
	q := &sluicev1.StartOperationRequest{Application: g.app(), Kind: sluicev1.OperationKind(g.r.IntN(3)), Cause: g.pick("", "storm"), RequestId: g.request(), Rate: float64(g.r.IntN(2))}
	q.Selector = &sluicev1.Selector{Prefix: g.pick("", "i", "i1"), Mode: sluicev1.Mode(g.r.IntN(4)), MinDeferred: uint64(g.r.IntN(2))}
	if g.chance(30) {
		q.Selector.Instances = []string{g.key(), g.key(), g.key()}
	}
	if g.chance(20) {
		q.Until = g.soon()
	}
	total := uint64(g.r.IntN(6))
	if set, err := g.v.Select(q); err == nil && g.chance(80) {
		total = uint64(len(set.Instances))
	}
	return beginCommand(q, total, uint64(g.r.IntN(100)))
}

// addItems writes a part of a set down, mostly of one that lacks something.
func (g *generator) addItems() *logv1.Command {
	keys := []string{g.key()}
	for range g.r.IntN(4) {
		keys = append(keys, g.key())
	}
	ops, err := g.v.Operations("")
	if err != nil {
		return itemsCommand("none", 0, keys...)
	}
	for _, o := range ops {
		if o.State == selecting && g.chance(80) {
			have, err := g.v.OperationItems(&sluicev1.ListOperationItemsRequest{Id: o.Id})
			if err != nil {
				continue
			}
			at := uint64(len(have.Items))
			keys = keys[:min(uint64(len(keys)), o.Total-at)]
			return itemsCommand(o.Id, at, keys...)
		}
	}
	return itemsCommand(g.operation(), uint64(g.r.IntN(3)), keys...)
}

package fsm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// events reads all events after a place, page by page.
func (r *rig) events(since fsm.EventPlace, f fsm.EventFilter) (all []*sluicev1.Event) {
	r.t.Helper()
	for {
		page, err := r.m.View().Events(since, 3, f)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, page.Events...)
		if since = page.At; page.Whole {
			return all
		}
	}
}

// seen is the place behind everything that has happened.
func (r *rig) seen() fsm.EventPlace { return fsm.AfterIndex(r.index) }

// what names events: their types, and the messages, sessions and nodes that they are about.
func what(events []*sluicev1.Event) string {
	var names []string
	for _, e := range events {
		name := strings.ToLower(strings.TrimPrefix(e.Type.String(), "EVENT_"))
		if about := e.MessageId + e.SessionId + e.NodeId; about != "" {
			name += ":" + about
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// wantEvents gives what happened from a place on, and wants it to be what is named.
func (r *rig) wantEvents(since fsm.EventPlace, want string) []*sluicev1.Event {
	r.t.Helper()
	got := r.events(since, fsm.EventFilter{})
	if what(got) != want {
		r.t.Fatalf("events:\n got %s\nwant %s", what(got), want)
	}
	return got
}

// TestEachEvent does one thing and wants exactly what it makes known, no more.
func TestEachEvent(t *testing.T) {
	t.Parallel()
	fix := func(action sluicev1.ResolveAction) func(*rig) {
		return func(r *rig) {
			r.ok(resolveRequest(&sluicev1.ResolveMessageRequest{Instance: "i", Lane: laneNormal, Seq: 1, Action: action, Data: []byte("new"), Reason: "why not"}))
		}
	}
	for name, c := range map[string]struct {
		before, do func(*rig)
		want       string
		detail     string // of the first
	}{
		"recovery entered":      {nil, func(r *rig) { r.enter("i") }, "recovery_entered", "because"},
		"entered again":         {func(r *rig) { r.enter("i") }, func(r *rig) { r.enter("i") }, "recovery_entered", "because"},
		"completed":             {func(r *rig) { r.enter("i") }, func(r *rig) { r.complete("i", 0) }, "recovery_completed", "recovery completed; was: because"},
		"completed, held":       {func(r *rig) { r.enter("i"); r.send("i", "a") }, func(r *rig) { r.complete("i", 0) }, "draining", ""},
		"drained":               {func(r *rig) { r.toMode("i", draining); r.own("i", "s") }, func(r *rig) { r.work("s", "i", "backlog") }, "drained", ""},
		"deferred in recovery":  {func(r *rig) { r.enter("i") }, func(r *rig) { r.send("i", "a") }, "message_deferred:a", ""},
		"deferred in draining":  {func(r *rig) { r.toMode("i", draining) }, func(r *rig) { r.send("i", "a") }, "message_deferred:a", ""},
		"a recovery message":    {func(r *rig) { r.enter("i") }, func(r *rig) { r.sendRecovery("i", "a") }, "", ""},
		"duplicate":             {func(r *rig) { r.send("i", "a") }, func(r *rig) { r.send("i", "a") }, "message_duplicate:a", ""},
		"an id used again":      {func(r *rig) { r.send("i", "a") }, func(r *rig) { r.noSend("ID_REUSED", message("i", "a", "other")) }, "", ""},
		"expired":               {func(r *rig) { m := message("i", "a", "step"); m.ExpireTime = r.at(time.Second); r.put(m) }, func(r *rig) { r.advance(time.Minute) }, "message_expired:a", ""},
		"expired when deferred": {func(r *rig) { r.enter("i") }, func(r *rig) { m := message("i", "a", "step"); m.ExpireTime = r.at(-time.Second); r.put(m) }, "message_deferred:a message_expired:a", ""},
		"skipped":               {func(r *rig) { r.send("i", "a") }, fix(sluicev1.ResolveAction_ACTION_SKIP), "message_skipped:a", "why not"},
		"dead-lettered":         {func(r *rig) { r.send("i", "a") }, fix(sluicev1.ResolveAction_ACTION_DEAD_LETTER), "message_dead_lettered:a", "OPERATOR: why not"},
		"replaced":              {func(r *rig) { r.send("i", "a") }, fix(sluicev1.ResolveAction_ACTION_REPLACE), "message_replaced:a", "why not"},
		"rejected":              {func(r *rig) { r.send("i", "a"); r.own("i", "s") }, func(r *rig) { r.finish("s", r.head("i"), outRejected) }, "message_dead_lettered:a", ""},
		"completed work":        {func(r *rig) { r.send("i", "a"); r.own("i", "s") }, func(r *rig) { r.work("s", "i", "a") }, "", ""},
		"a failed attempt":      {func(r *rig) { r.send("i", "a"); r.own("i", "s") }, func(r *rig) { r.finish("s", r.head("i"), outFailed) }, "", ""},
		"session opened":        {nil, func(r *rig) { r.open("s", 1) }, "session_opened:s", "worker s"},
		"opened again":          {func(r *rig) { r.open("s", 1) }, func(r *rig) { r.open("s", 1) }, "", ""},
		"session closed":        {func(r *rig) { r.send("i", "a"); r.own("i", "s") }, func(r *rig) { r.ok(closeCommand("s")) }, "session_closed:s", ""},
		"session lost":          {func(r *rig) { r.send("i", "a"); r.own("i", "s") }, func(r *rig) { r.expire("s") }, "session_lost:s recovery_entered", ""},
		"lost, idle":            {func(r *rig) { r.open("s", 1) }, func(r *rig) { r.expire("s") }, "session_lost:s", ""},
		"application":           {func(r *rig) { r.send("i", "a"); r.send("j", "a") }, func(r *rig) { r.enterAll("fire") }, "application_recovery_entered", "fire"},
		"caught up":             {func(r *rig) { r.send("i", "a"); r.enterAll("fire") }, func(r *rig) { r.send("i", "b") }, "message_deferred:b", ""},
		"terminated":            {func(r *rig) { r.send("i", "a") }, func(r *rig) { r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i", Reason: "old"})) }, "message_dead_lettered:a instance_terminated", ""},
		"elected":               {nil, func(r *rig) { r.ok(electedCommand("n2")) }, "leader_changed:n2", ""},
		"a read":                {nil, func(r *rig) { r.ok(advanceCommand(10)) }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			if c.before != nil {
				c.before(r)
			}
			since := r.seen()
			c.do(r)
			got := r.wantEvents(since, c.want)
			for n, e := range got {
				if e.Actor != "tester" || e.Time.AsTime().UnixMilli() != r.now && !strings.Contains(name, "expired") || e.Index > r.index {
					t.Errorf("event %d: %v", n, e)
				}
			}
			if c.detail != "" && got[0].Detail != c.detail {
				t.Errorf("the detail is %q, want %q", got[0].Detail, c.detail)
			}
		})
	}
}

// TestNormalTrafficMakesNoEvent accepts and settles in normal mode, and wants no event and no write for one.
func TestNormalTrafficMakesNoEvent(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	r.own("i", "s")
	since := r.seen()
	for n := range 20 {
		r.send("i", fmt.Sprint("m", n))
		r.finish("s", r.head("i"), outCompleted)
		if r.fx.Events || len(r.fx.Counters.Events) != 0 {
			t.Fatal(r.fx)
		}
	}
	r.wantEvents(since, "")
}

func TestWhatAnEventSays(t *testing.T) {
	t.Parallel()
	r := setup(t)
	epoch := r.enter("i").Epoch
	r.send("i", "a", "b")
	got := r.events(fsm.EventPlace{}, fsm.EventFilter{})
	want := &sluicev1.Event{
		Index: r.index, Time: r.at(0), Type: sluicev1.EventType_EVENT_MESSAGE_DEFERRED, Application: "app", Instance: "i", MessageId: "b", Seq: 2,
		Epoch: epoch, Actor: "tester", Lane: laneNormal, Mode: recovery, DeferredMessages: 2,
	}
	if last := got[len(got)-1]; !proto.Equal(last, want) {
		t.Fatalf("got %v\nwant %v", last, want)
	}
	if n := r.fx.Counters.Events[want.Type]; n != 1 || !r.fx.Events {
		t.Fatal(r.fx)
	}
	long := strings.Repeat("é", 2000)
	r.ok(enterCommand("i", long))
	got = r.events(fsm.AfterIndex(r.index-1), fsm.EventFilter{})
	if d := got[0].Detail; len(d) > 520 || !strings.HasPrefix(long, strings.TrimSuffix(d, "…")) {
		t.Fatalf("a long cause became %q", d)
	}
}

func TestOperationProgress(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for n := range 5 {
		r.send(fmt.Sprint("i", n), "a")
	}
	r.enterAll("fire")
	since := r.seen()
	op := r.ok(operationRequest(&sluicev1.CompleteApplicationRecoveryRequest{})).GetOperation()
	r.ok(stepCommand(op.Id, 3))
	r.ok(stepCommand(op.Id, 3))
	r.ok(stepCommand(op.Id, 3)) // it is done
	got := r.wantEvents(since, "operation_progress recovery_completed recovery_completed recovery_completed operation_progress recovery_completed recovery_completed operation_progress")
	if o := got[4].Operation; o.Done != 3 || o.Total != 5 || o.State != sluicev1.OperationState_OPERATION_RUNNING || o.Id != op.Id {
		t.Fatal(o)
	}
	if o := got[7].Operation; o.Done != 5 || o.State != sluicev1.OperationState_OPERATION_DONE {
		t.Fatal(o)
	}
}

func TestRefusedAtTheTargetIsADeadLetterOfTheSender(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	r.own("i", "s")
	s := taking(r.head("i"), outCompleted)
	s.Outgoing = []*sluicev1.Message{{Application: "none", Instance: "x", Id: "out", Type: "step"}}
	r.settle("s", s)
	since := r.seen()
	r.ok(forwardCommand(10))
	got := r.wantEvents(since, "message_dead_lettered:out")
	if got[0].Lane != laneOutgoing || got[0].Instance != "i" || !strings.HasPrefix(got[0].Detail, "REFUSED_AT_TARGET: UNKNOWN_APPLICATION: ") {
		t.Fatal(got[0])
	}
}

// TestEventFilters reads the same stream through each filter.
func TestEventFilters(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.declare("other")
	r.enter("i")
	r.send("j", "a")
	r.enter("j")
	r.ok(enterRequestOf("other", "i"))
	r.enterAll("fire")
	r.ok(electedCommand("n1"))
	entered := map[sluicev1.EventType]bool{sluicev1.EventType_EVENT_RECOVERY_ENTERED: true}
	for _, c := range []struct {
		f    fsm.EventFilter
		want string
	}{
		{fsm.EventFilter{}, "recovery_entered recovery_entered recovery_entered application_recovery_entered leader_changed:n1"},
		{fsm.EventFilter{Application: "app"}, "recovery_entered recovery_entered application_recovery_entered"},
		{fsm.EventFilter{Application: "other"}, "recovery_entered"},
		{fsm.EventFilter{Application: "app", Instance: "i"}, "recovery_entered application_recovery_entered"},
		{fsm.EventFilter{Types: entered}, "recovery_entered recovery_entered recovery_entered"},
		{fsm.EventFilter{Application: "app", Instance: "j", Types: entered}, "recovery_entered"},
		{fsm.EventFilter{Application: "none"}, ""},
	} {
		if got := what(r.events(fsm.EventPlace{}, c.f)); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.f, got, c.want)
		}
	}
}

func enterRequestOf(application, instance string) *logv1.Command {
	c := enterCommand(instance, "because")
	c.GetEnterRecovery().Application = application
	return c
}

// TestEventsResumeAtAnyPlace goes on from every event, within an entry too, also after a restart.
func TestEventsResumeAtAnyPlace(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	if _, err := r.apply(sendCommand(message("i", "a", "step"), message("i", "b", "step")), sendCommand(message("i", "c", "step"))); err != nil {
		t.Fatal(err)
	}
	r.complete("i", 0)
	r.reopen()
	all := r.wantEvents(fsm.EventPlace{}, "recovery_entered message_deferred:a message_deferred:b message_deferred:c draining")
	if all[3].Place != 2 || all[3].Index != all[1].Index {
		t.Fatal(all[3])
	}
	for n, e := range all {
		rest := r.events(fsm.EventPlace{Index: e.Index, Place: e.Place}, fsm.EventFilter{})
		if what(rest) != what(all[n+1:]) {
			t.Fatalf("after event %d: %s", n, what(rest))
		}
	}
	ahead := fsm.AfterIndex(r.index + 10)
	page, err := r.m.View().Events(ahead, 10, fsm.EventFilter{})
	if err != nil || !page.Whole || page.At != ahead {
		t.Fatalf("from beyond what is applied: %+v %v", page, err)
	}
}

// TestEventRetention writes more events than are kept.
func TestEventRetention(t *testing.T) {
	t.Parallel()
	r := setup(t)
	const stride, places, batch = 16_384, 16, 4096
	elected := slices.Repeat([]*logv1.Command{electedCommand("n1")}, batch)
	fill := func(batches int) {
		for range batches {
			if _, err := r.apply(elected...); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(stride * places / batch)
	first := r.firstEvent()
	if kept := len(r.contents('e')); kept != stride*places || first.Place != 0 {
		t.Fatalf("%d events are kept from %v on; nothing may be dropped yet", kept, first)
	}
	r.ok(electedCommand("n2"))
	if kept := len(r.contents('e')); kept != stride*(places-1)+1 {
		t.Fatalf("%d events are kept", kept)
	}
	oldest := r.firstEvent()
	if _, err := r.m.View().Events(fsm.EventPlace{Index: first.Index}, 10, fsm.EventFilter{}); err == nil || !strings.Contains(err.Error(), fmt.Sprint("the oldest that is kept has index ", oldest.Index)) {
		t.Fatalf("events that are gone: %v", err)
	} else {
		wantReason(t, err, "EVENTS_GONE")
	}
	page, err := r.m.View().Events(fsm.AfterIndex(oldest.Index-1), 2, fsm.EventFilter{})
	if err != nil || len(page.Events) != 2 || page.Events[0].Index != oldest.Index {
		t.Fatalf("from just before the oldest: %+v %v", page, err)
	}
	fill(2 * stride * places / batch)
	if kept := len(r.contents('e')); kept < stride*(places-1) || kept > stride*places {
		t.Fatalf("%d events are kept", kept)
	}
}

func (r *rig) firstEvent() *sluicev1.Event {
	r.t.Helper()
	page, err := r.m.View().Events(fsm.EventPlace{}, 1, fsm.EventFilter{})
	if err != nil || len(page.Events) != 1 {
		r.t.Fatal(page, err)
	}
	return page.Events[0]
}

func TestLeaderElectedNamesANode(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.refused("BAD_FIELD", electedCommand(""))
	r.refused("BAD_FIELD", electedCommand(strings.Repeat("n", 257)))
	r.ok(electedCommand("n1"))
	if e := r.firstEvent(); e.NodeId != "n1" || e.Term != 1 {
		t.Fatal(e)
	}
}

// TestAnActorOfOneDueThingIsNotThatOfTheNext lets a recovery end by itself and then a message expire, in one command.
func TestAnActorOfOneDueThingIsNotThatOfTheNext(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.ok(enterRequest(&sluicev1.EnterRecoveryRequest{Instance: "i", Until: r.at(time.Second)}))
	m := message("j", "a", "step")
	m.ExpireTime = r.at(2 * time.Second)
	r.put(m)
	since := r.seen()
	r.tick(time.Minute)
	r.ok(advanceCommand(10))
	got := r.wantEvents(since, "recovery_completed message_expired:a")
	if got[0].Actor != "until" || got[1].Actor != "tester" {
		t.Fatal(got)
	}
}

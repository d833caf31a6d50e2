package fsm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

// The words of the contract, short, for tables.
const (
	normal   = sluicev1.Mode_MODE_NORMAL
	recovery = sluicev1.Mode_MODE_RECOVERY
	draining = sluicev1.Mode_MODE_DRAINING

	laneNormal   = sluicev1.Lane_LANE_NORMAL
	laneRecovery = sluicev1.Lane_LANE_RECOVERY
	laneOutgoing = sluicev1.Lane_LANE_OUTGOING

	dispAccepted = sluicev1.Disposition_DISPOSITION_ACCEPTED
	dispDeferred = sluicev1.Disposition_DISPOSITION_DEFERRED
	dispRecovery = sluicev1.Disposition_DISPOSITION_RECOVERY

	outCompleted = sluicev1.Outcome_OUTCOME_COMPLETED
	outFailed    = sluicev1.Outcome_OUTCOME_FAILED
	outRejected  = sluicev1.Outcome_OUTCOME_REJECTED

	kindCompleted = sluicev1.SettlementKind_SETTLEMENT_COMPLETED
	kindSkipped   = sluicev1.SettlementKind_SETTLEMENT_SKIPPED
	kindDead      = sluicev1.SettlementKind_SETTLEMENT_DEAD_LETTERED
	kindExpired   = sluicev1.SettlementKind_SETTLEMENT_EXPIRED

	queued   = sluicev1.Status_MESSAGE_STATUS_QUEUED
	held     = sluicev1.Status_MESSAGE_STATUS_DEFERRED
	inFlight = sluicev1.Status_MESSAGE_STATUS_IN_FLIGHT
	settled  = sluicev1.Status_MESSAGE_STATUS_SETTLED
)

// start is the clock of every test at its beginning, Unix ms.
const start = int64(1_700_000_000_000)

// rig is a machine under test that is fed one command an entry. Its clock moves by tick and advance alone.
type rig struct {
	t     testing.TB
	store *queue.MemoryStore
	m     *fsm.Machine
	index uint64
	now   int64
	actor string
	fx    fsm.Effects // of the last command
}

// setup gives a machine that knows the application "app", and checks the state's structure when the test ends.
func setup(t testing.TB, options ...func(*sluicev1.Application)) *rig {
	t.Helper()
	r := &rig{t: t, store: queue.NewMemoryStore(), now: start, actor: "tester"}
	m, err := fsm.Open(r.store, fsm.Options{CacheInstances: 2, LatelyBytes: 4 << 10, BucketRecords: 3})
	if err != nil {
		t.Fatal(err)
	}
	r.m = m
	r.declare("app", options...)
	t.Cleanup(func() {
		if trouble := structure(r.store); len(trouble) > 0 && !t.Failed() {
			t.Errorf("the state is not sound:\n%s", strings.Join(trouble, "\n"))
		}
	})
	return r
}

func (r *rig) declare(name string, options ...func(*sluicev1.Application)) *sluicev1.Application {
	r.t.Helper()
	a := &sluicev1.Application{Name: name, Limits: &sluicev1.Limits{}, Delivery: &sluicev1.Application_Delivery{}, Retention: &sluicev1.Retention{}}
	for _, o := range options {
		o(a)
	}
	return r.ok(&logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: a}}).GetApplication()
}

// apply gives one entry of commands to the machine.
func (r *rig) apply(cs ...*logv1.Command) ([]*logv1.Outcome, error) {
	r.index++
	data, err := proto.Marshal(&logv1.Entry{TimeMs: r.now, Commands: cs})
	if err != nil {
		return nil, err
	}
	results, fx, err := r.m.Apply([]fsm.Entry{{Index: r.index, Term: 1, Data: data}})
	if err != nil {
		return nil, err
	}
	r.fx = fx
	return results[0].Outcomes, nil
}

func (r *rig) do(c *logv1.Command) *logv1.Outcome {
	r.t.Helper()
	c.Actor = r.actor
	outs, err := r.apply(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return outs[0]
}

// ok wants a command not to be refused.
func (r *rig) ok(c *logv1.Command) *logv1.Outcome {
	r.t.Helper()
	out := r.do(c)
	if out.Fault != nil {
		r.t.Fatalf("refused: %v", out.Fault)
	}
	return out
}

// refused wants a command to be refused with a reason.
func (r *rig) refused(want string, c *logv1.Command) {
	r.t.Helper()
	if out := r.do(c); out.Fault.GetReason() != want {
		r.t.Fatalf("want %s, got %v", want, out)
	}
}

// try sends a message and gives its result.
func (r *rig) try(m *sluicev1.Message) *sluicev1.SendResult {
	r.t.Helper()
	return r.ok(sendCommand(m)).GetSend().Results[0]
}

// put sends a message that must be accepted.
func (r *rig) put(m *sluicev1.Message) *sluicev1.Receipt {
	r.t.Helper()
	res := r.try(m)
	if res.Error != nil {
		r.t.Fatalf("send %s: %v", m.Id, res.Error)
	}
	return res.Receipt
}

// send sends normal messages to an instance, and gives the last receipt.
func (r *rig) send(instance string, ids ...string) (last *sluicev1.Receipt) {
	r.t.Helper()
	for _, id := range ids {
		last = r.put(message(instance, id, "step"))
	}
	return last
}

// sendRecovery sends a recovery message.
func (r *rig) sendRecovery(instance, id string) *sluicev1.Receipt {
	r.t.Helper()
	return r.put(message(instance, id, "recovery.step"))
}

// noSend wants a message to be refused with a reason.
func (r *rig) noSend(want string, m *sluicev1.Message) {
	r.t.Helper()
	if res := r.try(m); res.Error.GetReason() != want {
		r.t.Fatalf("send %s: want %s, got %v", m.Id, want, res)
	}
}

func (r *rig) enter(instance string) *sluicev1.Instance {
	r.t.Helper()
	return r.ok(enterCommand(instance, "because")).GetInstance()
}

func (r *rig) complete(instance string, through uint64) *sluicev1.Instance {
	r.t.Helper()
	return r.ok(completeRequest(&sluicev1.CompleteRecoveryRequest{Instance: instance, ProcessedThrough: through})).GetInstance()
}

func (r *rig) enterAll(cause string) *sluicev1.Application {
	r.t.Helper()
	return r.ok(enterAllRequest(&sluicev1.EnterApplicationRecoveryRequest{Cause: cause})).GetApplication()
}

func (r *rig) open(session string, capacity uint32) {
	r.t.Helper()
	r.ok(openCommand(&logv1.OpenSession{SessionId: session, Application: "app", Name: "worker " + session, Capacity: capacity}))
}

func (r *rig) expire(sessions ...string) {
	r.t.Helper()
	r.ok(expireCommand(sessions...))
}

// assign gives an instance to a session, and wants that to have an effect.
func (r *rig) assign(instance, session string) {
	r.t.Helper()
	if n := r.ok(assignCommand(instance, session)).GetProgress().Done; n != 1 {
		r.t.Fatalf("assign %s to %s had no effect", instance, session)
	}
}

// own opens a session and gives it an instance.
func (r *rig) own(instance, session string) {
	r.t.Helper()
	r.open(session, 10)
	r.assign(instance, session)
}

// settle gives a settlement's result: "" for done, "duplicate", or the reason of its refusal.
func (r *rig) settle(session string, s *sluicev1.Settlement) string {
	r.t.Helper()
	return verdict(r.ok(settleCommand(session, s)).GetSettle().Results[0])
}

func verdict(res *sluicev1.SettleResult) string {
	switch {
	case res.Error != nil:
		return res.Error.Reason
	case res.Duplicate:
		return "duplicate"
	default:
		return ""
	}
}

// finish settles a delivery, and wants that to be done.
func (r *rig) finish(session string, d *sluicev1.Delivery, o sluicev1.Outcome) {
	r.t.Helper()
	if v := r.settle(session, taking(d, o)); v != "" {
		r.t.Fatalf("settle %v seq %d: %s", d.Lane, d.Seq, v)
	}
}

// work settles messages as completed, one after the other, and wants them to be those named.
func (r *rig) work(session, instance string, ids ...string) {
	r.t.Helper()
	for _, id := range ids {
		d := r.head(instance)
		if d.Message.GetId() != id {
			r.t.Fatalf("the head of %s is %v, want %s", instance, d, id)
		}
		r.finish(session, d, outCompleted)
	}
}

// offer is all that is out of an instance.
func (r *rig) offer(instance string) *fsm.Offer {
	r.t.Helper()
	o, err := r.m.View().Offer(fsm.InstanceID{Application: "app", Key: instance}, fsm.Given{}, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	return o
}

// head is the first message that is out.
func (r *rig) head(instance string) *sluicev1.Delivery {
	r.t.Helper()
	for _, d := range r.offer(instance).Deliveries {
		if d.Kind == sluicev1.DeliveryKind_DELIVERY_MESSAGE {
			return d
		}
	}
	r.t.Fatalf("no message of %s is out", instance)
	return nil
}

// announcement is the recovery that is offered to the owner of an instance.
func (r *rig) announcement(instance string) *sluicev1.Delivery {
	r.t.Helper()
	if ds := r.offer(instance).Deliveries; len(ds) > 0 && ds[0].Kind == sluicev1.DeliveryKind_DELIVERY_RECOVERY {
		return ds[0]
	}
	r.t.Fatalf("no recovery of %s is announced", instance)
	return nil
}

// outs names what is out of an instance, in order; the announcement of a recovery is "!".
func (r *rig) outs(instance string) string {
	r.t.Helper()
	var names []string
	for _, d := range r.offer(instance).Deliveries {
		if d.Kind == sluicev1.DeliveryKind_DELIVERY_RECOVERY {
			names = append(names, "!")
		} else {
			names = append(names, d.Message.Id)
		}
	}
	return strings.Join(names, " ")
}

func (r *rig) wantOuts(instance, want string) {
	r.t.Helper()
	if got := r.outs(instance); got != want {
		r.t.Fatalf("out of %s: want %q, got %q", instance, want, got)
	}
}

func (r *rig) instance(key string) *sluicev1.Instance {
	r.t.Helper()
	i, err := r.m.View().Instance(fsm.InstanceID{Application: "app", Key: key})
	if err != nil {
		r.t.Fatal(err)
	}
	return i
}

func (r *rig) wantMode(key string, want sluicev1.Mode) *sluicev1.Instance {
	r.t.Helper()
	i := r.instance(key)
	if i.Mode != want {
		r.t.Fatalf("%s is in %v, want %v", key, i.Mode, want)
	}
	return i
}

func (r *rig) status(instance, id string) *sluicev1.MessageStatus {
	r.t.Helper()
	s, err := r.m.View().Message(fsm.InstanceID{Application: "app", Key: instance}, id)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) wantSettled(instance, id string, want sluicev1.SettlementKind) *sluicev1.MessageStatus {
	r.t.Helper()
	s := r.status(instance, id)
	if s.Settlement != want {
		r.t.Fatalf("%s is %v, want %v", id, s, want)
	}
	return s
}

func (r *rig) wantStatus(instance, id string, want sluicev1.Status) *sluicev1.MessageStatus {
	r.t.Helper()
	s := r.status(instance, id)
	if s.Status != want {
		r.t.Fatalf("%s is %v, want %v", id, s, want)
	}
	return s
}

func (r *rig) application(name string) *sluicev1.Application {
	r.t.Helper()
	a, err := r.m.View().Application(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// wantCounts compares the instances by mode: normal, recovery, draining.
func (r *rig) wantCounts(want ...uint64) {
	r.t.Helper()
	c := r.application("app").Counts
	if got := []uint64{c.Normal, c.Recovery, c.Draining}; !slices.Equal(got, want) {
		r.t.Fatalf("instances by mode: want %v, got %v", want, got)
	}
}

func (r *rig) history(key string) []*sluicev1.Transition {
	r.t.Helper()
	h, err := r.m.View().History(fsm.InstanceID{Application: "app", Key: key})
	if err != nil {
		r.t.Fatal(err)
	}
	return h.Transitions
}

// doubts names the unsettled messages of an instance that are in doubt.
func (r *rig) doubts(key string) string {
	r.t.Helper()
	var ids []string
	for _, m := range r.messages(&sluicev1.ListMessagesRequest{Instance: key}) {
		if m.InDoubt {
			ids = append(ids, m.Message.Id)
		}
	}
	return strings.Join(ids, " ")
}

func (r *rig) messages(q *sluicev1.ListMessagesRequest) []*sluicev1.ListedMessage {
	r.t.Helper()
	q.Application = "app"
	out, err := r.m.View().Messages(q)
	if err != nil {
		r.t.Fatal(err)
	}
	return out.Messages
}

// deadLetters lists the dead letters of an instance.
func (r *rig) deadLetters(key string) []*sluicev1.ListedMessage {
	r.t.Helper()
	return r.messages(&sluicev1.ListMessagesRequest{Instance: key, Settlement: kindDead})
}

func (r *rig) tick(d time.Duration) { r.now += d.Milliseconds() }

// advance moves the clock on and lets what has come due happen, all of it.
func (r *rig) advance(d time.Duration) {
	r.t.Helper()
	r.tick(d)
	for more := true; more; {
		more = r.ok(advanceCommand(3)).GetProgress().More
	}
}

func (r *rig) at(d time.Duration) *timestamppb.Timestamp {
	return timestamppb.New(time.UnixMilli(r.now).Add(d))
}

// reopen takes the machine up again from its store.
func (r *rig) reopen() {
	r.t.Helper()
	m, err := fsm.Open(r.store, fsm.Options{BucketRecords: 3})
	if err != nil {
		r.t.Fatal(err)
	}
	r.m = m
}

// wantReason wants a view's error to be a refusal with a reason.
func wantReason(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("[%s]", want)) {
		t.Fatalf("want %s, got %v", want, err)
	}
}

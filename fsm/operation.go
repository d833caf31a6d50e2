package fsm

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// Bounds of the operations on record and of their sets, all together; past them the oldest that has ended goes.
const (
	maxOperations = 1000
	maxItems      = 1_000_000
)

func (t *txn) operation(id string) (*logv1.OperationRecord, error) {
	o := &logv1.OperationRecord{}
	err := queue.Load(t, named(tableOperation, id), o)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, reason.UnknownOperation.Errorf("there is no operation %q", cut(id))
	}
	return o, err
}

// putOperation writes an operation down, and tells how far it is.
func (t *txn) putOperation(o *logv1.OperationRecord) (*logv1.Outcome, error) {
	if err := t.operationEvent(o.Operation); err != nil {
		return nil, err
	}
	out := &logv1.Outcome{Result: &logv1.Outcome_Operation{Operation: proto.Clone(o.Operation).(*sluicev1.Operation)}}
	return out, queue.Put(t, named(tableOperation, o.Operation.Id), o)
}

// completeApplication starts the completion of an application-wide recovery; the leader goes on with it step by step.
func (t *txn) completeApplication(r *sluicev1.CompleteApplicationRecoveryRequest) (*logv1.Outcome, error) {
	a, err := t.application(r.Application)
	if err == nil {
		err = checkRequestID(r.RequestId)
	}
	if err == nil {
		err = checkRate(r.Rate)
	}
	if err != nil {
		return refused(err)
	}
	return t.once(call{a: a, method: "CompleteApplicationRecovery", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		if a.generation() == 0 {
			return refused(reason.NotInRecovery.Errorf("application %s never entered recovery as a whole", a.name()))
		}
		if err := t.makeRoomForOperation(0); err != nil {
			return refused(err)
		}
		t.fx.Operations = true
		return t.putOperation(&logv1.OperationRecord{Generation: a.generation(), Operation: &sluicev1.Operation{
			Id: operationID(t.mint()), Kind: KindComplete, Application: a.name(), State: sluicev1.OperationState_OPERATION_RUNNING,
			Total: a.counts.recovery, Rate: r.Rate, StartTime: timestamp(t.now), Actor: t.actor,
		}})
	})
}

// The kinds of operation, as their answers name them.
const (
	KindEnter    = "enter-recovery"
	KindComplete = "complete-recovery"
)

// KindOf names a kind of operation over a set.
func KindOf(k sluicev1.OperationKind) string {
	if k == sluicev1.OperationKind_OPERATION_KIND_COMPLETE_RECOVERY {
		return KindComplete
	}
	return KindEnter
}

// operationID makes ids of which the order is that of the operations' beginnings.
func operationID(position uint64) string { return fmt.Sprintf("op-%020d", position) }

// onRecord is what making room looks at of an operation.
type onRecord struct {
	id           string
	ended, sized bool
	items        uint64
}

// makeRoomForOperation drops the oldest ended operations, their sets with them, until one more with a set of so many
// instances is within the bounds.
func (t *txn) makeRoomForOperation(items uint64) error {
	var all []onRecord
	sum := items
	err := scan(t, []byte{tableOperation}, func(_, v []byte) error {
		o := &logv1.OperationRecord{}
		if err := proto.Unmarshal(v, o); err != nil {
			return err
		}
		r := onRecord{id: o.Operation.Id, ended: hasEnded(o.Operation.State), sized: o.Request != nil}
		if r.sized {
			r.items = o.Operation.Total
		}
		sum += r.items
		all = append(all, r)
		return nil
	})
	count := len(all)
	for _, r := range all {
		if err != nil || count < maxOperations && sum <= maxItems {
			return err
		}
		if !r.ended || count < maxOperations && !r.sized {
			continue
		}
		count, sum = count-1, sum-r.items
		err = t.dropOperation(r)
	}
	switch {
	case err != nil:
		return err
	case count >= maxOperations:
		return reason.Rate.Errorf("%d operations are under way, which is the limit", count)
	case sum > maxItems:
		return reason.Rate.Errorf("the operations under way hold %d instances in their sets; with %d more they would be over the limit of %d", sum-items, items, maxItems)
	}
	return nil
}

func (t *txn) dropOperation(r onRecord) error {
	if r.sized {
		if err := t.DeleteRange(itemPrefix(r.id), queue.Successor(itemPrefix(r.id))); err != nil {
			return err
		}
	}
	return t.Delete(named(tableOperation, r.id))
}

// hasEnded tells that an operation goes no further.
func hasEnded(s sluicev1.OperationState) bool {
	return s == sluicev1.OperationState_OPERATION_DONE || s == sluicev1.OperationState_OPERATION_CANCELLED
}

// steerOperation cancels, pauses or resumes.
func (t *txn) steerOperation(c *logv1.SteerOperation) (*logv1.Outcome, error) {
	o, err := t.operation(c.Id)
	if err != nil {
		return refused(err)
	}
	op := o.Operation
	switch {
	case op.State == c.State:
		op.Duplicate = true
		return &logv1.Outcome{Result: &logv1.Outcome_Operation{Operation: op}}, nil
	case hasEnded(op.State):
		return refused(reason.BadField.Errorf("operation %s has ended (%v)", op.Id, op.State))
	case c.State == sluicev1.OperationState_OPERATION_CANCELLED:
		op.EndTime = timestamp(t.now)
	case op.State == sluicev1.OperationState_OPERATION_SELECTING:
		return refused(reason.BadField.Errorf("the set of operation %s is being written down; until it runs it can only be cancelled", op.Id))
	case c.State != sluicev1.OperationState_OPERATION_RUNNING && c.State != sluicev1.OperationState_OPERATION_PAUSED:
		return refused(reason.BadField.Errorf("an operation cannot be turned to %v", c.State))
	}
	op.State = c.State
	t.fx.Operations = true
	return t.putOperation(o)
}

// stepLooks bounds how many instances one step looks at to find those that it acts on.
const stepLooks = 1000

// stepping is one StepOperation at work.
type stepping struct {
	a     *application
	o     *logv1.OperationRecord
	busy  map[string]bool
	acted int
	limit int
}

// stepOperation goes on with a running operation: it acts on at most so many instances, in the order of their keys or
// of their places in the set. What it only looks at does not count, and is bounded for itself.
func (t *txn) stepOperation(c *logv1.StepOperation) (*logv1.Outcome, error) {
	o, err := t.operation(c.Id)
	if err != nil {
		return refused(err)
	}
	s := &stepping{a: t.m.applications[o.Operation.Application], o: o, busy: map[string]bool{}, limit: clamp(c.Limit)}
	if o.Operation.State != sluicev1.OperationState_OPERATION_RUNNING || s.a == nil {
		return progress(0, false)
	}
	for _, k := range c.Busy {
		s.busy[k] = true
	}
	t.actor = "operation " + o.Operation.Id
	more := false
	if o.Request != nil {
		more, err = t.stepSet(s)
	} else {
		more, err = t.stepAll(s)
	}
	if err != nil {
		return nil, err
	}
	if op := o.Operation; !more {
		op.State, op.EndTime = sluicev1.OperationState_OPERATION_DONE, timestamp(t.now)
		op.Total = op.Done + op.PassedOver + op.Failed
	}
	if _, err := t.putOperation(o); err != nil {
		return nil, err
	}
	return progress(s.acted, more)
}

// stepAll goes on with the completion of a whole application.
func (t *txn) stepAll(s *stepping) (more bool, err error) {
	keys, more, err := keysAfter(t, s.a, s.o.Cursor, max(stepLooks, s.limit))
	if err != nil {
		return false, err
	}
	for n, k := range keys {
		if err := t.stepOne(s, k); err != nil {
			return false, err
		}
		s.o.Cursor = k
		if s.acted == s.limit {
			return more || n+1 < len(keys), nil
		}
	}
	return more, nil
}

// keysAfter gives the keys of an application's instances that follow one, at most so many.
func keysAfter(r queue.Reader, a *application, after string, limit int) (keys []string, more bool, err error) {
	prefix := named(tableInstance, a.name(), "")
	it, err := r.NewIter(append(bytes.Clone(prefix), after...), queue.Successor(prefix))
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		k := string(it.Key()[len(prefix):])
		if k == after && after != "" {
			continue
		}
		if len(keys) == limit {
			return keys, true, nil
		}
		keys = append(keys, k)
	}
	return keys, false, it.Error()
}

// stepOne completes the recovery of one instance if the application-wide entry began it, or passes it over. One that
// was put into recovery since is left alone, and no part of the total.
func (t *txn) stepOne(s *stepping, key string) error {
	i, err := t.find(s.a, key)
	if err != nil || i == nil || i.rec.Terminated || i.rec.Mode != recoveryMode {
		return err
	}
	op := s.o.Operation
	if i.rec.RecoveryGeneration != s.o.Generation {
		if op.Total > op.Done+op.PassedOver {
			op.Total--
		}
		return nil
	}
	why, err := t.heldBy(i, s)
	if err != nil {
		return err
	}
	if why != "" {
		op.PassedOver++
		return nil
	}
	op.Done++
	s.acted++
	return t.turnBack(i, &sluicev1.CompleteRecoveryRequest{})
}

// against is what stands against the completion of a recovery by an operation.
type against byte

const (
	againstNothing against = iota
	againstDoubt
	againstPending
	againstWork
)

// against tells what stands against the completion of a recovery by an operation that is over with a generation; doubt
// tells that something is in doubt, busy that the recovery handler is at work. What is in doubt only because it failed as
// the others did in the outage that is over with this operation is tried again: its handler has said that it failed.
func (i *instance) against(generation uint64, doubt, busy bool) against {
	switch {
	case doubt && !i.app.poisonOf(generation, i.rec):
		return againstDoubt
	case i.rec.Recovery.Messages > 0:
		return againstPending
	case busy:
		return againstWork
	}
	return againstNothing
}

// heldBy says why an operation does not complete a recovery, or nothing.
func (t *txn) heldBy(i *instance, s *stepping) (string, error) {
	doubt, err := t.inDoubt(i)
	if err != nil {
		return "", err
	}
	switch i.against(s.o.Generation, doubt, s.busy[i.rec.Key]) {
	case againstDoubt:
		return "messages are in doubt: a recovery handler or an operator must say which took effect", nil
	case againstPending:
		return fmt.Sprintf("%d recovery messages are unsettled", i.rec.Recovery.Messages), nil
	case againstWork:
		return "its recovery handler is at work", nil
	}
	return "", nil
}

package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// maxOperations bounds the operations on record; past it the oldest that has ended goes.
const maxOperations = 1000

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
	if err == nil && !(r.Rate >= 0 && r.Rate <= 1e9) {
		err = reason.BadField.Errorf("rate is %v; allowed are 0 (as fast as the cluster allows) to 1e9 instances a second", r.Rate)
	}
	if err != nil {
		return refused(err)
	}
	return t.once(call{a: a, method: "CompleteApplicationRecovery", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		if a.generation() == 0 {
			return refused(reason.NotInRecovery.Errorf("application %s never entered recovery as a whole", a.name()))
		}
		if err := t.makeRoomForOperation(); err != nil {
			return refused(err)
		}
		t.fx.Operations = true
		return t.putOperation(&logv1.OperationRecord{Generation: a.generation(), Operation: &sluicev1.Operation{
			Id: fmt.Sprintf("op-%020d", t.mint()), Kind: "complete-recovery", Application: a.name(), State: sluicev1.OperationState_OPERATION_RUNNING,
			Total: a.counts.recovery, Rate: r.Rate, StartTime: timestamp(t.now),
		}})
	})
}

func (t *txn) makeRoomForOperation() error {
	count := 0
	var ended []byte
	err := scan(t, []byte{tableOperation}, func(k, v []byte) error {
		count++
		o := &logv1.OperationRecord{}
		if err := proto.Unmarshal(v, o); err != nil {
			return err
		}
		if ended == nil && hasEnded(o.Operation.State) {
			ended = bytes.Clone(k)
		}
		return nil
	})
	switch {
	case err != nil || count < maxOperations:
		return err
	case ended == nil:
		return reason.Rate.Errorf("%d operations are under way, which is the limit", count)
	}
	return t.Delete(ended)
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
	case c.State != sluicev1.OperationState_OPERATION_RUNNING && c.State != sluicev1.OperationState_OPERATION_PAUSED:
		return refused(reason.BadField.Errorf("an operation cannot be turned to %v", c.State))
	}
	op.State = c.State
	t.fx.Operations = true
	return t.putOperation(o)
}

// stepOperation goes on with a running operation for some instances, in the order of their keys.
func (t *txn) stepOperation(c *logv1.StepOperation) (*logv1.Outcome, error) {
	o, err := t.operation(c.Id)
	if err != nil {
		return refused(err)
	}
	a := t.m.applications[o.Operation.Application]
	if o.Operation.State != sluicev1.OperationState_OPERATION_RUNNING || a == nil {
		return progress(0, false)
	}
	keys, more, err := keysAfter(t, a, o.Cursor, clamp(c.Limit))
	if err != nil {
		return nil, err
	}
	done := 0
	for _, k := range keys {
		ended, err := t.stepOne(a, k, o, slices.Contains(c.Busy, k))
		if err != nil {
			return nil, err
		}
		if ended {
			done++
		}
	}
	if len(keys) > 0 {
		o.Cursor = keys[len(keys)-1]
	}
	if !more {
		o.Operation.State, o.Operation.EndTime = sluicev1.OperationState_OPERATION_DONE, timestamp(t.now)
	}
	if _, err := t.putOperation(o); err != nil {
		return nil, err
	}
	return progress(done, more)
}

// keysAfter lists the keys of the instances that an operation looks at next.
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

// concerns tells that an operation is about an instance's present recovery: the application-wide entry began it.
func concerns(o *logv1.OperationRecord, i *instance) bool {
	return !i.rec.Terminated && i.rec.Mode == recoveryMode && i.rec.RecoveryGeneration == o.Generation
}

// stepOne completes the recovery of one instance if the application-wide entry began it; it is passed over while
// something is in doubt or pending, or its recovery handler is at work.
func (t *txn) stepOne(a *application, key string, o *logv1.OperationRecord, busy bool) (ended bool, err error) {
	i, err := t.find(a, key)
	if err != nil || i == nil || !concerns(o, i) {
		return false, err
	}
	doubt, err := t.inDoubt(i)
	if err != nil {
		return false, err
	}
	if doubt || busy || i.rec.Recovery.Messages > 0 {
		o.Operation.PassedOver++
		return false, nil
	}
	o.Operation.Done++
	t.actor = "operation " + o.Operation.Id
	return true, t.turnBack(i, &sluicev1.CompleteRecoveryRequest{})
}

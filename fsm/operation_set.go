package fsm

import (
	"errors"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// Bounds of an operation over a set.
const (
	// MaxSet is how many instances one operation takes.
	MaxSet = 100_000
	// MaxPart is how many instances one command adds to a set.
	MaxPart = 4096
	// maxNamed is how many instances a selector may name one by one.
	maxNamed = 10_000
	// selectingMS is how long, by the state's clock, an operation waits for the next part of its set.
	selectingMS = 60_000
)

// beginOperation begins an operation over a set that was chosen from the state at an earlier index, and is frozen.
func (t *txn) beginOperation(c *logv1.BeginOperation) (*logv1.Outcome, error) {
	r := c.Request
	a, err := t.application(r.GetApplication())
	if err == nil {
		err = checkStart(r)
	}
	if err == nil && r.DryRun {
		err = reason.BadField.Errorf("dry_run is set: a dry run is no part of the log")
	}
	if err == nil {
		err = checkTotal(c.Total)
	}
	if err != nil {
		return refused(err)
	}
	return t.once(call{a: a, method: "StartOperation", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		if err := t.makeRoomForOperation(c.Total); err != nil {
			return refused(err)
		}
		position := t.mint()
		o := newSetOperation(operationID(position), c)
		o.Operation.StartTime, o.Operation.Actor = timestamp(t.now), t.actor
		if c.Total == 0 {
			o.Operation.State, o.Operation.EndTime = sluicev1.OperationState_OPERATION_DONE, timestamp(t.now)
			return t.putOperation(o)
		}
		wait := due{at: t.now + selectingMS, kind: dueSelecting, uid: position}
		if err := t.due(wait, InstanceID{a.name(), o.Operation.Id}); err != nil {
			return nil, err
		}
		return t.putOperation(o)
	})
}

// newSetOperation makes the record. Instances that the selector names are not kept in it: they are the set.
func newSetOperation(id string, c *logv1.BeginOperation) *logv1.OperationRecord {
	r := proto.CloneOf(c.Request)
	r.Selector.Instances = nil
	return &logv1.OperationRecord{Request: r, Operation: &sluicev1.Operation{
		Id: id, Kind: KindOf(r.Kind), Application: r.Application, State: sluicev1.OperationState_OPERATION_SELECTING,
		Total: c.Total, Rate: r.Rate, Cause: r.Cause, Selector: r.Selector, FrozenIndex: c.FrozenIndex,
	}}
}

func checkTotal(n uint64) error {
	if n > MaxSet {
		return reason.BadField.Errorf("selector chooses more than %d instances, which is the most that one operation takes; application-wide recovery (ApplicationService.EnterRecovery) takes all, whatever their number", MaxSet)
	}
	return nil
}

// checkStart refuses a request that could not be carried out, but for its application, which is looked up.
func checkStart(r *sluicev1.StartOperationRequest) error {
	enters := r.Kind == sluicev1.OperationKind_OPERATION_KIND_ENTER_RECOVERY
	if !enters && r.Kind != sluicev1.OperationKind_OPERATION_KIND_COMPLETE_RECOVERY {
		return reason.BadField.Errorf("kind is %v; allowed are OPERATION_KIND_ENTER_RECOVERY and OPERATION_KIND_COMPLETE_RECOVERY", r.Kind)
	}
	if r.Until != nil {
		if err := r.Until.CheckValid(); err != nil {
			return reason.BadField.Errorf("until: %v", err)
		}
		if !enters {
			return reason.BadField.Errorf("until goes with OPERATION_KIND_ENTER_RECOVERY alone")
		}
	}
	if err := checkRate(r.Rate); err != nil {
		return err
	}
	if err := checkSelector(r.Selector); err != nil {
		return err
	}
	return errors.Join(checkText("cause", r.Cause, maxTextBytes), checkRequestID(r.RequestId))
}

func checkRate(rate float64) error {
	if !(rate >= 0 && rate <= 1e9) {
		return reason.BadField.Errorf("rate is %v; allowed are 0 (as fast as the cluster allows) to 1e9 instances a second", rate)
	}
	return nil
}

func checkSelector(s *sluicev1.Selector) error {
	if s.GetMode() == 0 && s.GetPrefix() == "" && s.GetOwner() == "" && len(s.GetInstances()) == 0 && s.GetMinDeferred() == 0 {
		return reason.BadField.Errorf("selector is empty: give at least one of mode, prefix, owner, instances and min_deferred; application-wide recovery takes all")
	}
	if _, ok := sluicev1.Mode_name[int32(s.Mode)]; !ok {
		return reason.BadField.Errorf("selector.mode is %d; allowed are MODE_NORMAL, MODE_RECOVERY and MODE_DRAINING", s.Mode)
	}
	if len(s.Instances) > maxNamed {
		return reason.BadField.Errorf("selector.instances holds %d; at most %d are allowed", len(s.Instances), maxNamed)
	}
	for _, k := range s.Instances {
		if err := checkKey("selector.instances", k, reason.BadField); err != nil {
			return err
		}
	}
	return errors.Join(checkText("selector.prefix", s.Prefix, maxKeyBytes), checkText("selector.owner", s.Owner, maxKeyBytes))
}

// addOperationItems writes a part of a set down. A part that lies within what is written has no effect.
func (t *txn) addOperationItems(c *logv1.AddOperationItems) (*logv1.Outcome, error) {
	o, err := t.operation(c.Id)
	if err != nil {
		return refused(err)
	}
	op, n := o.Operation, uint64(len(c.Instances))
	if o.Request != nil && c.Place <= o.Written && n <= o.Written-c.Place {
		op.Duplicate = true
		return &logv1.Outcome{Result: &logv1.Outcome_Operation{Operation: op}}, nil
	}
	if err := checkPart(o, c); err != nil {
		return refused(err)
	}
	for k, key := range c.Instances {
		item := &sluicev1.OperationItem{Instance: key, State: sluicev1.ItemState_ITEM_PENDING}
		if err := queue.Put(t, itemKey(op.Id, c.Place+uint64(k)), &logv1.OperationItemRecord{Item: item}); err != nil {
			return nil, err
		}
	}
	o.Written += n
	if o.Written == op.Total {
		op.State = sluicev1.OperationState_OPERATION_RUNNING
		t.fx.Operations = true
	}
	return t.putOperation(o)
}

func checkPart(o *logv1.OperationRecord, c *logv1.AddOperationItems) error {
	op := o.Operation
	switch n := uint64(len(c.Instances)); {
	case o.Request == nil || op.State != sluicev1.OperationState_OPERATION_SELECTING:
		return reason.BadField.Errorf("operation %s is %v: nothing can be added to its set", op.Id, op.State)
	case n > MaxPart:
		return reason.BadField.Errorf("instances holds %d; at most %d are allowed", n, MaxPart)
	case c.Place != o.Written:
		return reason.BadField.Errorf("place is %d; the next part of the set of %s begins at %d", c.Place, op.Id, o.Written)
	case n > op.Total-o.Written:
		return reason.BadField.Errorf("instances holds %d; the set of %s lacks %d", n, op.Id, op.Total-o.Written)
	}
	for _, k := range c.Instances {
		if err := checkKey("instances", k, reason.BadField); err != nil {
			return err
		}
	}
	return nil
}

// selectingDue cancels an operation whose set was not added to since this was noted: who wrote it down is gone.
func (t *txn) selectingDue(d dueItem) error {
	o, err := t.operation(d.id.Key)
	if errors.Is(err, reason.UnknownOperation) {
		return nil
	}
	if err != nil || o.Operation.State != sluicev1.OperationState_OPERATION_SELECTING {
		return err
	}
	if o.Written != d.extra {
		next := d.due
		next.at, next.extra = t.now+selectingMS, o.Written
		return t.due(next, d.id)
	}
	o.Operation.State, o.Operation.EndTime = sluicev1.OperationState_OPERATION_CANCELLED, timestamp(t.now)
	_, err = t.putOperation(o)
	return err
}

// stepSet goes on with an operation over a set, in the order of the places.
func (t *txn) stepSet(s *stepping) (more bool, err error) {
	for range max(stepLooks, s.limit) {
		if s.o.At == s.o.Operation.Total || s.acted == s.limit {
			break
		}
		if err := t.stepItem(s, s.o.At); err != nil {
			return false, err
		}
		s.o.At++
	}
	return s.o.At < s.o.Operation.Total, nil
}

// stepItem does to one instance of a set what is to be done, and notes what became of it.
func (t *txn) stepItem(s *stepping, place uint64) error {
	rec, at := &logv1.OperationItemRecord{}, itemKey(s.o.Operation.Id, place)
	if err := queue.Load(t, at, rec); err != nil {
		return err
	}
	i, err := t.find(s.a, rec.Item.Instance)
	if err != nil {
		return err
	}
	op, item := s.o.Operation, rec.Item
	if item.State, item.Detail, err = t.actOn(s, i); err != nil {
		return err
	}
	switch item.State {
	case sluicev1.ItemState_ITEM_DONE:
		op.Done++
		s.acted++
	case sluicev1.ItemState_ITEM_PASSED_OVER:
		op.PassedOver++
	default:
		op.Failed++
	}
	return queue.Put(t, at, rec)
}

// actOn enters or completes the recovery of one instance, and says why if it does not.
func (t *txn) actOn(s *stepping, i *instance) (sluicev1.ItemState, string, error) {
	const done, passed, failed = sluicev1.ItemState_ITEM_DONE, sluicev1.ItemState_ITEM_PASSED_OVER, sluicev1.ItemState_ITEM_FAILED
	r := s.o.Request
	enters := r.Kind == sluicev1.OperationKind_OPERATION_KIND_ENTER_RECOVERY
	switch {
	case i == nil:
		return failed, "there is no such instance", nil
	case i.rec.Terminated:
		return failed, "it was terminated: " + cutCause(i.rec.TerminateReason), nil
	case enters && i.rec.Mode == recoveryMode:
		return passed, "it is in recovery already: " + cutCause(i.rec.Cause), nil
	case enters:
		return done, "", t.enterUntil(i, r.Cause, r.Until)
	case i.rec.Mode != recoveryMode:
		return passed, "it is not in recovery: it is in " + modeName(i.rec.Mode) + " mode", nil
	}
	why, err := t.heldBy(i, s)
	if err != nil || why != "" {
		return passed, why, err
	}
	return done, "", t.turnBack(i, &sluicev1.CompleteRecoveryRequest{})
}

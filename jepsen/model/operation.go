package model

import (
	"fmt"
	"slices"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

const (
	// stepLooks is how many instances one step looks at to find those that it acts on.
	stepLooks = 1000
	// operationsMost is how many operations are on record.
	operationsMost = 1000
	// partWait is how long an operation waits for the next part of its set, ms.
	partWait = 60_000
)

// operation is work over many instances, in the background: the completion of an application-wide recovery, or of a set.
type operation struct {
	application string
	state       string // selecting, running, paused, done or cancelled
	// Of a whole application: the entry whose recoveries it completes, and the last key that it has passed.
	entered int
	cursor  string
	// Of a set: whether it enters, how many instances there are, their keys as far as written down, and the next place.
	set, enters bool
	until       int64
	total       int
	items       []string
	at          int
	// lookAt is when it is looked whether the set has grown since; seen is how far it had then.
	lookAt int64
	seen   int
	// What became of its instances.
	done, passed, failed int
}

func (m *Machine) completeApplication(c *sluicev1.CompleteApplicationRecoveryRequest, o *logv1.Outcome) error {
	return m.once("CompleteApplicationRecovery", ID{Application: c.Application}, c.RequestId, c, o, func() error {
		a := m.applications[c.Application]
		refusal := reason.Reason("")
		if a == nil {
			refusal = reason.UnknownApplication
		} else if a.entered == 0 {
			refusal = reason.NotInRecovery
		}
		if m.judged("completion of application "+c.Application, refusal, o.Fault) {
			return m.begun(&operation{application: c.Application, state: "running", entered: a.entered}, o)
		}
		return nil
	})
}

// beginOperation begins an operation over a set that is written down by and by.
func (m *Machine) beginOperation(c *logv1.BeginOperation, o *logv1.Outcome) error {
	r := c.Request
	return m.once("StartOperation", ID{Application: r.GetApplication()}, r.GetRequestId(), r, o, func() error {
		refusal := reason.Reason("")
		if m.applications[r.GetApplication()] == nil {
			refusal = reason.UnknownApplication
		}
		if !m.judged("beginning of an operation on "+r.GetApplication(), refusal, o.Fault) {
			return nil
		}
		op := &operation{
			application: r.Application, state: "selecting", set: true, enters: r.Kind == sluicev1.OperationKind_OPERATION_KIND_ENTER_RECOVERY,
			total: int(c.Total), lookAt: m.clock + partWait,
		}
		if r.Until != nil {
			op.until = dueTime(r.Until)
		}
		if op.total == 0 {
			op.state = "done"
		}
		m.Happened["operation over a set"]++
		return m.begun(op, o)
	})
}

func (m *Machine) begun(op *operation, o *logv1.Outcome) error {
	if len(m.operations) >= operationsMost {
		return &Beyond{"more operations than are kept on record"}
	}
	m.operations[o.GetOperation().GetId()] = op
	m.sameOperation("beginning of an operation", op, false, o)
	return nil
}

// addItems writes a part of a set down. A part that was written before has no effect.
func (m *Machine) addItems(c *logv1.AddOperationItems, o *logv1.Outcome) error {
	op, what := m.operations[c.Id], fmt.Sprintf("part of the set of operation %s at %d", c.Id, c.Place)
	place, size := int(c.Place), len(c.Instances)
	again := op != nil && op.set && place+size <= len(op.items)
	refusal := reason.Reason("")
	switch {
	case op == nil:
		refusal = reason.UnknownOperation
	case !again && (!op.set || op.state != "selecting" || place != len(op.items) || place+size > op.total):
		refusal = reason.BadField
	}
	if !m.judged(what, refusal, o.Fault) {
		return nil
	}
	if !again {
		op.items = append(op.items, c.Instances...)
		if len(op.items) == op.total {
			op.state = "running"
		}
	}
	m.sameOperation(what, op, again, o)
	return nil
}

// abandon cancels an operation whose set has not grown since it was looked at last.
func (op *operation) abandon(now int64) func() {
	return func() {
		if len(op.items) == op.seen {
			op.state = "cancelled"
		}
		op.lookAt, op.seen = now+partWait, len(op.items)
	}
}

var operationStates = map[sluicev1.OperationState]string{
	sluicev1.OperationState_OPERATION_SELECTING: "selecting", sluicev1.OperationState_OPERATION_RUNNING: "running", sluicev1.OperationState_OPERATION_PAUSED: "paused",
	sluicev1.OperationState_OPERATION_DONE: "done", sluicev1.OperationState_OPERATION_CANCELLED: "cancelled",
}

// sameOperation holds an answer about an operation against how it stands.
func (m *Machine) sameOperation(what string, op *operation, duplicate bool, o *logv1.Outcome) {
	told := o.GetOperation()
	if o.Fault != nil || told == nil {
		return
	}
	if told.Duplicate != duplicate {
		m.wrong("I10", "%s: promised is duplicate=%v, the cluster answered duplicate=%v", what, duplicate, told.Duplicate)
	}
	if state := operationStates[told.State]; state != op.state || int(told.Done) != op.done || int(told.PassedOver) != op.passed || int(told.Failed) != op.failed {
		m.wrong("I9", "%s: promised is %s, %d done, %d passed over, %d failed; the cluster answered %s, %d, %d, %d", what, op.state, op.done, op.passed, op.failed, state, told.Done, told.PassedOver, told.Failed)
	}
}

// steerOperation pauses, resumes or cancels.
func (m *Machine) steerOperation(c *logv1.SteerOperation, o *logv1.Outcome) error {
	op, what := m.operations[c.Id], fmt.Sprintf("turning operation %s to %v", c.Id, c.State)
	to := operationStates[c.State]
	refusal := reason.Reason("")
	switch {
	case op == nil:
		refusal = reason.UnknownOperation
	case op.state == to:
	case op.state == "done", op.state == "cancelled", op.state == "selecting" && to != "cancelled", to == "done", to == "selecting":
		refusal = reason.BadField
	}
	if m.judged(what, refusal, o.Fault) {
		again := op.state == to
		op.state = to
		m.sameOperation(what, op, again, o)
	}
	return nil
}

// stepOperation goes on with an operation: it acts on at most so many instances, in the order of their keys or of the set.
func (m *Machine) stepOperation(c *logv1.StepOperation, o *logv1.Outcome) error {
	op, what := m.operations[c.Id], "step of operation "+c.Id
	refusal := reason.Reason("")
	if op == nil {
		refusal = reason.UnknownOperation
	}
	if !m.judged(what, refusal, o.Fault) {
		return nil
	}
	acted, more := 0, false
	if op.state == "running" {
		acted, more = m.step(op, c)
	}
	if told := o.GetProgress(); int(told.GetDone()) != acted || told.GetMore() != more {
		m.wrong("I9", "%s: promised is that it acts on %d, and more=%v; the cluster answered %d, %v", what, acted, more, told.GetDone(), told.GetMore())
	}
	return nil
}

func (m *Machine) step(op *operation, c *logv1.StepOperation) (acted int, more bool) {
	var keys []string
	if op.set {
		keys = op.items[op.at:]
	} else {
		for _, i := range m.of(op.application) {
			if i.ID.Key > op.cursor && i.born != m.at.Index { // what is born in this entry is no concern of it
				keys = append(keys, i.ID.Key)
			}
		}
	}
	before, limit, looked := op.done, int(max(c.Limit, 1)), 0
	for looked < len(keys) && looked < max(stepLooks, limit) && op.done-before < limit {
		i := m.instances[ID{op.application, keys[looked]}]
		if op.set {
			m.actOn(op, i, c.Busy)
		} else {
			m.completeOf(op, i, c.Busy)
		}
		op.cursor = keys[looked]
		looked++
	}
	if op.set {
		op.at += looked
	}
	if looked == len(keys) {
		op.state = "done"
	}
	return op.done - before, looked < len(keys)
}

// completeOf completes a recovery that the operation's own entry began; others are no concern of it.
func (m *Machine) completeOf(op *operation, i *Instance, busy []string) {
	switch {
	case i.Terminated || i.Mode != Recovery || i.entered != op.entered:
	case i.stuck(op.entered, busy):
		op.passed++
	default:
		op.done++
		m.turnBack(i, 0, nil)
	}
}

// actOn enters or completes the recovery of one instance of a set; nil: it does not exist.
func (m *Machine) actOn(op *operation, i *Instance, busy []string) {
	switch {
	case i == nil || i.Terminated:
		op.failed++
	case op.enters == (i.Mode == Recovery), !op.enters && i.stuck(0, busy):
		op.passed++
	case op.enters:
		op.done++
		m.turnToRecovery(i, nil, Transition{})
		i.until = op.until
	default:
		op.done++
		m.turnBack(i, 0, nil)
	}
}

// stuck tells that an operation must pass a recovery over: something is in doubt or pending, or its handler is at work.
// What is in doubt because it failed as the others did in the outage that is over with this operation is no reason.
func (i *Instance) stuck(entered int, busy []string) bool {
	poisoned := i.poison != "" && i.poison == i.app.outages[entered]
	return i.inDoubt() && !poisoned || len(i.Lanes[recoveryLane].Messages) > 0 || slices.Contains(busy, i.ID.Key)
}

package model

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

func retryAfter(s *sluicev1.Settlement) *time.Duration {
	if s.RetryAfter == nil {
		return nil
	}
	d := s.RetryAfter.AsDuration()
	return &d
}

// once carries a call out unless one with its request id succeeded before: then the answer is the same, marked.
func (m *Machine) once(method string, of ID, id string, asked proto.Message, o *logv1.Outcome, do func() error) error {
	if id == "" {
		return do()
	}
	key := request{method, of, id}
	before, seen := m.requests[key]
	switch {
	case !seen:
		if err := do(); err != nil || o.Fault != nil {
			return err
		}
		m.requests[key] = remembered{asked, o}
	case !proto.Equal(before.asked, asked):
		m.judged(fmt.Sprintf("%s with request id %q", method, id), reason.IDReused, o.Fault)
	default:
		if m.repeated(fmt.Sprintf("%s with request id %q", method, id), o) {
			m.sameAnswer(method, id, before.outcome, o)
		}
	}
	return nil
}

// repeated tells that a call that succeeded before was not refused when it was repeated.
func (m *Machine) repeated(what string, o *logv1.Outcome) bool {
	if o.Fault != nil {
		m.wrong("I10", "%s again: promised is the answer of the first time, the cluster answered %s", what, o.Fault.Reason)
	}
	return o.Fault == nil
}

// sameAnswer holds a repeat's answer against the first one: it differs by its mark alone.
func (m *Machine) sameAnswer(method, id string, first, again *logv1.Outcome) {
	marked := again.GetInstance().GetDuplicate() || again.GetApplication().GetDuplicate() || again.GetMessageStatus().GetDuplicate() || again.GetOperation().GetDuplicate()
	a, b := first.GetInstance(), again.GetInstance()
	if !marked || a.GetMode() != b.GetMode() || a.GetEpoch() != b.GetEpoch() {
		m.wrong("I10", "%s with request id %q again: promised is %v %d, marked duplicate; the cluster answered %v %d, marked: %v", method, id, a.GetMode(), a.GetEpoch(), b.GetMode(), b.GetEpoch(), marked)
	}
}

// answered holds the answer about an instance against how it stands.
func (m *Machine) answered(what string, i *Instance, told *sluicev1.Instance) {
	m.sees(i.Epoch, told.GetEpoch(), what)
	if modes[told.GetMode()] != i.Mode || told.GetNextSeq() != i.NextSeq || told.GetDeferredMessages() != uint64(i.deferred()) {
		m.wrong("I9", "%s: promised is %s, next seq %d, %d deferred; the cluster answered %s, %d, %d", what, i.Mode, i.NextSeq, i.deferred(), modes[told.GetMode()], told.GetNextSeq(), told.GetDeferredMessages())
	}
	if told.GetOwner() != i.Owner {
		m.wrong("I8", "%s: the owner is %q, the cluster answered %q", what, i.Owner, told.GetOwner())
	}
}

func (m *Machine) enterRecovery(c *sluicev1.EnterRecoveryRequest, o *logv1.Outcome) error {
	if c.Until != nil {
		return &Beyond{"a recovery that ends by itself"}
	}
	id := ID{c.Application, c.Instance}
	if m.applications[c.Application] == nil {
		m.judged("entry of "+id.String(), reason.UnknownApplication, o.Fault)
		return nil
	}
	return m.once("EnterRecovery", id, c.RequestId, c, o, func() error {
		what := "entry of " + id.String() + " into recovery"
		i := m.find(id)
		if !m.judged(what, m.mayEnter(i, c, reason.Reason(o.Fault.GetReason())), o.Fault) {
			return nil
		}
		m.keep(i)
		m.turnToRecovery(i, 0, Transition{})
		if o.Fault == nil {
			m.answered(what, i, o.GetInstance())
		}
		return nil
	})
}

// mayEnter judges a wish to enter recovery: an operator's always, a worker's if it owns the instance under the epoch.
func (m *Machine) mayEnter(i *Instance, c *sluicev1.EnterRecoveryRequest, told reason.Reason) reason.Reason {
	switch {
	case c.SessionId == "":
		return ""
	case m.sessions[c.SessionId] == nil:
		return reason.UnknownSession
	case m.instances[i.ID] == nil:
		return reason.UnknownInstance
	case c.Epoch != 0 && !i.Epoch.is(c.Epoch, told == reason.StaleEpoch):
		return reason.StaleEpoch
	case i.Owner != c.SessionId:
		return reason.NotOwner
	}
	return ""
}

func (m *Machine) completeRecovery(c *sluicev1.CompleteRecoveryRequest, o *logv1.Outcome) error {
	id := ID{c.Application, c.Instance}
	if m.applications[c.Application] == nil {
		m.judged("completion of "+id.String(), reason.UnknownApplication, o.Fault)
		return nil
	}
	return m.once("CompleteRecovery", id, c.RequestId, c, o, func() error {
		what := fmt.Sprintf("completion of %s under epoch %d", id, c.Epoch)
		i := m.instances[id]
		if i != nil && i.lastCompletion != nil && c.Epoch != 0 && c.Epoch == i.lastCompletion.ended.Number && c.ProcessedThrough == i.lastCompletion.through {
			if m.repeated(what, o) {
				m.completedBefore(what, i, o)
			}
			return nil
		}
		if !m.judged(what, m.mayComplete(i, c, reason.Reason(o.Fault.GetReason())), o.Fault) {
			return nil
		}
		var state *string
		if c.SetState {
			set := string(c.State)
			state = &set
		}
		m.turnBack(i, c.ProcessedThrough, state)
		if o.Fault == nil {
			m.answered(what, i, o.GetInstance())
		}
		return nil
	})
}

// completedBefore holds the answer to a repeat of the last completion, whoever made that, against how it ended.
func (m *Machine) completedBefore(what string, i *Instance, o *logv1.Outcome) {
	told, last := o.GetInstance(), i.lastCompletion
	m.sees(last.begun, told.GetEpoch(), what)
	if !told.GetDuplicate() || modes[told.GetMode()] != last.mode {
		m.wrong("I10", "%s, again: promised is %s, marked duplicate; the cluster answered %s, marked: %v", what, last.mode, modes[told.GetMode()], told.GetDuplicate())
	}
}

// mayComplete judges a completion in the order of the contract.
func (m *Machine) mayComplete(i *Instance, c *sluicev1.CompleteRecoveryRequest, told reason.Reason) reason.Reason {
	switch {
	case c.SessionId != "" && m.sessions[c.SessionId] == nil:
		return reason.UnknownSession
	case i == nil:
		return reason.UnknownInstance
	case i.Mode != Recovery:
		return reason.NotInRecovery
	case c.Epoch != 0 && !i.Epoch.is(c.Epoch, told == reason.StaleEpoch):
		return reason.StaleEpoch
	case c.SessionId != "" && i.Owner != c.SessionId:
		return reason.NotOwner
	case len(i.Lanes[recoveryLane].Messages) > 0 && !c.DiscardRecoveryMessages:
		return reason.PendingRecoveryMessages
	}
	return ""
}

// enterApplication puts every instance of an application into recovery, at one point of the order.
func (m *Machine) enterApplication(c *sluicev1.EnterApplicationRecoveryRequest, o *logv1.Outcome) error {
	return m.once("EnterApplicationRecovery", ID{Application: c.Application}, c.RequestId, c, o, func() error {
		a := m.applications[c.Application]
		refusal := reason.Reason("")
		if a == nil {
			refusal = reason.UnknownApplication
		}
		what := "entry of application " + c.Application + " into recovery"
		if !m.judged(what, refusal, o.Fault) {
			return nil
		}
		generation := o.GetApplication().GetRecoveryGeneration()
		if generation <= a.generation {
			m.wrong("I7", "%s: the generation %d is not greater than %d, which was before it", what, generation, a.generation)
		}
		a.generation = generation
		for _, i := range m.of(c.Application) {
			if last := max(i.Epoch.Number, i.Epoch.after); generation <= last {
				m.wrong("I7", "%s: the generation %d does not fence off epoch %d of %s", what, generation, last, i.ID)
			}
			m.turnToRecovery(i, generation, Transition{Whole: true})
		}
		return nil
	})
}

// of are the instances of an application, in the order of their keys.
func (m *Machine) of(application string) (all []*Instance) {
	for id, i := range m.instances {
		if id.Application == application {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b *Instance) int {
		if a.ID.Key < b.ID.Key {
			return -1
		}
		return 1
	})
	return all
}

// operation is the completion of an application-wide recovery, in the background.
type operation struct {
	application string
	generation  uint64
	cursor      string
	done        bool
}

func (m *Machine) completeApplication(c *sluicev1.CompleteApplicationRecoveryRequest, o *logv1.Outcome) error {
	return m.once("CompleteApplicationRecovery", ID{Application: c.Application}, c.RequestId, c, o, func() error {
		a := m.applications[c.Application]
		refusal := reason.Reason("")
		if a == nil {
			refusal = reason.UnknownApplication
		} else if a.generation == 0 {
			refusal = reason.NotInRecovery
		}
		if m.judged("completion of application "+c.Application, refusal, o.Fault) {
			m.operations[o.GetOperation().GetId()] = &operation{application: c.Application, generation: a.generation}
		}
		return nil
	})
}

// stepOperation completes the recoveries that the application-wide entry began, but for those with something in doubt or
// pending, or whose handler is at work.
func (m *Machine) stepOperation(c *logv1.StepOperation) error {
	op := m.operations[c.Id]
	if op == nil {
		return &Beyond{"an operation over a set"}
	}
	acted := 0
	for _, i := range m.of(op.application) {
		if i.ID.Key <= op.cursor || op.done {
			continue
		}
		if acted == int(max(c.Limit, 1)) {
			return nil
		}
		op.cursor = i.ID.Key
		if i.Mode != Recovery || i.generation != op.generation || i.inDoubt() || len(i.Lanes[recoveryLane].Messages) > 0 || slices.Contains(c.Busy, i.ID.Key) {
			continue
		}
		m.turnBack(i, 0, nil)
		acted++
	}
	op.done = true
	return nil
}

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
	marked := again.GetInstance().GetDuplicate() || again.GetApplication().GetDuplicate() || again.GetMessageStatus().GetDuplicate() || again.GetOperation().GetDuplicate() ||
		again.GetTransaction().GetDuplicate() || again.GetPutBack().GetDuplicate()
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
	if normal, recovery := uint64(len(i.Lanes[normalLane].Messages)), uint64(len(i.Lanes[recoveryLane].Messages)); told.GetNormalMessages() != normal || told.GetRecoveryMessages() != recovery {
		m.wrong("I1", "%s: promised are %d normal and %d recovery messages, the cluster answered %d and %d", what, normal, recovery, told.GetNormalMessages(), told.GetRecoveryMessages())
	}
	if out := uint64(len(i.out())); told.GetInFlight() != out || told.GetTerminated() != i.Terminated {
		m.wrong("I9", "%s: promised are %d out, terminated: %v; the cluster answered %d, %v", what, out, i.Terminated, told.GetInFlight(), told.GetTerminated())
	}
	if told.GetOwner() != i.Owner {
		m.wrong("I8", "%s: the owner is %q, the cluster answered %q", what, i.Owner, told.GetOwner())
	}
}

func (m *Machine) enterRecovery(c *sluicev1.EnterRecoveryRequest, o *logv1.Outcome) error {
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
		m.turnToRecovery(i, nil, Transition{})
		if c.Until != nil {
			i.until = dueTime(c.Until)
		}
		if o.Fault == nil {
			m.answered(what, i, o.GetInstance())
		}
		return nil
	})
}

// mayEnter judges a wish to enter recovery: an operator's always, a worker's if it owns the instance under the epoch.
func (m *Machine) mayEnter(i *Instance, c *sluicev1.EnterRecoveryRequest, told reason.Reason) reason.Reason {
	switch {
	case c.SessionId == "" && i.Terminated:
		return reason.Terminated
	case c.SessionId == "":
		return ""
	case m.sessions[c.SessionId] == nil:
		return reason.UnknownSession
	case m.instances[i.ID] == nil:
		return reason.UnknownInstance
	case i.Terminated:
		return reason.Terminated
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
		if i != nil && i.lastCompletion.repeated(c, o.GetInstance().GetDuplicate()) {
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

// repeated tells that a completion is the last one again, whoever made that. told is the cluster's own opinion: it decides
// where the epoch's number is not known yet.
func (l *completion) repeated(c *sluicev1.CompleteRecoveryRequest, told bool) bool {
	return l != nil && c.Epoch != 0 && c.ProcessedThrough == l.through && c.SetState == (l.state != nil) &&
		(l.state == nil || *l.state == string(c.State)) && l.ended.is(c.Epoch, !told)
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
	case i.Terminated:
		return reason.Terminated
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
		m.enterWhole(a, generation, "")
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

package model

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// settle takes settlements in order, each judged alone.
func (m *Machine) settle(c *sluicev1.SettleRequest, o *logv1.Outcome) error {
	results := o.GetSettle().GetResults()
	if len(results) != len(c.Settlements) {
		return fmt.Errorf("%d settlements have %d results", len(c.Settlements), len(results))
	}
	for n, s := range c.Settlements {
		what := fmt.Sprintf("settlement of %s/%s %v %d under epoch %d as %v", s.Application, s.Instance, s.Lane, s.Seq, s.Epoch, s.Outcome)
		i := m.instances[ID{s.Application, s.Instance}]
		repeat := i != nil && m.shape(s) == "" && i.repeats(s)
		if repeat != results[n].Duplicate {
			m.wrong("I10", "%s: promised is duplicate=%v, the cluster answered duplicate=%v", what, repeat, results[n].Duplicate)
		}
		if repeat {
			continue
		}
		told := reason.Reason(results[n].Error.GetReason())
		if told == "" && !results[n].Duplicate {
			m.took(i, s)
		}
		refusal := m.shape(s)
		if refusal == "" {
			refusal = m.maySettle(i, c.SessionId, s, told)
		}
		if m.judged(what, refusal, results[n].Error) {
			m.carryOut(i, c.SessionId, s)
		}
	}
	return nil
}

// took notes a settlement that ends a message, as the cluster told it.
func (m *Machine) took(i *Instance, s *sluicev1.Settlement) {
	if i == nil || s.Outcome == sluicev1.Outcome_OUTCOME_FAILED {
		return
	}
	if l := i.bySeq[laneNumber(s.Lane)][s.Seq]; l != nil {
		m.Taken = append(m.Taken, Taken{m.at, l})
	}
}

// shape refuses a settlement that is over a limit of its application.
func (m *Machine) shape(s *sluicev1.Settlement) reason.Reason {
	a := m.applications[s.Application]
	switch {
	case a == nil:
		return reason.UnknownApplication
	case passes(a.limits.outgoing, uint64(len(s.Outgoing))), s.SetState && passes(a.limits.state, uint64(len(s.State))), passes(a.limits.message, uint64(len(s.Reply))):
		return reason.BadField
	}
	return ""
}

// repeats tells that this very settlement took effect before.
func (i *Instance) repeats(s *sluicev1.Settlement) bool {
	lane := laneNumber(s.Lane)
	last := i.recoveryFailure
	if s.Seq != 0 {
		l := i.bySeq[lane][s.Seq]
		if l == nil {
			return false
		}
		if l.Settlement != "" {
			return l.By != nil && sameSettlement(l.By, s) && (s.Attempt == 0 || int(s.Attempt) == l.Attempt)
		}
		last = l.failure
	}
	switch {
	case s.Outcome != sluicev1.Outcome_OUTCOME_FAILED || last.epoch == nil || last.epoch.Number != s.Epoch:
		return false
	case s.Attempt != 0:
		return int(s.Attempt) <= last.attempt
	}
	// Without an attempt it speaks of what is out; it can only be a repeat where nothing is.
	return last.by != nil && sameSettlement(last.by, s) && (i.Epoch != last.epoch || i.waits())
}

func sameSettlement(a, b *sluicev1.Settlement) bool {
	a, b = proto.CloneOf(a), proto.CloneOf(b)
	a.Attempt, b.Attempt = 0, 0
	return proto.Equal(a, b)
}

// maySettle judges a settlement in the order of the contract. told is the cluster's own refusal: it decides where the
// epoch's number is not known yet.
func (m *Machine) maySettle(i *Instance, session string, s *sluicev1.Settlement, told reason.Reason) reason.Reason {
	lane := laneNumber(s.Lane)
	switch {
	case m.sessions[session] == nil:
		return reason.UnknownSession
	case i == nil:
		return reason.UnknownInstance
	case i.Terminated:
		return reason.Terminated
	case s.Seq != 0 && i.bySeq[lane][s.Seq] == nil:
		return reason.UnknownMessage
	case !i.Epoch.is(s.Epoch, told == reason.StaleEpoch):
		return reason.StaleEpoch
	case i.Owner != session:
		return reason.NotOwner
	case s.Seq == 0:
		if i.Mode != Recovery || i.recoveryWait != 0 || s.Attempt != 0 && int(s.Attempt) != i.recoveryAttempts+1 {
			return reason.NotInFlight
		}
		return ""
	case i.bySeq[lane][s.Seq].Settlement != "":
		return reason.AlreadySettled
	}
	return i.inFlight(lane, s)
}

func (i *Instance) inFlight(lane int, s *sluicev1.Settlement) reason.Reason {
	if lane != i.working() {
		return reason.NotInFlight
	}
	for n, l := range i.out() {
		switch {
		case l.Seq != s.Seq:
		case n > 0:
			return reason.OutOfOrder
		case s.Attempt != 0 && int(s.Attempt) != i.Lanes[lane].attempts+1:
			return reason.NotInFlight
		default:
			return ""
		}
	}
	return reason.NotInFlight
}

func (m *Machine) carryOut(i *Instance, session string, s *sluicev1.Settlement) {
	if s.Seq == 0 {
		i.recoveryAttempts++
		i.recoveryFailure = failure{i.Epoch, i.recoveryAttempts, s}
		i.recoveryWait = m.clock + i.app.wait(i.recoveryAttempts, retryAfter(s))
		m.free(i)
		m.changed(i)
		return
	}
	l := i.bySeq[laneNumber(s.Lane)][s.Seq]
	attempt := i.Lanes[l.Lane].attempts + 1
	switch s.Outcome {
	case sluicev1.Outcome_OUTCOME_FAILED:
		m.failed(l, session, s, attempt)
		return
	case sluicev1.Outcome_OUTCOME_REJECTED:
		l.By, l.Session, l.Under, l.Attempt = s, session, i.Epoch, attempt
		l.Attempts++
		m.end(l, "dead-lettered")
		return
	}
	l.By, l.Session, l.Under, l.Attempt, l.Found = s, session, i.Epoch, attempt, i.State
	if s.SetState {
		i.State = string(s.State)
	}
	for n, out := range s.Outgoing {
		out = proto.CloneOf(out)
		if out.Id == "" {
			out.Id = fmt.Sprintf("derived from %s %d %d %d", i.ID, l.Lane, l.Seq, n)
		}
		m.outbox = append(m.outbox, parcel{i, out})
	}
	m.end(l, "completed")
}

// failed counts an attempt that its worker reports as failed, and draws the consequence.
func (m *Machine) failed(l *Life, session string, s *sluicev1.Settlement, attempt int) {
	i := l.Instance
	l.failure = failure{i.Epoch, attempt, s}
	l.Attempts++
	l.revision++
	wait := i.app.wait(attempt, retryAfter(s))
	if m.failedAlike(i, s.ErrorText) {
		m.outage(l, wait, s.ErrorText)
		return
	}
	under := i.Epoch
	m.attemptEnded(l, wait, common(s.ErrorText), Transition{})
	if l.Settlement != "" { // at the last attempt
		l.By, l.Session, l.Under, l.Attempt = s, session, under, attempt
	}
}

// attemptEnded draws the consequence of an attempt of the head that ended without settlement.
func (m *Machine) attemptEnded(l *Life, wait int64, alike string, t Transition) {
	i := l.Instance
	lane := &i.Lanes[l.Lane]
	lane.attempts++
	switch {
	case i.app.attempts == 0 || lane.attempts < i.app.attempts:
		m.free(i)
		if lane.wait = 0; wait > 0 {
			lane.wait = m.clock + wait
			m.letBack(i)
		}
		m.changed(i)
	case l.Lane == recoveryLane || i.app.deadLetter:
		m.end(l, "dead-lettered")
	default:
		m.turnToRecovery(i, nil, t)
		i.poison = alike
	}
}

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
		repeat := i != nil && i.repeats(s)
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
		if m.judged(what, m.maySettle(i, c.SessionId, s, told), results[n].Error) {
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
	return s.Outcome == sluicev1.Outcome_OUTCOME_FAILED && last.epoch != nil && last.epoch.Number == s.Epoch && int(s.Attempt) <= last.attempt
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
		i.recoveryFailure = failure{i.Epoch, i.recoveryAttempts}
		i.recoveryWait = m.clock + i.app.wait(i.recoveryAttempts, retryAfter(s))
		m.changed(i)
		return
	}
	l := i.bySeq[laneNumber(s.Lane)][s.Seq]
	attempt := i.Lanes[l.Lane].attempts + 1
	switch s.Outcome {
	case sluicev1.Outcome_OUTCOME_FAILED:
		l.failure = failure{i.Epoch, attempt}
		m.attemptEnded(l, i.app.wait(attempt, retryAfter(s)), Transition{})
		if l.Settlement != "" { // at the last attempt
			l.By, l.Session, l.Attempt = s, session, attempt
		}
		return
	case sluicev1.Outcome_OUTCOME_REJECTED:
		l.By, l.Session, l.Under, l.Attempt = s, session, i.Epoch, attempt
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

// attemptEnded draws the consequence of an attempt of the head that ended without settlement.
func (m *Machine) attemptEnded(l *Life, wait int64, t Transition) {
	i := l.Instance
	lane := &i.Lanes[l.Lane]
	lane.attempts++
	switch {
	case i.app.attempts == 0 || lane.attempts < i.app.attempts:
		if lane.wait = 0; wait > 0 {
			lane.wait = m.clock + wait
		}
		m.changed(i)
	case l.Lane == recoveryLane || i.app.deadLetter:
		m.end(l, "dead-lettered")
	default:
		m.turnToRecovery(i, 0, t)
	}
}

// resolve is an operator's hand on one message.
func (m *Machine) resolve(c *sluicev1.ResolveMessageRequest, o *logv1.Outcome) error {
	if c.Action == sluicev1.ResolveAction_ACTION_REPLACE || c.Version != "" {
		return &Beyond{"a message that is replaced, or resolved under a version"}
	}
	id := ID{c.Application, c.Instance}
	return m.once("ResolveMessage", id, c.RequestId, c, o, func() error {
		what := fmt.Sprintf("resolution of %s %v %d", id, c.Lane, c.Seq)
		i := m.instances[id]
		var l *Life
		refusal := reason.UnknownInstance
		if i != nil {
			l, refusal = i.bySeq[laneNumber(c.Lane)][c.Seq], ""
			if l == nil {
				refusal = reason.UnknownMessage
			} else if l.Settlement != "" {
				refusal = reason.AlreadySettled
			}
		}
		if !m.judged(what, refusal, o.Fault) {
			return nil
		}
		settlement := "skipped"
		if c.Action == sluicev1.ResolveAction_ACTION_DEAD_LETTER {
			settlement = "dead-lettered"
		}
		m.end(l, settlement)
		return nil
	})
}

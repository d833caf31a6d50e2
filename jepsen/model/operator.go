package model

import (
	"fmt"
	"slices"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// version is what an operator saw of a message.
type version struct {
	of   *Life
	text string
}

// resolve is an operator's hand on one message.
func (m *Machine) resolve(c *sluicev1.ResolveMessageRequest, o *logv1.Outcome) error {
	id := ID{c.Application, c.Instance}
	what := fmt.Sprintf("%v of %s %v %d", c.Action, id, c.Lane, c.Seq)
	if refusal := m.unknown(id); refusal != "" {
		m.judged(what, refusal, o.Fault)
		return nil
	}
	i := m.instances[id]
	return m.once("ResolveMessage", id, c.RequestId, c, o, func() error {
		l := i.bySeq[laneNumber(c.Lane)][c.Seq]
		if !m.judged(what, m.mayResolve(i, l, c, reason.Reason(o.Fault.GetReason())), o.Fault) {
			return nil
		}
		switch c.Action {
		case sluicev1.ResolveAction_ACTION_SKIP:
			m.end(l, "skipped")
		case sluicev1.ResolveAction_ACTION_DEAD_LETTER:
			m.end(l, "dead-lettered")
		default:
			l.Data = c.Data
			m.Happened["replaced"]++
			m.changed(i)
		}
		l.revision++
		if o.Fault == nil {
			m.sameStatus(what, l, o.GetMessageStatus())
		}
		return nil
	})
}

// mayResolve judges a resolution. A message that is out is taken from its owner, but not replaced.
func (m *Machine) mayResolve(i *Instance, l *Life, c *sluicev1.ResolveMessageRequest, told reason.Reason) reason.Reason {
	switch {
	case i.Terminated:
		return reason.Terminated
	case l == nil:
		return reason.UnknownMessage
	case l.Settlement != "":
		return reason.AlreadySettled
	}
	if c.Version != "" {
		seen := version{l, c.Version}
		revision, known := m.versions[seen]
		switch {
		case known && revision != l.revision, !known && told == reason.Changed:
			return reason.Changed
		case !known: // the model does not know how a version is made, but that it stands for one revision alone
			m.versions[seen] = l.revision
		}
	}
	if c.Action != sluicev1.ResolveAction_ACTION_REPLACE {
		return ""
	}
	size := uint64(len(c.Data))
	if limit := i.app.limits.message; limit > 0 && size > limit {
		return reason.LimitMessageBytes
	}
	if size > uint64(len(l.Data)) {
		if over := i.overBytes(l.Disposition, size-uint64(len(l.Data))); len(over) > 0 {
			return oneOf(over, told)
		}
	}
	if slices.Contains(i.out(), l) {
		return reason.InFlight
	}
	return ""
}

// sameStatus holds what an operator was told of a message against how it stands.
func (m *Machine) sameStatus(what string, l *Life, told *sluicev1.MessageStatus) {
	if settlement := settlements[told.GetSettlement()]; settlement != l.Settlement || told.GetSeq() != l.Seq {
		m.wrong("I2", "%s: promised is that seq %d is %q, the cluster answered that %d is %q", what, l.Seq, l.Settlement, told.GetSeq(), settlement)
	}
	if int(told.GetAttempts()) != l.Attempts {
		m.wrong("I9", "%s: promised are %d failed attempts, the cluster answered %d", what, l.Attempts, told.GetAttempts())
	}
}

var settlements = map[sluicev1.SettlementKind]string{
	sluicev1.SettlementKind_SETTLEMENT_COMPLETED: "completed", sluicev1.SettlementKind_SETTLEMENT_SKIPPED: "skipped",
	sluicev1.SettlementKind_SETTLEMENT_DEAD_LETTERED: "dead-lettered", sluicev1.SettlementKind_SETTLEMENT_EXPIRED: "expired",
}

// terminate ends an instance: what is unsettled is dead-lettered, what waited stays a dead letter, the owner is released.
func (m *Machine) terminate(c *sluicev1.TerminateRequest, o *logv1.Outcome) error {
	id := ID{c.Application, c.Instance}
	what := fmt.Sprintf("termination of %s", id)
	if refusal := m.unknown(id); refusal != "" {
		m.judged(what, refusal, o.Fault)
		return nil
	}
	i := m.instances[id]
	return m.once("Terminate", id, c.RequestId, c, o, func() error {
		refusal := reason.Reason("")
		if i.Terminated {
			refusal = reason.Terminated
		}
		if !m.judged(what, refusal, o.Fault) {
			return nil
		}
		i.waiting = nil
		for _, lane := range []int{recoveryLane, normalLane} {
			for _, l := range slices.Clone(i.Lanes[lane].Messages) {
				m.end(l, "dead-lettered")
			}
		}
		i.Terminated = true
		m.Happened["terminated"]++
		m.disown(i, false)
		if o.Fault == nil {
			m.answered(what, i, o.GetInstance())
		}
		return nil
	})
}

package model

import (
	"fmt"
	"maps"
	"strings"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// send judges messages, each alone.
func (m *Machine) send(c *logv1.Send, o *logv1.Outcome) error {
	results := o.GetSend().GetResults()
	if len(results) != len(c.Messages) {
		return fmt.Errorf("%d messages have %d results", len(c.Messages), len(results))
	}
	for n, message := range c.Messages {
		l, duplicate, refusal, err := m.judge(message)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("message %q to %s/%s", message.Id, message.Application, message.Instance)
		if !m.judged(what, refusal, results[n].Error) || results[n].Receipt == nil {
			continue
		}
		m.compare(what, l, duplicate, results[n].Receipt)
	}
	return nil
}

// judge is the gate: seen before, class, mode. It accepts what it does not refuse.
func (m *Machine) judge(message *sluicev1.Message) (l *Life, duplicate bool, refusal reason.Reason, err error) {
	a := m.applications[message.Application]
	switch {
	case a == nil:
		return nil, false, reason.UnknownApplication, nil
	case message.Transaction != "" || message.ExpireTime != nil:
		return nil, false, "", &Beyond{"a message with a transaction or an expiry of its own"}
	}
	i := m.find(ID{message.Application, message.Instance})
	if before := i.byID[message.Id]; before != nil {
		if !sameContent(before.Message, message) {
			return nil, false, reason.IDReused, nil
		}
		return before, true, "", nil
	}
	suitable, known := a.class(message.Type)
	if !known {
		return nil, false, reason.UnknownType, nil
	}
	disposition, refusal := gate(suitable, i.Mode)
	if refusal != "" {
		return nil, false, refusal, nil
	}
	m.keep(i)
	return m.accept(i, message, disposition), false, "", nil
}

// class is how a type is suitable, as the pattern says or, without one, the type's name.
func (a *application) class(typ string) (sluicev1.Suitability, bool) {
	if a.suitable != nil {
		s, known := a.suitable[typ]
		return s, known
	}
	if strings.HasPrefix(typ, "recovery.") {
		return sluicev1.Suitability_SUITABLE_RECOVERY, true
	}
	return sluicev1.Suitability_SUITABLE_NORMAL, true
}

// gate is the table of semantics.
func gate(suitable sluicev1.Suitability, mode string) (disposition string, refusal reason.Reason) {
	onlyRecovery := suitable == sluicev1.Suitability_SUITABLE_RECOVERY
	takenInRecovery := onlyRecovery || suitable == sluicev1.Suitability_SUITABLE_BOTH
	switch {
	case mode == Recovery && takenInRecovery:
		return "recovery", ""
	case mode == Recovery:
		return "deferred", ""
	case onlyRecovery:
		return "", reason.NotSuitable
	case mode == Draining:
		return "deferred", ""
	}
	return "accepted", ""
}

func sameContent(a, b *sluicev1.Message) bool {
	return a.Type == b.Type && a.Transaction == b.Transaction && a.ContentType == b.ContentType && string(a.Data) == string(b.Data) && maps.Equal(a.Headers, b.Headers)
}

func (m *Machine) accept(i *Instance, message *sluicev1.Message, disposition string) *Life {
	lane := normalLane
	if disposition == "recovery" {
		lane = recoveryLane
	}
	l := &Life{
		Instance: i, Message: message, Seq: i.NextSeq, Lane: lane, Disposition: disposition, Mode: i.Mode, Epoch: i.Epoch,
		Ahead: uint64(len(i.Lanes[lane].Messages)), Accepted: m.at,
	}
	i.NextSeq++
	i.Lanes[lane].Messages = append(i.Lanes[lane].Messages, l)
	i.byID[message.Id], i.bySeq[lane][l.Seq] = l, l
	m.Lives = append(m.Lives, l)
	m.changed(i)
	return l
}

var dispositions = map[sluicev1.Disposition]string{
	sluicev1.Disposition_DISPOSITION_ACCEPTED: "accepted", sluicev1.Disposition_DISPOSITION_DEFERRED: "deferred", sluicev1.Disposition_DISPOSITION_RECOVERY: "recovery",
}

var modes = map[sluicev1.Mode]string{sluicev1.Mode_MODE_NORMAL: Normal, sluicev1.Mode_MODE_RECOVERY: Recovery, sluicev1.Mode_MODE_DRAINING: Draining}

// compare holds a receipt against the one that was promised.
func (m *Machine) compare(what string, l *Life, duplicate bool, r *sluicev1.Receipt) {
	m.sees(l.Epoch, r.Epoch, what)
	if r.Duplicate != duplicate || r.Index != l.Accepted.Index {
		m.wrong("I10", "%s: promised is duplicate=%v of entry %d, the cluster answered duplicate=%v of %d", what, duplicate, l.Accepted.Index, r.Duplicate, r.Index)
	}
	told := dispositions[r.Disposition]
	if !duplicate {
		l.Told = told
	}
	if told != l.Disposition {
		m.wrong("I4", "%s: promised is that it is %s in %s mode, the cluster answered %s in %s", what, l.Disposition, l.Mode, told, modes[r.Mode])
	}
	if r.Seq != l.Seq || r.Ahead != l.Ahead {
		m.wrong("I3", "%s: promised is seq %d behind %d, the cluster answered seq %d behind %d", what, l.Seq, l.Ahead, r.Seq, r.Ahead)
	}
}

// forward judges the oldest outgoing messages at their targets; a refusal there is a dead letter of the sender.
func (m *Machine) forward(c *logv1.ForwardOutgoing) error {
	for range min(len(m.outbox), int(max(c.Limit, 1))) {
		p := m.outbox[0]
		m.outbox = m.outbox[1:]
		_, _, refusal, err := m.judge(p.message)
		if err != nil {
			return err
		}
		if refusal != "" {
			p.from.DeadOutgoing++
		}
	}
	return nil
}

package model

import (
	"fmt"
	"maps"

	"google.golang.org/protobuf/types/known/timestamppb"

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
		l, duplicate, refusal := m.judge(message, reason.Reason(results[n].Error.GetReason()))
		what := fmt.Sprintf("message %q to %s/%s", message.Id, message.Application, message.Instance)
		if !m.judged(what, refusal, results[n].Error) || results[n].Receipt == nil {
			continue
		}
		m.compare(what, l, duplicate, results[n].Receipt)
	}
	return nil
}

// judge is the gate: seen before, pattern and class, mode, limits. It accepts what it does not refuse. told is the
// cluster's own refusal: it decides which limit is named where more than one is passed.
func (m *Machine) judge(message *sluicev1.Message, told reason.Reason) (l *Life, duplicate bool, refusal reason.Reason) {
	if m.applications[message.Application] == nil {
		return nil, false, reason.UnknownApplication
	}
	i := m.find(ID{message.Application, message.Instance})
	if before := i.byID[message.Id]; before != nil {
		if !sameContent(before.Message, message) {
			return nil, false, reason.IDReused
		}
		return before, true, ""
	}
	if i.Terminated {
		return nil, false, reason.Terminated
	}
	name, after, suitable, refusal := i.step(message)
	if refusal != "" {
		m.Happened["refused: "+string(refusal)]++
		return nil, false, refusal
	}
	disposition, refusal := gate(suitable, i.Mode)
	if refusal == "" {
		refusal = i.within(disposition, uint64(len(message.Data)), told)
	}
	if refusal != "" {
		m.Happened["refused: "+string(refusal)]++
		return nil, false, refusal
	}
	m.keep(i)
	if name != "" {
		i.transactions[name] = after
	}
	return m.accept(i, message, disposition), false, ""
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
		Instance: i, Message: message, Data: message.Data, Seq: i.NextSeq, Lane: lane, Disposition: disposition, Mode: i.Mode, Epoch: i.Epoch,
		Ahead: uint64(len(i.Lanes[lane].Messages)), Accepted: m.at,
		frozen: m.stoodStill(i),
	}
	if message.ExpireTime != nil {
		l.expires = dueTime(message.ExpireTime)
		l.lookAt = l.expires
	}
	i.NextSeq++
	i.Lanes[lane].Messages = append(i.Lanes[lane].Messages, l)
	i.byID[message.Id], i.bySeq[lane][l.Seq] = l, l
	m.Lives = append(m.Lives, l)
	m.changed(i)
	if l.expires != 0 && l.expires <= m.clock {
		m.Happened["expired"]++
		m.end(l, "expired")
	}
	return l
}

// dueTime is a time in Unix milliseconds, rounded up: nothing happens before its time.
func dueTime(t *timestamppb.Timestamp) int64 {
	return max(t.Seconds*1000+(int64(t.Nanos)+999_999)/1_000_000, 1)
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
		if _, _, refusal := m.judge(p.message, ""); refusal != "" {
			m.Happened["refused at its target"]++
			p.from.DeadOutgoing++
		}
	}
	return nil
}

package model

import (
	"fmt"
	"slices"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

const (
	// waitingMost is how many dead letters of an instance wait to be put back.
	waitingMost = 1024
	// deadMost is how many dead letters of an instance are kept.
	deadMost = 10_000
)

// putBack returns dead letters to their old places, each judged alone. Which ones a fingerprint stands for the model
// takes from the answer.
func (m *Machine) putBack(c *sluicev1.PutBackRequest, o *logv1.Outcome) error {
	id := ID{c.Application, c.Instance}
	what := fmt.Sprintf("put back into %s %v", id, c.Lane)
	if refusal := m.unknown(id); refusal != "" {
		m.judged(what, refusal, o.Fault)
		return nil
	}
	i, lane := m.instances[id], laneNumber(c.Lane)
	return m.once("PutBack", id, c.RequestId, c, o, func() error {
		refusal := reason.Reason("")
		switch {
		case i.Terminated:
			refusal = reason.Terminated
		case lane == recoveryLane && i.Mode != Recovery:
			refusal = reason.NotInRecovery
		}
		if !m.judged(what, refusal, o.Fault) {
			return nil
		}
		results, seqs := o.GetPutBack().GetResults(), c.Seqs
		if len(seqs) == 0 {
			for _, r := range results {
				seqs = append(seqs, r.Seq)
			}
		}
		if len(seqs) != len(results) {
			return fmt.Errorf("%d dead letters have %d results", len(seqs), len(results))
		}
		return m.putBackEach(what, i, lane, seqs, results)
	})
}

func (m *Machine) putBackEach(what string, i *Instance, lane int, seqs []uint64, results []*sluicev1.PutBackResult) error {
	done := 0
	waits := lane == normalLane && i.Mode != Recovery && len(i.out()) > 0
	for n, seq := range seqs {
		l := i.bySeq[lane][seq]
		what := fmt.Sprintf("%s, seq %d", what, seq)
		refusal := i.returnable(l, reason.Reason(results[n].Error.GetReason()))
		waiting := slices.Contains(i.waiting, l)
		if refusal == "" && waits && !waiting && len(i.waiting) >= waitingMost {
			refusal = reason.InFlight
		}
		if !m.judged(what, refusal, results[n].Error) {
			continue
		}
		if results[n].Waiting != waits {
			m.wrong("I3", "%s: promised is waiting=%v, the cluster answered waiting=%v", what, waits, results[n].Waiting)
		}
		switch {
		case waits && !waiting:
			if out := i.out(); len(i.waiting) == 0 {
				i.behind = out[len(out)-1].Seq
			}
			i.waiting = append(i.waiting, l)
		case !waits:
			if done == 0 && lane == recoveryLane && i.Owner != "" { // its handler may have passed the place
				m.reenter(i)
			}
			m.revive(l)
			done++
		}
	}
	if done > 0 && i.Mode != Recovery {
		i.newEpoch(nil)
	}
	m.changed(i)
	return nil
}

// reenter fences a recovery handler off: it is the same recovery for another one.
func (m *Machine) reenter(i *Instance) {
	until, entered := i.until, i.entered
	m.turnToRecovery(i, nil, Transition{})
	i.until, i.entered = until, entered
}

// returnable refuses what is no dead letter, or would go over a limit.
func (i *Instance) returnable(l *Life, told reason.Reason) reason.Reason {
	if l == nil || !l.dead() {
		return reason.UnknownMessage
	}
	return i.within(l.Disposition, uint64(len(l.Data)), told)
}

// revive revokes a settlement: the message stands at its old place, with its series of attempts begun anew, as is that
// of the head before which it comes. What is past its time is wanted nevertheless, and does not expire again.
func (m *Machine) revive(l *Life) {
	i := l.Instance
	if l.lookAt, l.held, l.freed = m.expiresAt(l), false, false; l.lookAt <= m.clock {
		l.expires = 0
	}
	l.Revoked = append(l.Revoked, Revoked{l.Ending, m.at})
	l.Ending = Ending{}
	i.dead--
	l.revision++
	lane := &i.Lanes[l.Lane]
	at, _ := slices.BinarySearchFunc(lane.Messages, l.Seq, func(other *Life, seq uint64) int {
		return int(int64(other.Seq) - int64(seq))
	})
	if at == 0 {
		lane.attempts, lane.wait = 0, 0
	}
	lane.Messages = slices.Insert(slices.Clone(lane.Messages), at, l)
	m.Happened["put back"]++
	m.changed(i)
}

// letBack puts back what waited, once nothing of the normal lane is out. What cannot be put back any more stays a dead
// letter.
func (m *Machine) letBack(i *Instance) {
	if len(i.waiting) == 0 || i.Mode != Recovery && len(i.out()) > 0 {
		return
	}
	waiting, done := i.waiting, false
	slices.SortFunc(waiting, func(a, b *Life) int { return int(int64(a.Seq) - int64(b.Seq)) })
	i.waiting = nil
	for _, l := range waiting {
		if i.returnable(l, "") == "" {
			m.revive(l)
			m.Happened["put back later"]++
			done = true
		}
	}
	if done && i.Mode != Recovery {
		i.newEpoch(nil)
	}
	m.changed(i)
}

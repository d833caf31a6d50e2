package model

import (
	"fmt"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
)

// capacityDefault is how many instances a session owns if it does not say.
const capacityDefault = 64

func (m *Machine) openSession(c *logv1.OpenSession, o *logv1.Outcome) error {
	refusal := reason.Reason("")
	if m.applications[c.Application] == nil {
		refusal = reason.UnknownApplication
	}
	if !m.judged("opening of session "+c.SessionId, refusal, o.Fault) || m.sessions[c.SessionId] != nil {
		return nil
	}
	capacity := int(c.Capacity)
	if capacity == 0 {
		capacity = capacityDefault
	}
	m.sessions[c.SessionId] = &session{application: c.Application, capacity: capacity}
	return nil
}

// closeSession hands the instances back in good order: nothing is in doubt.
func (m *Machine) closeSession(c *logv1.CloseSession, o *logv1.Outcome) error {
	refusal := reason.Reason("")
	if m.sessions[c.SessionId] == nil {
		refusal = reason.UnknownSession
	}
	if !m.judged("closing of session "+c.SessionId, refusal, o.Fault) {
		return nil
	}
	released := 0
	for _, i := range m.of(m.sessions[c.SessionId].application) {
		if i.Owner == c.SessionId {
			m.disown(i, false)
			released++
		}
	}
	delete(m.sessions, c.SessionId)
	if told := int(o.GetSessionClosed().GetReleased()); told != released {
		m.wrong("I8", "closing of session %s: it owned %d instances, the cluster answered %d", c.SessionId, released, told)
	}
	return nil
}

// expireSessions ends sessions whose lease ran out: what may have been in flight is in doubt, unless handlers are
// idempotent.
func (m *Machine) expireSessions(c *logv1.ExpireSessions) error {
	for _, id := range c.SessionIds {
		s := m.sessions[id]
		if s == nil {
			continue
		}
		for _, i := range m.of(s.application) {
			if i.Owner == id {
				m.lose(i)
			}
		}
		delete(m.sessions, id)
	}
	return nil
}

func (m *Machine) lose(i *Instance) {
	nothingOut := i.Mode == Recovery && i.recoveryWait != 0 || i.Mode != Recovery && len(i.out()) == 0
	switch {
	case nothingOut:
		m.disown(i, false)
		return
	case i.Mode != Recovery && i.app.redeliver:
		head, epoch := i.out()[0], i.Epoch
		head.failure = failure{i.Epoch, i.Lanes[normalLane].attempts + 1, nil}
		head.Attempts++
		head.revision++
		m.attemptEnded(head, 0, "owner lost", Transition{})
		m.disown(i, i.Epoch != epoch)
	default:
		m.turnToRecovery(i, nil, Transition{})
		m.disown(i, true)
	}
	m.OwnersLost = append(m.OwnersLost, m.at)
}

// assign gives instances that have work to sessions that have room, and takes idle ones back first.
func (m *Machine) assign(c *logv1.Assign, o *logv1.Outcome) error {
	done := 0
	for _, r := range c.Releases {
		i := m.instances[ID{r.Application, r.Instance}]
		if i != nil && i.Owner == r.SessionId && m.sessions[r.SessionId] != nil && i.Mode == Normal && len(i.Lanes[normalLane].Messages) == 0 {
			m.disown(i, false)
			done++
		}
	}
	for _, g := range c.Assignments {
		i, s := m.instances[ID{g.Application, g.Instance}], m.sessions[g.SessionId]
		if i == nil || s == nil || s.application != g.Application || i.Owner != "" || !i.hasWork() || s.owned >= s.capacity {
			continue
		}
		i.Owner = g.SessionId
		s.owned++
		m.changed(i)
		done++
	}
	if told := int(o.GetProgress().GetDone()); told != done {
		m.wrong("I8", "%s: promised are %d assignments and releases that take effect, the cluster answered %d", fmt.Sprint(m.at), done, told)
	}
	return nil
}

package model

import "slices"

// newEpoch fences off all that was done under the epoch before. e is one whose number is not known yet, if it is nil.
func (i *Instance) newEpoch(e *Epoch) {
	if e == nil {
		e = &Epoch{after: i.Epoch.last()}
	}
	i.Epoch, i.window = e, i.app.window
}

// last is a number that the epoch is not below.
func (e *Epoch) last() uint64 { return max(e.Number, e.after) }

// sees holds an epoch that an answer told against the instance's own.
func (m *Machine) sees(e *Epoch, told uint64, where string) {
	switch {
	case e.Number == 0 && told > e.after:
		e.Number = told
	case e.Number == 0:
		m.wrong("I7", "%s: the epoch %d is not greater than %d, which was before it", where, told, e.after)
	case e.Number != told:
		m.wrong("I7", "%s: the epoch is %d, the cluster answered %d", where, e.Number, told)
	}
}

// is tells whether an epoch that was asked for is the current one. If the number is not known yet, the cluster's own
// answer decides, where it can be true.
func (e *Epoch) is(asked uint64, staleTold bool) bool {
	if e.Number != 0 {
		return e.Number == asked
	}
	if asked <= e.after || staleTold {
		return false
	}
	e.Number = asked
	return true
}

// turnToRecovery enters recovery: what is out is in doubt from now on. Dead letters that waited for what is out are put
// back, for nothing of the normal lane is out any more.
func (m *Machine) turnToRecovery(i *Instance, e *Epoch, t Transition) {
	for _, l := range i.out() {
		l.doubt = true
	}
	if i.Mode != Recovery {
		i.since, i.poison = m.clock, ""
	}
	from := i.Mode
	i.Mode, i.drainTo, i.recoveryWait, i.recoveryAttempts, i.until, i.entered = Recovery, 0, 0, 0, 0, 0
	i.Lanes[normalLane].wait, i.Lanes[recoveryLane].wait = 0, 0
	i.newEpoch(e)
	t.From, t.To = from, Recovery
	m.transition(i, t)
	m.letBack(i)
}

// enterWhole puts every instance of an application into recovery at one point, under one epoch. outage is what the
// failures that brought it about have in common; empty: it was asked for.
func (m *Machine) enterWhole(a *application, number uint64, outage string) {
	m.entries++
	a.entered, a.failures = m.entries, nil
	a.outages[a.entered] = outage
	e := &Epoch{Number: number}
	for _, i := range m.of(a.name) {
		if i.Terminated {
			continue
		}
		if last := i.Epoch.last(); number != 0 && number <= last {
			m.wrong("I7", "entry of application %s: the generation %d does not fence off epoch %d of %s", a.name, number, last, i.ID)
		}
		e.after = max(e.after, i.Epoch.last())
	}
	for _, i := range m.of(a.name) {
		if !i.Terminated {
			m.turnToRecovery(i, e, Transition{Whole: true, Outage: outage != ""})
			i.entered = a.entered
		}
	}
}

func (m *Machine) transition(i *Instance, t Transition) {
	t.At, t.Instance, t.Epoch, t.Held = m.at, i, i.Epoch, i.deferred()
	m.Transitions = append(m.Transitions, t)
	m.changed(i)
}

// turnBack completes a recovery: what took effect is settled, what is left of the recovery lane is dead-lettered, and
// what was deferred is let go. state is nil if it stays as it is.
func (m *Machine) turnBack(i *Instance, through uint64, state *string) {
	last := &completion{ended: i.Epoch, through: through, state: state}
	for _, l := range slices.Clone(i.Lanes[normalLane].Messages) {
		if l.doubt && l.Seq <= through {
			l.Through = true
			m.end(l, "completed")
		}
		l.doubt = false
	}
	for _, l := range slices.Clone(i.Lanes[recoveryLane].Messages) {
		m.end(l, "dead-lettered")
	}
	i.newEpoch(nil)
	i.entered, i.until, i.poison = 0, 0, ""
	i.recoveryWait, i.recoveryAttempts, i.recoveryFailure = 0, 0, failure{}
	for n := range i.Lanes {
		i.Lanes[n].attempts, i.Lanes[n].wait = 0, 0
	}
	i.frozen += m.clock - i.since
	i.Mode = Normal
	if i.deferred() > 0 {
		i.Mode = Draining
		all := i.Lanes[normalLane].Messages
		i.drainTo = all[len(all)-1].Seq
	}
	if state != nil {
		i.State = *state
	}
	last.begun, last.mode, i.lastCompletion = i.Epoch, i.Mode, last
	m.free(i)
	m.transition(i, Transition{From: Recovery, To: i.Mode, Ended: last.ended, State: i.State})
}

// end settles a message, once. Dead letters that waited for it come before the drain is over.
func (m *Machine) end(l *Life, settlement string) {
	i := l.Instance
	lane := &i.Lanes[l.Lane]
	if lane.Messages[0] == l {
		lane.attempts, lane.wait = 0, 0
	}
	at := slices.Index(lane.Messages, l)
	lane.Messages = slices.Delete(slices.Clone(lane.Messages), at, at+1)
	l.Settlement, l.Settled, l.failure, l.doubt = settlement, m.at, failure{}, false
	m.buried(i, l)
	m.letBack(i)
	if normal := i.Lanes[normalLane].Messages; i.Mode == Draining && (len(normal) == 0 || normal[0].Seq > i.drainTo) {
		i.Mode, i.drainTo = Normal, 0
		m.transition(i, Transition{From: Draining, To: Normal})
	}
	m.changed(i)
}

// disown takes an instance from its owner, and fences it off.
func (m *Machine) disown(i *Instance, fenced bool) {
	if s := m.sessions[i.Owner]; s != nil {
		s.owned--
	}
	i.Owner = ""
	if !fenced {
		i.newEpoch(nil)
	}
	m.letBack(i)
	m.free(i)
	m.changed(i)
}

// buried counts dead letters, which are kept up to a number.
func (m *Machine) buried(i *Instance, l *Life) {
	if l.dead() {
		i.dead++
	}
	if i.dead+i.DeadOutgoing > deadMost {
		m.beyond = &Beyond{"more dead letters of an instance than are kept"}
	}
}

package model

import (
	"cmp"
	"slices"

	logv1 "sluice/api/log/v1"
)

// The order of what comes due at one time: backoffs end first, then messages expire, then recoveries end by themselves,
// then expiries that were held are looked at again.
const (
	dueBackoff = iota
	dueExpiry
	dueUntil
	dueHeld
	dueSelecting
)

// due is something that has come due.
type due struct {
	at   int64
	kind int
	seq  uint64
	come func()
}

// advance handles what has come due, in the order of its time. Time alone changes nothing before.
func (m *Machine) advance(o *logv1.Outcome) error {
	if o.GetProgress().GetMore() {
		return &Beyond{"more that has come due than one command takes"}
	}
	var all []due
	for _, i := range m.instances {
		all = append(all, m.dueOf(i)...)
	}
	for _, op := range m.operations {
		if op.state == "selecting" && op.lookAt <= m.clock {
			all = append(all, due{op.lookAt, dueSelecting, 0, op.abandon(m.clock)})
		}
	}
	slices.SortStableFunc(all, func(a, b due) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind), cmp.Compare(a.seq, b.seq))
	})
	for _, d := range all {
		d.come()
	}
	return nil
}

// dueOf is what of an instance has come due.
func (m *Machine) dueOf(i *Instance) (all []due) {
	for _, wait := range []*int64{&i.Lanes[normalLane].wait, &i.Lanes[recoveryLane].wait, &i.recoveryWait} {
		if at := *wait; at != 0 && at <= m.clock {
			all = append(all, due{at, dueBackoff, 0, func() {
				if *wait == at {
					*wait = 0
					m.changed(i)
				}
			}})
		}
	}
	for _, lane := range i.Lanes {
		for _, l := range lane.Messages {
			if l.expires == 0 || l.held || l.lookAt > m.clock {
				continue
			}
			kind := dueExpiry
			if l.freed {
				kind = dueHeld
			}
			all = append(all, due{l.lookAt, kind, l.Seq, func() { m.expire(l) }})
		}
	}
	if at := i.until; at != 0 && at <= m.clock {
		all = append(all, due{at, dueUntil, 0, func() { m.endByItself(i, at) }})
	}
	return all
}

// expiresAt is when a message expires; 0: never. A clock that freezes stands still while its instance is in recovery.
func (m *Machine) expiresAt(l *Life) int64 {
	if l.expires == 0 || !l.Instance.app.freeze {
		return l.expires
	}
	return l.expires + m.stoodStill(l.Instance) - l.frozen
}

// stoodStill is how long an instance was in recovery, all recoveries together.
func (m *Machine) stoodStill(i *Instance) int64 {
	if i.Mode == Recovery {
		return i.frozen + m.clock - i.since
	}
	return i.frozen
}

// expire ends a message whose time has passed. While it is out or in doubt, or its clock stands still, that is held until
// it is free.
func (m *Machine) expire(l *Life) {
	i, at := l.Instance, m.expiresAt(l)
	switch frozen := i.app.freeze && i.Mode == Recovery; {
	case l.Settlement != "":
	case frozen, at <= m.clock && (l.doubt || slices.Contains(i.out(), l)):
		l.held, l.freed = true, false
	case at > m.clock:
		l.lookAt, l.freed = at, false
	default:
		m.Happened["expired"]++
		m.end(l, "expired")
	}
}

// free has what was held looked at again: nothing is out, or in doubt, that was before.
func (m *Machine) free(i *Instance) {
	for _, lane := range i.Lanes {
		for _, l := range lane.Messages {
			if l.held {
				l.lookAt, l.held, l.freed = m.clock, false, true
			}
		}
	}
}

// endByItself completes a recovery whose time has come, unless something is in doubt or pending. It is tried once.
func (m *Machine) endByItself(i *Instance, at int64) {
	if i.until != at || i.Terminated {
		return
	}
	i.until = 0
	if i.Mode == Recovery && !i.inDoubt() && len(i.Lanes[recoveryLane].Messages) == 0 {
		m.Happened["recovery ended by itself"]++
		m.turnBack(i, 0, nil)
	}
}

package cluster

import (
	"container/list"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// busyLasts is for how long a hand-out of an instance that does not drain tells that others have work.
const busyLasts = 50 * time.Millisecond

// pace lets a drain leave room for others: it has work without a pause, and would take as much of the processors and the
// disks as there is. While there was a hand-out of other instances of late, those that drain are handed out a few messages
// for each entry that is applied: fast where entries are, slow where they are slow. Alone they go as fast as they can. It
// is part of a dispatcher, and guarded by its lock.
type pace struct {
	// share is how many messages an entry makes room for.
	share     int
	busyUntil time.Time
	// left is how many messages may still be handed out of instances that drain, while others have work, before the next
	// entry is applied.
	left int
	// waiting holds the instances that drain and wait for room, first come first served.
	waiting list.List
}

// busy tells whether instances that do not drain have work.
func (p *pace) busy(now time.Time) bool { return now.Before(p.busyUntil) }

// holds tells whether an instance is to wait for room, and has it wait.
func (p *pace) holds(h *held, now time.Time) bool {
	if p.room(h, now) > 0 {
		return false
	}
	h.inPaced = p.waiting.PushBack(h)
	return true
}

// room is for how many new messages of an instance there is room.
func (p *pace) room(h *held, now time.Time) int {
	if !h.drains || !p.busy(now) {
		return pollMost
	}
	return p.left
}

// handed notes a hand-out.
func (p *pace) handed(o *fsm.Offer, now time.Time) {
	switch {
	case o.Mode != sluicev1.Mode_MODE_DRAINING:
		p.busyUntil = now.Add(busyLasts)
	case p.busy(now):
		p.left = max(p.left-len(o.Deliveries), 0)
	}
}

// applied makes room for a few messages for each entry that was applied. What was not used of the room before is lost:
// there were no more to drain.
func (d *dispatcher) applied(entries int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if entries > 0 {
		d.pace.left = entries * d.pace.share
		d.resume(d.pace.left)
	}
}

// resume has so many of the instances that wait for room looked at.
func (d *dispatcher) resume(instances int) {
	for range instances {
		e := d.pace.waiting.Front()
		if e == nil {
			return
		}
		h := e.Value.(*held)
		unlist(&d.pace.waiting, &h.inPaced)
		d.makeReady(h)
	}
}

// paced shortens a wait for something to hand out: while instances that drain wait for room it lasts only until others may
// have no work any more, for nothing tells that they have none.
func (d *dispatcher) paced(wait time.Duration, now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pace.waiting.Len() == 0 {
		return wait
	}
	return min(wait, max(d.pace.busyUntil.Sub(now), time.Millisecond))
}

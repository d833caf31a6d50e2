package cluster

import (
	"container/list"
	"context"
	"sync/atomic"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

const (
	// busyLasts is for how long a hand-out of an instance that does not drain tells that others have work.
	busyLasts = 50 * time.Millisecond
	// Room is made each time that an entry takes, within these bounds: where nodes are far apart entries take long, and yet
	// processors and disks are free.
	roomOftenest, roomRarest = time.Millisecond, 4 * time.Millisecond
	// roomsKept is how many times over room is kept that is not used.
	roomsKept = 4
	// resumedAtOnce bounds how many instances leave the line in one go.
	resumedAtOnce = 256
)

// pace lets a drain leave room for others: it has work without a pause, and would take as much of the processors and the
// disks as there is. While there was a hand-out of other instances of late, those that drain are handed out a few messages,
// all of them together, in the time that an entry takes: fast where entries are, slow where processors and disks are short.
// Alone they go as fast as they can. It is part of a dispatcher, whose lock guards what changes of it, but for entry.
type pace struct {
	// share is how many messages there is room for each time that room is made.
	share int
	// entry is how long an entry takes, on average, in nanoseconds; one goroutine sets it.
	entry     atomic.Int64
	busyUntil time.Time
	// left is for how many messages of instances that drain there is room while others have work; made is up to when room was
	// made.
	left int
	made time.Time
	// line holds the instances that drain and wait for room, first come first served, and ahead, before them, those whose turn
	// had come when others took the room.
	line, ahead list.List
	// waited is rung when an instance lines up.
	waited bell
}

// busy tells whether instances that do not drain have work.
func (p *pace) busy(now time.Time) bool { return now.Before(p.busyUntil) }

// waiting is how many instances wait for room.
func (p *pace) waiting() int { return p.line.Len() + p.ahead.Len() }

// leave takes an instance out of the line, if it is in it.
func (p *pace) leave(h *held) {
	if h.inLine != nil {
		p.line.Remove(h.inLine) // of the two only that which has it takes notice
		p.ahead.Remove(h.inLine)
		h.inLine = nil
	}
}

// lineUp has an instance that drains wait if others have work, and there is no room or others wait longer; it answers
// whether it does.
func (d *dispatcher) lineUp(h *held, now time.Time) bool {
	p, turn := &d.pace, h.turn
	h.turn = false
	if !d.heldUp(h, now) {
		return false
	}
	p.make(now)
	switch {
	case p.left > 0 && (turn || p.waiting() == 0):
		return false
	case turn:
		h.inLine = p.ahead.PushBack(h)
	default:
		h.inLine = p.line.PushBack(h)
	}
	p.waited.ring()
	return true
}

// heldUp tells whether an instance is to leave room for others. One that may keep others of its application from its session
// is not: the sooner it is done, the sooner those have an owner.
func (d *dispatcher) heldUp(h *held, now time.Time) bool {
	return h.drains && d.pace.busy(now) && (h.session.idle.Len() > 0 || !d.crowded(h.session))
}

// crowded tells whether instances of a session's application may wait for an owner while the session has no room for them.
func (d *dispatcher) crowded(s *session) bool {
	return d.hungry[s.application] && len(s.owned)+s.reserved >= s.capacity
}

// room is for how many new messages of an instance there is room.
func (d *dispatcher) room(h *held, now time.Time) int {
	if !d.heldUp(h, now) {
		return pollMost
	}
	return d.pace.left
}

// count notes a hand-out. What was handed out once more counts, too.
func (d *dispatcher) count(h *held, o *fsm.Offer, now time.Time) {
	p := &d.pace
	switch {
	case o.Mode != sluicev1.Mode_MODE_DRAINING:
		p.busyUntil = later(p.busyUntil, now.Add(busyLasts))
	case d.heldUp(h, now):
		p.left = max(p.left-len(o.Deliveries), 0)
	}
}

// committed notes how long an entry took.
func (p *pace) committed(took time.Duration) {
	average := p.entry.Load()
	p.entry.Store(average + (int64(took)-average)/16)
}

// every is how long it is from room to room.
func (p *pace) every() time.Duration {
	return min(max(time.Duration(p.entry.Load()), roomOftenest), roomRarest)
}

// make makes the room of the time that has passed.
func (p *pace) make(now time.Time) {
	every := p.every()
	if n := now.Sub(p.made) / every; n >= roomsKept {
		p.left, p.made = roomsKept*p.share, now
	} else if n > 0 {
		p.left, p.made = min(p.left+int(n)*p.share, roomsKept*p.share), p.made.Add(n*every)
	}
}

// makeRoom has those that wait longest looked at: as many instances as there is room for messages, or all of them by and by
// if others are idle. It answers whether instances wait still.
func (d *dispatcher) makeRoom(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, resumed := &d.pace, resumedAtOnce
	if p.make(now); p.busy(now) {
		resumed = min(resumed, p.left)
	}
	for range resumed {
		e := p.ahead.Front()
		if e == nil {
			e = p.line.Front()
		}
		if e == nil {
			break
		}
		h := e.Value.(*held)
		p.leave(h)
		h.turn = true
		d.makeReady(h)
	}
	return p.waiting() > 0
}

// nextRoom is how long it is until room is made again.
func (d *dispatcher) nextRoom(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pace.made.Add(d.pace.every()).Sub(now)
}

// runPace makes room for instances that drain, for as long as this node leads.
func (l *leadership) runPace(ctx context.Context) {
	for {
		select {
		case <-l.dispatch.pace.waited:
		case <-ctx.Done():
			return
		}
		for waits := true; waits && ctx.Err() == nil; waits = l.dispatch.makeRoom(time.Now()) {
			pause(ctx, l.dispatch.nextRoom(time.Now()))
		}
	}
}

package cluster

import (
	"context"
	"time"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	"sluice/fsm"
)

const (
	// leaseLook is how often the leader looks at the leases at least, and leastLook at most.
	leaseLook = 500 * time.Millisecond
	leastLook = 5 * time.Millisecond
	// pauseAllowed is how late a look may be before the leader takes itself to have been paused: the sessions could
	// not renew then.
	pauseAllowed = time.Second
	// expireBatch bounds the sessions of one ExpireSessions command.
	expireBatch = 256
)

// renew gives a session a full lease again. It answers false if the session is not known or its end is under way.
func (d *dispatcher) renew(id string, now time.Time) (ttl time.Duration, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sessions[id]
	if s == nil || s.expiring {
		return 0, false
	}
	s.expires = now.Add(s.ttl)
	return s.ttl, true
}

// lapses is when a session's lease has only a part left that its worker needs to renew it.
func (d *dispatcher) lapses(s *session) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.expires.Add(-s.ttl / 3)
}

// grace makes up for a pause of the leader itself.
func (d *dispatcher) grace(pause time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sessions {
		s.expires = s.expires.Add(pause)
	}
}

// expired lists sessions whose lease has run out, at most so many, and when the next one does.
func (d *dispatcher) expired(now time.Time, limit int) (ids []string, next time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next = now.Add(leaseLook)
	for id, s := range d.sessions {
		switch {
		case s.expiring:
		case s.expires.After(now):
			if s.expires.Before(next) {
				next = s.expires
			}
		case len(ids) < limit:
			ids = append(ids, id)
		default:
			next = now
		}
	}
	return ids, next
}

// condemn marks those of the sessions whose lease is still over: they can be renewed no more while their end is being
// proposed. It answers them.
func (d *dispatcher) condemn(ids []string, now time.Time) (condemned []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		if s := d.sessions[id]; s != nil && !s.expires.After(now) {
			s.expiring = true
			condemned = append(condemned, id)
		}
	}
	return condemned
}

// pardon undoes condemn.
func (d *dispatcher) pardon(ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		if s := d.sessions[id]; s != nil {
			s.expiring = false
		}
	}
}

// runLeases ends sessions whose lease ran out, for as long as this node leads.
func (l *leadership) runLeases(ctx context.Context) {
	next := time.Now()
	for {
		if !pause(ctx, max(time.Until(next), leastLook)) {
			return
		}
		now := time.Now()
		if late := now.Sub(next); late > pauseAllowed {
			l.node.log.Warn("this leader was paused; sessions get the time back", "pause", late)
			l.dispatch.grace(late)
		}
		var ids []string
		ids, next = l.dispatch.expired(now, expireBatch)
		if len(ids) > 0 {
			l.expire(ctx, ids)
			next = time.Now()
		}
	}
}

// expire ends sessions, if this node can show that it leads: without a quorum it ends none.
func (l *leadership) expire(ctx context.Context, ids []string) {
	if err := l.node.verify(); err != nil {
		pause(ctx, dutyPause)
		return
	}
	ids = l.dispatch.condemn(ids, time.Now())
	if len(ids) == 0 {
		return
	}
	cmd := &logv1.Command{Actor: dutyActor, Kind: &logv1.Command_ExpireSessions{ExpireSessions: &logv1.ExpireSessions{SessionIds: ids}}}
	if _, err := l.propose(ctx, cmd); err != nil {
		l.dispatch.pardon(ids)
		pause(ctx, dutyPause)
		return
	}
	l.node.log.Info("sessions expired", "sessions", ids)
	for _, id := range ids {
		l.dispatch.end(id)
	}
}

// session finds a session that is open, in memory or in the state.
func (l *leadership) session(id string) (*session, error) {
	if s := l.dispatch.find(id); s != nil {
		return s, nil
	}
	v := l.node.group.view()
	rec, err := v.Session(id)
	if err != nil {
		return nil, err
	}
	s := l.dispatch.open(rec, time.Now())
	// It may have ended between the reading and the opening. If it is still there, its end will be told of from here on.
	owned, err := v.Owned(id)
	if err != nil {
		l.dispatch.end(id)
		return nil, err
	}
	for _, i := range owned {
		l.dispatch.touch(fsm.Touch{InstanceID: i, Owner: id})
	}
	return s, nil
}

// renewSession renews a lease; UNKNOWN_SESSION when there is none to renew.
func (l *leadership) renewSession(id string) (time.Duration, error) {
	if ttl, ok := l.dispatch.renew(id, time.Now()); ok {
		return ttl, nil
	}
	if _, err := l.session(id); err != nil {
		return 0, err
	}
	if ttl, ok := l.dispatch.renew(id, time.Now()); ok {
		return ttl, nil
	}
	return 0, reason.UnknownSession.Errorf("the lease of session %s ran out", id)
}

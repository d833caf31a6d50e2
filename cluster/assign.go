package cluster

import (
	"context"
	"time"

	logv1 "sluice/api/log/v1"
	"sluice/fsm"
)

// assignBatch bounds the assignments, and the releases, of one command.
const assignBatch = 256

// candidate is a session that could take instances.
type candidate struct {
	session *session
	// wants is how many deliveries it could take now, room how many more instances it may own.
	wants, room int
	// owns and capacity tell its load.
	owns, capacity int
	// spare lists instances that it could give back, least recently used first.
	spare []*held
}

// load compares candidates: the part of its capacity that is used.
func (c *candidate) load() float64 { return float64(c.owns) / float64(max(c.capacity, 1)) }

// candidates lists the sessions of an application that want work now. The caller holds d.mu.
func (d *dispatcher) candidates(application string, now time.Time) (out []*candidate) {
	for _, s := range d.sessions {
		if s.application != application || s.expiring {
			continue
		}
		wants := -s.ready.Len() - s.reserved
		for p := range s.polls {
			wants += p.max
		}
		if s.creditEnds.After(now) {
			wants += s.credit
		}
		if wants <= 0 {
			continue
		}
		c := &candidate{session: s, wants: wants, owns: len(s.owned) + s.reserved, capacity: s.capacity}
		c.room = s.capacity - c.owns
		for e := s.idle.Front(); e != nil && len(c.spare) < assignBatch; e = e.Next() {
			c.spare = append(c.spare, e.Value.(*held))
		}
		out = append(out, c)
	}
	return out
}

// hungryWanted lists the applications in which instances may wait and sessions want work.
func (d *dispatcher) hungryWanted(now time.Time) (applications []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for application := range d.hungry {
		if len(d.candidates(application, now)) > 0 {
			applications = append(applications, application)
		}
	}
	return applications
}

// starve notes that instances of an application wait for an owner.
func (d *dispatcher) starve(application string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hungry[application] = true
	d.planning.ring()
}

// plan gives waiting instances, oldest first, to sessions that want work; sessions without room give idle instances
// back for it. What is planned counts as reserved until planned is called with it.
func (d *dispatcher) plan(application string, waiting []fsm.InstanceID, now time.Time) *logv1.Assign {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(waiting) == 0 {
		delete(d.hungry, application)
		return nil
	}
	plan := choose(waiting, d.candidates(application, now), d.former)
	for _, a := range plan.Assignments {
		d.sessions[a.SessionId].reserved++
	}
	return plan
}

// planned ends the reservations of a plan: it was carried out, or not.
func (d *dispatcher) planned(plan *logv1.Assign) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range plan.Assignments {
		if s := d.sessions[a.SessionId]; s != nil {
			s.reserved--
		}
		delete(d.former, fsm.InstanceID{Application: a.Application, Key: a.Instance})
	}
	for _, r := range plan.Releases {
		if h := d.owner[fsm.InstanceID{Application: r.Application, Key: r.Instance}]; h != nil && h.session.id == r.SessionId {
			d.makeReady(h)
		}
	}
}

// choose is the rule: each instance goes to its former owner if that wants work, else to the least loaded session that
// does, relative to its capacity.
func choose(waiting []fsm.InstanceID, candidates []*candidate, former map[fsm.InstanceID]string) *logv1.Assign {
	plan := &logv1.Assign{}
	for _, id := range waiting {
		c := best(candidates, former[id])
		if c == nil || len(plan.Assignments) >= assignBatch {
			break
		}
		if c.room <= 0 {
			release := c.spare[0]
			c.spare = c.spare[1:]
			plan.Releases = append(plan.Releases, assignment(release.id, c.session.id))
			c.room++
			c.owns--
		}
		plan.Assignments = append(plan.Assignments, assignment(id, c.session.id))
		c.room--
		c.owns++
		c.wants--
	}
	return plan
}

func assignment(id fsm.InstanceID, session string) *logv1.Assignment {
	return &logv1.Assignment{Application: id.Application, Instance: id.Key, SessionId: session}
}

// best is the session to take the next instance: one with room before one that must make room.
func best(candidates []*candidate, former string) (least *candidate) {
	for _, c := range candidates {
		if c.wants <= 0 || c.room <= 0 && len(c.spare) == 0 {
			continue
		}
		if c.session.id == former && c.room > 0 {
			return c
		}
		switch {
		case least == nil, c.room > 0 && least.room <= 0:
			least = c
		case c.room <= 0 && least.room > 0:
		case c.load() < least.load(), c.load() == least.load() && c.session.id < least.session.id:
			least = c
		}
	}
	return least
}

// runAssign gives instances to sessions for as long as this node leads, one command at a time. It also takes in what
// Apply reports, so that a plan sees all that was applied before it.
func (l *leadership) runAssign(ctx context.Context) {
	for {
		select {
		case <-l.effects.bell:
		case <-l.dispatch.planning:
		case <-ctx.Done():
			return
		}
		l.takeEffects()
		for _, application := range l.dispatch.hungryWanted(time.Now()) {
			l.assign(ctx, application)
			l.takeEffects()
		}
	}
}

func (l *leadership) assign(ctx context.Context, application string) {
	waiting, err := l.node.group.view().Waiting(application, assignBatch)
	if err != nil {
		l.dutyFailed("assign", err)
		l.retryAssign(ctx, application)
		return
	}
	plan := l.dispatch.plan(application, waiting, time.Now())
	if plan == nil || len(plan.Assignments) == 0 {
		return
	}
	out, err := l.propose(ctx, &logv1.Command{Actor: dutyActor, Kind: &logv1.Command_Assign{Assign: plan}})
	l.takeEffects()
	l.dispatch.planned(plan)
	if err != nil || out.GetProgress().GetDone() == 0 {
		l.retryAssign(ctx, application)
		return
	}
	l.dispatch.starve(application)
}

// retryAssign looks again after a pause: something stood in the way that nothing need announce the end of.
func (l *leadership) retryAssign(ctx context.Context, application string) {
	pause(ctx, dutyPause)
	l.dispatch.starve(application)
}

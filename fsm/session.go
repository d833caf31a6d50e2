package fsm

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

const (
	maxSessions      = 65_536
	leastTTL         = 1000           // ms
	mostTTL          = 60 * 60 * 1000 // ms
	mostCapacity     = 65_536
	defaultTTL       = 15_000 // ms
	defaultCapacity  = 64
	ownerLostMarker  = "owner lost"
	recoveringMarker = "; in recovery before: "
)

func (t *txn) openSession(c *logv1.OpenSession) (*logv1.Outcome, error) {
	if _, err := t.application(c.Application); err != nil {
		return refused(err)
	}
	if c.TtlMs == 0 {
		c.TtlMs = defaultTTL
	}
	if c.Capacity == 0 {
		c.Capacity = defaultCapacity
	}
	if err := checkSession(c); err != nil {
		return refused(err)
	}
	if s := t.m.sessions[c.SessionId]; s == nil {
		if len(t.m.sessions) >= maxSessions {
			return refused(reason.Rate.Errorf("%d sessions are open, which is the limit", maxSessions))
		}
		t.m.sessions[c.SessionId] = &logv1.SessionRecord{Id: c.SessionId, Application: c.Application, Name: c.Name, TtlMs: c.TtlMs, Capacity: c.Capacity, OpenedTimeMs: t.now}
		t.changeSession(c.SessionId)
		t.fx.Opened = append(t.fx.Opened, c.SessionId)
		if err := t.sessionEvent(sluicev1.EventType_EVENT_SESSION_OPENED, t.m.sessions[c.SessionId]); err != nil {
			return nil, err
		}
	}
	ttl := &durationpb.Duration{Seconds: c.TtlMs / 1000, Nanos: int32(c.TtlMs%1000) * 1e6}
	return &logv1.Outcome{Result: &logv1.Outcome_SessionOpened{SessionOpened: &sluicev1.OpenSessionResponse{SessionId: c.SessionId, Ttl: ttl}}}, nil
}

func checkSession(c *logv1.OpenSession) error {
	if c.TtlMs < leastTTL || c.TtlMs > mostTTL {
		return reason.BadField.Errorf("ttl is %d ms; allowed are 1s to 1h", c.TtlMs)
	}
	if c.Capacity > mostCapacity {
		return reason.BadField.Errorf("capacity is %d; allowed are 1 to %d", c.Capacity, mostCapacity)
	}
	return errors.Join(checkKey("session_id", c.SessionId, reason.BadField), checkText("name", c.Name, maxKeyBytes))
}

// owned lists the instances that a session owns, in the order of their keys.
func owned(r queue.Reader, session string) (keys []string, err error) {
	prefix := named(tableOwned, session, "")
	err = scan(r, prefix, func(k, _ []byte) error {
		keys = append(keys, string(k[len(prefix):]))
		return nil
	})
	return keys, err
}

// closeSession hands a session's instances back in good order: nothing is in doubt.
func (t *txn) closeSession(c *logv1.CloseSession) (*logv1.Outcome, error) {
	s := t.m.sessions[c.SessionId]
	if s == nil {
		return refused(unknownSession(c.SessionId))
	}
	if err := t.sessionEvent(sluicev1.EventType_EVENT_SESSION_CLOSED, s); err != nil {
		return nil, err
	}
	n, err := t.endSession(s, t.release)
	if err != nil {
		return nil, err
	}
	return &logv1.Outcome{Result: &logv1.Outcome_SessionClosed{SessionClosed: &sluicev1.CloseSessionResponse{Released: uint32(n)}}}, nil
}

// expireSessions ends sessions whose lease ran out: whatever may have been in flight with them is in doubt.
func (t *txn) expireSessions(c *logv1.ExpireSessions) (*logv1.Outcome, error) {
	done := 0
	for _, id := range c.SessionIds {
		s := t.m.sessions[id]
		if s == nil {
			continue
		}
		if err := t.sessionEvent(sluicev1.EventType_EVENT_SESSION_LOST, s); err != nil {
			return nil, err
		}
		if _, err := t.endSession(s, func(i *instance) error { return t.lose(i, s) }); err != nil {
			return nil, err
		}
		done++
	}
	return progress(done, false)
}

func (t *txn) endSession(s *logv1.SessionRecord, part func(*instance) error) (released int, err error) {
	keys, err := owned(t, s.Id)
	if err != nil {
		return 0, err
	}
	a, err := t.application(s.Application)
	if err != nil {
		return 0, err
	}
	for _, k := range keys {
		i, err := t.find(a, k)
		if err != nil {
			return 0, err
		}
		if i == nil || i.rec.Owner != s.Id {
			return 0, fmt.Errorf("%w: session %s does not own %q", queue.ErrCorrupt, s.Id, k)
		}
		if err := part(i); err != nil {
			return 0, err
		}
	}
	delete(t.m.sessions, s.Id)
	t.changeSession(s.Id)
	t.fx.Ended = append(t.fx.Ended, s.Id)
	return len(keys), nil
}

// disown takes an instance from its owner and fences it off, unless the epoch has grown just now.
func (t *txn) disown(i *instance, fenced bool) error {
	s := t.m.sessions[i.rec.Owner]
	t.fx.touch(i)
	if err := t.SingleDelete(named(tableOwned, i.rec.Owner, i.rec.Key)); err != nil {
		return err
	}
	s.Owned--
	t.changeSession(s.Id)
	i.rec.Owner = ""
	if !fenced {
		i.rec.Epoch, i.rec.Window = t.mint(), i.app.settings.window
	}
	t.change(i)
	if err := errors.Join(t.letBack(i), t.thaw(i)); err != nil {
		return err
	}
	return t.queueUp(i)
}

// release gives an instance up in good order.
func (t *txn) release(i *instance) error { return t.disown(i, false) }

// lose takes an instance from an owner that is gone. What may be in flight is never run again blindly: the instance
// goes into recovery, unless the application declared its handlers idempotent.
func (t *txn) lose(i *instance, s *logv1.SessionRecord) error {
	inRecovery := i.rec.Mode == recoveryMode
	switch {
	case inRecovery && i.rec.RecoveryWaitMs != 0 || !inRecovery && i.out() == 0:
		return t.release(i)
	case !inRecovery && i.app.settings.redeliver:
		return t.redeliver(i)
	}
	if err := t.turnToRecovery(i, t.here(i, lostCause(i.rec, s))); err != nil {
		return err
	}
	return t.disown(i, true)
}

func lostCause(r *logv1.InstanceRecord, s *logv1.SessionRecord) string {
	cause := fmt.Sprintf("%s: the lease of session %s (%s) ran out", ownerLostMarker, s.Id, s.Name)
	if r.Mode != recoveryMode || r.Cause == "" {
		return cause
	}
	before := r.Cause
	if _, first, again := strings.Cut(before, recoveringMarker); again {
		before = first
	} else if strings.HasPrefix(before, ownerLostMarker) {
		return cause
	}
	return cutCause(cause + recoveringMarker + before)
}

// redeliver counts the lost attempt of the head; everything that was out is offered to the next owner.
func (t *txn) redeliver(i *instance) error {
	seqs, err := i.first(t, normalLane, 1)
	if err != nil {
		return err
	}
	m, err := queue.Message(t, i.rec.Uid, normalLane, seqs[0])
	if err != nil {
		return err
	}
	attempt := i.rec.Normal.HeadAttempts + 1
	if err := t.recordFailure(i, m, attempt, ownerLostMarker, nil); err != nil {
		return err
	}
	epoch := i.rec.Epoch
	if err := t.attemptEnded(i, m, ending{attempt: attempt}, 0, ownerLostMarker); err != nil {
		return err
	}
	return t.disown(i, i.rec.Epoch != epoch)
}

// assign gives waiting instances to sessions, after taking idle ones back.
func (t *txn) assign(c *logv1.Assign) (*logv1.Outcome, error) {
	done := 0
	for _, r := range c.Releases {
		i, err := t.party(r)
		if err != nil {
			return nil, err
		}
		if i == nil || i.rec.Owner != r.SessionId || i.rec.Mode != normalMode || i.rec.Normal.Messages > 0 {
			continue
		}
		if err := t.release(i); err != nil {
			return nil, err
		}
		done++
	}
	for _, g := range c.Assignments {
		ok, err := t.give(g)
		if err != nil {
			return nil, err
		}
		if ok {
			done++
		}
	}
	return progress(done, false)
}

// party finds the instance of an assignment; nil when the instance or the session is gone.
func (t *txn) party(g *logv1.Assignment) (*instance, error) {
	a, s := t.m.applications[g.Application], t.m.sessions[g.SessionId]
	if a == nil || s == nil || s.Application != g.Application {
		return nil, nil
	}
	return t.find(a, g.Instance)
}

func (t *txn) give(g *logv1.Assignment) (bool, error) {
	i, err := t.party(g)
	if err != nil || i == nil || i.rec.Owner != "" || !i.hasWork() {
		return false, err
	}
	s := t.m.sessions[g.SessionId]
	if s.Owned >= s.Capacity {
		return false, nil
	}
	if err := t.Set(named(tableOwned, s.Id, i.rec.Key), nil); err != nil {
		return false, err
	}
	s.Owned++
	t.changeSession(s.Id)
	i.rec.Owner = s.Id
	t.change(i)
	t.fx.touch(i)
	return true, t.queueUp(i)
}

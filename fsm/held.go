package fsm

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

const (
	defaultHeldAfter = 10 * time.Minute
	leastHeldAfter   = time.Second
	mostHeldAfter    = 30 * 24 * time.Hour
)

// heldAfter is after how long a recovery is told of, ms; 0: never.
func heldAfter(s *sluicev1.Supervision) int64 { return millis(s.GetHeldAfter(), defaultHeldAfter) }

func checkHeldAfter(d *durationpb.Duration) error {
	if d.GetSeconds() == 0 && d.GetNanos() == 0 {
		return nil
	}
	if v := d.AsDuration(); d.CheckValid() != nil || v < leastHeldAfter || v > mostHeldAfter {
		return reason.BadField.Errorf("supervision.held_after is %v; allowed are %v to %v, and 0: never", v, leastHeldAfter, mostHeldAfter)
	}
	return nil
}

// watchHeld sees to it that a recovery that began now is told of when it lasts too long.
func (t *txn) watchHeld(i *instance) error {
	after := i.app.settings.heldAfter
	if after == 0 {
		return nil
	}
	i.rec.HeldDueMs = t.now + after
	t.change(i)
	return t.dueOf(i, due{at: i.rec.HeldDueMs, kind: dueHeld})
}

// unwatchHeld takes that back.
func (t *txn) unwatchHeld(i *instance) error {
	if i.rec.HeldDueMs == 0 {
		return nil
	}
	d := due{at: i.rec.HeldDueMs, kind: dueHeld, uid: i.rec.Uid}
	i.rec.HeldDueMs = 0
	t.change(i)
	return t.Delete(d.key())
}

// heldDue tells of an instance that is in recovery for too long, and will again.
func (t *txn) heldDue(i *instance, at int64) error {
	if i.rec.HeldDueMs != at {
		return nil
	}
	i.rec.HeldDueMs = 0
	t.change(i)
	if i.app.settings.heldAfter == 0 {
		return nil
	}
	detail := sinceWhen(i.rec.ModeTimeMs, i.rec.Cause)
	if err := t.eventOf(i, &sluicev1.Event{Type: sluicev1.EventType_EVENT_HELD_TOO_LONG, Detail: detail}); err != nil {
		return err
	}
	return t.watchHeld(i)
}

func sinceWhen(ms int64, cause string) string {
	return fmt.Sprintf("in recovery since %s: %s", time.UnixMilli(ms).UTC().Format(time.RFC3339), cause)
}

// watchHeldApplication is watchHeld for an entry of a whole application: one for all its instances.
func (t *txn) watchHeldApplication(a *application) error {
	if a.heldDueMS != 0 {
		if err := t.Delete(a.heldDue().key()); err != nil {
			return err
		}
	}
	a.heldDueMS = 0
	t.changeApplication(a)
	if a.settings.heldAfter == 0 {
		return nil
	}
	a.heldDueMS = t.now + a.settings.heldAfter
	return t.due(a.heldDue(), InstanceID{Application: a.name()})
}

func (a *application) heldDue() due {
	return due{at: a.heldDueMS, kind: dueHeldApplication, uid: a.uid}
}

// applicationHeldDue tells of an application that is in recovery as a whole for too long: until none of its instances
// is in recovery.
func (t *txn) applicationHeldDue(a *application, at int64) error {
	if a.heldDueMS != at {
		return nil
	}
	a.heldDueMS = 0
	t.changeApplication(a)
	if a.counts.recovery == 0 || a.settings.heldAfter == 0 {
		return nil
	}
	g := a.generations[len(a.generations)-1]
	err := t.event(&sluicev1.Event{
		Type: sluicev1.EventType_EVENT_HELD_TOO_LONG, Application: a.name(), Epoch: g.Position, Mode: recoveryMode, DeferredMessages: a.counts.deferredMessages,
		Detail: fmt.Sprintf("%d instances are in recovery; the application is %s", a.counts.recovery, sinceWhen(g.TimeMs, g.Cause)),
	})
	if err != nil {
		return err
	}
	return t.watchHeldApplication(a)
}

// applicationEntered tells of an application's entry into recovery as a whole: one event, however many instances it
// has. An instance that is caught up with the entry later tells of none.
func (t *txn) applicationEntered(a *application, g *logv1.Generation) error {
	err := t.event(&sluicev1.Event{
		Type: sluicev1.EventType_EVENT_APPLICATION_RECOVERY_ENTERED, Application: a.name(), Epoch: g.Position, Mode: recoveryMode,
		Detail: g.Cause, Actor: g.Actor, DeferredMessages: a.counts.deferredMessages,
	})
	if err != nil {
		return err
	}
	return t.watchHeldApplication(a)
}

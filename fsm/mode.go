package fsm

import (
	"errors"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// entry says why, when and by whom an instance enters recovery, and under which epoch.
type entry struct {
	cause, actor string
	epoch, index uint64
	timeMS       int64
	window       uint32 // of the epoch that begins
	// generation is set when the whole application entered.
	generation uint64
}

// here is an entry of an instance into recovery by the command at work.
func (t *txn) here(i *instance, cause string) entry {
	return entry{cause: cause, actor: t.actor, epoch: t.mint(), index: t.index, timeMS: t.now, window: i.app.settings.window}
}

// enter turns a header to recovery. lastOut is the last message that is out in the lane that its mode offers; 0: none.
// What was out with an owner is in doubt from now on; what was in doubt before stays so.
func enter(r *logv1.InstanceRecord, e entry, lastOut uint64) {
	if r.Mode == recoveryMode {
		if lastOut > 0 {
			r.RecoveryDoubt, r.RecoveryDoubtSince = max(r.RecoveryDoubt, lastOut), e.epoch
		}
	} else {
		r.NormalDoubt, r.RecoveryDoubt, r.DoubtSince, r.PoisonFingerprint = lastOut, 0, e.epoch, ""
	}
	r.Mode, r.Epoch, r.Window = recoveryMode, e.epoch, e.window
	r.Cause, r.ModeTimeMs, r.ModeIndex, r.ModeActor = e.cause, e.timeMS, e.index, e.actor
	r.RecoveryGeneration, r.UntilMs, r.DrainMark, r.HeldDueMs = e.generation, 0, 0, 0
	r.RecoveryAttempts, r.RecoveryWaitMs = 0, 0
	r.Normal.HeadWaitMs, r.Recovery.HeadWaitMs = 0, 0
	if r.FrozenSinceMs == 0 {
		r.FrozenSinceMs = e.timeMS
	}
}

// lastOut is the last message out in the lane that the instance's mode offers.
func (t *txn) lastOut(i *instance) (uint64, error) {
	n := i.out()
	if n == 0 {
		return 0, nil
	}
	seqs, err := i.first(t, i.working(), int(n))
	if err != nil {
		return 0, err
	}
	return seqs[n-1], nil
}

// turnToRecovery enters an instance into recovery. What concerns an entry of its own alone does not follow when the
// whole application entered: the one entry has seen to it for all.
func (t *txn) turnToRecovery(i *instance, e entry) error {
	last, err := t.lastOut(i)
	if err != nil {
		return err
	}
	if err := t.unwatchHeld(i); err != nil {
		return err
	}
	from := i.rec.Mode
	enter(i.rec, e, last)
	if err := t.transition(i, from, e); err != nil {
		return err
	}
	if e.generation == 0 {
		if err := t.enteredAlone(i, from, e); err != nil {
			return err
		}
	}
	if err := t.letBack(i); err != nil {
		return err
	}
	t.fx.touch(i)
	return t.queueUp(i)
}

// enteredAlone counts and tells of an instance's own entry into recovery.
func (t *txn) enteredAlone(i *instance, from sluicev1.Mode, e entry) error {
	t.count(i.app, from, recoveryMode)
	if err := t.eventOf(i, &sluicev1.Event{Type: sluicev1.EventType_EVENT_RECOVERY_ENTERED, Detail: e.cause}); err != nil {
		return err
	}
	return t.watchHeld(i)
}

func (t *txn) count(a *application, from, to sluicev1.Mode) {
	if from == to {
		return
	}
	if n := a.counts.of(from); *n > 0 {
		*n--
	}
	*a.counts.of(to)++
	t.changeApplication(a)
}

// transition records a change of mode in the instance's history.
func (t *txn) transition(i *instance, from sluicev1.Mode, e entry) error {
	t.change(i)
	t.fx.Counters.Transitions[i.rec.Mode]++
	number := t.mint()
	tr := transitionOf(i.rec, from, e)
	if err := queue.Put(t, historyKey(i.rec.Uid, number), &logv1.HistoryRecord{Transition: tr}); err != nil {
		return err
	}
	if i.rec.Transitions++; i.rec.Transitions <= i.app.settings.history {
		return nil
	}
	return t.forgetTransitions(i)
}

func transitionOf(r *logv1.InstanceRecord, from sluicev1.Mode, e entry) *sluicev1.Transition {
	return &sluicev1.Transition{Index: e.index, Time: timestamp(e.timeMS), From: from, To: r.Mode, Cause: e.cause, Actor: e.actor, Epoch: r.Epoch}
}

// forgetTransitions drops the oldest transitions over the limit.
func (t *txn) forgetTransitions(i *instance) error {
	over := int(i.rec.Transitions - i.app.settings.history)
	var old [][]byte
	err := scan(t, numbered(tableHistory, i.rec.Uid), func(k, _ []byte) error {
		if len(old) == over {
			return errEnough
		}
		old = append(old, slices.Clone(k))
		return nil
	})
	if err = ignore(err, errEnough); err != nil {
		return err
	}
	for _, k := range old {
		if err := t.Delete(k); err != nil {
			return err
		}
	}
	i.rec.Transitions -= uint32(len(old))
	return nil
}

// errEnough ends a scan early.
var errEnough = errors.New("enough")

// catchUp enters an instance into every application-wide recovery that it has not seen yet, as if it had been
// entered then: nothing of it was written since, so what was out then is what its header says is out.
func (t *txn) catchUp(i *instance) error {
	if i.rec.Generation >= i.app.generation() || i.rec.Terminated {
		return nil
	}
	for _, g := range i.app.generations {
		if g.Position <= i.rec.Generation {
			continue
		}
		if err := t.turnToRecovery(i, generationEntry(g)); err != nil {
			return err
		}
		i.rec.Generation = g.Position
	}
	return nil
}

func generationEntry(g *logv1.Generation) entry {
	return entry{cause: g.Cause, actor: g.Actor, epoch: g.Position, index: g.Index, timeMS: g.TimeMs, window: g.Window, generation: g.Position}
}

// enterRecovery carries out EnterRecovery.
func (t *txn) enterRecovery(r *sluicev1.EnterRecoveryRequest) (*logv1.Outcome, error) {
	a, err := t.checkEnter(r)
	if err != nil {
		return refused(err)
	}
	i, err := t.findOrBear(a, r.Instance)
	if err != nil {
		return nil, err
	}
	return t.once(call{a: a, i: i, method: "EnterRecovery", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		if err := t.mayEnter(i, r); err != nil {
			return refused(err)
		}
		t.keep(i)
		if err := t.enterUntil(i, r.Cause, r.Until); err != nil {
			return nil, err
		}
		return instanceOutcome(i)
	})
}

// enterUntil enters an instance into recovery, which ends by itself at a time if one is given.
func (t *txn) enterUntil(i *instance, cause string, until *timestamppb.Timestamp) error {
	if err := t.turnToRecovery(i, t.here(i, cause)); err != nil || until == nil {
		return err
	}
	i.rec.UntilMs = max(ceilMS(until), 1)
	return t.dueOf(i, due{at: i.rec.UntilMs, kind: dueUntil})
}

// ceilMS rounds up, so that nothing happens before its time.
func ceilMS(ts *timestamppb.Timestamp) int64 {
	return ts.Seconds*1000 + (int64(ts.Nanos)+999_999)/1_000_000
}

func (t *txn) checkEnter(r *sluicev1.EnterRecoveryRequest) (*application, error) {
	a, err := t.application(r.Application)
	if err != nil {
		return nil, err
	}
	if r.Until != nil {
		if err := r.Until.CheckValid(); err != nil {
			return nil, reason.BadField.Errorf("until: %v", err)
		}
	}
	if r.Epoch != 0 && r.SessionId == "" {
		return nil, reason.BadField.Errorf("epoch goes with session_id: it fences a worker's own wish")
	}
	return a, errors.Join(checkKey("instance", r.Instance, reason.BadName), checkText("cause", r.Cause, maxTextBytes), checkRequestID(r.RequestId))
}

// mayEnter judges a wish to enter recovery, in the order of the contract.
func (t *txn) mayEnter(i *instance, r *sluicev1.EnterRecoveryRequest) error {
	if r.SessionId == "" {
		return i.stands()
	}
	if t.m.sessions[r.SessionId] == nil {
		return unknownSession(r.SessionId)
	}
	if i.fresh {
		return reason.UnknownInstance.Errorf("there is no instance %s", i.id())
	}
	if err := i.stands(); err != nil {
		return err
	}
	if r.Epoch != 0 && r.Epoch != i.rec.Epoch {
		return staleEpoch(i, r.Epoch)
	}
	return i.ownedBy(r.SessionId)
}

func staleEpoch(i *instance, epoch uint64) error {
	return reason.StaleEpoch.Errorf("epoch %d of %s is not the current one, %d", epoch, i.id(), i.rec.Epoch)
}

func (i *instance) ownedBy(session string) error {
	if i.rec.Owner != session {
		return reason.NotOwner.Errorf("session %s does not own %s; %s does", session, i.id(), quoteOwner(i.rec.Owner))
	}
	return nil
}

func quoteOwner(o string) string {
	if o == "" {
		return "nobody"
	}
	return "session " + o
}

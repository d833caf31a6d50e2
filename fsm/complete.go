package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// completeRecovery carries out CompleteRecovery.
func (t *txn) completeRecovery(r *sluicev1.CompleteRecoveryRequest) (*logv1.Outcome, error) {
	a, err := t.application(r.Application)
	if err == nil {
		err = errors.Join(checkKey("instance", r.Instance, reason.BadName), checkRequestID(r.RequestId), checkState(a, r.SetState, r.State))
	}
	if err != nil {
		return refused(err)
	}
	i, err := t.find(a, r.Instance)
	if err != nil {
		return nil, err
	}
	return t.once(call{a: a, i: i, method: "CompleteRecovery", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		if i != nil && repeats(i.rec.LastCompletion, r) {
			answer := i.answer()
			answer.Mode, answer.Epoch, answer.Duplicate = i.rec.LastCompletion.AnswerMode, i.rec.LastCompletion.AnswerEpoch, true
			return &logv1.Outcome{Result: &logv1.Outcome_Instance{Instance: answer}}, nil
		}
		if err := t.mayComplete(i, r); err != nil {
			return refused(err)
		}
		if err := t.turnBack(i, r); err != nil {
			return nil, err
		}
		return instanceOutcome(i)
	})
}

func checkState(a *application, set bool, state []byte) error {
	switch limit := a.settings.stateBytes; {
	case !set && len(state) > 0:
		return reason.BadField.Errorf("state is given but set_state is not")
	case limit > 0 && uint64(len(state)) > limit:
		return reason.BadField.Errorf("state has %d bytes; max_state_bytes is %d", len(state), limit)
	}
	return nil
}

// repeats tells that a completion is the last one again, whoever made that. One that sets another state is none: it
// would be told that it is done, and its state be lost.
func repeats(last *logv1.Completion, r *sluicev1.CompleteRecoveryRequest) bool {
	return last != nil && r.Epoch != 0 && r.Epoch == last.Epoch && r.ProcessedThrough == last.ProcessedThrough &&
		bytes.Equal(stateDigest(r), last.StateDigest)
}

// stateDigest is that of the state that a completion sets; empty: it sets none.
func stateDigest(r *sluicev1.CompleteRecoveryRequest) []byte {
	if !r.SetState {
		return nil
	}
	sum := sha256.Sum256(r.State)
	return sum[:16]
}

// mayComplete judges a completion, in the order of the contract.
func (t *txn) mayComplete(i *instance, r *sluicev1.CompleteRecoveryRequest) error {
	if r.SessionId != "" && t.m.sessions[r.SessionId] == nil {
		return unknownSession(r.SessionId)
	}
	if i == nil {
		return reason.UnknownInstance.Errorf("there is no instance %s/%s", r.Application, r.Instance)
	}
	if err := i.stands(); err != nil {
		return err
	}
	if i.rec.Mode != recoveryMode {
		return reason.NotInRecovery.Errorf("%s is in %s mode; only a recovery can be completed", i.id(), modeName(i.rec.Mode))
	}
	if r.Epoch != 0 && r.Epoch != i.rec.Epoch {
		return staleEpoch(i, r.Epoch)
	}
	if r.SessionId != "" {
		if err := i.ownedBy(r.SessionId); err != nil {
			return err
		}
	}
	if n := i.rec.Recovery.Messages; n > 0 && !r.DiscardRecoveryMessages {
		return reason.PendingRecoveryMessages.Errorf("%d recovery messages of %s are unsettled; settle them first, or complete with discard_recovery_messages", n, i.id())
	}
	return nil
}

// turnBack ends a recovery that may end: in-doubt messages that took effect are settled, the deferred are let go.
func (t *txn) turnBack(i *instance, r *sluicev1.CompleteRecoveryRequest) error {
	if err := t.settleDoubt(i, min(r.ProcessedThrough, i.rec.NormalDoubt)); err != nil {
		return err
	}
	if err := t.discard(i, recoveryLane, deadLetter("RECOVERY_COMPLETED: discarded when the recovery was completed")); err != nil {
		return err
	}
	if r.SetState {
		if err := t.setState(i, r.State); err != nil {
			return err
		}
	}
	if err := t.unwatchHeld(i); err != nil {
		return err
	}
	rec, old := i.rec, i.rec.Epoch
	rec.Epoch, rec.Window = t.mint(), i.app.settings.window
	rec.ModeTimeMs, rec.ModeIndex, rec.ModeActor, rec.PoisonFingerprint = t.now, t.index, t.actor, ""
	rec.NormalDoubt, rec.RecoveryDoubt, rec.RecoveryGeneration, rec.UntilMs = 0, 0, 0, 0
	rec.RecoveryAttempts, rec.RecoveryWaitMs = 0, 0
	rec.Normal.HeadAttempts, rec.Normal.HeadWaitMs = 0, 0
	rec.Recovery.HeadAttempts, rec.Recovery.HeadWaitMs = 0, 0
	rec.Mode = normalMode
	if rec.DeferredMessages > 0 {
		rec.Mode, rec.DrainMark = drainingMode, rec.Normal.Tail
	}
	rec.FrozenMs, rec.FrozenSinceMs = rec.FrozenMs+t.now-rec.FrozenSinceMs, 0
	rec.LastCompletion = &logv1.Completion{
		Epoch: old, ProcessedThrough: r.ProcessedThrough, StateDigest: stateDigest(r), AnswerMode: rec.Mode, AnswerEpoch: rec.Epoch,
	}
	t.count(i.app, recoveryMode, rec.Mode)
	if err := t.dropFailureOfRecovery(i); err != nil {
		return err
	}
	e := entry{cause: fmt.Sprintf("recovery completed; was: %s", cutCause(rec.Cause)), actor: t.actor, index: t.index, timeMS: t.now}
	rec.Cause = ""
	if err := t.transition(i, recoveryMode, e); err != nil {
		return err
	}
	if err := t.backEvent(i, e.cause); err != nil {
		return err
	}
	t.fx.touch(i)
	if err := t.thaw(i); err != nil {
		return err
	}
	return t.queueUp(i)
}

// cutCause bounds a cause that is made of other texts.
func cutCause(s string) string { return cutText(s, 512) }

// cutText cuts a text to so many bytes, between two characters, and marks the cut.
func cutText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for n := most; n > 0; n-- {
		if s[n]&0xC0 != 0x80 { // the beginning of a character
			return s[:n] + "…"
		}
	}
	return ""
}

// settleDoubt settles the in-doubt messages of the normal lane up to a sequence number as completed. What was put back
// among them stays.
func (t *txn) settleDoubt(i *instance, through uint64) error {
	if through == 0 {
		return nil
	}
	for from := i.rec.Normal.Front; from <= through; {
		seqs, err := queue.Seqs(t, i.rec.Uid, normalLane, from, headMost)
		if err != nil {
			return err
		}
		for _, seq := range seqs {
			if seq > through {
				return nil
			}
			m, err := queue.Message(t, i.rec.Uid, normalLane, seq)
			if err != nil {
				return err
			}
			if !i.doubtful(m) {
				continue
			}
			if err := t.end(i, m, ending{kind: completed}); err != nil {
				return err
			}
		}
		if len(seqs) < headMost {
			return nil
		}
		from = seqs[len(seqs)-1] + 1
	}
	return nil
}

// discard ends every message of a lane.
func (t *txn) discard(i *instance, l sluicev1.Lane, e ending) error {
	for i.lane(l).Messages > 0 {
		seqs, err := i.first(t, l, int(min(i.lane(l).Messages, headMost)))
		if err != nil {
			return err
		}
		for _, seq := range slices.Clone(seqs) {
			m, err := queue.Message(t, i.rec.Uid, l, seq)
			if err != nil {
				return err
			}
			if err := t.end(i, m, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// setState replaces the instance's state.
func (t *txn) setState(i *instance, state []byte) error {
	i.rec.StateBytes = uint64(len(state))
	t.change(i)
	if len(state) == 0 {
		return t.Delete(numbered(tableState, i.rec.Uid))
	}
	return t.Set(numbered(tableState, i.rec.Uid), state)
}

// drained ends draining when the head of the normal lane has passed the mark. The epoch stays: nothing is to be
// fenced off.
func (t *txn) drained(i *instance) error {
	if i.rec.Mode != drainingMode {
		return nil
	}
	if i.rec.Normal.Messages > 0 {
		seqs, err := i.first(t, normalLane, 1)
		if err != nil || seqs[0] <= i.rec.DrainMark {
			return err
		}
	}
	i.rec.Mode, i.rec.DrainMark = normalMode, 0
	i.rec.ModeTimeMs, i.rec.ModeIndex, i.rec.ModeActor = t.now, t.index, t.actor
	t.count(i.app, drainingMode, normalMode)
	if err := t.transition(i, drainingMode, entry{cause: "drained", actor: t.actor, index: t.index, timeMS: t.now}); err != nil {
		return err
	}
	return t.eventOf(i, &sluicev1.Event{Type: sluicev1.EventType_EVENT_DRAINED})
}

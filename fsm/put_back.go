package fsm

import (
	"errors"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// maxPutBack bounds how many dead letters one call puts back, and how many may wait in one instance to be put back.
const maxPutBack = 1024

// putBack returns dead letters of an instance to their old place: each is judged alone.
func (t *txn) putBack(r *sluicev1.PutBackRequest) (*logv1.Outcome, error) {
	i, err := t.known(InstanceID{r.Application, r.Instance})
	if err == nil {
		err = checkPutBack(r)
	}
	if err != nil {
		return refused(err)
	}
	return t.once(call{a: i.app, i: i, method: "PutBack", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		if err := mayPutBack(i, r); err != nil {
			return refused(err)
		}
		seqs, more, err := t.chosen(i, r)
		if err != nil {
			return nil, err
		}
		out := &sluicev1.PutBackResponse{More: more}
		p := &puttingBack{txn: t, i: i, edit: t.edit("put back", r.Reason), wait: r.Lane == normalLane && i.normalOut() > 0}
		for _, seq := range seqs {
			result, err := p.one(r.Lane, seq)
			if err != nil {
				return nil, err
			}
			out.Results = append(out.Results, result)
		}
		return &logv1.Outcome{Result: &logv1.Outcome_PutBack{PutBack: out}}, p.finish()
	})
}

func checkPutBack(r *sluicev1.PutBackRequest) error {
	if r.Lane != normalLane && r.Lane != recoveryLane {
		return reason.BadField.Errorf("lane is %v; allowed are LANE_NORMAL and LANE_RECOVERY (what was refused at its target is sent again)", r.Lane)
	}
	switch n := len(r.Seqs); {
	case n > maxPutBack:
		return reason.BadField.Errorf("seqs holds %d; at most %d are allowed", n, maxPutBack)
	case n == 0 && r.Fingerprint == "":
		return reason.BadField.Errorf("neither seqs nor a fingerprint is given: say which dead letters are to be put back")
	case n > 0 && r.Fingerprint != "":
		return reason.BadField.Errorf("both seqs and a fingerprint are given; allowed is one of them")
	}
	return errors.Join(checkText("fingerprint", r.Fingerprint, maxKeyBytes), checkText("reason", r.Reason, maxTextBytes), checkRequestID(r.RequestId))
}

func mayPutBack(i *instance, r *sluicev1.PutBackRequest) error {
	if err := i.stands(); err != nil {
		return err
	}
	if r.Lane == recoveryLane && i.rec.Mode != recoveryMode {
		return reason.NotInRecovery.Errorf("%s is in %s mode; a recovery message can be put back in recovery only", i.id(), modeName(i.rec.Mode))
	}
	return nil
}

// chosen are the dead letters that a call is about, and whether it left some for another one.
func (t *txn) chosen(i *instance, r *sluicev1.PutBackRequest) (seqs []uint64, more bool, err error) {
	if len(r.Seqs) > 0 {
		return r.Seqs, false, nil
	}
	var inner error
	err = queue.DeadLetters(t, i.rec.Uid, r.Lane, 0, func(m *logv1.MessageRecord) bool {
		if m.DeadLetter.GetFingerprint() != r.Fingerprint {
			return true
		}
		var waits bool
		if waits, inner = t.waitsPutBack(i, m.Lane, m.Seq); waits || inner != nil {
			return inner == nil
		}
		if more = len(seqs) == maxPutBack; more {
			return false
		}
		seqs = append(seqs, m.Seq)
		return true
	})
	return seqs, more, errors.Join(err, inner)
}

// puttingBack is a call of PutBack at work, or the dead letters that waited.
type puttingBack struct {
	*txn
	i    *instance
	edit *sluicev1.Edit
	wait bool // they are to wait: something of the normal lane is out
	done int  // put back so far
}

// one puts back one dead letter, or lets it wait until nothing is out before it.
func (p *puttingBack) one(l sluicev1.Lane, seq uint64) (*sluicev1.PutBackResult, error) {
	result := &sluicev1.PutBackResult{Seq: seq}
	m, err := returnable(p, p.i, l, seq, p.now)
	if err == nil {
		result.MessageId = m.Message.Id
		if result.Waiting = p.wait; result.Waiting {
			err = p.letWait(p.i, seq, p.edit)
		} else {
			err = p.atOnce(m)
		}
	}
	if err == nil {
		return result, nil
	}
	f, err := fault(err)
	if err != nil {
		return nil, err
	}
	p.fx.Counters.Refused[f.Reason]++
	result.Error, result.Waiting = f, false
	return result, nil
}

// atOnce puts a dead letter back. One of the recovery lane is for the handler that recovers the instance, which may
// have handled what stands behind it: so the instance enters recovery again, and a handler at work is fenced off.
func (p *puttingBack) atOnce(m *logv1.MessageRecord) error {
	if r := p.i.rec; m.Lane == recoveryLane && r.Owner != "" && p.done == 0 {
		until, generation := r.UntilMs, r.RecoveryGeneration // it is the same recovery, and ends as it would
		if err := p.turnToRecovery(p.i, p.here(p.i, r.Cause)); err != nil {
			return err
		}
		r.UntilMs, r.RecoveryGeneration = until, generation
	}
	p.done++
	return p.revive(p.i, m, p.edit)
}

// finish begins a new epoch if something was put back: under the old one it had been handed out already, perhaps, and what
// is behind it, too. In recovery nothing of the normal lane is handed out, and atOnce sees to the recovery lane.
func (p *puttingBack) finish() error {
	if p.done == 0 {
		return nil
	}
	i := p.i
	if i.rec.Mode != recoveryMode {
		i.rec.Epoch, i.rec.Window = p.mint(), i.app.settings.window
	}
	p.change(i)
	p.fx.touch(i)
	return p.queueUp(i)
}

// returnable finds a dead letter that may be put back, or refuses.
func returnable(r queue.Reader, i *instance, l sluicev1.Lane, seq uint64, now int64) (*logv1.MessageRecord, error) {
	m, err := queue.DeadLetter(r, i.rec.Uid, l, seq)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, reason.UnknownMessage.Errorf("there is no dead letter with seq %d in %v of %s", seq, l, i.id())
	}
	if err != nil {
		return nil, err
	}
	taken, err := idTaken(r, i, m, now)
	if err != nil {
		return nil, err
	}
	if taken {
		return nil, reason.IDReused.Errorf("id %q of seq %d was forgotten after the deduplication window, and sent again since: that message stands", cut(m.Message.Id), seq)
	}
	return m, within(i, m.Disposition, m.Bytes)
}

// idTaken tells that another message of the dead letter's id is in the inbox, or remembered.
func idTaken(r queue.Reader, i *instance, m *logv1.MessageRecord, now int64) (bool, error) {
	_, _, err := queue.Unsettled(r, i.rec.Uid, m.Message.Id)
	if !errors.Is(err, queue.ErrNotFound) {
		return err == nil, err
	}
	s, err := i.memory().SettledByID(r, m.Message.Id)
	if err != nil {
		return false, ignore(err, queue.ErrNotFound)
	}
	return s.Seq != m.Seq && !forgotten(s, i.app, now), nil
}

// revive revokes that a message was dead-lettered: it is unsettled again, at its old place, with its attempts on record.
// Its series of attempts begins anew, as does that of the head before which it comes.
func (t *txn) revive(i *instance, m *logv1.MessageRecord, e *sluicev1.Edit) error {
	if err := errors.Join(t.exhume(i, m), i.memory().Forget(t, m.Message.Id, m.Seq)); err != nil {
		return err
	}
	if err := t.restoreFailure(i, m); err != nil {
		return err
	}
	m.Edits, m.PutBackEpoch = withEdit(m.Edits, e), i.rec.Epoch
	m.DeadLetter, m.Attempts, m.DeadIndex = nil, 0, 0
	if err := t.expireAgain(i, m); err != nil {
		return err
	}
	heads, err := i.first(t, m.Lane, 1)
	if err != nil {
		return err
	}
	if err := t.join(i, m); err != nil {
		return err
	}
	if l := i.lane(m.Lane); len(heads) == 0 || m.Seq < heads[0] {
		l.HeadAttempts, l.HeadWaitMs = 0, 0
	}
	*i.head(m.Lane) = head{}
	return t.eventOf(i, &sluicev1.Event{
		Type: sluicev1.EventType_EVENT_MESSAGE_PUT_BACK, MessageId: m.Message.Id, Seq: m.Seq, Lane: m.Lane, Detail: e.Reason, Actor: e.Actor,
	})
}

// restoreFailure puts the failed attempts of a dead letter on record again.
func (t *txn) restoreFailure(i *instance, m *logv1.MessageRecord) error {
	if m.Attempts == 0 {
		return nil
	}
	i.rec.Failures++
	d := m.DeadLetter
	return queue.PutFailure(t, i.rec.Uid, m.Lane, m.Seq, &logv1.FailureRecord{
		Attempts: m.Attempts, FirstError: d.GetFirstError(), LastError: d.GetLastError(), History: d.GetAttempts(),
	})
}

// expireAgain sees to the expiry of a message that was put back. One whose time has passed is there because an operator
// wants it to be handled: it does not expire any more.
func (t *txn) expireAgain(i *instance, m *logv1.MessageRecord) error {
	if m.Message.ExpireTime == nil {
		return nil
	}
	at := t.expiresAt(i, m)
	if at <= t.now {
		m.Message.ExpireTime = nil
		return nil
	}
	return t.dueOf(i, due{at: at, kind: dueExpiry, extra: m.Seq})
}

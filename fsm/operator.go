package fsm

import (
	"errors"
	"slices"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// resolveMessage carries out an operator's hand on one unsettled message.
func (t *txn) resolveMessage(r *sluicev1.ResolveMessageRequest) (*logv1.Outcome, error) {
	i, err := t.known(InstanceID{r.Application, r.Instance})
	if err == nil {
		err = checkResolve(r)
	}
	if err != nil {
		return refused(err)
	}
	return t.once(call{a: i.app, i: i, method: "ResolveMessage", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		m, err := t.resolvable(i, r)
		if err == nil {
			err = t.unchanged(i, m, r.Version)
		}
		if err != nil {
			return refused(err)
		}
		switch r.Action {
		case sluicev1.ResolveAction_ACTION_SKIP:
			m.Edits = withEdit(m.Edits, t.edit("skipped", r.Reason))
			err = t.end(i, m, ending{kind: skipped, reason: r.Reason})
		case sluicev1.ResolveAction_ACTION_DEAD_LETTER:
			m.Edits = withEdit(m.Edits, t.edit("dead-lettered", r.Reason))
			err = t.end(i, m, deadLetter("OPERATOR: "+r.Reason))
		default:
			return t.replace(i, m, r.Data, r.Reason)
		}
		if err != nil {
			return nil, err
		}
		return t.statusOutcome(i, m.Message.Id)
	})
}

func (t *txn) statusOutcome(i *instance, id string) (*logv1.Outcome, error) {
	status, err := messageStatus(t, i, id, t.now)
	if err != nil {
		return nil, err
	}
	return &logv1.Outcome{Result: &logv1.Outcome_MessageStatus{MessageStatus: status}}, nil
}

func checkResolve(r *sluicev1.ResolveMessageRequest) error {
	switch r.Action {
	case sluicev1.ResolveAction_ACTION_SKIP, sluicev1.ResolveAction_ACTION_DEAD_LETTER, sluicev1.ResolveAction_ACTION_REPLACE:
	default:
		return reason.BadField.Errorf("action is %v; allowed are ACTION_SKIP, ACTION_DEAD_LETTER and ACTION_REPLACE", r.Action)
	}
	if r.Lane != normalLane && r.Lane != recoveryLane {
		return reason.BadField.Errorf("lane is %v; allowed are LANE_NORMAL and LANE_RECOVERY", r.Lane)
	}
	return errors.Join(checkText("reason", r.Reason, maxTextBytes), checkText("version", r.Version, maxKeyBytes), checkRequestID(r.RequestId))
}

// resolvable finds the message that a resolution is about, or refuses.
func (t *txn) resolvable(i *instance, r *sluicev1.ResolveMessageRequest) (*logv1.MessageRecord, error) {
	if err := i.stands(); err != nil {
		return nil, err
	}
	m, err := queue.Message(t, i.rec.Uid, r.Lane, r.Seq)
	if err == nil {
		return m, nil
	}
	if !errors.Is(err, queue.ErrNotFound) {
		return nil, err
	}
	past, err := i.memory().SettledBySeq(t, r.Seq)
	if err == nil && past.Lane == r.Lane && !forgotten(past, i.app, t.now) {
		return nil, reason.AlreadySettled.Errorf("seq %d of %s was settled as %v", r.Seq, i.id(), past.Settlement)
	}
	if err := ignore(err, queue.ErrNotFound); err != nil {
		return nil, err
	}
	return nil, reason.UnknownMessage.Errorf("there is no message with seq %d in %v of %s", r.Seq, r.Lane, i.id())
}

// replace gives a message other content in its place.
func (t *txn) replace(i *instance, m *logv1.MessageRecord, data []byte, why string) (*logv1.Outcome, error) {
	size := uint64(len(data))
	if err := withinReplaced(i, m, size); err != nil {
		return refused(err)
	}
	if m.Lane == i.working() {
		out, err := i.first(t, m.Lane, int(i.out()))
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, m.Seq) {
			return refused(reason.InFlight.Errorf("seq %d of %s is out with its owner; it cannot be replaced now", m.Seq, i.id()))
		}
	}
	l := i.lane(m.Lane)
	l.Bytes += size - m.Bytes
	if m.Disposition == deferred {
		i.rec.DeferredBytes += size - m.Bytes
		i.app.counts.deferredBytes += size - m.Bytes
		t.changeApplication(i.app)
	}
	if m.OriginalData == nil {
		m.OriginalData = append([]byte{}, m.Message.Data...)
	}
	m.Bytes, m.Message.Data, m.Edits = size, data, withEdit(m.Edits, t.edit("replaced", why))
	t.change(i)
	if err := queue.Replace(t, i.rec.Uid, m); err != nil {
		return nil, err
	}
	t.m.lately.drop(i.rec.Uid, m.Lane, m.Seq)
	if err := t.messageEvent(i, sluicev1.EventType_EVENT_MESSAGE_REPLACED, m, why); err != nil {
		return nil, err
	}
	return t.statusOutcome(i, m.Message.Id)
}

// terminate ends an instance: what is unsettled is dead-lettered, its owner released, and its name free again after
// the deduplication window.
func (t *txn) terminate(r *sluicev1.TerminateRequest) (*logv1.Outcome, error) {
	i, err := t.known(InstanceID{r.Application, r.Instance})
	if err == nil {
		err = errors.Join(checkText("reason", r.Reason, maxTextBytes), checkRequestID(r.RequestId))
	}
	if err != nil {
		return refused(err)
	}
	return t.once(call{a: i.app, i: i, method: "Terminate", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		if err := i.stands(); err != nil {
			return refused(err)
		}
		if err := t.shut(i, r.Reason); err != nil {
			return nil, err
		}
		return instanceOutcome(i)
	})
}

func (t *txn) shut(i *instance, why string) error {
	if err := t.dropPutBack(i); err != nil {
		return err
	}
	for _, l := range []sluicev1.Lane{recoveryLane, normalLane} {
		if err := t.discard(i, l, deadLetter(reason.InstanceTerminated+": "+why)); err != nil {
			return err
		}
	}
	if err := t.unwatchHeld(i); err != nil {
		return err
	}
	rec := i.rec
	rec.Terminated, rec.TerminatedTimeMs, rec.TerminateReason = true, t.now, why
	if n := i.app.counts.of(rec.Mode); *n > 0 {
		*n--
	}
	t.changeApplication(i.app)
	t.change(i)
	if rec.Owner != "" {
		if err := t.disown(i, false); err != nil {
			return err
		}
	} else {
		rec.Epoch = t.mint()
	}
	if err := t.eventOf(i, &sluicev1.Event{Type: sluicev1.EventType_EVENT_INSTANCE_TERMINATED, Detail: why}); err != nil {
		return err
	}
	if err := t.queueUp(i); err != nil {
		return err
	}
	return t.dueOf(i, due{at: t.now + i.app.settings.dedupWindow, kind: dueName})
}

// nameDue forgets a terminated instance, so that its name is free again.
func (t *txn) nameDue(i *instance) error {
	if !i.rec.Terminated {
		return nil
	}
	if at := i.rec.TerminatedTimeMs + i.app.settings.dedupWindow; at > t.now {
		return t.dueOf(i, due{at: at, kind: dueName})
	}
	uid := i.rec.Uid
	i.gone = true
	t.m.instances.drop(i.id())
	for _, table := range []byte{tableTransaction, tableHistory, tableHeld, tablePutBack} {
		p := numbered(table, uid)
		if err := t.DeleteRange(p, queue.Successor(p)); err != nil {
			return err
		}
	}
	return errors.Join(queue.DropInstance(t, uid), t.Delete(numbered(tableState, uid)), t.Delete(deadOfKey(i.id())), t.Delete(instanceKey(i.id())))
}

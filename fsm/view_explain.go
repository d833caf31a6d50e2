package fsm

import (
	"errors"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// explaining is an Explanation in the making, and what is not part of it but decides what holds the instance.
type explaining struct {
	*sluicev1.Explanation
	i    *instance
	rec  *logv1.InstanceRecord // of i
	now  int64
	last uint64 // the last message of the normal lane that is in doubt
	out  bool   // the head is with the owner
}

// Explain tells what holds an instance, the first to be seen to first, as of the last committed state. An instance that
// is behind its application's generation is shown as if it had caught up. Whether it is quiesced is the leader's to say.
func (v *View) Explain(id InstanceID, quiesced bool) (out *sluicev1.Explanation, err error) {
	r := v.begin()
	defer r.end(&err)
	i, err := r.instance(id)
	if err != nil {
		return nil, err
	}
	shown, err := r.show(i)
	if err != nil {
		return nil, err
	}
	shown.Quiesced = quiesced && i.rec.Mode == recoveryMode
	meta, err := r.moment()
	if err != nil {
		return nil, err
	}
	rec := i.rec
	e := &explaining{i: i, rec: rec, now: meta.ClockMs, Explanation: &sluicev1.Explanation{
		Instance: shown, Actor: rec.ModeActor, RecoveryAttempts: rec.RecoveryAttempts, DeadLetters: rec.DeadLetters,
	}}
	if rec.UntilMs != 0 {
		e.Until = timestamp(rec.UntilMs)
	}
	if err := errors.Join(r.explainHead(i, e), r.explainDoubt(i, e), r.explainSessions(e)); err != nil {
		return nil, err
	}
	e.Holds = e.holds()
	return e.Explanation, nil
}

// explainHead adds the first unsettled message of the lane that the mode offers, and the last error of the recovery.
func (r *reading) explainHead(i *instance, e *explaining) error {
	f, err := failureOf(r, i.rec, &logv1.MessageRecord{Lane: recoveryLane})
	if err != nil {
		return err
	}
	e.RecoveryError = f.GetLastError()
	page := &sluicev1.ListMessagesResponse{}
	if err := r.list(i, i.working(), false, 0, 1, page); err != nil || len(page.Messages) == 0 {
		return err
	}
	e.Head = page.Messages[0]
	e.out = e.Head.Status == sluicev1.Status_MESSAGE_STATUS_IN_FLIGHT
	return nil
}

// explainDoubt counts what is in doubt in the normal lane: at most as many as a window holds.
func (r *reading) explainDoubt(i *instance, e *explaining) error {
	if i.rec.Mode != recoveryMode || i.rec.NormalDoubt == 0 {
		return nil
	}
	return queue.Messages(r, i.rec.Uid, normalLane, i.rec.Normal.Front, func(m *logv1.MessageRecord) bool {
		if i.doubtful(m) {
			e.InDoubtMessages++
			e.last = m.Seq
		}
		return m.Seq < i.rec.NormalDoubt
	})
}

// explainSessions counts the live sessions of the application, and names the owner.
func (r *reading) explainSessions(e *explaining) error {
	return scan(r, []byte{tableSession}, func(_, b []byte) error {
		s := &logv1.SessionRecord{}
		if err := proto.Unmarshal(b, s); err != nil {
			return err
		}
		if s.Application != e.rec.Application {
			return nil
		}
		e.Sessions++
		if s.Owned < s.Capacity {
			e.SessionsWithRoom++
		}
		if s.Id == e.rec.Owner {
			e.OwnerName = s.Name
		}
		return nil
	})
}

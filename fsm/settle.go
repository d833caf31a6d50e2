package fsm

import (
	"errors"
	"fmt"
	"slices"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// settle takes settlements in their order, each judged alone.
func (t *txn) settle(r *sluicev1.SettleRequest) (*logv1.Outcome, error) {
	results, made := make([]*sluicev1.SettleResult, len(r.Settlements)), make([]sluicev1.SettleResult, len(r.Settlements))
	for n, s := range r.Settlements {
		duplicate, err := t.settleOne(r.SessionId, s)
		results[n] = &made[n]
		results[n].Duplicate = duplicate
		if err != nil {
			f, err := fault(err)
			if err != nil {
				return nil, err
			}
			t.fx.Counters.Refused[f.Reason]++
			results[n].Error = f
		}
	}
	return &logv1.Outcome{Result: &logv1.Outcome_Settle{Settle: &sluicev1.SettleResponse{Results: results}}}, nil
}

// settlement is one settlement at work.
type settlement struct {
	*sluicev1.Settlement
	session string
	digest  []byte
	i       *instance
	m       *logv1.MessageRecord // the message, if it is unsettled
	past    *logv1.SettledRecord // what is remembered of it, if it is settled
}

// settleOne judges a settlement in the order of the contract and carries it out.
func (t *txn) settleOne(session string, s *sluicev1.Settlement) (duplicate bool, err error) {
	w := &settlement{Settlement: s, session: session}
	a, err := t.application(s.Application)
	if err != nil {
		return false, err
	}
	if err := checkSettlement(a, s); err != nil {
		return false, err
	}
	if w.digest, err = settlementDigest(s); err != nil {
		return false, err
	}
	if w.i, err = t.find(a, s.Instance); err != nil {
		return false, err
	}
	if w.i != nil {
		if again, err := t.settledBefore(w); again || err != nil {
			if again {
				t.fx.Counters.Duplicates++
			}
			return again, err
		}
	}
	if err := t.maySettle(w); err != nil {
		return false, err
	}
	if s.Seq == 0 {
		return false, t.recoveryFailed(w)
	}
	return false, t.carryOut(w, w.m)
}

// settlementDigest leaves the attempt out: a repeat may name it or not.
func settlementDigest(s *sluicev1.Settlement) ([]byte, error) {
	attempt := s.Attempt
	s.Attempt = 0
	defer func() { s.Attempt = attempt }()
	if s.RetryAfter != nil || len(s.Outgoing) > 0 {
		return digestOf(s)
	}
	// Without these its own code writes the very bytes that digestOf is of: the only map and duration are in them. That text is
	// UTF-8 was looked at in the entry.
	var small [256]byte
	b := small[:]
	if n := s.SizeVT(); n <= len(small) {
		b = b[:n]
	} else {
		b = make([]byte, n)
	}
	if _, err := s.MarshalToSizedBufferVT(b); err != nil {
		return nil, err
	}
	return digestOfBytes(b), nil
}

func checkSettlement(a *application, s *sluicev1.Settlement) error {
	if err := checkKey("instance", s.Instance, reason.BadName); err != nil {
		return err
	}
	switch s.Outcome {
	case sluicev1.Outcome_OUTCOME_COMPLETED:
	case sluicev1.Outcome_OUTCOME_FAILED, sluicev1.Outcome_OUTCOME_REJECTED:
		if s.SetState || len(s.State) > 0 || len(s.Outgoing) > 0 || s.Reply != nil {
			return reason.BadField.Errorf("outcome is %v: state, outgoing and reply go with OUTCOME_COMPLETED only", s.Outcome)
		}
	default:
		return reason.BadField.Errorf("outcome is %v; allowed are OUTCOME_COMPLETED, OUTCOME_FAILED and OUTCOME_REJECTED", s.Outcome)
	}
	switch {
	case s.Lane != normalLane && s.Lane != recoveryLane:
		return reason.BadField.Errorf("lane is %v; allowed are LANE_NORMAL and LANE_RECOVERY", s.Lane)
	case s.Seq == 0 && (s.Lane != recoveryLane || s.Outcome != sluicev1.Outcome_OUTCOME_FAILED):
		return reason.BadField.Errorf("seq is 0, which names the recovery itself: it is reported as failed in LANE_RECOVERY, and ended with CompleteRecovery")
	case a.settings.outgoing > 0 && uint64(len(s.Outgoing)) > a.settings.outgoing:
		return reason.BadField.Errorf("outgoing holds %d messages; max_outgoing is %d", len(s.Outgoing), a.settings.outgoing)
	}
	if r := s.RetryAfter; r != nil {
		if d := r.AsDuration(); r.CheckValid() != nil || d < 0 || d.Hours() > 24 {
			return reason.BadField.Errorf("retry_after is %v; allowed are 0 to 24h", d)
		}
	}
	return errors.Join(checkText("error_text", s.ErrorText, maxTextBytes), checkText("reply_content_type", s.ReplyContentType, maxKeyBytes), checkReply(a, s), checkState(a, s.SetState, s.State), checkOutgoing(s))
}

func checkReply(a *application, s *sluicev1.Settlement) error {
	if limit := a.settings.messageBytes; limit > 0 && uint64(len(s.Reply)) > limit {
		return reason.BadField.Errorf("reply has %d bytes; max_message_bytes is %d", len(s.Reply), limit)
	}
	return nil
}

// checkOutgoing checks the shape of outgoing messages, so that a refusal names what is wrong while the worker listens.
func checkOutgoing(s *sluicev1.Settlement) error {
	for n, m := range s.Outgoing {
		if m == nil {
			return reason.BadField.Errorf("outgoing[%d] is empty", n)
		}
		if err := errors.Join(checkApplicationName(m.Application), checkMessage(withID(m))); err != nil {
			f, _ := fault(err)
			return reason.BadField.Errorf("outgoing[%d]: %s", n, f.GetMessage())
		}
	}
	return nil
}

// withID is an outgoing message to be checked: an id that is left out is derived later.
func withID(m *sluicev1.Message) *sluicev1.Message {
	if m.Id != "" {
		return m
	}
	return &sluicev1.Message{
		Application: m.Application, Instance: m.Instance, Id: "derived", Type: m.Type, Transaction: m.Transaction, Source: m.Source,
		ContentType: m.ContentType, Headers: m.Headers, ExpireTime: m.ExpireTime,
	}
}

// settledBefore tells whether this very settlement took effect before, and notes what is remembered of its message.
func (t *txn) settledBefore(w *settlement) (bool, error) {
	past, err := (*logv1.SettledRecord)(nil), queue.ErrNotFound
	if unsettled, failed := t.unsettled(w); failed != nil {
		return false, failed
	} else if !unsettled { // what is unsettled is not remembered as settled
		past, err = w.i.memory().SettledBySeq(t, w.Seq)
	}
	switch {
	case err == nil && past.Lane == w.Lane && !forgotten(past, w.i.app, t.now):
		w.past = past
		return past.SettleOutcome == w.Outcome && past.SettleEpoch == w.Epoch && string(past.SettleDigest) == string(w.digest) &&
			(w.Attempt == 0 || w.Attempt == past.SettleAttempt), nil
	case ignore(err, queue.ErrNotFound) != nil:
		return false, err
	case w.Outcome != sluicev1.Outcome_OUTCOME_FAILED || w.i.rec.Failures == 0:
		return false, nil
	}
	f, err := queue.Failure(t, w.i.rec.Uid, w.Lane, w.Seq)
	if err != nil {
		return false, ignore(err, queue.ErrNotFound)
	}
	if f.Epoch != w.Epoch {
		return false, nil
	}
	if w.Attempt == 0 {
		return string(f.Digest) == string(w.digest) && t.inBackoff(w), nil
	}
	return w.Attempt <= f.Attempt, nil
}

// unsettled tells whether a settlement's message lies in its lane, and notes it if it had to be read.
func (t *txn) unsettled(w *settlement) (bool, error) {
	if w.i.holdsSeq(w.Lane, w.Seq) {
		return true, nil
	}
	if w.Seq == 0 {
		return false, nil
	}
	m, err := t.message(w.i, w.Lane, w.Seq)
	if err != nil {
		return false, ignore(err, queue.ErrNotFound)
	}
	w.m = m
	return true, nil
}

// inBackoff tells that what a settlement without an attempt is about is not out, so that it can only be a repeat.
func (t *txn) inBackoff(w *settlement) bool {
	return w.i.rec.Epoch != w.Epoch || w.i.waits()
}

func unknownSession(id string) error {
	return reason.UnknownSession.Errorf("there is no session %q: it was never opened, was closed or has expired; open another one", cut(id))
}

// maySettle judges a settlement that is not a repeat, in the order of the contract.
func (t *txn) maySettle(w *settlement) error {
	if t.m.sessions[w.session] == nil {
		return unknownSession(w.session)
	}
	if w.i == nil {
		return reason.UnknownInstance.Errorf("there is no instance %s/%s", w.Application, w.Instance)
	}
	if err := w.i.stands(); err != nil {
		return err
	}
	if err := t.remembered(w); err != nil {
		return err
	}
	if w.Epoch != w.i.rec.Epoch {
		return staleEpoch(w.i, w.Epoch)
	}
	if err := w.i.ownedBy(w.session); err != nil {
		return err
	}
	if w.past != nil {
		return reason.AlreadySettled.Errorf("seq %d of %s was settled as %v", w.Seq, w.i.id(), w.past.Settlement)
	}
	return t.inFlight(w)
}

// remembered refuses a sequence number that is neither in its lane nor remembered as settled.
func (t *txn) remembered(w *settlement) error {
	if w.past != nil || w.m != nil || w.Seq == 0 {
		return nil
	}
	m, err := t.message(w.i, w.Lane, w.Seq)
	w.m = m
	if errors.Is(err, queue.ErrNotFound) {
		return reason.UnknownMessage.Errorf("there is no message with seq %d in %v of %s", w.Seq, w.Lane, w.i.id())
	}
	return err
}

// inFlight refuses what is not out, not at the head of its lane, or another attempt than the current one.
func (t *txn) inFlight(w *settlement) error {
	notOut := func() error {
		return reason.NotInFlight.Errorf("seq %d in %v of %s is not out with its owner", w.Seq, w.Lane, w.i.id())
	}
	r := w.i.rec
	if w.Seq == 0 {
		if r.Mode != recoveryMode || r.RecoveryWaitMs != 0 || w.Attempt != 0 && w.Attempt != r.RecoveryAttempts+1 {
			return notOut()
		}
		return nil
	}
	if w.Lane != w.i.working() {
		return notOut()
	}
	out, err := w.i.first(t, w.Lane, int(w.i.out()))
	if err != nil {
		return err
	}
	switch at := slices.Index(out, w.Seq); {
	case at < 0:
		return notOut()
	case at > 0:
		return reason.OutOfOrder.Errorf("seq %d of %s is not the head of its lane, which is seq %d: settle in order", w.Seq, w.i.id(), out[0])
	}
	if current := w.i.lane(w.Lane).HeadAttempts + 1; w.Attempt != 0 && w.Attempt != current {
		return reason.NotInFlight.Errorf("attempt %d of seq %d of %s is not out; attempt %d is", w.Attempt, w.Seq, w.i.id(), current)
	}
	return nil
}

// carryOut gives a settlement its effect.
func (t *txn) carryOut(w *settlement, m *logv1.MessageRecord) error {
	e := ending{by: w.Settlement, attempt: w.i.lane(w.Lane).HeadAttempts + 1, digest: w.digest}
	switch w.Outcome {
	case sluicev1.Outcome_OUTCOME_COMPLETED:
		e.kind = completed
		if w.SetState {
			if err := t.setState(w.i, w.State); err != nil {
				return err
			}
		}
		if err := t.sendOut(w.i, w.Settlement); err != nil {
			return err
		}
		return t.end(w.i, m, e)
	case sluicev1.Outcome_OUTCOME_REJECTED:
		e.kind, e.reason = deadLettered, "REJECTED: the worker rejected the message"
		return t.end(w.i, m, e)
	default:
		return t.failed(w, m, e)
	}
}

// failed counts an attempt that ended without settlement, and draws the consequence.
func (t *txn) failed(w *settlement, m *logv1.MessageRecord, e ending) error {
	if err := t.recordFailure(w.i, m, e.attempt, w.ErrorText, w.digest); err != nil {
		return err
	}
	wait := w.i.app.settings.backoff(e.attempt)
	if w.RetryAfter != nil {
		wait = max(w.RetryAfter.AsDuration().Milliseconds(), 1)
	}
	if o := t.countFailure(w.i, w.ErrorText); o != nil {
		return t.declareOutage(w.i, m.Lane, wait, o)
	}
	return t.attemptEnded(w.i, m, e, wait, w.ErrorText)
}

// attemptEnded draws the consequence of an attempt that ended without settlement: again after a backoff, or, at the
// last attempt, what the application's policy says. A recovery message that keeps failing is dead-lettered.
func (t *txn) attemptEnded(i *instance, m *logv1.MessageRecord, e ending, wait int64, text string) error {
	s, l := &i.app.settings, i.lane(m.Lane)
	l.HeadAttempts++
	t.change(i)
	if s.maxAttempts == 0 || l.HeadAttempts < s.maxAttempts {
		return t.waitHead(i, m.Lane, wait)
	}
	if m.Lane == recoveryLane || s.deadLetterAtMax {
		e.kind, e.reason = deadLettered, fmt.Sprintf("MAX_ATTEMPTS: %d attempts failed", l.HeadAttempts)
		return t.end(i, m, e)
	}
	if err := t.turnToRecovery(i, t.here(i, poisonCause(m, l.HeadAttempts, text))); err != nil {
		return err
	}
	i.rec.PoisonFingerprint = fingerprint(text)
	return nil
}

func poisonCause(m *logv1.MessageRecord, attempts uint32, text string) string {
	return cutCause(fmt.Sprintf("poison message: %s (seq %d) failed %d times: %s", m.Message.Id, m.Seq, attempts, text))
}

// waitHead lets the head of a lane, and all behind it, wait for a backoff; at once, when there is none.
func (t *txn) waitHead(i *instance, l sluicev1.Lane, wait int64) error {
	t.change(i)
	if err := t.thaw(i); err != nil {
		return err
	}
	if wait <= 0 {
		t.fx.touch(i)
		return nil
	}
	i.lane(l).HeadWaitMs = t.now + wait
	if err := t.dueOf(i, due{at: t.now + wait, kind: dueHead, extra: uint64(l)}); err != nil {
		return err
	}
	if err := t.letBack(i); err != nil {
		return err
	}
	return t.queueUp(i)
}

// recoveryFailed lets a recovery be delivered again after a backoff, for as long as it takes.
func (t *txn) recoveryFailed(w *settlement) error {
	r := w.i.rec
	r.RecoveryAttempts++
	wait := w.i.app.settings.backoff(r.RecoveryAttempts)
	if w.RetryAfter != nil {
		wait = max(w.RetryAfter.AsDuration().Milliseconds(), 1)
	}
	r.RecoveryWaitMs = t.now + wait
	m := &logv1.MessageRecord{Lane: recoveryLane}
	if err := t.recordFailure(w.i, m, r.RecoveryAttempts, w.ErrorText, w.digest); err != nil {
		return err
	}
	if err := t.dueOf(w.i, due{at: r.RecoveryWaitMs, kind: dueRecovery}); err != nil {
		return err
	}
	// While the recovery waits nothing of its lane is out: what is past its time expires.
	if err := t.thaw(w.i); err != nil {
		return err
	}
	return t.queueUp(w.i)
}

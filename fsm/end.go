package fsm

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

const (
	completed    = sluicev1.SettlementKind_SETTLEMENT_COMPLETED
	skipped      = sluicev1.SettlementKind_SETTLEMENT_SKIPPED
	deadLettered = sluicev1.SettlementKind_SETTLEMENT_DEAD_LETTERED
	expired      = sluicev1.SettlementKind_SETTLEMENT_EXPIRED
)

// maxDeadLetters bounds the dead letters kept of an instance; past it the oldest goes.
const maxDeadLetters = 10_000

// ending says how a message's life ends.
type ending struct {
	kind   sluicev1.SettlementKind
	reason string // of a dead letter, or of a skip
	// The settlement of a worker, for its repeats.
	by      *sluicev1.Settlement
	attempt uint32
	digest  []byte
}

func deadLetter(reason string) ending { return ending{kind: deadLettered, reason: reason} }

// expiredAt is the end of a message whose time has passed. It is kept as a dead letter: nothing goes in silence.
func expiredAt(m *logv1.MessageRecord) ending {
	return ending{kind: expired, reason: "EXPIRED: at " + m.Message.ExpireTime.AsTime().Format(time.RFC3339Nano)}
}

// end settles a message: the one way out of an inbox, taken once by each message.
func (t *txn) end(i *instance, m *logv1.MessageRecord, e ending) error {
	failure, err := t.takeFailure(i, m)
	if err != nil {
		return err
	}
	if err := t.leave(i, m); err != nil {
		return err
	}
	s := &t.m.remembered
	s.Reset()
	settled(s, m, e, failure, t.now)
	if s.DeadLetter != nil {
		if err := t.bury(i, m, s, t.attemptsOf(i, e, failure)); err != nil {
			return err
		}
	}
	end, err := t.bucket(i.app)
	if err != nil {
		return err
	}
	t.note(i, end)
	if err := i.memory().Remember(t, end, s); err != nil {
		return err
	}
	t.fx.Settled = append(t.fx.Settled, MessageRef{i.id(), s.Id})
	t.fx.Counters.Settled[e.kind]++
	if err := t.endEvent(i, m, e, s); err != nil {
		return err
	}
	if err := errors.Join(t.letBack(i), t.drained(i)); err != nil {
		return err
	}
	t.fx.settled(i)
	return t.queueUp(i)
}

// settled fills in what is remembered of a message.
func settled(s *logv1.SettledRecord, m *logv1.MessageRecord, e ending, f *logv1.FailureRecord, now int64) {
	s.Id, s.Seq, s.Lane, s.Disposition = m.Message.Id, m.Seq, m.Lane, m.Disposition
	s.Mode, s.Epoch, s.Ahead, s.Index = m.Mode, m.Epoch, m.Ahead, m.Index
	s.Digest, s.Settlement, s.TimeMs, s.Attempts, s.Edits = m.Digest, e.kind, now, f.GetAttempts(), m.Edits
	first, last := f.GetFirstError(), f.GetLastError()
	if by := e.by; by != nil {
		s.SettleEpoch, s.SettleAttempt, s.SettleOutcome, s.SettleDigest = by.Epoch, e.attempt, by.Outcome, e.digest
		s.Reply, s.ReplyContentType = by.Reply, by.ReplyContentType
		if by.Outcome == sluicev1.Outcome_OUTCOME_REJECTED {
			s.Attempts++
			last = by.ErrorText
			if f == nil {
				first = last
			}
		}
	}
	if e.kind == deadLettered || e.kind == expired {
		s.DeadLetter = newDeadLetter(e.reason, first, last, now)
	}
}

// newDeadLetter says why a message was dead-lettered. Those that failed alike have one fingerprint.
func newDeadLetter(why, first, last string, now int64) *sluicev1.DeadLetter {
	return &sluicev1.DeadLetter{Reason: why, FirstError: first, LastError: last, Fingerprint: fingerprint(why + "\n" + last), Time: timestamp(now)}
}

// leave takes a message out of its lane and out of every count: what join did.
func (t *txn) leave(i *instance, m *logv1.MessageRecord) error {
	l, r := i.lane(m.Lane), i.rec
	if err := t.passPutBack(i, m); err != nil {
		return err
	}
	seqs, err := i.first(t, m.Lane, 1)
	if err != nil {
		return err
	}
	if seqs[0] == m.Seq {
		l.HeadAttempts, l.HeadWaitMs, l.Front = 0, 0, m.Seq+1
	}
	if err := queue.Remove(t, r.Uid, m); err != nil {
		return err
	}
	i.head(m.Lane).removed(m.Seq)
	t.m.lately.drop(r.Uid, m.Lane, m.Seq)
	l.Messages--
	l.Bytes -= m.Bytes
	if m.Disposition == deferred {
		r.DeferredMessages--
		r.DeferredBytes -= m.Bytes
		t.countDeferred(i.app, -1, m.Bytes)
	}
	t.change(i)
	if m.Message.ExpireTime == nil {
		return nil
	}
	return t.dropExpiry(i, m)
}

func (t *txn) countDeferred(a *application, messages int, bytes uint64) {
	if messages < 0 {
		a.counts.deferredMessages--
		a.counts.deferredBytes -= bytes
	} else {
		a.counts.deferredMessages++
		a.counts.deferredBytes += bytes
	}
	t.changeApplication(a)
}

// takeFailure takes what is on record of a message's failures off the record; nil when there is nothing.
func (t *txn) takeFailure(i *instance, m *logv1.MessageRecord) (*logv1.FailureRecord, error) {
	f, err := failureOf(t, i.rec, m)
	if err != nil || f == nil {
		return nil, err
	}
	i.rec.Failures--
	return f, queue.DropFailure(t, i.rec.Uid, m.Lane, m.Seq)
}

// dropFailureOfRecovery forgets the failures of a recovery's handler.
func (t *txn) dropFailureOfRecovery(i *instance) error {
	_, err := t.takeFailure(i, &logv1.MessageRecord{Lane: recoveryLane, Message: &sluicev1.Message{}})
	return err
}

// attemptsOf is the history of a dead letter: the failed attempts on record, and the one that the worker rejected.
func (t *txn) attemptsOf(i *instance, e ending, f *logv1.FailureRecord) []*sluicev1.Attempt {
	if e.by == nil || e.by.Outcome != sluicev1.Outcome_OUTCOME_REJECTED {
		return f.GetHistory()
	}
	return withAttempt(f.GetHistory(), t.attemptOf(i, e.attempt, e.by.ErrorText))
}

// bury keeps a dead letter, with its last attempts. What is remembered of the message beyond that goes without them.
func (t *txn) bury(i *instance, m *logv1.MessageRecord, s *logv1.SettledRecord, attempts []*sluicev1.Attempt) error {
	m.DeadLetter, m.Attempts, m.DeadIndex = proto.CloneOf(s.DeadLetter), s.Attempts, t.index
	m.DeadLetter.Attempts = attempts
	if err := queue.PutDeadLetter(t, i.rec.Uid, m); err != nil {
		return err
	}
	t.change(i)
	if i.rec.DeadLetters++; i.rec.DeadLetters == 1 {
		return t.Set(deadOfKey(i.id()), nil)
	}
	if i.rec.DeadLetters <= maxDeadLetters {
		return nil
	}
	oldest, err := t.oldestDeadLetter(i, m)
	if err != nil || oldest == nil {
		return err
	}
	return t.exhume(i, oldest)
}

// exhume forgets a dead letter.
func (t *txn) exhume(i *instance, m *logv1.MessageRecord) error {
	t.change(i)
	if i.rec.DeadLetters--; i.rec.DeadLetters == 0 {
		if err := t.Delete(deadOfKey(i.id())); err != nil {
			return err
		}
	}
	return queue.DropDeadLetter(t, i.rec.Uid, m.Lane, m.Seq)
}

// oldestDeadLetter finds, of the first dead letter of each lane, the one that became so first, but for
// the one just buried.
func (t *txn) oldestDeadLetter(i *instance, buried *logv1.MessageRecord) (oldest *logv1.MessageRecord, err error) {
	for _, l := range []sluicev1.Lane{normalLane, recoveryLane, outgoingLane} {
		err := queue.DeadLetters(t, i.rec.Uid, l, 0, func(d *logv1.MessageRecord) bool {
			if d.Lane == buried.Lane && d.Seq == buried.Seq {
				return true
			}
			if oldest == nil || d.DeadIndex < oldest.DeadIndex {
				oldest = d
			}
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	return oldest, nil
}

package fsm

import (
	"errors"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

const (
	// attemptsKept bounds the history of a message's failed attempts, attemptErrorBytes the error text of each.
	attemptsKept      = 10
	attemptErrorBytes = 1 << 10
)

// attemptOf is a failed attempt of the instance's owner, for the history.
func (t *txn) attemptOf(i *instance, number uint32, text string) *sluicev1.Attempt {
	return &sluicev1.Attempt{Number: number, Time: timestamp(t.now), Error: cutText(text, attemptErrorBytes), Epoch: i.rec.Epoch, SessionId: i.rec.Owner}
}

// withAttempt adds an attempt to a history and lets the oldest go.
func withAttempt(history []*sluicev1.Attempt, a *sluicev1.Attempt) []*sluicev1.Attempt {
	history = append(history, a)
	return history[max(len(history)-attemptsKept, 0):]
}

// recordFailure puts a failed attempt of the head of a lane on record.
func (t *txn) recordFailure(i *instance, m *logv1.MessageRecord, attempt uint32, text string, digest []byte) error {
	f, err := queue.Failure(t, i.rec.Uid, m.Lane, m.Seq)
	if errors.Is(err, queue.ErrNotFound) {
		f, err = &logv1.FailureRecord{FirstError: text}, nil
		i.rec.Failures++
	}
	if err != nil {
		return err
	}
	f.Attempts++
	f.LastError, f.Epoch, f.Attempt, f.Digest = text, i.rec.Epoch, attempt, digest
	f.History = withAttempt(f.History, t.attemptOf(i, attempt, text))
	t.change(i)
	return queue.PutFailure(t, i.rec.Uid, m.Lane, m.Seq, f)
}

// failureOf is what is on record of a message's failed attempts; nil: nothing.
func failureOf(r queue.Reader, rec *logv1.InstanceRecord, m *logv1.MessageRecord) (*logv1.FailureRecord, error) {
	if rec.Failures == 0 {
		return nil, nil
	}
	f, err := queue.Failure(r, rec.Uid, m.Lane, m.Seq)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, nil
	}
	return f, err
}

package fsm

import (
	"bytes"
	"errors"
	"slices"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// mostDue bounds what one command handles of what has come due.
const mostDue = 10_000

// thawStep is how many held expiries one due thaw looks at.
const thawStep = 256

// due notes that something comes due.
func (t *txn) due(d due, id InstanceID) error {
	t.fx.deadline(d.at)
	t.m.lows.due.lower(uint64(d.at))
	return t.Set(d.key(), named(0, id.Application, id.Key)[1:])
}

// dueOf notes that something of an instance comes due.
func (t *txn) dueOf(i *instance, d due) error {
	d.uid = i.rec.Uid
	return t.due(d, i.id())
}

type dueItem struct {
	due
	id          InstanceID
	transaction string
}

// advance handles what has come due by now.
func (t *txn) advance(c *logv1.Advance) (*logv1.Outcome, error) {
	limit := clamp(c.Limit)
	items, err := t.dueNow(limit + 1)
	if err != nil {
		return nil, err
	}
	more := len(items) > limit
	items = items[:min(len(items), limit)]
	actor := t.actor
	for _, d := range items {
		t.actor = actor
		if err := t.Delete(d.key()); err != nil {
			return nil, err
		}
		if err := t.comeDue(d); err != nil {
			return nil, err
		}
	}
	return progress(len(items), more)
}

func clamp(limit uint32) int { return int(min(max(limit, 1), mostDue)) }

func (t *txn) dueNow(limit int) (items []dueItem, err error) {
	err = scanFrom(t, numbered(tableDue, t.m.lows.due.get()), queue.Successor([]byte{tableDue}), func(k, v []byte) error {
		d, ok := parseDue(k)
		if !ok {
			return queue.ErrCorrupt
		}
		if d.at > t.now || len(items) == limit {
			return errEnough
		}
		application, rest, _ := bytes.Cut(v, []byte{0})
		key, transaction, _ := bytes.Cut(rest, []byte{0})
		items = append(items, dueItem{d, InstanceID{string(application), string(key)}, string(transaction)})
		return nil
	})
	if err = ignore(err, errEnough); err == nil && len(items) > 0 {
		t.m.lows.due.raise(uint64(items[0].at))
	}
	return items, err
}

// comeDue handles one thing. What it was about may be gone, or be about another time by now.
func (t *txn) comeDue(d dueItem) error {
	a := t.m.applications[d.id.Application]
	if a == nil {
		return nil
	}
	switch d.kind {
	case dueBucket:
		return t.dropBucket(a, int64(d.extra))
	case dueHeldApplication:
		return t.applicationHeldDue(a, d.at)
	}
	if d.kind == dueSelecting {
		return t.selectingDue(d)
	}
	i, err := t.find(a, d.id.Key)
	if err != nil || i == nil || i.rec.Uid != d.uid {
		return err
	}
	switch d.kind {
	case dueHead:
		return t.headDue(i, sluicev1.Lane(d.extra), d.at)
	case dueRecovery:
		return t.recoveryDue(i, d.at)
	case dueExpiry:
		return t.expiryDue(i, d.extra)
	case dueUntil:
		return t.untilDue(i, d.at)
	case dueName:
		return t.nameDue(i)
	case dueThaw:
		return t.thawDue(i, d.extra)
	case dueTransaction:
		return t.transactionDue(i, d.transaction)
	case dueHeld:
		return t.heldDue(i, d.at)
	}
	return queue.ErrCorrupt
}

func (t *txn) headDue(i *instance, l sluicev1.Lane, at int64) error {
	if i.lane(l).HeadWaitMs != at {
		return nil
	}
	i.lane(l).HeadWaitMs = 0
	t.change(i)
	t.fx.touch(i)
	return t.queueUp(i)
}

func (t *txn) recoveryDue(i *instance, at int64) error {
	if i.rec.RecoveryWaitMs != at {
		return nil
	}
	i.rec.RecoveryWaitMs = 0
	t.change(i)
	t.fx.touch(i)
	return t.queueUp(i)
}

// untilDue completes a recovery by itself, unless something is in doubt or a recovery message is unsettled.
func (t *txn) untilDue(i *instance, at int64) error {
	if i.rec.Terminated || i.rec.Mode != recoveryMode || i.rec.UntilMs != at || i.rec.Recovery.Messages > 0 {
		return nil
	}
	doubt, err := t.inDoubt(i)
	if err != nil || doubt {
		return err
	}
	t.actor = "until"
	return t.turnBack(i, &sluicev1.CompleteRecoveryRequest{})
}

// inDoubt tells whether a message of the normal lane is in doubt.
func (t *txn) inDoubt(i *instance) (bool, error) {
	if i.rec.NormalDoubt == 0 || i.rec.Normal.Messages == 0 {
		return false, nil
	}
	doubt := false
	err := queue.Messages(t, i.rec.Uid, normalLane, i.rec.Normal.Front, func(m *logv1.MessageRecord) bool {
		doubt = i.doubtful(m)
		return !doubt && m.Seq < i.rec.NormalDoubt
	})
	return doubt, err
}

// watchExpiry sees to the expiry of a message just accepted, and tells whether it has expired already.
func (t *txn) watchExpiry(i *instance, m *logv1.MessageRecord) (gone bool, err error) {
	at := ceilMS(m.Message.ExpireTime)
	if at <= t.now {
		return true, t.end(i, m, expiredAt(m))
	}
	return false, t.dueOf(i, due{at: at, kind: dueExpiry, extra: m.Seq})
}

// expiresAt is when a message expires, by the clock that the application chose. A frozen clock stands still while the
// instance is in recovery.
func (t *txn) expiresAt(i *instance, m *logv1.MessageRecord) int64 {
	at := ceilMS(m.Message.ExpireTime)
	if !i.app.settings.freeze {
		return at
	}
	frozen := i.rec.FrozenMs
	if i.rec.FrozenSinceMs != 0 {
		frozen += t.now - i.rec.FrozenSinceMs
	}
	return at + frozen - m.FrozenMs
}

// expiryDue ends a message whose time has come; it is held while it is out or in doubt, or while its clock stands.
func (t *txn) expiryDue(i *instance, seq uint64) error {
	m, err := queue.Message(t, i.rec.Uid, normalLane, seq)
	if errors.Is(err, queue.ErrNotFound) {
		m, err = queue.Message(t, i.rec.Uid, recoveryLane, seq)
	}
	if err != nil || m.Message.ExpireTime == nil { // put back past its time, it expires no more
		return ignore(err, queue.ErrNotFound)
	}
	if i.app.settings.freeze && i.rec.FrozenSinceMs != 0 {
		return t.hold(i, m)
	}
	if at := t.expiresAt(i, m); at > t.now {
		return t.dueOf(i, due{at: at, kind: dueExpiry, extra: seq})
	}
	busy, err := t.busy(i, m)
	if err != nil {
		return err
	}
	if busy {
		return t.hold(i, m)
	}
	return t.end(i, m, expiredAt(m))
}

// busy tells that a message is out or in doubt.
func (t *txn) busy(i *instance, m *logv1.MessageRecord) (bool, error) {
	if i.doubtful(m) {
		return true, nil
	}
	if m.Lane != i.working() {
		return false, nil
	}
	out, err := i.first(t, m.Lane, int(i.out()))
	return slices.Contains(out, m.Seq), err
}

// hold puts off an expiry until something has changed; see thaw. A message that was put back may come due twice: where
// the clock was frozen, the time at which it was due before it was dead-lettered is not the one of now.
func (t *txn) hold(i *instance, m *logv1.MessageRecord) error {
	k := heldKey(i.rec.Uid, byte(m.Lane), m.Seq)
	if _, err := t.Get(k); !errors.Is(err, queue.ErrNotFound) {
		return err
	}
	i.rec.HeldExpiries++
	t.change(i)
	return t.Set(k, nil)
}

// thaw has all held expiries looked at again: from the first on, also while a look is under way that has passed some.
// Thawing tells that such a look is due and has not begun.
func (t *txn) thaw(i *instance) error {
	if i.rec.HeldExpiries == 0 || i.rec.Thawing {
		return nil
	}
	i.rec.Thawing = true
	t.change(i)
	return t.dueOf(i, due{at: t.now, kind: dueThaw})
}

// cursor packs a lane and a sequence number; those stay far below 2^56.
func cursor(l byte, seq uint64) uint64 { return uint64(l)<<56 | seq }

// thawDue looks at some held expiries, from a cursor on.
func (t *txn) thawDue(i *instance, from uint64) error {
	prefix := numbered(tableHeld, i.rec.Uid)
	var seqs []uint64
	var keys [][]byte
	err := scanFrom(t, heldKey(i.rec.Uid, byte(from>>56), from&(1<<56-1)), queue.Successor(prefix), func(k, _ []byte) error {
		seq := beUint64(k[len(prefix)+1:])
		if len(seqs) > thawStep {
			return errEnough
		}
		seqs, keys = append(seqs, seq), append(keys, bytes.Clone(k))
		return nil
	})
	if err = ignore(err, errEnough); err != nil {
		return err
	}
	if from == 0 {
		i.rec.Thawing = false
		t.change(i)
	}
	for n, k := range keys {
		if n == thawStep {
			return t.dueOf(i, due{at: t.now, kind: dueThaw, extra: cursor(k[len(prefix)], seqs[n])})
		}
		i.rec.HeldExpiries--
		t.change(i)
		if err := errors.Join(t.Delete(k), t.expiryDue(i, seqs[n])); err != nil {
			return err
		}
	}
	return nil
}

// dropExpiry forgets the expiry of a message that has ended.
func (t *txn) dropExpiry(i *instance, m *logv1.MessageRecord) error {
	d := due{at: ceilMS(m.Message.ExpireTime), kind: dueExpiry, uid: i.rec.Uid, extra: m.Seq}
	if err := t.Delete(d.key()); err != nil || i.rec.HeldExpiries == 0 {
		return err
	}
	k := heldKey(i.rec.Uid, byte(m.Lane), m.Seq)
	if _, err := t.Get(k); err != nil {
		return ignore(err, queue.ErrNotFound)
	}
	i.rec.HeldExpiries--
	return t.Delete(k)
}

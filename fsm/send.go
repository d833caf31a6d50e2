package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// send judges messages, each alone, in their order.
func (t *txn) send(c *logv1.Send) (*logv1.Outcome, error) {
	results, made := make([]*sluicev1.SendResult, len(c.Messages)), make([]sluicev1.SendResult, len(c.Messages))
	for n, m := range c.Messages {
		receipt, err := t.sendOne(m)
		results[n] = &made[n]
		results[n].Receipt = receipt
		if err != nil {
			f, err := fault(err)
			if err != nil {
				return nil, err
			}
			t.fx.Counters.Refused[f.Reason]++
			results[n].Error = f
		}
	}
	return &logv1.Outcome{Result: &logv1.Outcome_Send{Send: &sluicev1.SendResponse{Results: results}}}, nil
}

// sendOne judges one message, in the order that semantics prescribes: seen before, pattern, mode, limits.
func (t *txn) sendOne(m *sluicev1.Message) (*sluicev1.Receipt, error) {
	a, err := t.application(m.Application)
	if err != nil {
		return nil, err
	}
	if err := checkMessage(m); err != nil {
		return nil, err
	}
	i, err := t.findOrBear(a, m.Instance)
	if err != nil {
		return nil, err
	}
	digest := contentDigest(m)
	if receipt, err := t.seen(i, m.Id, digest); receipt != nil || err != nil {
		return receipt, err
	}
	if err := i.stands(); err != nil {
		return nil, err
	}
	step, err := t.step(i, m)
	if err != nil {
		return nil, err
	}
	disposition, err := gate(step.class, i.rec.Mode)
	if err != nil {
		return nil, err
	}
	size := uint64(len(m.Data))
	if err := within(i, disposition, size); err != nil {
		return nil, err
	}
	t.keep(i)
	if err := t.take(step); err != nil {
		return nil, err
	}
	return t.accept(i, &logv1.MessageRecord{Message: m, Disposition: disposition, Lane: laneOf(disposition), Digest: digest, Bytes: size})
}

// contentDigest is the digest of what makes two messages the same: type, transaction, content type, data and headers.
func contentDigest(m *sluicev1.Message) []byte {
	h := sha256.New()
	var n [8]byte
	part := func(s string) {
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	part(m.Type)
	part(m.Transaction)
	part(m.ContentType)
	binary.BigEndian.PutUint64(n[:], uint64(len(m.Data)))
	h.Write(n[:])
	h.Write(m.Data)
	names := make([]string, 0, len(m.Headers))
	for k := range m.Headers {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		part(k)
		part(m.Headers[k])
	}
	return h.Sum(nil)[:16]
}

// seen answers a message that was accepted before with its first receipt; nil when it was not.
func (t *txn) seen(i *instance, id string, digest []byte) (*sluicev1.Receipt, error) {
	if i.fresh {
		return nil, nil
	}
	before, receipt, err := t.recall(i, id)
	if err != nil || receipt == nil {
		return nil, err
	}
	if string(before) != string(digest) {
		return nil, reason.IDReused.Errorf("id %q was accepted before with other content (type, transaction, content type, data or headers)", cut(id))
	}
	t.fx.Counters.Duplicates++
	receipt.Duplicate = true
	return receipt, t.eventOf(i, &sluicev1.Event{
		Type: sluicev1.EventType_EVENT_MESSAGE_DUPLICATE, MessageId: receipt.MessageId, Seq: receipt.Seq, Lane: laneOf(receipt.Disposition),
	})
}

// recall finds the digest and receipt of an id that is unsettled, or settled within the deduplication window.
func (t *txn) recall(i *instance, id string) (digest []byte, receipt *sluicev1.Receipt, err error) {
	lane, seq, err := sluicev1.Lane(0), uint64(0), queue.ErrNotFound
	if i.mayHold(id) {
		lane, seq, err = queue.Unsettled(t, i.rec.Uid, id)
	}
	if err == nil {
		m, err := queue.Message(t, i.rec.Uid, lane, seq)
		if err != nil {
			return nil, nil, err
		}
		return m.Digest, receiptOf(m), nil
	}
	if !errors.Is(err, queue.ErrNotFound) {
		return nil, nil, err
	}
	s, err := i.memory().SettledByID(t, id)
	if err != nil || forgotten(s, i.app, t.now) {
		return nil, nil, ignore(err, queue.ErrNotFound)
	}
	return s.Digest, &sluicev1.Receipt{MessageId: s.Id, Seq: s.Seq, Disposition: s.Disposition, Mode: s.Mode, Epoch: s.Epoch, Ahead: s.Ahead, Index: s.Index}, nil
}

// forgotten tells that the deduplication window of a settled message has passed.
func forgotten(s *logv1.SettledRecord, a *application, now int64) bool {
	return s.TimeMs+a.settings.dedupWindow <= now
}

func receiptOf(m *logv1.MessageRecord) *sluicev1.Receipt {
	return &sluicev1.Receipt{MessageId: m.Message.Id, Seq: m.Seq, Disposition: m.Disposition, Mode: m.Mode, Epoch: m.Epoch, Ahead: m.Ahead, Index: m.Index}
}

// accept puts a message that passed the gate at the tail of its lane.
func (t *txn) accept(i *instance, m *logv1.MessageRecord) (*sluicev1.Receipt, error) {
	r, l := i.rec, i.lane(m.Lane)
	m.Seq, m.Ahead, m.Index, m.TimeMs = r.NextSeq, l.Messages, t.index, t.now
	m.Mode, m.Epoch, m.FrozenMs = r.Mode, r.Epoch, r.FrozenMs
	if r.FrozenSinceMs != 0 {
		m.FrozenMs += t.now - r.FrozenSinceMs
	}
	if err := t.join(i, m); err != nil {
		return nil, err
	}
	r.NextSeq++
	l.Tail = m.Seq
	i.head(m.Lane).appended(m, m.Ahead == 0)
	if m.Disposition != deferred { // that one will not be settled soon
		t.m.lately.put(r.Uid, m)
	}
	t.countAccepted(m)
	if m.Disposition == deferred {
		if err := t.messageEvent(i, sluicev1.EventType_EVENT_MESSAGE_DEFERRED, m, ""); err != nil {
			return nil, err
		}
	}
	receipt := receiptOf(m)
	if m.Message.ExpireTime != nil {
		if gone, err := t.watchExpiry(i, m); gone || err != nil {
			return receipt, err
		}
	}
	if m.Lane == i.working() && m.Ahead < uint64(r.Window) {
		t.fx.touch(i)
	}
	return receipt, t.queueUp(i)
}

// join puts a message into its lane, at the place of its sequence number, and into every count: leave undoes it.
func (t *txn) join(i *instance, m *logv1.MessageRecord) error {
	if err := queue.Append(t, i.rec.Uid, m); err != nil {
		return err
	}
	if i.countIn(m); m.Disposition == deferred {
		t.countDeferred(i.app, 1, m.Bytes)
	}
	t.change(i)
	return nil
}

// countIn counts a message that joins its lane.
func (i *instance) countIn(m *logv1.MessageRecord) {
	r, l := i.rec, i.lane(m.Lane)
	if l.Messages == 0 || m.Seq < l.Front {
		l.Front = m.Seq
	}
	l.Messages++
	l.Bytes += m.Bytes
	if m.Disposition == deferred {
		if r.DeferredMessages == 0 || m.Seq < r.DeferredFrom {
			r.DeferredFrom = m.Seq
		}
		r.DeferredMessages++
		r.DeferredBytes += m.Bytes
	}
}

func (t *txn) countAccepted(m *logv1.MessageRecord) {
	switch c := &t.fx.Counters; m.Disposition {
	case deferred:
		c.Deferred++
	case recovery:
		c.Recovery++
	default:
		c.Accepted++
	}
}

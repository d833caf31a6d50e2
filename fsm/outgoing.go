package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// sendOut puts a settlement's outgoing messages into the outbox, from where they travel to the gates of their targets.
func (t *txn) sendOut(i *instance, s *sluicev1.Settlement) error {
	for n, m := range s.Outgoing {
		m = proto.Clone(m).(*sluicev1.Message)
		if m.Id == "" {
			m.Id = derivedID(i, s, n)
		}
		if m.Source == "" && len(i.id().String()) <= maxKeyBytes {
			m.Source = i.id().String()
		}
		rec := &logv1.OutgoingRecord{Message: m, Application: i.rec.Application, Instance: i.rec.Key, InstanceUid: i.rec.Uid}
		if err := queue.Put(t, numbered(tableOutgoing, t.mint()), rec); err != nil {
			return err
		}
		t.fx.Outgoing = true
	}
	return nil
}

// derivedID is the id of an outgoing message that the worker left empty: the same for the same instance, lane,
// sequence number and place.
func derivedID(i *instance, s *sluicev1.Settlement, place int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d\x00%d\x00%d", i.id(), i.rec.Uid, s.Lane, s.Seq, place))
	return hex.EncodeToString(sum[:16])
}

type outgoingItem struct {
	key []byte
	rec *logv1.OutgoingRecord
}

// forward judges the oldest outgoing messages at their targets, in the order in which they were sent.
func (t *txn) forward(c *logv1.ForwardOutgoing) (*logv1.Outcome, error) {
	limit := clamp(c.Limit)
	var items []outgoingItem
	err := scanFrom(t, numbered(tableOutgoing, t.m.lows.outgoing.get()), queue.Successor([]byte{tableOutgoing}), func(k, v []byte) error {
		if len(items) > limit {
			return errEnough
		}
		if len(items) == 0 {
			t.m.lows.outgoing.raise(beUint64(k[1:]))
		}
		rec := &logv1.OutgoingRecord{}
		items = append(items, outgoingItem{append([]byte(nil), k...), rec})
		return proto.Unmarshal(v, rec)
	})
	if err = ignore(err, errEnough); err != nil {
		return nil, err
	}
	more := len(items) > limit
	items = items[:min(len(items), limit)]
	for _, o := range items {
		if err := t.SingleDelete(o.key); err != nil {
			return nil, err
		}
		if err := t.arrive(o.rec); err != nil {
			return nil, err
		}
	}
	return progress(len(items), more)
}

// arrive offers an outgoing message to the gate of its target. What is refused there becomes a dead letter of the
// sender: the settlement that sent it stands.
func (t *txn) arrive(o *logv1.OutgoingRecord) error {
	_, err := t.sendOne(o.Message)
	if err == nil {
		return nil
	}
	f, err := fault(err)
	if err != nil {
		return err
	}
	t.fx.Counters.Refused[f.Reason]++
	a := t.m.applications[o.Application]
	i, err := t.find(a, o.Instance)
	if err != nil || i == nil || i.rec.Uid != o.InstanceUid {
		return err
	}
	i.rec.OutgoingSeq++
	m := &logv1.MessageRecord{Message: o.Message, Seq: i.rec.OutgoingSeq, Lane: outgoingLane, TimeMs: t.now, Index: t.index}
	text := fmt.Sprintf("[%s] %s", f.Reason, f.Message)
	dead := newDeadLetter("REFUSED_AT_TARGET: "+f.Reason, text, text, t.now)
	if err := t.bury(i, m, &logv1.SettledRecord{DeadLetter: dead}, nil); err != nil {
		return err
	}
	return t.deadLetterEvent(i, m, dead)
}

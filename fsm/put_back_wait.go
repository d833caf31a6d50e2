package fsm

import (
	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// letWait notes a dead letter that is put back once nothing is out before it. From then on nothing more goes out.
func (t *txn) letWait(i *instance, seq uint64, e *sluicev1.Edit) error {
	waits, err := t.waitsPutBack(i, normalLane, seq)
	if waits || err != nil {
		return err
	}
	r := i.rec
	if r.PutBackWaiting >= maxPutBack {
		return reason.InFlight.Errorf("%d dead letters of %s wait until the %d messages that are out are settled; wait for that, or put the instance into recovery first", r.PutBackWaiting, i.id(), i.out())
	}
	if r.PutBackWaiting == 0 {
		r.PutBackBehind = i.out()
	}
	r.PutBackWaiting++
	t.change(i)
	return queue.Put(t, putBackKey(r.Uid, seq), e)
}

// waitsPutBack tells that a dead letter waits to be put back.
func (t *txn) waitsPutBack(i *instance, l sluicev1.Lane, seq uint64) (bool, error) {
	if i.rec.PutBackWaiting == 0 || l != normalLane {
		return false, nil
	}
	_, err := t.Get(putBackKey(i.rec.Uid, seq))
	return err == nil, ignore(err, queue.ErrNotFound)
}

// passPutBack counts a message that leaves from among those before which dead letters wait.
func (t *txn) passPutBack(i *instance, m *logv1.MessageRecord) error {
	if i.rec.PutBackWaiting == 0 || i.rec.Mode == recoveryMode || m.Lane != normalLane {
		return nil
	}
	seqs, err := i.first(t, normalLane, int(i.out()))
	if n := len(seqs); err == nil && n > 0 && m.Seq <= seqs[n-1] {
		i.rec.PutBackBehind--
	}
	return err
}

// letBack puts back the dead letters that waited, once nothing of the normal lane is out. One that cannot be put back
// any more stays what it is, and an event says why.
func (t *txn) letBack(i *instance) error {
	if i.rec.PutBackWaiting == 0 || i.normalOut() > 0 {
		return nil
	}
	var seqs []uint64
	var edits []*sluicev1.Edit
	err := scan(t, numbered(tablePutBack, i.rec.Uid), func(k, v []byte) error {
		e := &sluicev1.Edit{}
		seqs, edits = append(seqs, beUint64(k[9:])), append(edits, e)
		return proto.Unmarshal(v, e)
	})
	if err != nil {
		return err
	}
	if err := t.dropPutBack(i); err != nil {
		return err
	}
	p := &puttingBack{txn: t, i: i}
	for n, seq := range seqs {
		p.edit = edits[n]
		if err := p.waited(seq); err != nil {
			return err
		}
	}
	return p.finish()
}

// waited puts back a dead letter that waited.
func (p *puttingBack) waited(seq uint64) error {
	m, err := returnable(p, p.i, normalLane, seq, p.now)
	if err == nil {
		return p.atOnce(m)
	}
	f, err := fault(err)
	if err != nil {
		return err
	}
	return p.eventOf(p.i, &sluicev1.Event{
		Type: sluicev1.EventType_EVENT_MESSAGE_DEAD_LETTERED, Seq: seq, Lane: normalLane, Detail: "not put back: [" + f.Reason + "] " + f.Message, Actor: p.edit.Actor,
	})
}

// dropPutBack lets no dead letter wait any more.
func (t *txn) dropPutBack(i *instance) error {
	if i.rec.PutBackWaiting == 0 {
		return nil
	}
	i.rec.PutBackWaiting, i.rec.PutBackBehind = 0, 0
	t.change(i)
	waiting := numbered(tablePutBack, i.rec.Uid)
	return t.DeleteRange(waiting, queue.Successor(waiting))
}

package fsm

import (
	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

const (
	// aheadBytes bounds those that are read ahead of a lane's head at once.
	aheadBytes = 1 << 20
	// recordBytes is what a message takes beside its data and headers.
	recordBytes = 512
)

// place is where a message lies in the store.
type place struct {
	uid  uint64
	lane sluicev1.Lane
	seq  uint64
}

// lately keeps unsettled messages decoded that were accepted of late, or are next in their lanes: two generations of which
// the older is dropped when the younger is full. What it holds is what the store holds, and never decides what is written.
type lately struct {
	half       uint64
	bytes      uint64 // of the younger
	young, old map[place]*logv1.MessageRecord
}

func newLately(limit int) *lately {
	return &lately{half: uint64(limit) / 2, young: map[place]*logv1.MessageRecord{}, old: map[place]*logv1.MessageRecord{}}
}

// put keeps a message, which nobody may change from now on before it is dropped.
func (l *lately) put(uid uint64, m *logv1.MessageRecord) {
	if l.bytes >= l.half {
		l.old, l.young, l.bytes = l.young, make(map[place]*logv1.MessageRecord, len(l.young)), 0
	}
	l.young[place{uid, m.Lane, m.Seq}] = m
	l.bytes += weight(m)
}

// weight is about what a message takes in memory.
func weight(m *logv1.MessageRecord) uint64 {
	bytes := m.Bytes + recordBytes
	for name, value := range m.Message.Headers {
		bytes += uint64(len(name) + len(value))
	}
	return bytes
}

// get gives a message, or nil.
func (l *lately) get(uid uint64, lane sluicev1.Lane, seq uint64) *logv1.MessageRecord {
	at := place{uid, lane, seq}
	if m := l.young[at]; m != nil {
		return m
	}
	return l.old[at]
}

// drop forgets a message that leaves its place, or is changed there.
func (l *lately) drop(uid uint64, lane sluicev1.Lane, seq uint64) {
	at := place{uid, lane, seq}
	if m := l.young[at]; m != nil {
		delete(l.young, at)
		l.bytes -= weight(m)
	}
	delete(l.old, at)
}

// message reads a message of a lane, or gives queue.ErrNotFound.
func (t *txn) message(i *instance, lane sluicev1.Lane, seq uint64) (*logv1.MessageRecord, error) {
	if m := t.m.lately.get(i.rec.Uid, lane, seq); m != nil {
		return m, nil
	}
	return queue.Message(t, i.rec.Uid, lane, seq)
}

// laneReader reads which messages a lane holds.
type laneReader interface {
	queue.Reader
	seqs(i *instance, lane sluicev1.Lane, from uint64, limit int) ([]uint64, error)
}

// seqs lists sequence numbers of a lane, and keeps the messages: they will be settled next.
func (t *txn) seqs(i *instance, lane sluicev1.Lane, from uint64, limit int) (seqs []uint64, err error) {
	bytes := uint64(0)
	err = queue.Messages(t, i.rec.Uid, lane, from, func(m *logv1.MessageRecord) bool {
		seqs = append(seqs, m.Seq)
		if bytes += weight(m); bytes <= aheadBytes && t.m.lately.get(i.rec.Uid, lane, m.Seq) == nil {
			t.m.lately.put(i.rec.Uid, m)
		}
		return len(seqs) < limit && bytes <= aheadBytes
	})
	if err != nil || len(seqs) == limit || bytes <= aheadBytes {
		return seqs, err
	}
	more, err := queue.Seqs(t, i.rec.Uid, lane, seqs[len(seqs)-1]+1, limit-len(seqs))
	return append(seqs, more...), err
}

// seqs lists sequence numbers of a lane.
func (r *reading) seqs(i *instance, lane sluicev1.Lane, from uint64, limit int) ([]uint64, error) {
	return queue.Seqs(r, i.rec.Uid, lane, from, limit)
}

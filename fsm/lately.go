package fsm

import (
	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

const (
	// aheadMessages and aheadBytes bound what one settlement reads of a lane: where many lanes are drained, more would be dropped
	// before it is settled.
	aheadMessages, aheadBytes = 16, 64 << 10
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
func weight(m *logv1.MessageRecord) uint64 { return payload(m) + recordBytes }

// payload is the bytes of a message's data and headers.
func payload(m *logv1.MessageRecord) uint64 {
	bytes := m.Bytes
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
	switch l := i.lane(lane); {
	case l.Messages == 0 || seq < l.Front || seq > l.Tail: // a walk from there would go over all that is gone
		return nil, queue.ErrNotFound
	case l.Messages == 1:
		return queue.Message(t, i.rec.Uid, lane, seq)
	}
	return t.readAhead(i, lane, seq)
}

// readAhead reads a message and some behind it, and keeps them all: they will be settled next.
func (t *txn) readAhead(i *instance, lane sluicev1.Lane, seq uint64) (found *logv1.MessageRecord, err error) {
	read, bytes := 0, uint64(0)
	err = queue.Messages(t, i.rec.Uid, lane, seq, func(m *logv1.MessageRecord) bool {
		switch {
		case found == nil && m.Seq != seq:
			return false
		case found == nil:
			found = m
		}
		if t.m.lately.get(i.rec.Uid, lane, m.Seq) == nil {
			t.m.lately.put(i.rec.Uid, m)
		}
		read++
		bytes += weight(m)
		return read < aheadMessages && bytes < aheadBytes
	})
	if err == nil && found == nil {
		err = queue.ErrNotFound
	}
	return found, err
}

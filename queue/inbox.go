package queue

import (
	"encoding/binary"
	"errors"
	"fmt"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
)

// ErrCorrupt is data that cannot be read: the store does not hold what was written.
var ErrCorrupt = errors.New("queue: corrupt data")

// Writer is what an inbox needs to change: a Batch, or something that records what goes into one.
type Writer interface {
	Reader
	Set(key, value []byte) error
	Delete(key []byte) error
	SingleDelete(key []byte) error
	DeleteRange(lower, upper []byte) error
}

// Append puts a message into its lane, at the place of its sequence number, and remembers its id as unsettled. Nothing may
// lie there: the tail is given to a new message, and its old place to one that was removed.
func Append(w Writer, uid uint64, m *logv1.MessageRecord) error {
	s := scratchOf(w)
	if err := Put(w, s.laneKey(tableLane, uid, m.Lane, m.Seq), m); err != nil {
		return err
	}
	at := s.value(9)
	at[0] = laneByte(m.Lane)
	binary.BigEndian.PutUint64(at[1:], m.Seq)
	return w.Set(s.idKey(uid, m.Message.Id), at)
}

// Replace writes a message again in its place. From then on it is removed by Delete, which the record itself says.
func Replace(w Writer, uid uint64, m *logv1.MessageRecord) error {
	m.Replaced = true
	return Put(w, scratchOf(w).laneKey(tableLane, uid, m.Lane, m.Seq), m)
}

// Remove takes a message out of its lane and forgets its id as unsettled.
func Remove(w Writer, uid uint64, m *logv1.MessageRecord) error {
	s := scratchOf(w)
	remove := w.SingleDelete
	if m.Replaced {
		remove = w.Delete
	}
	if err := remove(s.laneKey(tableLane, uid, m.Lane, m.Seq)); err != nil {
		return err
	}
	return w.SingleDelete(s.idKey(uid, m.Message.Id))
}

// Message reads one message of a lane, or ErrNotFound.
func Message(r Reader, uid uint64, lane sluicev1.Lane, seq uint64) (*logv1.MessageRecord, error) {
	m := &logv1.MessageRecord{}
	return m, Load(r, scratchOf(r).laneKey(tableLane, uid, lane, seq), m)
}

// Unsettled finds the place of an unsettled message by its id, or ErrNotFound.
func Unsettled(r Reader, uid uint64, id string) (lane sluicev1.Lane, seq uint64, err error) {
	v, err := r.Get(scratchOf(r).idKey(uid, id))
	if err != nil {
		return 0, 0, err
	}
	if len(v) != 9 {
		return 0, 0, fmt.Errorf("%w: place of id %q", ErrCorrupt, id)
	}
	return sluicev1.Lane(v[0]), binary.BigEndian.Uint64(v[1:]), nil
}

// Seqs lists up to limit sequence numbers of a lane, from one on, in order.
func Seqs(r Reader, uid uint64, lane sluicev1.Lane, from uint64, limit int) (seqs []uint64, err error) {
	err = walk(r, tableLane, uid, lane, from, func(seq uint64, _ Iterator) (bool, error) {
		seqs = append(seqs, seq)
		return len(seqs) < limit, nil
	})
	return seqs, err
}

// Messages hands the messages of a lane to yield, from one on, in order, until it says no.
func Messages(r Reader, uid uint64, lane sluicev1.Lane, from uint64, yield func(*logv1.MessageRecord) bool) error {
	return records(r, tableLane, uid, lane, from, yield)
}

// Places hands the sequence numbers of a lane to yield, from one on, in order, until it says no or fails; load reads the
// message, within the call.
func Places(r Reader, uid uint64, lane sluicev1.Lane, from uint64, yield func(seq uint64, load func() (*logv1.MessageRecord, error)) (bool, error)) error {
	return walk(r, tableLane, uid, lane, from, func(seq uint64, it Iterator) (bool, error) {
		return yield(seq, func() (*logv1.MessageRecord, error) {
			v, err := it.Value()
			if err != nil {
				return nil, err
			}
			m := &logv1.MessageRecord{}
			return m, decode(it.Key(), v, m)
		})
	})
}

// DeadLetters hands an instance's dead letters of a lane to yield, from one on, in order, until it says no.
func DeadLetters(r Reader, uid uint64, lane sluicev1.Lane, from uint64, yield func(*logv1.MessageRecord) bool) error {
	return records(r, tableDead, uid, lane, from, yield)
}

// DeadLetter reads one dead letter of an instance, or ErrNotFound.
func DeadLetter(r Reader, uid uint64, lane sluicev1.Lane, seq uint64) (*logv1.MessageRecord, error) {
	m := &logv1.MessageRecord{}
	return m, Load(r, scratchOf(r).laneKey(tableDead, uid, lane, seq), m)
}

// PutDeadLetter keeps a message as a dead letter of an instance.
func PutDeadLetter(w Writer, uid uint64, m *logv1.MessageRecord) error {
	return Put(w, scratchOf(w).laneKey(tableDead, uid, m.Lane, m.Seq), m)
}

// DropDeadLetter forgets a dead letter.
func DropDeadLetter(w Writer, uid uint64, lane sluicev1.Lane, seq uint64) error {
	return w.Delete(scratchOf(w).laneKey(tableDead, uid, lane, seq))
}

// Failure reads what is on record of a message's failed attempts, or ErrNotFound.
func Failure(r Reader, uid uint64, lane sluicev1.Lane, seq uint64) (*logv1.FailureRecord, error) {
	f := &logv1.FailureRecord{}
	return f, Load(r, scratchOf(r).laneKey(tableFailure, uid, lane, seq), f)
}

// PutFailure writes it.
func PutFailure(w Writer, uid uint64, lane sluicev1.Lane, seq uint64, f *logv1.FailureRecord) error {
	return Put(w, scratchOf(w).laneKey(tableFailure, uid, lane, seq), f)
}

// DropFailure forgets it.
func DropFailure(w Writer, uid uint64, lane sluicev1.Lane, seq uint64) error {
	return w.Delete(scratchOf(w).laneKey(tableFailure, uid, lane, seq))
}

// DropInstance forgets everything of an instance but what lies in memory buckets. It is for instances that are gone
// for good: range deletes are dear.
func DropInstance(w Writer, uid uint64) error {
	for _, table := range []byte{tableLane, tableID, tableFailure, tableDead} {
		p := keyOf(table, uid)
		if err := w.DeleteRange(p, Successor(p)); err != nil {
			return err
		}
	}
	return nil
}

func records(r Reader, table byte, uid uint64, lane sluicev1.Lane, from uint64, yield func(*logv1.MessageRecord) bool) error {
	return walk(r, table, uid, lane, from, func(_ uint64, it Iterator) (bool, error) {
		v, err := it.Value()
		if err != nil {
			return false, err
		}
		m := &logv1.MessageRecord{}
		if err := decode(it.Key(), v, m); err != nil {
			return false, err
		}
		return yield(m), nil
	})
}

func walk(r Reader, table byte, uid uint64, lane sluicev1.Lane, from uint64, visit func(seq uint64, it Iterator) (bool, error)) (err error) {
	it, err := r.NewIter((*Scratch)(nil).laneKey(table, uid, lane, from), Successor(lanePrefix(table, uid, lane)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		k := it.Key()
		more, err := visit(binary.BigEndian.Uint64(k[len(k)-8:]), it)
		if err != nil || !more {
			return err
		}
	}
	return it.Error()
}

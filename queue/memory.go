package queue

import (
	"errors"
	"fmt"

	logv1 "sluice/api/log/v1"
)

// Kinds of what a memory bucket holds of an instance.
const (
	memoryByID   = 'i' // id → seq
	memoryBySeq  = 's' // seq → settled record
	memoryCalled = 'r' // method, request id → request record
)

// BucketEnd is the end of the time bucket in which something that happens at a time is remembered.
// A window is divided in eight, and no bucket is shorter than a second, so that the memory outlives the window by an
// eighth of it, or a second, at the most. All in milliseconds.
func BucketEnd(atMS, windowMS int64) int64 {
	width := max(windowMS/8, 1000)
	return (atMS/width + 1) * width
}

// Memory is what one instance remembers, spread over the buckets named by their ends.
type Memory struct {
	Application uint64 // uid
	Instance    uint64 // uid; 0: the application itself
	Buckets     []int64
}

func bucketPrefix(application uint64, end int64) []byte {
	return u64(key(tableMemory, application), uint64(end))
}

func (m Memory) key(end int64, kind byte, what string) []byte {
	return append(append(u64(bucketPrefix(m.Application, end), m.Instance), kind), what...)
}

func seqName(seq uint64) string { return string(u64(nil, seq)) }

// Remember keeps a settled message in the bucket that ends then, to be found by its id and by its sequence number. The
// record lies by its sequence number, where the next one is written beside it: ids may come in any order, so what lies by
// them is merged again and again, and is small.
func (m Memory) Remember(w Writer, end int64, s *logv1.SettledRecord) error {
	if err := Put(w, m.key(end, memoryBySeq, seqName(s.Seq)), s); err != nil {
		return err
	}
	return w.Set(m.key(end, memoryByID, s.Id), u64(nil, s.Seq))
}

// SettledByID finds a settled message, the last of its id; ErrNotFound when it is not remembered.
func (m Memory) SettledByID(r Reader, id string) (*logv1.SettledRecord, error) {
	for i := len(m.Buckets) - 1; i >= 0; i-- {
		seq, err := r.Get(m.key(m.Buckets[i], memoryByID, id))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil && len(seq) != 8 {
			err = fmt.Errorf("%w: sequence number of id %q", ErrCorrupt, id)
		}
		if err != nil {
			return nil, err
		}
		s := &logv1.SettledRecord{}
		return s, Load(r, m.key(m.Buckets[i], memoryBySeq, string(seq)), s)
	}
	return nil, ErrNotFound
}

// SettledBySeq finds a settled message by its sequence number; ErrNotFound when it is not remembered.
func (m Memory) SettledBySeq(r Reader, seq uint64) (*logv1.SettledRecord, error) {
	for i := len(m.Buckets) - 1; i >= 0; i-- {
		s := &logv1.SettledRecord{}
		if err := Load(r, m.key(m.Buckets[i], memoryBySeq, seqName(seq)), s); !errors.Is(err, ErrNotFound) {
			return s, err
		}
	}
	return nil, ErrNotFound
}

// Forget forgets a settled message.
func (m Memory) Forget(w Writer, id string, seq uint64) error {
	for _, end := range m.Buckets {
		for _, k := range [][]byte{m.key(end, memoryByID, id), m.key(end, memoryBySeq, seqName(seq))} {
			if _, err := w.Get(k); errors.Is(err, ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			if err := w.Delete(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// RememberCall keeps the answer of a call in the bucket that ends then.
func (m Memory) RememberCall(w Writer, end int64, method, request string, a *logv1.RequestRecord) error {
	return Put(w, m.key(end, memoryCalled, method+"\x00"+request), a)
}

// Called finds the answer of a call made before; ErrNotFound when it is not remembered.
func (m Memory) Called(r Reader, method, request string) (*logv1.RequestRecord, error) {
	for i := len(m.Buckets) - 1; i >= 0; i-- {
		a := &logv1.RequestRecord{}
		if err := Load(r, m.key(m.Buckets[i], memoryCalled, method+"\x00"+request), a); !errors.Is(err, ErrNotFound) {
			return a, err
		}
	}
	return nil, ErrNotFound
}

// DropBucket forgets a whole bucket of an application with one range delete.
func DropBucket(w Writer, application uint64, end int64) error {
	p := bucketPrefix(application, end)
	return w.DeleteRange(p, Successor(p))
}

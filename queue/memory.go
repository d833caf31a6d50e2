package queue

import (
	"encoding/binary"
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

// Memory is what one instance remembers, spread over the buckets of its application, the one that was last written to last.
// A bucket is named by the end of its span of time, or up to as many milliseconds later as there are buckets of that span.
type Memory struct {
	Application uint64 // uid
	Instance    uint64 // uid; 0: the application itself
	Buckets     []int64
}

func (s *Scratch) bucketPrefix(application uint64, end int64) []byte {
	return u64(s.begin(tableMemory, application), uint64(end))
}

func bucketPrefix(application uint64, end int64) []byte {
	return (*Scratch)(nil).bucketPrefix(application, end)
}

// kind begins a key of what is remembered of a kind.
func (m Memory) kind(s *Scratch, end int64, kind byte) []byte {
	return append(u64(s.bucketPrefix(m.Application, end), m.Instance), kind)
}

func (m Memory) byID(s *Scratch, end int64, id string) []byte {
	return append(m.kind(s, end, memoryByID), id...)
}

func (m Memory) bySeq(s *Scratch, end int64, seq uint64) []byte {
	return u64(m.kind(s, end, memoryBySeq), seq)
}

func (m Memory) called(s *Scratch, end int64, method, request string) []byte {
	return append(append(append(m.kind(s, end, memoryCalled), method...), 0), request...)
}

// Remember keeps a settled message in the bucket that ends then, to be found by its id and by its sequence number. The
// record lies by its sequence number, where the next one is written beside it: ids may come in any order, so what lies by
// them is merged again and again, and is small.
func (m Memory) Remember(w Writer, end int64, s *logv1.SettledRecord) error {
	scratch := scratchOf(w)
	if err := Put(w, m.bySeq(scratch, end, s.Seq), s); err != nil {
		return err
	}
	at := scratch.value(8)
	binary.BigEndian.PutUint64(at, s.Seq)
	return w.Set(m.byID(scratch, end, s.Id), at)
}

// SettledByID finds a settled message, the last of its id; ErrNotFound when it is not remembered.
func (m Memory) SettledByID(r Reader, id string) (*logv1.SettledRecord, error) {
	for i := len(m.Buckets) - 1; i >= 0; i-- {
		seq, err := r.Get(m.byID(scratchOf(r), m.Buckets[i], id))
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
		return s, Load(r, m.bySeq(scratchOf(r), m.Buckets[i], binary.BigEndian.Uint64(seq)), s)
	}
	return nil, ErrNotFound
}

// SettledBySeq finds a settled message by its sequence number; ErrNotFound when it is not remembered.
func (m Memory) SettledBySeq(r Reader, seq uint64) (*logv1.SettledRecord, error) {
	for i := len(m.Buckets) - 1; i >= 0; i-- {
		s := &logv1.SettledRecord{}
		if err := Load(r, m.bySeq(scratchOf(r), m.Buckets[i], seq), s); !errors.Is(err, ErrNotFound) {
			return s, err
		}
	}
	return nil, ErrNotFound
}

// Forget forgets a settled message.
func (m Memory) Forget(w Writer, id string, seq uint64) error {
	for _, end := range m.Buckets {
		for _, k := range [][]byte{m.byID(nil, end, id), m.bySeq(nil, end, seq)} {
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
	return Put(w, m.called(scratchOf(w), end, method, request), a)
}

// Called finds the answer of a call made before; ErrNotFound when it is not remembered.
func (m Memory) Called(r Reader, method, request string) (*logv1.RequestRecord, error) {
	for i := len(m.Buckets) - 1; i >= 0; i-- {
		a := &logv1.RequestRecord{}
		if err := Load(r, m.called(scratchOf(r), m.Buckets[i], method, request), a); !errors.Is(err, ErrNotFound) {
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

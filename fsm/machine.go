package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/queue"
)

// format is the version of the stored records. A store of another format is refused.
const format = 3

// Options bound the machine's memory.
type Options struct {
	// CacheInstances is how many instance headers are kept decoded; default 16,384.
	CacheInstances int
	// LatelyBytes bounds the messages that are kept decoded, by about what they take; default 8 MiB.
	LatelyBytes int
	// BucketRecords is how many records the first memory buckets of an application take; default 1,048,576. It is a part of what
	// the state is: all replicas must have the same.
	BucketRecords int
}

// Machine is the replicated state machine over a store. Apply is called by one goroutine; View and Digest by any.
type Machine struct {
	store queue.Store
	meta  *logv1.MetaRecord
	// applications and sessions are all in memory, instances as far as they are worked on. They are Apply's own.
	applications map[string]*application
	sessions     map[string]*logv1.SessionRecord
	instances    *cache
	written      *queue.Recent
	// old are the memory buckets that the state had when it was taken up, and learned brings what Learn found in them.
	old     []queue.Bucket
	learned atomic.Pointer[queue.Lesson]
	lately  *lately
	// bucketRecords is Options.BucketRecords.
	bucketRecords uint64
	scratch       queue.Scratch
	saying        saying
	remembered    logv1.SettledRecord // of the message that is being settled: filled in again for each, so nobody may keep it
	// touched and settled are how many the last call of Apply had of each: about as many as the next one will.
	touched, settled int
	recent           [recentDigests]mark
	stopped          bool
	lows             lows
	// shared is what readers see beside the store, replaced whole after every commit. moves grows before and after both:
	// while it is odd, the two may be of different moments.
	shared atomic.Pointer[shared]
	moves  atomic.Uint64
}

// shared is an immutable view of what the store alone would make dear to read.
type shared struct {
	index   uint64
	digest  uint64
	clockMS int64
	// applications point at what readers see of each; the map is replaced when one is added.
	applications map[string]*atomic.Pointer[application]
}

// Open takes up the state that a store holds, which may be none.
func Open(store queue.Store, o Options) (*Machine, error) {
	if o.CacheInstances <= 0 {
		o.CacheInstances = 16384
	}
	if o.LatelyBytes <= 0 {
		o.LatelyBytes = 8 << 20
	}
	if o.BucketRecords <= 0 {
		o.BucketRecords = bucketRecords
	}
	m := &Machine{store: store, meta: &logv1.MetaRecord{Format: format}, applications: map[string]*application{}, sessions: map[string]*logv1.SessionRecord{}, instances: newCache(o.CacheInstances), written: queue.NewRecent(0), lately: newLately(o.LatelyBytes), bucketRecords: uint64(o.BucketRecords)}
	err := queue.Load(store, []byte{tableMeta}, m.meta)
	if err != nil && !errors.Is(err, queue.ErrNotFound) {
		return nil, fmt.Errorf("fsm: open: %w", err)
	}
	if m.meta.Format != format {
		return nil, fmt.Errorf("fsm: open: the state has format %d, this version reads %d", m.meta.Format, format)
	}
	if err := m.load(); err != nil {
		return nil, fmt.Errorf("fsm: open: %w", err)
	}
	m.old = m.buckets()
	m.written.Expect(m.old)
	m.share(true)
	return m, nil
}

func (m *Machine) load() error {
	err := scan(m.store, []byte{tableApplication}, func(_, v []byte) error {
		rec := &logv1.ApplicationRecord{}
		if err := proto.Unmarshal(v, rec); err != nil {
			return err
		}
		a := loadApplication(rec)
		m.applications[rec.Spec.Name] = a
		return m.loadFilling(a)
	})
	if err != nil {
		return err
	}
	return scan(m.store, []byte{tableSession}, func(_, v []byte) error {
		rec := &logv1.SessionRecord{}
		if err := proto.Unmarshal(v, rec); err != nil {
			return err
		}
		m.sessions[rec.Id] = rec
		return nil
	})
}

// scan hands every key and value that begins with a prefix to visit; both are valid only within the call.
func scan(r queue.Reader, prefix []byte, visit func(k, v []byte) error) error {
	return scanFrom(r, prefix, queue.Successor(prefix), visit)
}

// scanFrom is scan of the keys from one on up to, but not including, another.
func scanFrom(r queue.Reader, from, until []byte, visit func(k, v []byte) error) (err error) {
	it, err := r.NewIter(from, until)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil {
			return err
		}
		if err := visit(it.Key(), v); err != nil {
			return err
		}
	}
	return it.Error()
}

// Applied is the last entry that was applied.
func (m *Machine) Applied() (index, term uint64) { return m.meta.AppliedIndex, m.meta.AppliedTerm }

// Digest is the chained hash over the writes of every entry up to an index.
func (m *Machine) Digest() (index uint64, digest []byte) {
	s := m.shared.Load()
	return s.index, binary.BigEndian.AppendUint64(nil, s.digest)
}

// Apply applies entries in order and in one store batch; those at or below Applied are skipped.
// After an error nothing of the call is visible to readers, and the machine must not be used again.
func (m *Machine) Apply(entries []Entry) ([]Result, Effects, error) {
	if m.stopped {
		return nil, Effects{}, ErrStopped
	}
	if l := m.learned.Swap(nil); l != nil {
		m.written.Learned(l)
	}
	t := newTxn(m)
	defer t.close()
	results := make([]Result, len(entries))
	for n, e := range entries {
		if e.Index <= m.meta.AppliedIndex {
			continue
		}
		outcomes, err := t.entry(e)
		if err != nil {
			m.stopped = true
			return nil, Effects{}, fmt.Errorf("fsm: entry %d: %w", e.Index, err)
		}
		results[n] = Result{Outcomes: outcomes, Digest: m.meta.Digest}
	}
	if err := t.commit(); err != nil {
		m.stopped = true
		return nil, Effects{}, err
	}
	return results, t.fx, nil
}

// share shows readers what was committed; added tells that there is a new application.
func (m *Machine) share(added bool) {
	s := &shared{index: m.meta.AppliedIndex, digest: m.meta.Digest, clockMS: m.meta.ClockMs}
	if old := m.shared.Load(); old != nil && !added {
		s.applications = old.applications
	} else {
		s.applications = make(map[string]*atomic.Pointer[application], len(m.applications))
		for name, a := range m.applications {
			a.show(s.index)
			s.applications[name] = a.seen
		}
	}
	m.shared.Store(s)
}

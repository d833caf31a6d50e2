package fsm

import (
	"cmp"
	"fmt"
	"slices"

	logv1 "sluice/api/log/v1"
	"sluice/queue"
)

// bucketRecords is how many records the first memory buckets of an application take. With every bucketStep of them that stand
// the next ones take twice as many, up to 4,096 times: whoever looks for an id looks into each, so they are few, however much is
// remembered. All three are a part of what the state is: who changes them changes format.
const bucketRecords, bucketStep, bucketDoublings = 1 << 20, 8, 12

// filling is the memory bucket to which an application writes: the end of its span of time, how many buckets of that span
// came before it, and how many records it holds. It is written down at the end of an entry that changed it.
type filling struct {
	spanMS  int64
	ordinal uint32
	records uint64
	changed bool
}

// name is the name of the bucket.
func (f *filling) name() int64 { return f.spanMS + int64(f.ordinal) }

// bucket takes a place in the memory bucket of now, which is made known to the application and due to be forgotten. A bucket that
// is full is followed by another one of its span: the store merges what lies in one bucket, and leaves what lies in the ones
// before it alone. None is gone back to: what was remembered last of an id lies in the bucket that was begun last.
func (t *txn) bucket(a *application) (name int64, err error) {
	f := &a.filling
	span := queue.BucketEnd(t.now, a.settings.dedupWindow)
	next := f.records >= t.m.bucketRecords<<min(max(len(a.memory)-1, 0)/bucketStep, bucketDoublings)
	before := f.name()
	if span != f.spanMS {
		f.spanMS, f.ordinal, f.records, next = span, 0, 0, false
		before = span
	}
	if !f.changed {
		f.changed, t.filled = true, append(t.filled, a)
	}
	stands := a.remembersIn(f.name())
	for stands && (next || f.records == 0) {
		f.ordinal, f.records, next = f.ordinal+1, 0, false
		stands = a.remembersIn(f.name())
	}
	f.records++
	if stands {
		return f.name(), nil
	}
	a.memory = append(slices.Clone(a.memory), f.name())
	t.changeApplication(a)
	t.m.written.Begin(a.uid, f.name(), before)
	return f.name(), t.due(due{at: f.name() + a.settings.dedupWindow, kind: dueBucket, uid: a.uid, extra: uint64(f.name())}, InstanceID{Application: a.name()})
}

// remembersIn tells whether a memory bucket stands. It is mostly the last one.
func (a *application) remembersIn(bucket int64) bool {
	n := len(a.memory)
	return n > 0 && a.memory[n-1] == bucket || slices.Contains(a.memory, bucket)
}

// flushFilled writes down what of memory buckets changed in the entry.
func (t *txn) flushFilled() error {
	for _, a := range t.filled {
		f := &a.filling
		f.changed = false
		if err := queue.Put(t, numbered(tableFilling, a.uid), &logv1.FillingRecord{SpanMs: f.spanMS, Ordinal: f.ordinal, Records: f.records}); err != nil {
			return err
		}
	}
	t.filled = t.filled[:0]
	return nil
}

// loadFilling reads to which memory bucket an application writes.
func (m *Machine) loadFilling(a *application) error {
	rec := &logv1.FillingRecord{}
	err := queue.Load(m.store, numbered(tableFilling, a.uid), rec)
	a.filling = filling{spanMS: rec.SpanMs, ordinal: rec.Ordinal, records: rec.Records}
	return ignore(err, queue.ErrNotFound)
}

// dropBucket forgets a memory bucket, or puts it off if the window has grown since.
func (t *txn) dropBucket(a *application, end int64) error {
	if at := end + a.settings.dedupWindow; at > t.now {
		return t.due(due{at: at, kind: dueBucket, uid: a.uid, extra: uint64(end)}, InstanceID{Application: a.name()})
	}
	a.memory = slices.DeleteFunc(slices.Clone(a.memory), func(e int64) bool { return e == end })
	t.changeApplication(a)
	return queue.DropBucket(t, a.uid, end)
}

// buckets are all memory buckets, the newest first.
func (m *Machine) buckets() (all []queue.Bucket) {
	for _, a := range m.applications {
		for _, name := range a.memory {
			all = append(all, queue.Bucket{Application: a.uid, Name: name})
		}
	}
	slices.SortFunc(all, func(a, b queue.Bucket) int {
		return cmp.Or(cmp.Compare(b.Name, a.Name), cmp.Compare(a.Application, b.Application))
	})
	return all
}

// Learn reads which ids are remembered from before the state was taken up. Until it has, the store is asked for each id that
// comes; the outcome is the same. It is called once, by a goroutine of its own, and ends with queue.ErrStopped once stop says so.
func (m *Machine) Learn(stop func() bool) (ids int, err error) {
	if len(m.old) == 0 {
		return 0, nil
	}
	l, err := queue.Learn(m.store, m.old, 0, stop)
	if err != nil {
		return 0, fmt.Errorf("fsm: learn which ids are remembered: %w", err)
	}
	ids = l.IDs()
	m.learned.Store(l) // Apply's own from here on
	return ids, nil
}

package queue

import "bytes"

// Recent is what the one who writes a store knows of it without a read: which ids are not in the memory buckets that were
// begun in its time. It decides nothing that is written. It is used by one goroutine.
type Recent struct {
	buckets map[string]*filter // by the prefix of their keys
}

// NewRecent knows nothing yet of a store.
func NewRecent() *Recent { return &Recent{buckets: map[string]*filter{}} }

// Begin tells that a memory bucket is new: the store holds nothing of it.
func (r *Recent) Begin(application uint64, end int64) {
	r.buckets[string(bucketPrefix(application, end))] = &filter{}
}

// Over is a batch that asks what is known before it asks the store, and notes what is written. Every batch of the store is
// to be made so, for it would miss what another one changes. If one is given up, so must be the Recent.
func (r *Recent) Over(b Batch) Batch { return &recentBatch{Batch: b, recent: r} }

// bucketBytes is the length of a bucket's prefix, filteredAt where the kind stands in its keys.
const bucketBytes, filteredAt = 1 + 8 + 8, 1 + 8 + 8 + 8

// filterOf is the filter that a key belongs to; nil: there is none.
func (r *Recent) filterOf(key []byte) *filter {
	if len(key) <= filteredAt || key[0] != tableMemory || key[filteredAt] == memoryBySeq {
		return nil
	}
	return r.buckets[string(key[:bucketBytes])]
}

// forget lets go of what may lie in [lower, upper).
func (r *Recent) forget(lower, upper []byte) {
	for prefix := range r.buckets {
		if bytes.Compare([]byte(prefix), upper) < 0 && bytes.Compare(Successor([]byte(prefix)), lower) > 0 {
			delete(r.buckets, prefix)
		}
	}
}

// recentBatch is a batch over a store of whose writes something is known.
type recentBatch struct {
	Batch
	recent *Recent
}

func (b *recentBatch) Get(key []byte) ([]byte, error) {
	if f := b.recent.filterOf(key); f != nil && !f.has(key) {
		return nil, ErrNotFound
	}
	return b.Batch.Get(key)
}

func (b *recentBatch) Set(key, value []byte) error {
	if f := b.recent.filterOf(key); f != nil && !f.add(key) {
		delete(b.recent.buckets, string(key[:bucketBytes]))
	}
	return b.Batch.Set(key, value)
}

func (b *recentBatch) DeleteRange(lower, upper []byte) error {
	b.recent.forget(lower, upper)
	return b.Batch.DeleteRange(lower, upper)
}

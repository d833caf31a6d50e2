package queue

import "bytes"

// recentMessage is the largest message that a Recent keeps.
const recentMessage = 256 << 10

// Recent is what the one who writes a store keeps in memory of what it wrote, to read it without the store: the messages
// that came last to their lanes, and which ids are not in the memory buckets that were begun in its time. It decides
// nothing that is written. It is used by one goroutine.
type Recent struct {
	most       int
	young, old map[string][]byte // messages by their lane's key
	youngBytes int
	buckets    map[string]*filter // by the prefix of their keys
}

// NewRecent knows nothing yet of a store. It keeps messages up to a number of bytes, keys and what holds them counted.
func NewRecent(bytes int) *Recent {
	return &Recent{most: bytes, young: map[string][]byte{}, buckets: map[string]*filter{}}
}

// Begin tells that a memory bucket is new: the store holds nothing of it.
func (r *Recent) Begin(application uint64, end int64) {
	r.buckets[string(bucketPrefix(application, end))] = &filter{}
}

// Over is a batch that asks what is kept before it asks the store, and keeps what is written. Every batch of the store is
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

func (r *Recent) message(key []byte) ([]byte, bool) {
	v, ok := r.young[string(key)]
	if !ok {
		v, ok = r.old[string(key)]
	}
	return v, ok
}

func (r *Recent) keep(key, value []byte) {
	r.drop(key)
	if len(value) > recentMessage {
		return
	}
	if r.youngBytes > r.most/2 {
		r.old, r.young, r.youngBytes = r.young, map[string][]byte{}, 0
	}
	r.young[string(key)] = bytes.Clone(value)
	r.youngBytes += keptBytes(key, value)
}

func (r *Recent) drop(key []byte) {
	if v, ok := r.young[string(key)]; ok {
		r.youngBytes -= keptBytes(key, v)
		delete(r.young, string(key))
	}
	delete(r.old, string(key))
}

// keptBytes is what a message takes, with its key and an entry of a map.
func keptBytes(key, value []byte) int { return len(key) + len(value) + 64 }

// forget lets go of what may lie in [lower, upper).
func (r *Recent) forget(lower, upper []byte) {
	for prefix := range r.buckets {
		if bytes.Compare([]byte(prefix), upper) < 0 && bytes.Compare(Successor([]byte(prefix)), lower) > 0 {
			delete(r.buckets, prefix)
		}
	}
	if bytes.Compare([]byte{tableLane}, upper) < 0 && bytes.Compare([]byte{tableLane + 1}, lower) > 0 {
		r.young, r.old, r.youngBytes = map[string][]byte{}, nil, 0
	}
}

// recentBatch is a batch over a store of whose writes something is kept.
type recentBatch struct {
	Batch
	recent *Recent
}

func (b *recentBatch) Get(key []byte) ([]byte, error) {
	switch {
	case len(key) == 0:
	case key[0] == tableLane:
		if v, ok := b.recent.message(key); ok {
			return bytes.Clone(v), nil
		}
	case key[0] == tableMemory:
		if f := b.recent.filterOf(key); f != nil && !f.has(key) {
			return nil, ErrNotFound
		}
	}
	return b.Batch.Get(key)
}

func (b *recentBatch) Set(key, value []byte) error {
	if len(key) > 0 && key[0] == tableLane {
		b.recent.keep(key, value)
	} else if f := b.recent.filterOf(key); f != nil && !f.add(key) {
		delete(b.recent.buckets, string(key[:bucketBytes]))
	}
	return b.Batch.Set(key, value)
}

func (b *recentBatch) Delete(key []byte) error {
	b.recent.drop(key)
	return b.Batch.Delete(key)
}

func (b *recentBatch) SingleDelete(key []byte) error {
	b.recent.drop(key)
	return b.Batch.SingleDelete(key)
}

func (b *recentBatch) DeleteRange(lower, upper []byte) error {
	b.recent.forget(lower, upper)
	return b.Batch.DeleteRange(lower, upper)
}

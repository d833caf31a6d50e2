package queue

import (
	"bytes"
	"slices"
)

const (
	// recentIDs is for how many ids there is room in all filters together.
	recentIDs = 1 << 26
	// filterIDs is from how many ids on a filter is not shared with another bucket: the oldest goes as a whole.
	filterIDs = 1 << 23
)

// Recent is what the one who writes a store knows of it without a read: which ids are not in the memory buckets that were
// begun in its time, or that it has learned of. It decides nothing that is written. It is used by one goroutine.
type Recent struct {
	most int
	// buckets have their filters by the prefix of their keys.
	buckets map[string]*filter
	filters []*filter // the oldest first
	// old is the filter of what was expected and is not learned yet; nil: nothing is.
	old *filter
}

// NewRecent knows nothing yet of a store, and will have room for so many ids; 0: for 67,108,864, in about 115 MiB.
func NewRecent(most int) *Recent {
	if most <= 0 {
		most = recentIDs
	}
	return &Recent{most: most, buckets: map[string]*filter{}}
}

// Begin tells that a memory bucket is new: the store holds nothing of it. before is the bucket of its span of time that it follows
// on, or itself if it is the first: what is asked of the one is mostly asked of the other, so they share a filter.
func (r *Recent) Begin(application uint64, name, before int64) {
	prefix := Bucket{application, name}.prefix()
	r.drop(prefix)
	f := r.buckets[Bucket{application, before}.prefix()]
	if f == nil || f == r.old || f.all >= filterIDs {
		f = &filter{}
		r.filters = append(r.filters, f)
	}
	f.buckets++
	r.buckets[prefix] = f
}

// Expect tells of the memory buckets that the store holds when it is taken up. Nothing is known of them until Learned.
func (r *Recent) Expect(buckets []Bucket) {
	if len(buckets) == 0 {
		return
	}
	r.old = &filter{unknown: true, buckets: len(buckets)}
	r.filters = append(r.filters, r.old)
	for _, b := range buckets {
		r.buckets[b.prefix()] = r.old
	}
}

// Learned takes what was learned of the expected buckets that still stand. What came into them since is in all of its filters.
func (r *Recent) Learned(l *Lesson) {
	since := r.old
	if since == nil {
		return
	}
	var old []string
	for prefix, f := range r.buckets {
		if f == since {
			old = append(old, prefix)
		}
	}
	for _, f := range l.filters {
		f.parts, f.all, f.whole = append(f.parts, since.parts...), f.all+since.all, f.whole+since.whole
		f.held, f.room = 0, 0 // the last part is shared
		for _, prefix := range l.buckets[f] {
			if slices.Contains(old, prefix) {
				r.drop(prefix)
				r.buckets[prefix] = f
				f.buckets++
			}
		}
	}
	for _, prefix := range old {
		if r.buckets[prefix] == since {
			r.drop(prefix)
		}
	}
	r.old = nil
	r.filters = append(slices.DeleteFunc(l.filters, func(f *filter) bool { return f.buckets == 0 }), r.filters...)
	r.trim()
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

// add notes a key.
func (r *Recent) add(f *filter, key []byte) {
	if f.add(key[bucketBytes:]) {
		r.trim()
	}
}

// trim lets go of the oldest filters while there is room for too many ids.
func (r *Recent) trim() {
	room := 0
	for _, f := range r.filters {
		room += f.whole
	}
	for room > r.most {
		oldest := r.filters[0]
		room -= oldest.whole
		for prefix, f := range r.buckets {
			if f == oldest {
				r.drop(prefix)
			}
		}
	}
}

// drop lets go of what is known of a bucket, and of its filter if it was the last one that had it.
func (r *Recent) drop(prefix string) {
	f := r.buckets[prefix]
	if f == nil {
		return
	}
	delete(r.buckets, prefix)
	if f.buckets--; f.buckets == 0 {
		if f == r.old {
			r.old = nil
		}
		r.filters = slices.DeleteFunc(r.filters, func(g *filter) bool { return g == f })
	}
}

// forget lets go of what may lie in [lower, upper).
func (r *Recent) forget(lower, upper []byte) {
	if memory := []byte{tableMemory}; bytes.Compare(upper, memory) <= 0 || bytes.Compare(lower, Successor(memory)) >= 0 {
		return
	}
	if len(lower) == bucketBytes && bytes.Equal(upper, Successor(lower)) {
		r.drop(string(lower))
		return
	}
	for prefix := range r.buckets {
		if bytes.Compare([]byte(prefix), upper) < 0 && bytes.Compare(Successor([]byte(prefix)), lower) > 0 {
			r.drop(prefix)
		}
	}
}

// recentBatch is a batch over a store of whose writes something is known.
type recentBatch struct {
	Batch
	recent *Recent
}

func (b *recentBatch) Get(key []byte) ([]byte, error) {
	if f := b.recent.filterOf(key); f != nil && !f.has(key[bucketBytes:]) {
		return nil, ErrNotFound
	}
	return b.Batch.Get(key)
}

func (b *recentBatch) Set(key, value []byte) error {
	if f := b.recent.filterOf(key); f != nil {
		b.recent.add(f, key)
	}
	return b.Batch.Set(key, value)
}

func (b *recentBatch) DeleteRange(lower, upper []byte) error {
	b.recent.forget(lower, upper)
	return b.Batch.DeleteRange(lower, upper)
}

package queue

import (
	"hash/maphash"

	"github.com/greatroar/blobloom"
)

const (
	// filterFirst is for how many keys the first part of a filter is made. Each part is filterGrowth times the one before.
	filterFirst, filterGrowth = 1 << 10, 16
	// filterMost bounds the keys of one filter, to about 29 MiB.
	filterMost = 1 << 24
	// filterWrong is how often a part takes a key to be there that is not, which is then looked for in vain. A filter that is
	// full has five parts.
	filterWrong = 0.002
)

// filterSeed makes it impossible to choose keys that look alike to the filters.
var filterSeed = maphash.MakeSeed()

// filter tells of keys whether they may be in a set that grows: a chain of Bloom filters, of which the last is filled. All bits
// of a key lie in one line of the processor's cache.
type filter struct {
	parts      []*blobloom.Filter
	held, room uint64 // of the last part
	all        uint64
}

// add puts a key into the set; false: the set is full.
func (f *filter) add(key []byte) bool {
	if f.all == filterMost {
		return false
	}
	if f.held == f.room {
		f.room = min(max(filterFirst, f.room*filterGrowth), filterMost-f.all)
		f.parts, f.held = append(f.parts, blobloom.NewOptimized(blobloom.Config{Capacity: f.room, FPRate: filterWrong})), 0
	}
	f.parts[len(f.parts)-1].Add(maphash.Bytes(filterSeed, key))
	f.held++
	f.all++
	return true
}

// has tells whether a key may be in the set.
func (f *filter) has(key []byte) bool {
	if len(f.parts) == 0 {
		return false
	}
	hash := maphash.Bytes(filterSeed, key)
	for _, part := range f.parts {
		if part.Has(hash) {
			return true
		}
	}
	return false
}

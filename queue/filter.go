package queue

import (
	"bytes"
	"hash/maphash"

	"github.com/greatroar/blobloom"
)

const (
	// filterFirst is for how many keys the first part of a filter is made. Each part is filterGrowth times the one before, up to
	// filterPart: about 7 MiB.
	filterFirst, filterGrowth, filterPart = 1 << 10, 8, 1 << 22
	// filterWrong is how often a part takes a key to be there that is not, which is then looked for in vain.
	filterWrong = 0.002
)

// filterSeed makes it impossible to choose keys that look alike to the filters.
var filterSeed = maphash.MakeSeed()

// filter tells of keys whether they may be in a set that grows: a chain of Bloom filters, of which the last is filled. All bits
// of a key lie in one line of the processor's cache.
type filter struct {
	parts      []*blobloom.Filter
	held, room int // of the last part
	all, whole int // keys and room of all parts
	// buckets is how many buckets share it.
	buckets int
	// unknown: there may be keys that were not added.
	unknown bool
	// absent is the key that was last asked for and is not there; empty: there is none.
	absent []byte
}

// add puts a key into the set, and tells whether room was made for it.
func (f *filter) add(key []byte) (grown bool) {
	if grown = f.held == f.room; grown {
		f.room = min(max(filterFirst, f.room*filterGrowth), filterPart)
		f.parts, f.held = append(f.parts, blobloom.NewOptimized(blobloom.Config{Capacity: uint64(f.room), FPRate: filterWrong})), 0
		f.whole += f.room
	}
	f.parts[len(f.parts)-1].Add(maphash.Bytes(filterSeed, key))
	f.held++
	f.all++
	f.absent = f.absent[:0]
	return grown
}

// has tells whether a key, which is not empty, may be in the set.
func (f *filter) has(key []byte) bool {
	if f.unknown {
		return true
	}
	if bytes.Equal(key, f.absent) {
		return false
	}
	hash := maphash.Bytes(filterSeed, key)
	for _, part := range f.parts {
		if part.Has(hash) {
			return true
		}
	}
	f.absent = append(f.absent[:0], key...)
	return false
}

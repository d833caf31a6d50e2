package queue

import "github.com/bits-and-blooms/bloom/v3"

const (
	// filterFirst is for how many keys the first part of a filter is made. Each part is filterGrowth times the one before.
	filterFirst, filterGrowth = 1 << 10, 16
	// filterMost bounds the keys of one filter, to about 20 MiB.
	filterMost = 1 << 24
	// filterWrong is how often a part takes a key to be there that is not, which is then looked for in vain. A filter that is
	// full has five parts.
	filterWrong = 0.01
	// filterHashes is how many bits stand for a key: what is best for filterWrong.
	filterHashes = 7
)

// filter tells of keys whether they may be in a set that grows: a chain of Bloom filters, of which the last is filled.
type filter struct {
	parts      []*bloom.BloomFilter
	held, room uint // of the last part
	all        uint
}

// add puts a key into the set; false: the set is full.
func (f *filter) add(key []byte) bool {
	if f.all == filterMost {
		return false
	}
	if f.held == f.room {
		f.room = min(max(filterFirst, f.room*filterGrowth), filterMost-f.all)
		bits, _ := bloom.EstimateParameters(f.room, filterWrong)
		f.parts, f.held = append(f.parts, bloom.New(bits, filterHashes)), 0
	}
	f.parts[len(f.parts)-1].Add(key)
	f.held++
	f.all++
	return true
}

// has tells whether a key may be in the set.
func (f *filter) has(key []byte) bool {
	if len(f.parts) == 0 {
		return false
	}
	at := bloom.Locations(key, filterHashes)
	for _, part := range f.parts {
		if part.TestLocations(at) {
			return true
		}
	}
	return false
}

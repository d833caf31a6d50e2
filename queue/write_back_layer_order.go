package queue

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// ranked is a slot with the first bytes of its key that are not those of all.
type ranked struct {
	high, low uint64
	*slot
}

// inOrder puts slots in the order of their keys. Keys of a table have much in common, so that few of them are looked at.
func inOrder(slots []*slot) []*slot {
	if len(slots) < 2 {
		return slots
	}
	common := slots[0].key
	for _, s := range slots {
		common = common[:alike(common, s.key)]
	}
	sorted := make([]ranked, len(slots))
	for n, s := range slots {
		rest := s.key[len(common):]
		sorted[n] = ranked{leading(rest), 0, s}
		if len(rest) > 8 {
			sorted[n].low = leading(rest[8:])
		}
	}
	slices.SortFunc(sorted, func(a, b ranked) int {
		if c := cmp.Compare(a.high, b.high); c != 0 {
			return c
		}
		if c := cmp.Compare(a.low, b.low); c != 0 {
			return c
		}
		return strings.Compare(a.key, b.key)
	})
	for n, r := range sorted {
		slots[n] = r.slot
	}
	return slots
}

// alike is how many bytes two keys have in common at their beginning.
func alike(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// leading is a number that is ordered as the first eight bytes are.
func leading(key string) uint64 {
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

package queue

import (
	"bytes"
	"strings"
)

// layerAt is a layer as it was at a version.
type layerAt struct {
	*layer
	version uint64
}

// overlay walks layers, each over the one before and all over what lies beneath, within bounds. It closes beneath.
func overlay(beneath Iterator, lower, upper []byte, layers ...layerAt) Iterator {
	lower, upper = bytes.Clone(lower), bytes.Clone(upper) // the caller may use them again
	for _, v := range layers {
		if v.layer != nil && v.touches(lower, upper) {
			beneath = &layerIterator{over: v, beneath: beneath, cursor: newLayerCursor(v.layer, v.version, lower, upper)}
		}
	}
	return beneath
}

// touches tells that the layer may change what lies within bounds.
func (v layerAt) touches(lower, upper []byte) bool {
	v.mu.RLock()
	removed := len(v.removed) > 0
	v.mu.RUnlock()
	return removed || newLayerCursor(v.layer, v.version, lower, upper).seekGE("")
}

// layerIterator walks one layer over what lies beneath it.
type layerIterator struct {
	over    layerAt
	cursor  *layerCursor
	beneath Iterator
	// under: beneath stands on a key. Cursor and beneath stand on the next keys in the direction of the walk.
	under bool
	back  bool // the direction
	place place
	key   []byte // where it stands, for the caller
}

// place is where an iterator stands.
type place byte

const (
	afterLast place = iota
	beforeFirst
	onLayer   // on the cursor's key
	onBeneath // on the key of what lies beneath
)

func (it *layerIterator) First() bool {
	it.back, it.under = false, it.beneath.First()
	it.cursor.seekGE("")
	return it.settle()
}

func (it *layerIterator) Last() bool {
	it.back, it.under = true, it.beneath.Last()
	it.cursor.seekLT("", false)
	return it.settle()
}

func (it *layerIterator) SeekGE(key []byte) bool {
	it.back, it.under = false, it.beneath.SeekGE(key)
	it.cursor.seekGE(string(key))
	return it.settle()
}

func (it *layerIterator) SeekLT(key []byte) bool {
	it.back, it.under = true, it.beneath.SeekLT(key)
	it.cursor.seekLT(string(key), true)
	return it.settle()
}

func (it *layerIterator) Next() bool {
	switch {
	case it.place == afterLast:
		return false
	case it.place == beforeFirst:
		return it.First()
	case it.back: // both stand before the key, or on it
		return it.SeekGE(append(it.key, 0))
	}
	it.step()
	return it.settle()
}

func (it *layerIterator) Prev() bool {
	switch {
	case it.place == beforeFirst:
		return false
	case it.place == afterLast:
		return it.Last()
	case !it.back:
		return it.SeekLT(it.key)
	}
	it.step()
	return it.settle()
}

// step moves off the key that it stands on, in the direction of the walk.
func (it *layerIterator) step() {
	if it.place == onBeneath {
		it.stepBeneath()
		return
	}
	if it.order() == 0 {
		it.stepBeneath()
	}
	it.stepLayer()
}

func (it *layerIterator) stepLayer() {
	if it.back {
		it.cursor.prev()
	} else {
		it.cursor.next()
	}
}

func (it *layerIterator) stepBeneath() {
	if it.back {
		it.under = it.beneath.Prev()
	} else {
		it.under = it.beneath.Next()
	}
}

// order tells which comes first in the direction of the walk: the layer's write below 0, what lies beneath above 0, 0 both.
// There must be one of them.
func (it *layerIterator) order() int {
	switch {
	case !it.under:
		return -1
	case !it.cursor.valid():
		return 1
	}
	c := strings.Compare(it.cursor.here.key, string(it.beneath.Key()))
	if it.back {
		return -c
	}
	return c
}

// settle goes on to the next key that is there, and stands on it.
func (it *layerIterator) settle() bool {
	for it.under || it.beneath.Error() == nil && it.cursor.valid() {
		switch c := it.order(); {
		case c > 0:
			if it.leap() {
				continue
			}
			it.place, it.key = onBeneath, append(it.key[:0], it.beneath.Key()...)
			return true
		case it.cursor.here.kind == writeSet:
			it.place, it.key = onLayer, append(it.key[:0], it.cursor.here.key...)
			return true
		case c == 0:
			it.stepBeneath()
			it.stepLayer()
		default:
			it.stepLayer()
		}
	}
	it.place, it.key = afterLast, it.key[:0]
	if it.back {
		it.place = beforeFirst
	}
	return false
}

// leap takes what lies beneath over a range that the layer removed.
func (it *layerIterator) leap() bool {
	gone, ok := it.over.removal(it.beneath.Key())
	switch {
	case !ok:
		return false
	case it.back:
		it.under = it.beneath.SeekLT([]byte(gone.lower))
	default:
		it.under = it.beneath.SeekGE([]byte(gone.upper))
	}
	return true
}

// removal is a range that the layer removed and that a key is in.
func (v layerAt) removal(key []byte) (span, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if len(v.removed) == 0 {
		return span{}, false
	}
	gone := v.removes(string(key), v.version)
	if gone == nil {
		return span{}, false
	}
	return *gone, true
}

func (it *layerIterator) Key() []byte { return it.key }

func (it *layerIterator) Value() ([]byte, error) {
	switch it.place {
	case onLayer:
		return it.cursor.here.value, nil
	case onBeneath:
		return it.beneath.Value()
	}
	return nil, errNoKey
}

func (it *layerIterator) Error() error { return it.beneath.Error() }

func (it *layerIterator) Close() error { return it.beneath.Close() }

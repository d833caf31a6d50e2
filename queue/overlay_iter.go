package queue

import "errors"

// errNoKey is what Value answers where there is no key.
var errNoKey = errors.New("queue: the iterator stands on no key")

// direction is the way an iterator moves.
type direction int

const (
	forward  direction = 1
	backward direction = -1
)

// overlayIterator walks a store as a batch sees it: the batch's changes over the store's keys, less what its spans took.
//
// Invariant while it stands on a key: each of base and over stands on the first key at or beyond it in the direction of
// the last move, or on none; over wins where both stand on the same.
type overlayIterator struct {
	base  Iterator
	over  *treeCursor[*change]
	spans []span

	way     direction
	baseOK  bool // base stands on a key
	onOver  bool // the present key is over's
	present bool // there is a present key
	key     []byte
}

func (it *overlayIterator) First() bool {
	it.way = forward
	it.baseOK = it.base.First()
	it.over.seekGE("")
	return it.settle()
}

func (it *overlayIterator) Last() bool {
	it.way = backward
	it.baseOK = it.base.Last()
	it.over.seekLT("", false)
	return it.settle()
}

func (it *overlayIterator) SeekGE(key []byte) bool {
	it.way = forward
	it.baseOK = it.base.SeekGE(key)
	it.over.seekGE(string(key))
	return it.settle()
}

func (it *overlayIterator) SeekLT(key []byte) bool {
	it.way = backward
	it.baseOK = it.base.SeekLT(key)
	it.over.seekLT(string(key), true)
	return it.settle()
}

// Next goes on to the following key; from before the first key (after Prev ran out) to the first.
func (it *overlayIterator) Next() bool {
	switch {
	case !it.present && it.way == backward:
		return it.First()
	case !it.present:
		return false
	case it.way == backward:
		return it.SeekGE(successor(it.Key()))
	}
	it.step(it.Key())
	return it.settle()
}

// Prev goes back to the preceding key; from after the last key (after Next ran out) to the last.
func (it *overlayIterator) Prev() bool {
	switch {
	case !it.present && it.way == forward:
		return it.Last()
	case !it.present:
		return false
	case it.way == forward:
		return it.SeekLT(append([]byte(nil), it.Key()...))
	}
	it.step(it.Key())
	return it.settle()
}

// successor is the least key after the given one.
func successor(key []byte) []byte {
	return append(append(make([]byte, 0, len(key)+1), key...), 0)
}

// step moves whatever stands on the key one on.
func (it *overlayIterator) step(key []byte) {
	name := string(key)
	if it.baseOK && string(it.base.Key()) == name {
		it.stepBase()
	}
	if it.over.valid() && it.over.here.key == name {
		it.stepOver()
	}
}

func (it *overlayIterator) stepBase() {
	if it.way == forward {
		it.baseOK = it.base.Next()
	} else {
		it.baseOK = it.base.Prev()
	}
}

func (it *overlayIterator) stepOver() {
	if it.way == forward {
		it.over.next()
	} else {
		it.over.prev()
	}
}

// settle goes on, in the present direction, to the next key that exists.
func (it *overlayIterator) settle() bool {
	for {
		it.skipSpans()
		if !it.baseOK && it.base.Error() != nil || !it.baseOK && !it.over.valid() {
			it.present = false
			return false
		}
		switch it.compare() {
		case 0: // the batch's change hides the store's own
			it.stepBase()
		case -1:
			it.onOver, it.present = false, true
			return true
		default:
			if it.over.here.present {
				it.onOver, it.present = true, true
				return true
			}
			it.stepOver() // the batch removed the key
		}
	}
}

// compare tells which comes first on the way: -1 the store's key, 1 the batch's, 0 they are the same.
func (it *overlayIterator) compare() int {
	switch {
	case !it.over.valid():
		return -1
	case !it.baseOK:
		return 1
	}
	base, over := it.base.Key(), it.over.here.key
	switch {
	case string(base) == over:
		return 0
	case (string(base) < over) == (it.way == forward):
		return -1
	}
	return 1
}

// skipSpans moves base beyond the spans it stands in.
func (it *overlayIterator) skipSpans() {
	for i := 0; it.baseOK && i < len(it.spans); i++ {
		s := it.spans[i]
		if !s.holds(it.base.Key()) {
			continue
		}
		if it.way == forward {
			it.baseOK = it.base.SeekGE(s.upper)
		} else {
			it.baseOK = it.base.SeekLT(s.lower)
		}
		i = -1 // the key it stands on now may lie in a span looked at before
	}
}

func (it *overlayIterator) Key() []byte {
	if it.onOver {
		it.key = append(it.key[:0], it.over.here.key...)
		return it.key
	}
	return it.base.Key()
}

func (it *overlayIterator) Value() ([]byte, error) {
	if !it.present {
		return nil, errNoKey
	}
	if it.onOver {
		return it.over.here.value, nil
	}
	return it.base.Value()
}

func (it *overlayIterator) Error() error { return it.base.Error() }

func (it *overlayIterator) Close() error { return it.base.Close() }

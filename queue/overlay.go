package queue

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/btree"
)

// errOpenRange is what DeleteRange answers without an upper bound.
var errOpenRange = errors.New("queue: DeleteRange needs an upper bound")

// tombstone is what a batch has to write below a key's new state to take what the store holds of it away.
type tombstone byte

const (
	tombstoneNone tombstone = iota
	tombstoneDelete
	tombstoneSingle
)

// change is the net effect of a batch on one key. It is never altered: iterators hold on to it.
type change struct {
	key     string
	value   []byte
	present bool      // the key has the value; else it is gone
	below   tombstone // what removes the store's own
	slot    int       // its place in overlay.slots
}

func (c *change) name() string { return c.key }

func changeAt(key string) *change { return &change{key: key} }

// span is a range of keys, [lower, upper), that a batch removed.
type span struct{ lower, upper []byte }

func (s span) holds(key []byte) bool {
	return bytes.Compare(key, s.lower) >= 0 && bytes.Compare(key, s.upper) < 0
}

// overlay is the net effect of a batch's writes over a store: one change per key, and spans below all changes.
type overlay struct {
	changes map[string]*change
	slots   []*change // the changes in order of their keys' first writes, which often lie together; nil: dropped
	spans   []span
	bytes   int // about what the changes take when they are written

	// room and slab are memory that many changes and many values share.
	room []change
	slab []byte

	// ordered holds the changes in order of their keys for iterators; it is built for the first one and brought up to
	// date for each later one from stale, the keys that changed since. nil: no iterator was asked for yet.
	ordered *btree.BTreeG[*change]
	stale   []string
}

// changeOverhead is about what a change costs in a batch beside key and value, in bytes.
const changeOverhead = 16

func newOverlay() *overlay { return &overlay{changes: make(map[string]*change)} }

// reset forgets everything but the map's room.
func (o *overlay) reset() {
	clear(o.changes)
	clear(o.slots)
	*o = overlay{changes: o.changes, slots: o.slots[:0]}
}

// made gives room for a change.
func (o *overlay) made(c change) *change {
	const changesTogether = 64
	if len(o.room) == cap(o.room) {
		o.room = make([]change, 0, changesTogether)
	}
	o.room = append(o.room, c)
	return &o.room[len(o.room)-1]
}

// keep copies a value into memory that many values share.
func (o *overlay) keep(value []byte) []byte {
	const slabBytes = 64 << 10
	if len(value) > slabBytes/8 {
		return append([]byte(nil), value...)
	}
	if len(o.slab)+len(value) > cap(o.slab) {
		o.slab = make([]byte, 0, slabBytes)
	}
	from := len(o.slab)
	o.slab = append(o.slab, value...)
	return o.slab[from:len(o.slab):len(o.slab)]
}

// cost is about what a change takes in a batch, in bytes.
func (c *change) cost() int { return len(c.key) + len(c.value) + changeOverhead }

// put replaces what the batch did to a key before; old is nil if that is nothing.
func (o *overlay) put(made change, old *change) {
	c := o.made(made)
	if old != nil {
		o.bytes -= old.cost()
		c.slot = old.slot
		o.slots[c.slot] = c
	} else {
		c.slot = len(o.slots)
		o.slots = append(o.slots, c)
	}
	o.changes[c.key] = c
	o.bytes += c.cost()
	o.touch(c.key)
}

func (o *overlay) drop(old *change) {
	o.bytes -= old.cost()
	o.slots[old.slot] = nil
	delete(o.changes, old.key)
	o.touch(old.key)
}

func (o *overlay) touch(key string) {
	if o.ordered != nil {
		o.stale = append(o.stale, key)
	}
}

func (o *overlay) set(key, value []byte) {
	c := change{value: o.keep(value), present: true}
	old := o.changes[string(key)]
	if old != nil {
		c.key, c.below = old.key, old.below
	} else {
		c.key = string(key)
	}
	o.put(c, old)
}

func (o *overlay) remove(key []byte) {
	o.put(change{key: string(key), below: tombstoneDelete}, o.changes[string(key)])
}

// removeSingle takes a key away that was set once: one set within the batch leaves no trace.
func (o *overlay) removeSingle(key []byte) {
	old := o.changes[string(key)]
	switch {
	case old == nil && !o.spanned(key):
		o.put(change{key: string(key), below: tombstoneSingle}, nil)
	case old != nil && old.present && old.below == tombstoneNone:
		o.drop(old)
	case old != nil && old.present:
		o.put(change{key: old.key, below: old.below}, old)
	}
}

// removeRange drops the changes in the span, since all it leaves is the span itself.
func (o *overlay) removeRange(lower, upper []byte) {
	s := span{lower: bytes.Clone(lower), upper: bytes.Clone(upper)}
	it := newTreeCursor(o.order(), changeAt, s.lower, s.upper)
	for ok := it.seekGE(""); ok; ok = it.next() {
		o.drop(it.here)
	}
	o.spans = append(o.spans, s)
	o.bytes += len(lower) + len(upper) + changeOverhead
}

func (o *overlay) spanned(key []byte) bool {
	for _, s := range o.spans {
		if s.holds(key) {
			return true
		}
	}
	return false
}

// order gives the changes in order, as they are now: later changes leave it as it is.
func (o *overlay) order() *btree.BTreeG[*change] {
	if o.ordered == nil {
		o.ordered = newTree[*change]()
		for _, c := range o.changes {
			o.ordered.ReplaceOrInsert(c)
		}
	}
	for _, key := range o.stale {
		if c, ok := o.changes[key]; ok {
			o.ordered.ReplaceOrInsert(c)
		} else {
			o.ordered.Delete(changeAt(key))
		}
	}
	o.stale = o.stale[:0]
	return o.ordered.Clone()
}

// encode writes the net effect into a batch: the spans first, since changes lie above them.
func (o *overlay) encode(b *pebble.Batch) error {
	for _, s := range o.spans {
		if err := b.DeleteRange(s.lower, s.upper, nil); err != nil {
			return err
		}
	}
	for _, c := range o.slots {
		if c == nil {
			continue
		}
		if err := c.encode(b); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) encode(b *pebble.Batch) error {
	var deferred *pebble.DeferredBatchOp
	switch c.below {
	case tombstoneDelete:
		deferred = b.DeleteDeferred(len(c.key))
	case tombstoneSingle:
		deferred = b.SingleDeleteDeferred(len(c.key))
	case tombstoneNone:
	}
	if deferred != nil {
		copy(deferred.Key, c.key)
		if err := deferred.Finish(); err != nil {
			return err
		}
	}
	if !c.present {
		return nil
	}
	deferred = b.SetDeferred(len(c.key), len(c.value))
	copy(deferred.Key, c.key)
	copy(deferred.Value, c.value)
	return deferred.Finish()
}

// pebbleBatch is a batch over a Pebble store.
type pebbleBatch struct {
	store  *Pebble
	writes *overlay // nil once committed or closed
}

func (b *pebbleBatch) Get(key []byte) ([]byte, error) {
	if b.writes == nil {
		return nil, errBatchDone
	}
	if c, ok := b.writes.changes[string(key)]; ok {
		if !c.present {
			return nil, ErrNotFound
		}
		return append(make([]byte, 0, len(c.value)), c.value...), nil
	}
	if b.writes.spanned(key) {
		return nil, ErrNotFound
	}
	return b.store.Get(key)
}

func (b *pebbleBatch) NewIter(lower, upper []byte) (Iterator, error) {
	if b.writes == nil {
		return nil, errBatchDone
	}
	base, err := b.store.NewIter(lower, upper)
	if err != nil || len(b.writes.changes) == 0 && len(b.writes.spans) == 0 {
		return base, err
	}
	over := newTreeCursor(b.writes.order(), changeAt, lower, upper)
	if !over.seekGE("") && len(b.writes.spans) == 0 {
		return base, nil
	}
	return &overlayIterator{base: base, over: over, spans: b.writes.spans}, nil
}

func (b *pebbleBatch) Set(key, value []byte) error {
	if b.writes == nil {
		return errBatchDone
	}
	b.writes.set(key, value)
	return nil
}

func (b *pebbleBatch) Delete(key []byte) error {
	if b.writes == nil {
		return errBatchDone
	}
	b.writes.remove(key)
	return nil
}

func (b *pebbleBatch) SingleDelete(key []byte) error {
	if b.writes == nil {
		return errBatchDone
	}
	b.writes.removeSingle(key)
	return nil
}

func (b *pebbleBatch) DeleteRange(lower, upper []byte) error {
	switch {
	case b.writes == nil:
		return errBatchDone
	case upper == nil:
		return errOpenRange
	case bytes.Compare(lower, upper) < 0:
		b.writes.removeRange(lower, upper)
	}
	return nil
}

func (b *pebbleBatch) Commit() error {
	if b.writes == nil {
		return errBatchDone
	}
	err := b.store.commit(b.writes)
	_ = b.Close() // It only gives memory back.
	return err
}

func (b *pebbleBatch) Close() error {
	if b.writes != nil {
		b.writes.reset()
		b.store.pool.Put(b.writes)
		b.writes = nil
	}
	return nil
}

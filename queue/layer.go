package queue

import (
	"bytes"
	"slices"

	"github.com/google/btree"
)

// writeKind is what a write does.
type writeKind byte

const (
	writeSet writeKind = iota
	writeDelete
	writeSingleDelete
	writeDeleteRange
)

// batchWrite is one write of a batch that keeps them.
type batchWrite struct {
	kind  writeKind
	key   string // or the lower bound
	upper string
	value []byte
}

// write is what a layer holds for a key: how it was set, or that it is gone.
type write struct {
	kind writeKind // not writeDeleteRange
	// anew: the layer took the key away before it was set, so what lies beneath must not come back.
	anew  bool
	value []byte // of writeSet
}

// written is a key and what was written to it last.
type written struct {
	key string
	*write
}

func (w written) name() string { return w.key }

func writtenAt(key string) written { return written{key: key} }

// span is a range of keys, [lower, upper).
type span struct{ lower, upper string }

func (s span) covers(key string) bool { return s.lower <= key && key < s.upper }

// layer is what was written over something that lies beneath. It is changed by one goroutine, and only while nobody reads it:
// those who read it need no lock.
type layer struct {
	// readers counts those who read it; guarded by WriteBack.mu.
	readers int
	// tables hold the writes by the first byte of their keys: a search has to look at those of one table only.
	tables [256]*btree.BTreeG[written]
	// removed are the ranges that were removed from what lies beneath; what is in tables came later.
	removed []span
	// bytes is what was ever written into it, with what writeBytes counts for each write.
	bytes int
}

// writeBytes is what a write takes beside its key and value.
const writeBytes = 96

func tableOf[K string | []byte](key K) byte {
	if len(key) == 0 {
		return 0
	}
	return key[0]
}

// clone gives a layer of its own with the same content. Nodes are copied as one of the two changes them. It must not be
// called for the same layer at the same time.
func (l *layer) clone() *layer {
	c := *l
	c.readers = 0
	c.removed = slices.Clip(l.removed)
	for n, t := range l.tables {
		if t != nil {
			c.tables[n] = t.Clone()
		}
	}
	return &c
}

func (l *layer) empty() bool {
	for _, t := range l.tables {
		if t != nil && t.Len() > 0 {
			return false
		}
	}
	return len(l.removed) == 0
}

func (l *layer) find(key string) (written, bool) {
	if t := l.tables[tableOf(key)]; t != nil {
		return t.Get(writtenAt(key))
	}
	return written{}, false
}

func (l *layer) put(w written) (old written, replaced bool) {
	t := l.tables[tableOf(w.key)]
	if t == nil {
		t = btree.NewG(treeDegree, func(a, b written) bool { return a.key < b.key })
		l.tables[tableOf(w.key)] = t
	}
	return t.ReplaceOrInsert(w)
}

// get tells what the layer says of a key: its value; that it is not there, by an empty answer; or nothing.
func (l *layer) get(key string) (value []byte, there, said bool) {
	if w, ok := l.find(key); ok {
		return w.value, w.kind == writeSet, true
	}
	return nil, false, l.removes(key)
}

// removes tells that a key is not to be looked for beneath the layer's writes.
func (l *layer) removes(key string) bool {
	for _, s := range l.removed {
		if s.covers(key) {
			return true
		}
	}
	return false
}

func (l *layer) set(key string, value []byte) {
	made := written{key, &write{kind: writeSet, value: value}}
	if old, ok := l.put(made); ok {
		made.anew = old.anew || old.kind != writeSet
	}
	l.bytes += len(key) + len(value) + writeBytes
}

func (l *layer) delete(key string) {
	l.put(written{key, &write{kind: writeDelete}})
	l.bytes += len(key) + writeBytes
}

// singleDelete forgets a key that the layer alone holds: it never gets any further.
func (l *layer) singleDelete(key string) {
	l.bytes += len(key) + writeBytes
	switch old, ok := l.find(key); {
	case !ok:
		l.put(written{key, &write{kind: writeSingleDelete}})
	case old.kind == writeSet && !old.anew:
		l.tables[tableOf(key)].Delete(old)
	case old.kind == writeSet:
		l.put(written{key, &write{kind: writeDelete}})
	}
}

func (l *layer) deleteRange(lower, upper string) {
	var gone []written
	for c := newLayerCursor(l, []byte(lower), []byte(upper)); c.seekGE(""); c.seekGE("") {
		gone = append(gone[:0], c.here)
		for len(gone) < 256 && c.next() {
			gone = append(gone, c.here)
		}
		for _, w := range gone {
			l.tables[tableOf(w.key)].Delete(w)
		}
	}
	l.removed = append(l.removed, span{lower, upper})
	l.bytes += len(lower) + len(upper) + writeBytes
}

// apply makes a write of a batch.
func (l *layer) apply(w batchWrite) {
	switch w.kind {
	case writeSet:
		l.set(w.key, w.value)
	case writeDelete:
		l.delete(w.key)
	case writeSingleDelete:
		l.singleDelete(w.key)
	case writeDeleteRange:
		l.deleteRange(w.key, w.upper)
	}
}

// writeTo writes the layer to a batch of what lies beneath.
func (l *layer) writeTo(b Batch) (err error) {
	for _, s := range l.removed {
		if err := b.DeleteRange([]byte(s.lower), []byte(s.upper)); err != nil {
			return err
		}
	}
	var key bytes.Buffer
	for _, t := range l.tables {
		if t == nil {
			continue
		}
		t.Ascend(func(w written) bool {
			key.Reset()
			key.WriteString(w.key)
			err = w.writeTo(b, key.Bytes())
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *write) writeTo(b Batch, key []byte) error {
	switch {
	case w.kind == writeDelete:
		return b.Delete(key)
	case w.kind == writeSingleDelete:
		return b.SingleDelete(key)
	case w.anew: // a SingleDelete to come must meet this value alone
		if err := b.Delete(key); err != nil {
			return err
		}
	}
	return b.Set(key, w.value)
}

// layerCursor stands on one write of a layer that nobody changes, within bounds.
type layerCursor struct {
	layer        *layer
	lower, upper []byte
	table        int
	*treeCursor[written]
}

func newLayerCursor(l *layer, lower, upper []byte) *layerCursor {
	return &layerCursor{layer: l, lower: lower, upper: upper, treeCursor: &treeCursor[written]{}}
}

// enter goes into a table; false: there is nothing in it.
func (c *layerCursor) enter(table int) bool {
	c.table = table
	t := c.layer.tables[table]
	if t == nil || t.Len() == 0 {
		c.clear()
		return false
	}
	c.treeCursor = newTreeCursor(t, writtenAt, c.lower, c.upper)
	return true
}

func (c *layerCursor) last() int {
	if c.upper == nil {
		return len(c.layer.tables) - 1
	}
	return int(tableOf(c.upper))
}

// seekGE stands on the first write at or after the key, seekLT on the last before it; bounded says there is a key.
func (c *layerCursor) seekGE(key string) bool {
	for n := int(max(tableOf(key), tableOf(c.lower))); n <= c.last(); n++ {
		if c.enter(n) && c.treeCursor.seekGE(key) {
			return true
		}
	}
	c.clear()
	return false
}

func (c *layerCursor) seekLT(key string, bounded bool) bool {
	last := c.last()
	if bounded {
		last = min(last, int(tableOf(key)))
	}
	for n := last; n >= int(tableOf(c.lower)); n-- {
		if c.enter(n) && c.treeCursor.seekLT(key, bounded) {
			return true
		}
	}
	c.clear()
	return false
}

func (c *layerCursor) next() bool {
	if c.treeCursor.next() {
		return true
	}
	for n := c.table + 1; n <= c.last(); n++ {
		if c.enter(n) && c.treeCursor.seekGE("") {
			return true
		}
	}
	return false
}

func (c *layerCursor) prev() bool {
	if c.treeCursor.prev() {
		return true
	}
	for n := c.table - 1; n >= int(tableOf(c.lower)); n-- {
		if c.enter(n) && c.treeCursor.seekLT("", false) {
			return true
		}
	}
	return false
}

package queue

import (
	"slices"
	"sync"

	"github.com/google/btree"
)

// writeKind is what a write does.
type writeKind byte

const (
	// writeNothing is that of a key of which a layer says nothing any more.
	writeNothing writeKind = iota
	writeSet
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

// write is what a layer holds for a key from a version on: how it was set, or that it is gone.
type write struct {
	version uint64
	value   []byte    // of writeSet
	kind    writeKind // not writeDeleteRange
	// anew: the layer took the key away before it was set, so what lies beneath must not come back.
	anew bool
	// before is what the layer held before, if somebody may read it.
	before *write
}

// at is what was written last at a version; nil: nothing was.
func (w *write) at(version uint64) *write {
	for w != nil && w.version > version {
		w = w.before
	}
	if w == nil || w.kind == writeNothing {
		return nil
	}
	return w
}

// slot is a key and what was written to it last.
type slot struct {
	key string
	write
}

// become puts a write over what the slot holds, which is kept if somebody who reads at a version up to seen has it.
func (s *slot) become(w write, seen uint64) {
	switch {
	case seen == 0:
	case s.version <= seen:
		old := s.write
		w.before = &old
	default:
		w.before = s.before
	}
	s.write = w
}

// span is a range of keys, [lower, upper).
type span struct{ lower, upper string }

func (s span) covers(key string) bool { return s.lower <= key && key < s.upper }

// removal is a range that was removed from what lies beneath, at a version.
type removal struct {
	span
	version uint64
}

// layer is what was written over something that lies beneath. One goroutine changes it, under a version that grows; others read
// it meanwhile as it was at a version. Keys are found by hashing; of a table that somebody walks they are in order, too.
type layer struct {
	// readers counts those who read it, and seen is the newest version that one of them began to read. They are the owner's, who
	// opens the layer for others and changes it under one lock, or is one goroutine: a draft.
	readers int
	seen    uint64

	// mu: the owner alone changes what follows, and holds it for that; it reads without. Those who read hold it shared, or alone
	// to put a table in order.
	mu    sync.RWMutex
	slots map[string]*slot
	spare []slot // for keys to come, made many at once
	// held counts the slots by the first byte of their keys; ordered has them in order, and is nil before somebody walks them.
	held    [256]int
	ordered [256]*btree.BTreeG[*slot]
	// removed are the ranges that were removed from what lies beneath; what is in slots came later.
	removed []removal
	// bytes is what was ever written into it, with what writeBytes counts for each write.
	bytes int
}

// writeBytes is what a write takes beside its key and value.
const writeBytes = 96

// spareSlots is how many slots are made at once.
const spareSlots = 64

// newLayer makes an empty layer with room for so many keys.
func newLayer(keys int) *layer { return &layer{slots: make(map[string]*slot, keys)} }

func tableOf[K string | []byte](key K) byte {
	if len(key) == 0 {
		return 0
	}
	return key[0]
}

func (l *layer) empty() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.slots) == 0 && len(l.removed) == 0
}

// open counts one more who reads the layer as it was at a version, until leave. Under the owner's lock, as leave and change
// are.
func (l *layer) open(version uint64) {
	l.readers++
	l.seen = max(l.seen, version)
}

func (l *layer) leave() { l.readers-- }

// newestRead is the newest version that somebody may read; 0: nobody reads, or nobody anything of the layer's.
func (l *layer) newestRead() uint64 {
	if l.readers == 0 {
		l.seen = 0
	}
	return l.seen
}

// get tells what the layer says of a key at a version: its value; that it is not there, by an empty answer; or nothing.
func (l *layer) get(key []byte, version uint64) (value []byte, there, said bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if s := l.slots[string(key)]; s != nil {
		if w := s.at(version); w != nil {
			return w.value, w.kind == writeSet, true
		}
	}
	if len(l.removed) == 0 {
		return nil, false, false
	}
	return nil, false, l.removes(string(key), version) != nil
}

// removes is a range in which a key is not to be looked for beneath the layer's writes; nil: there is none. Under mu.
func (l *layer) removes(key string, version uint64) *span {
	for n := range l.removed {
		if r := &l.removed[n]; r.version <= version && r.covers(key) {
			return &r.span
		}
	}
	return nil
}

// change makes writes, under a version that is newer than all before. For those who read the layer it stays as it was.
func (l *layer) change(writes []batchWrite, version uint64) {
	seen := l.newestRead()
	for chunk := range slices.Chunk(writes, changeChunk) {
		l.apply(chunk, version, seen)
	}
}

// changeChunk is how many writes are made while those who read wait.
const changeChunk = 64

func (l *layer) apply(writes []batchWrite, version, seen uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range writes {
		l.bytes += len(w.key) + len(w.upper) + len(w.value) + writeBytes
		if w.kind == writeDeleteRange {
			l.deleteRange(span{w.key, w.upper}, version, seen)
			continue
		}
		now := write{version: version, kind: w.kind, value: w.value}
		s := l.slots[w.key]
		if s == nil {
			l.add(w.key, now)
			continue
		}
		switch w.kind {
		case writeSet:
			now.anew = s.anew || s.kind == writeDelete || s.kind == writeSingleDelete
			s.become(now, seen)
		case writeSingleDelete:
			l.singleDelete(s, now, seen)
		default:
			s.become(now, seen)
		}
	}
}

// add puts a key into the layer that is not in it.
func (l *layer) add(key string, w write) {
	if len(l.spare) == 0 {
		l.spare = make([]slot, spareSlots)
	}
	s := &l.spare[0]
	l.spare = l.spare[1:]
	*s = slot{key, w}
	l.slots[key] = s
	table := tableOf(s.key)
	l.held[table]++
	if o := l.ordered[table]; o != nil {
		o.ReplaceOrInsert(s)
	}
}

// vanish has the layer say nothing of a key any more.
func (l *layer) vanish(s *slot, version, seen uint64) {
	s.become(write{version: version}, seen)
	if s.before != nil {
		return
	}
	delete(l.slots, s.key)
	table := tableOf(s.key)
	l.held[table]--
	if o := l.ordered[table]; o != nil {
		o.Delete(s)
	}
}

// singleDelete forgets a key that the layer alone holds: it never gets any further.
func (l *layer) singleDelete(s *slot, now write, seen uint64) {
	switch {
	case s.kind == writeNothing:
		s.become(now, seen)
	case s.kind == writeSet && !s.anew:
		l.vanish(s, now.version, seen)
	case s.kind == writeSet:
		now.kind = writeDelete
		s.become(now, seen)
	}
}

func (l *layer) deleteRange(gone span, version, seen uint64) {
	var slots []*slot
	for n := int(tableOf(gone.lower)); n <= int(tableOf(gone.upper)); n++ {
		if l.held[n] == 0 {
			continue
		}
		l.order(byte(n)).AscendRange(&slot{key: gone.lower}, &slot{key: gone.upper}, func(s *slot) bool {
			slots = append(slots, s)
			return true
		})
	}
	for _, s := range slots {
		l.vanish(s, version, seen)
	}
	l.removed = append(l.removed, removal{gone, version})
}

// order puts the keys of a table in order, and has them stay so. Under mu, alone.
func (l *layer) order(table byte) *btree.BTreeG[*slot] {
	if l.ordered[table] == nil {
		o := btree.NewG(treeDegree, func(a, b *slot) bool { return a.key < b.key })
		for _, s := range l.sorted(table) {
			o.ReplaceOrInsert(s)
		}
		l.ordered[table] = o
	}
	return l.ordered[table]
}

func (l *layer) sorted(table byte) []*slot {
	slots := make([]*slot, 0, l.held[table])
	for _, s := range l.slots {
		if tableOf(s.key) == table {
			slots = append(slots, s)
		}
	}
	return inOrder(slots)
}

// size is about what writeTo will write.
func (l *layer) size() (bytes int) {
	for _, s := range l.slots {
		bytes += len(s.key) + len(s.value) + writeBytes/8
	}
	return bytes
}

// writeTo writes a layer that is not changed any more to a batch of what lies beneath. It takes no lock: one who puts a table
// in order meanwhile would wait for it, and all who read for that one.
func (l *layer) writeTo(b Batch) error {
	for _, s := range l.removed {
		if err := b.DeleteRange([]byte(s.lower), []byte(s.upper)); err != nil {
			return err
		}
	}
	var tables [256][]*slot
	for _, s := range l.slots {
		if s.kind != writeNothing {
			table := tableOf(s.key)
			tables[table] = append(tables[table], s)
		}
	}
	var key []byte
	for _, slots := range tables {
		for _, s := range inOrder(slots) {
			key = append(key[:0], s.key...)
			if err := s.writeTo(b, key); err != nil {
				return err
			}
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

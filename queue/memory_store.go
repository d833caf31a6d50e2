package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/google/btree"
)

// ErrSetTwice is what the memory store answers to a SingleDelete of a key that was set more than once: on disk, an older
// value could come back. Pebble cannot tell in time, so tests of what writes to a store run on this one.
var ErrSetTwice = errors.New("queue: SingleDelete of a key that was set more than once")

// errNoKey is what Value answers where there is no key.
var errNoKey = errors.New("queue: the iterator stands on no key")

// item is a key and its value in a memory store. It is never altered: trees and their clones share it.
type item struct {
	key   string
	value []byte
	sets  int // how often the key was set since it was last absent
}

func (i *item) name() string { return i.key }

func itemAt(key string) *item { return &item{key: key} }

// apply makes the write in a tree.
func (w batchWrite) apply(tree *btree.BTreeG[*item]) error {
	switch w.kind {
	case writeSet:
		made := &item{key: w.key, value: w.value, sets: 1}
		if old, ok := tree.ReplaceOrInsert(made); ok {
			made.sets = old.sets + 1
		}
	case writeDelete:
		tree.Delete(itemAt(w.key))
	case writeSingleDelete:
		if old, ok := tree.Delete(itemAt(w.key)); ok && old.sets > 1 {
			tree.ReplaceOrInsert(old)
			return fmt.Errorf("%w: %q, %d times", ErrSetTwice, w.key, old.sets)
		}
	case writeDeleteRange:
		var gone []*item
		tree.AscendRange(itemAt(w.key), itemAt(w.upper), func(i *item) bool {
			gone = append(gone, i)
			return true
		})
		for _, i := range gone {
			tree.Delete(i)
		}
	}
	return nil
}

// MemoryStore is a Store in memory, for tests: it is cheap to clone, and it can show what a crash would leave. It keeps
// every batch since the last Flush, so a long run flushes now and then. It is stricter than Pebble: see ErrSetTwice.
type MemoryStore struct {
	mu          sync.Mutex
	tree        *btree.BTreeG[*item]
	version     uint64               // batches committed; tells a batch whether its view is still the store's
	durable     *btree.BTreeG[*item] // as of the last Flush
	unflushed   [][]batchWrite       // the batches since, in order; shared by clones up to their own lengths
	checkpoints map[string]*btree.BTreeG[*item]
	closed      bool
}

var _ Store = (*MemoryStore)(nil)

// NewMemoryStore gives an empty store.
func NewMemoryStore() *MemoryStore { return memoryStoreOf(newTree[*item]()) }

func memoryStoreOf(tree *btree.BTreeG[*item]) *MemoryStore {
	return &MemoryStore{tree: tree, durable: tree.Clone(), checkpoints: make(map[string]*btree.BTreeG[*item])}
}

// Clone gives a store of its own with the same content, the same unflushed batches and no checkpoints. It costs the same
// whatever the store holds; what the two share is copied when one of them changes it.
func (s *MemoryStore) Clone() *MemoryStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.unflushed)
	s.unflushed = s.unflushed[:n:n]
	return &MemoryStore{
		tree:        s.tree.Clone(),
		version:     s.version,
		durable:     s.durable.Clone(),
		unflushed:   s.unflushed,
		checkpoints: make(map[string]*btree.BTreeG[*item]),
	}
}

// Unflushed is the number of batches that a crash could lose.
func (s *MemoryStore) Unflushed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unflushed)
}

// CrashCopy gives the store that a crash would leave if it lost all but the first keep of the unflushed batches. A keep
// beyond their number keeps them all; a negative one, none.
func (s *MemoryStore) CrashCopy(keep int) *MemoryStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	tree := s.durable.Clone()
	for _, batch := range s.unflushed[:min(max(keep, 0), len(s.unflushed))] {
		for _, w := range batch {
			_ = w.apply(tree) // It succeeded when the batch was written.
		}
	}
	return memoryStoreOf(tree)
}

// Checkpointed gives the store that Checkpoint left under a name, as a store of its own; false if there is none.
func (s *MemoryStore) Checkpointed(dir string) (*MemoryStore, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tree, ok := s.checkpoints[dir]
	if !ok {
		return nil, false
	}
	return memoryStoreOf(tree.Clone()), true
}

// Len is the number of keys.
func (s *MemoryStore) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tree.Len()
}

// view gives the content as it is now.
func (s *MemoryStore) view() (*btree.BTreeG[*item], uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, ErrClosed
	}
	return s.tree.Clone(), s.version, nil
}

// Get implements Reader.
func (s *MemoryStore) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	return treeGet(s.tree, key)
}

func treeGet(tree *btree.BTreeG[*item], key []byte) ([]byte, error) {
	found, ok := tree.Get(itemAt(string(key)))
	if !ok {
		return nil, ErrNotFound
	}
	return found.value, nil
}

// NewIter implements Reader: it walks the store as it is now.
func (s *MemoryStore) NewIter(lower, upper []byte) (Iterator, error) {
	tree, _, err := s.view()
	if err != nil {
		return nil, err
	}
	return newMemoryIterator(tree, lower, upper), nil
}

// NewSnapshot implements Store.
func (s *MemoryStore) NewSnapshot() Snapshot {
	tree, _, err := s.view()
	if err != nil {
		return closedSnapshot{}
	}
	return &memorySnapshot{tree: tree}
}

// NewBatch implements Store.
func (s *MemoryStore) NewBatch() Batch { return &memoryBatch{store: s} }

// Flush implements Store: a crash loses nothing that was committed before it.
func (s *MemoryStore) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.flush()
	return nil
}

func (s *MemoryStore) flush() {
	if len(s.unflushed) > 0 {
		s.durable = s.tree.Clone()
		s.unflushed = nil
	}
}

// Checkpoint implements Store: it flushes, and keeps the copy in memory for Checkpointed, touching no disk.
func (s *MemoryStore) Checkpoint(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if _, ok := s.checkpoints[dir]; ok {
		return fmt.Errorf("queue: checkpoint %s: %w", dir, fs.ErrExist)
	}
	s.flush()
	s.checkpoints[dir] = s.durable.Clone()
	return nil
}

// Close implements Store. What was made of the store by Clone and the like stays.
func (s *MemoryStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// commit makes a batch's writes. after is the batch's own view, right if no other batch came between.
func (s *MemoryStore) commit(writes []batchWrite, after *btree.BTreeG[*item], version uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if version != s.version {
		after = s.tree.Clone()
		for _, w := range writes {
			if err := w.apply(after); err != nil {
				return err
			}
		}
	}
	s.tree = after
	s.version++
	s.unflushed = append(s.unflushed, writes)
	return nil
}

// memorySnapshot is a memory store at one moment.
type memorySnapshot struct {
	tree *btree.BTreeG[*item] // nil once closed
}

func (s *memorySnapshot) Get(key []byte) ([]byte, error) {
	if s.tree == nil {
		return nil, ErrClosed
	}
	return treeGet(s.tree, key)
}

func (s *memorySnapshot) NewIter(lower, upper []byte) (Iterator, error) {
	if s.tree == nil {
		return nil, ErrClosed
	}
	return newMemoryIterator(s.tree, lower, upper), nil
}

func (s *memorySnapshot) Close() error {
	s.tree = nil
	return nil
}

// memoryBatch gathers writes in a view of its own.
type memoryBatch struct {
	store   *MemoryStore
	tree    *btree.BTreeG[*item] // the store's content with the writes; nil before the first
	version uint64               // of the store, when tree was taken
	writes  []batchWrite
	done    bool
}

func (b *memoryBatch) write(w batchWrite) error {
	if b.done {
		return errBatchDone
	}
	if b.tree == nil {
		tree, version, err := b.store.view()
		if err != nil {
			return err
		}
		b.tree, b.version = tree, version
	}
	if err := w.apply(b.tree); err != nil {
		return err
	}
	b.writes = append(b.writes, w)
	return nil
}

func (b *memoryBatch) Get(key []byte) ([]byte, error) {
	switch {
	case b.done:
		return nil, errBatchDone
	case b.tree == nil:
		return b.store.Get(key)
	}
	return treeGet(b.tree, key)
}

func (b *memoryBatch) NewIter(lower, upper []byte) (Iterator, error) {
	switch {
	case b.done:
		return nil, errBatchDone
	case b.tree == nil:
		return b.store.NewIter(lower, upper)
	}
	return newMemoryIterator(b.tree.Clone(), lower, upper), nil
}

func (b *memoryBatch) Set(key, value []byte) error {
	return b.write(batchWrite{kind: writeSet, key: string(key), value: value})
}

func (b *memoryBatch) Delete(key []byte) error {
	return b.write(batchWrite{kind: writeDelete, key: string(key)})
}

func (b *memoryBatch) SingleDelete(key []byte) error {
	return b.write(batchWrite{kind: writeSingleDelete, key: string(key)})
}

func (b *memoryBatch) DeleteRange(lower, upper []byte) error {
	if upper == nil {
		return errOpenRange
	}
	if bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	return b.write(batchWrite{kind: writeDeleteRange, key: string(lower), upper: string(upper)})
}

func (b *memoryBatch) Commit() error {
	if b.done {
		return errBatchDone
	}
	b.done = true
	if len(b.writes) == 0 {
		return nil
	}
	return b.store.commit(b.writes, b.tree, b.version)
}

func (b *memoryBatch) Close() error {
	b.done = true
	return nil
}

// memoryIterator walks a tree that nobody changes.
type memoryIterator struct {
	cursor *treeCursor[*item]
	key    []byte // of the present record, for the caller
	before bool   // it ran out at the lower end
}

func newMemoryIterator(tree *btree.BTreeG[*item], lower, upper []byte) *memoryIterator {
	return &memoryIterator{cursor: newTreeCursor(tree, itemAt, lower, upper)}
}

// moved takes the key over after a move forward or backward.
func (it *memoryIterator) moved(ok, back bool) bool {
	it.before = !ok && back
	it.key = it.key[:0]
	if ok {
		it.key = append(it.key, it.cursor.here.key...)
	}
	return ok
}

func (it *memoryIterator) First() bool { return it.moved(it.cursor.seekGE(""), false) }
func (it *memoryIterator) Last() bool  { return it.moved(it.cursor.seekLT("", false), true) }
func (it *memoryIterator) SeekGE(key []byte) bool {
	return it.moved(it.cursor.seekGE(string(key)), false)
}
func (it *memoryIterator) SeekLT(key []byte) bool {
	return it.moved(it.cursor.seekLT(string(key), true), true)
}

func (it *memoryIterator) Next() bool {
	switch {
	case it.cursor.valid():
		return it.moved(it.cursor.next(), false)
	case it.before:
		return it.First()
	}
	return false
}

func (it *memoryIterator) Prev() bool {
	switch {
	case it.cursor.valid():
		return it.moved(it.cursor.prev(), true)
	case it.before:
		return false
	}
	return it.Last()
}

func (it *memoryIterator) Key() []byte { return it.key }

func (it *memoryIterator) Value() ([]byte, error) {
	if !it.cursor.valid() {
		return nil, errNoKey
	}
	return it.cursor.here.value, nil
}

func (it *memoryIterator) Error() error { return nil }

func (it *memoryIterator) Close() error { return nil }

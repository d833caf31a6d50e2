package queue

import "errors"

// writeBackSnapshot is a WriteBack store at one moment.
type writeBackSnapshot struct {
	store  *WriteBack // nil once closed
	layers layers
	below  *view
}

// Get implements Reader.
func (s *writeBackSnapshot) Get(key []byte) ([]byte, error) {
	if s.store == nil {
		return nil, ErrClosed
	}
	value, there, said := s.layers.get(key)
	if said {
		return found(value, there)
	}
	return s.below.get(key)
}

// found is what Get answers of what a layer or a draft said.
func found(value []byte, there bool) ([]byte, error) {
	if !there {
		return nil, ErrNotFound
	}
	return value, nil
}

// NewIter implements Reader.
func (s *writeBackSnapshot) NewIter(lower, upper []byte) (Iterator, error) {
	if s.store == nil {
		return nil, ErrClosed
	}
	return s.iterate(lower, upper, layerAt{})
}

// iterate walks the moment, with a layer over it unless there is none.
func (s *writeBackSnapshot) iterate(lower, upper []byte, over layerAt) (Iterator, error) {
	it, err := s.below.iterate(lower, upper)
	if err != nil {
		return nil, err
	}
	s.store.read(s.layers.top, s.layers.version)
	return &writeBackIterator{overlay(it, lower, upper, layerAt{s.layers.out, s.layers.version}, layerAt{s.layers.top, s.layers.version}, over), s.store, s.layers.top}, nil
}

// writeBackIterator reads a layer until it is closed.
type writeBackIterator struct {
	Iterator
	store *WriteBack // nil once closed
	top   *layer
}

func (it *writeBackIterator) Close() error {
	if it.store != nil {
		it.store.unread(it.top)
		it.store = nil
	}
	return it.Iterator.Close()
}

// Close lets go of the moment. It may be called more than once.
func (s *writeBackSnapshot) Close() error {
	if s.store == nil {
		return nil
	}
	store := s.store
	s.store = nil
	return store.leave(s.below, s.layers.top)
}

// writeBackBatch writes down what it will do to the store, and reads that over the store as it was at its first write.
type writeBackBatch struct {
	store    *WriteBack
	snapshot *writeBackSnapshot // nil before the first use
	draft    *draft             // nil then, too
	done     bool
}

// begin takes the moment that the batch reads.
func (b *writeBackBatch) begin() error {
	if b.done {
		return errBatchDone
	}
	if b.snapshot != nil {
		return nil
	}
	return b.store.begin(b)
}

func (b *writeBackBatch) write(kind writeKind, key, value []byte) error {
	if err := b.begin(); err != nil {
		return err
	}
	b.draft.add(batchWrite{kind: kind, key: b.draft.keys.key(key), value: value})
	return nil
}

// Get implements Reader.
func (b *writeBackBatch) Get(key []byte) ([]byte, error) {
	if err := b.begin(); err != nil {
		return nil, err
	}
	value, there, said := b.draft.get(key)
	if said {
		return found(value, there)
	}
	return b.snapshot.Get(key)
}

// NewIter walks the batch as it is now: what is written to it later is not seen.
func (b *writeBackBatch) NewIter(lower, upper []byte) (Iterator, error) {
	if err := b.begin(); err != nil {
		return nil, err
	}
	own := b.draft.walk(lower, upper)
	it, err := b.snapshot.iterate(lower, upper, own)
	if err != nil {
		own.leave()
		return nil, err
	}
	return &batchIterator{it, own.layer}, nil
}

// batchIterator reads what the batch wrote until it is closed.
type batchIterator struct {
	Iterator
	own *layer // nil once closed
}

func (it *batchIterator) Close() error {
	if it.own != nil {
		it.own.leave()
		it.own = nil
	}
	return it.Iterator.Close()
}

// Set implements Batch.
func (b *writeBackBatch) Set(key, value []byte) error {
	return b.write(writeSet, key, value)
}

// Delete implements Batch.
func (b *writeBackBatch) Delete(key []byte) error {
	return b.write(writeDelete, key, nil)
}

// SingleDelete implements Batch.
func (b *writeBackBatch) SingleDelete(key []byte) error {
	return b.write(writeSingleDelete, key, nil)
}

// DeleteRange implements Batch.
func (b *writeBackBatch) DeleteRange(lower, upper []byte) error {
	switch {
	case b.done:
		return errBatchDone
	case upper == nil:
		return errOpenRange
	case string(lower) >= string(upper):
		return nil
	}
	if err := b.begin(); err != nil {
		return err
	}
	b.draft.add(batchWrite{kind: writeDeleteRange, key: string(lower), upper: string(upper)})
	return nil
}

// Commit implements Batch.
func (b *writeBackBatch) Commit() error {
	if b.done {
		return errBatchDone
	}
	if b.snapshot == nil || len(b.draft.writes) == 0 {
		return errors.Join(b.store.failure(), b.Close())
	}
	left := b.snapshot.Close() // or what was there before would be kept, and what this commit has written out pinned, for this batch
	err := b.store.commit(b.draft.writes)
	return errors.Join(err, left, b.Close())
}

// Close implements Batch.
func (b *writeBackBatch) Close() error {
	if b.done || b.snapshot == nil {
		b.done = true
		return nil
	}
	b.done = true
	b.store.give(b.draft)
	return b.snapshot.Close()
}

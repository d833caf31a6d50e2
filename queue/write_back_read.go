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
	return s.get(s.layers, key)
}

// get reads through layers over the view beneath.
func (s *writeBackSnapshot) get(l layers, key []byte) ([]byte, error) {
	value, there, said := l.get(string(key))
	switch {
	case there:
		return value, nil
	case said:
		return nil, ErrNotFound
	}
	return s.below.get(key)
}

// NewIter implements Reader.
func (s *writeBackSnapshot) NewIter(lower, upper []byte) (Iterator, error) {
	if s.store == nil {
		return nil, ErrClosed
	}
	return s.iterate(s.layers, lower, upper)
}

func (s *writeBackSnapshot) iterate(l layers, lower, upper []byte) (Iterator, error) {
	it, err := s.below.iterate(lower, upper)
	if err != nil {
		return nil, err
	}
	return overlay(it, l, lower, upper), nil
}

// Close lets go of the moment. It may be called more than once.
func (s *writeBackSnapshot) Close() error {
	if s.store == nil {
		return nil
	}
	store := s.store
	s.store = nil
	return store.leave(s.below)
}

// writeBackBatch writes to a layer of its own, over the store as it was at its first write.
type writeBackBatch struct {
	store    *WriteBack
	snapshot *writeBackSnapshot // nil before the first write
	version  uint64             // of the store at that time
	layers   layers             // the top one is the batch's
	writes   []batchWrite
	done     bool
	// walks counts the iterators over the top layer as it is now; the next write leaves it to them.
	walks int
}

// begin takes a layer of the batch's own.
func (b *writeBackBatch) begin() error {
	if b.done {
		return errBatchDone
	}
	if b.snapshot != nil {
		return nil
	}
	return b.store.begin(b)
}

func (b *writeBackBatch) write(w batchWrite) error {
	if err := b.begin(); err != nil {
		return err
	}
	if b.walks > 0 {
		b.layers.top, b.walks = b.layers.top.clone(), 0
	}
	b.layers.top.apply(w)
	b.writes = append(b.writes, w)
	return nil
}

// Get implements Reader.
func (b *writeBackBatch) Get(key []byte) ([]byte, error) {
	if err := b.begin(); err != nil {
		return nil, err
	}
	return b.snapshot.get(b.layers, key)
}

// NewIter walks the batch as it is now: what is written to it later is not seen.
func (b *writeBackBatch) NewIter(lower, upper []byte) (Iterator, error) {
	if err := b.begin(); err != nil {
		return nil, err
	}
	it, err := b.snapshot.iterate(b.layers, lower, upper)
	if err != nil {
		return nil, err
	}
	b.walks++
	return &batchIterator{Iterator: it, batch: b, walks: b.layers.top}, nil
}

// batchIterator tells its batch when it is closed.
type batchIterator struct {
	Iterator
	batch *writeBackBatch
	walks *layer // nil once closed
}

func (it *batchIterator) Close() error {
	if it.walks == it.batch.layers.top {
		it.batch.walks--
	}
	it.walks = nil
	return it.Iterator.Close()
}

// Set implements Batch.
func (b *writeBackBatch) Set(key, value []byte) error {
	return b.write(batchWrite{kind: writeSet, key: string(key), value: value})
}

// Delete implements Batch.
func (b *writeBackBatch) Delete(key []byte) error {
	return b.write(batchWrite{kind: writeDelete, key: string(key)})
}

// SingleDelete implements Batch.
func (b *writeBackBatch) SingleDelete(key []byte) error {
	return b.write(batchWrite{kind: writeSingleDelete, key: string(key)})
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
	return b.write(batchWrite{kind: writeDeleteRange, key: string(lower), upper: string(upper)})
}

// Commit implements Batch.
func (b *writeBackBatch) Commit() error {
	if b.done {
		return errBatchDone
	}
	if len(b.writes) == 0 {
		return errors.Join(b.store.failure(), b.Close())
	}
	left := b.snapshot.Close() // or what this commit has written out would be pinned for this batch
	err := b.store.commit(b.layers.top, b.version, b.writes)
	return errors.Join(err, left, b.Close())
}

// Close implements Batch.
func (b *writeBackBatch) Close() error {
	if b.done || b.snapshot == nil {
		b.done = true
		return nil
	}
	b.done = true
	b.store.give(b.writes)
	return b.snapshot.Close()
}

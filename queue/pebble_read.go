package queue

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleGet answers one key from the database or a snapshot of it.
func pebbleGet(r pebble.Reader, key []byte) ([]byte, error) {
	value, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("queue: get: %w", corruption(err))
	}
	own := make([]byte, len(value))
	copy(own, value)
	if err := closer.Close(); err != nil {
		return nil, fmt.Errorf("queue: get: %w", corruption(err))
	}
	return own, nil
}

// pebbleIter walks the database or a snapshot of it.
func pebbleIter(r pebble.Reader, lower, upper []byte) (Iterator, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, fmt.Errorf("queue: iterate: %w", corruption(err))
	}
	return &pebbleIterator{Iterator: it}, nil
}

// pebbleIterator is Pebble's iterator with our errors; every move is its own.
type pebbleIterator struct {
	*pebble.Iterator
}

func (it *pebbleIterator) Value() ([]byte, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, fmt.Errorf("queue: read value: %w", corruption(err))
	}
	return value, nil
}

func (it *pebbleIterator) Error() error {
	if err := it.Iterator.Error(); err != nil {
		return fmt.Errorf("queue: iterate: %w", corruption(err))
	}
	return nil
}

func (it *pebbleIterator) Close() error {
	if err := it.Iterator.Close(); err != nil {
		return fmt.Errorf("queue: iterate: %w", corruption(err))
	}
	return nil
}

// pebbleSnapshot is the database at one moment.
type pebbleSnapshot struct {
	store    *Pebble
	snapshot *pebble.Snapshot // nil once closed
}

func (s *pebbleSnapshot) enter() error {
	if s.snapshot == nil {
		return ErrClosed
	}
	return s.store.enter()
}

func (s *pebbleSnapshot) Get(key []byte) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.store.gate.RUnlock()
	return pebbleGet(s.snapshot, key)
}

func (s *pebbleSnapshot) NewIter(lower, upper []byte) (Iterator, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.store.gate.RUnlock()
	return pebbleIter(s.snapshot, lower, upper)
}

func (s *pebbleSnapshot) Close() error {
	if s.snapshot == nil {
		return nil
	}
	snapshot := s.snapshot
	s.snapshot = nil
	return snapshot.Close()
}

// closedSnapshot is the snapshot of a store that is closed.
type closedSnapshot struct{}

func (closedSnapshot) Get([]byte) ([]byte, error)               { return nil, ErrClosed }
func (closedSnapshot) NewIter([]byte, []byte) (Iterator, error) { return nil, ErrClosed }
func (closedSnapshot) Close() error                             { return nil }

package queue

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

var (
	// errBatchDone is what a batch answers that was committed or closed.
	errBatchDone = errors.New("queue: batch was committed or closed")
	// errOpenRange is what DeleteRange answers without an upper bound.
	errOpenRange = errors.New("queue: DeleteRange needs an upper bound")
)

// pebbleBatch is a batch over a Pebble store: Pebble's own, which reads its own writes.
type pebbleBatch struct {
	store *Pebble
	batch *pebble.Batch // nil once committed or closed
}

// enter lets a read into the batch and the store beneath it; the caller calls b.store.gate.RUnlock when it is done.
func (b *pebbleBatch) enter() error {
	if b.batch == nil {
		return errBatchDone
	}
	return b.store.enter()
}

func (b *pebbleBatch) Get(key []byte) ([]byte, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.store.gate.RUnlock()
	return pebbleGet(b.batch, key)
}

// NewIter walks the batch as it is now: what is written to it later is not seen.
func (b *pebbleBatch) NewIter(lower, upper []byte) (Iterator, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.store.gate.RUnlock()
	return pebbleIter(b.batch, lower, upper)
}

func (b *pebbleBatch) Set(key, value []byte) error {
	if b.batch == nil {
		return errBatchDone
	}
	return b.batch.Set(key, value, nil)
}

func (b *pebbleBatch) Delete(key []byte) error {
	if b.batch == nil {
		return errBatchDone
	}
	return b.batch.Delete(key, nil)
}

func (b *pebbleBatch) SingleDelete(key []byte) error {
	if b.batch == nil {
		return errBatchDone
	}
	return b.batch.SingleDelete(key, nil)
}

func (b *pebbleBatch) DeleteRange(lower, upper []byte) error {
	switch {
	case b.batch == nil:
		return errBatchDone
	case upper == nil:
		return errOpenRange
	case bytes.Compare(lower, upper) >= 0:
		return nil
	}
	return b.batch.DeleteRange(lower, upper, nil)
}

func (b *pebbleBatch) Commit() error {
	if b.batch == nil {
		return errBatchDone
	}
	err := b.store.commit(b.batch)
	return errors.Join(err, b.Close())
}

func (b *pebbleBatch) Close() error {
	if b.batch == nil {
		return nil
	}
	batch := b.batch
	b.batch = nil
	if err := batch.Close(); err != nil {
		return fmt.Errorf("queue: close batch: %w", err)
	}
	return nil
}

// closedBatch is the batch of a store that is closed.
type closedBatch struct{}

func (closedBatch) Get([]byte) ([]byte, error)               { return nil, ErrClosed }
func (closedBatch) NewIter([]byte, []byte) (Iterator, error) { return nil, ErrClosed }
func (closedBatch) Set([]byte, []byte) error                 { return ErrClosed }
func (closedBatch) Delete([]byte) error                      { return ErrClosed }
func (closedBatch) SingleDelete([]byte) error                { return ErrClosed }
func (closedBatch) DeleteRange([]byte, []byte) error         { return ErrClosed }
func (closedBatch) Commit() error                            { return ErrClosed }
func (closedBatch) Close() error                             { return nil }

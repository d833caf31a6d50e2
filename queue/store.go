// Package queue keeps messages: an instance's two-lane inbox, its memory of ids, and the ordered key-value store
// beneath. It knows nothing of modes, of raft or of a network.
package queue

import "errors"

// ErrNotFound is what Get answers for a key that the store does not hold.
var ErrNotFound = errors.New("queue: key not found")

// Reader reads an ordered key-value store. No method of it, or of a Batch, keeps a key or a bound that it is given: the caller
// may use the same bytes for the next one.
type Reader interface {
	// Get gives the value of a key, which must not be changed and stays what it is, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// NewIter walks the keys in [lower, upper) in byte order; a nil bound is open. The caller closes it.
	NewIter(lower, upper []byte) (Iterator, error)
}

// Iterator stands on one key at a time. Key and Value are valid until the next move.
type Iterator interface {
	// First, Last, SeekGE, SeekLT, Next and Prev move and tell whether there is a key.
	First() bool
	Last() bool
	SeekGE(key []byte) bool
	SeekLT(key []byte) bool
	Next() bool
	Prev() bool
	Key() []byte
	Value() ([]byte, error)
	// Error is what ended the walk early, nil at a plain end.
	Error() error
	Close() error
}

// Batch gathers writes that take effect together. Its reads see its own writes over the store's.
// A batch is used by one goroutine.
type Batch interface {
	Reader
	// Set keeps the value, which must not be changed any more; the key it copies.
	Set(key, value []byte) error
	Delete(key []byte) error
	// SingleDelete removes a key that was set exactly once since it was last absent. It costs less than Delete:
	// a key that is set and removed before the store writes its memory out never reaches the disk.
	SingleDelete(key []byte) error
	// DeleteRange removes the keys in [lower, upper). It is dear for later reads: once in a while, never per message.
	DeleteRange(lower, upper []byte) error
	// Commit makes the writes visible, all at once. It does not make them durable: Flush does.
	Commit() error
	// Close gives the batch up, committed or not. It may be called more than once.
	Close() error
}

// Snapshot is the store as it was at one moment.
type Snapshot interface {
	Reader
	Close() error
}

// Store is an ordered key-value store without a log of its own: after a crash it holds a prefix of the committed
// batches, at least all that were committed before the last Flush that returned.
type Store interface {
	Reader
	NewBatch() Batch
	NewSnapshot() Snapshot
	// Flush makes what was committed before it durable.
	Flush() error
	// Checkpoint makes a copy of the flushed store in a directory that does not exist yet, by hard links where it can.
	Checkpoint(dir string) error
	Close() error
}

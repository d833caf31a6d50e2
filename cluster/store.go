package cluster

import (
	"sync"

	"sluice/api/reason"
	"sluice/queue"
)

// replaced is what readers of a store get that a snapshot from the leader has taken the place of.
var replaced = reason.NoLeader.Errorf("the state of this node was replaced by a snapshot while it was read: read again")

// guardedStore lets the store beneath be closed while readers may still hold it: what reads at that moment ends its
// read first, what comes later is told that the state was replaced.
type guardedStore struct {
	queue.Store
	// mu is held for reading by every read of one key; closing takes it for writing.
	mu     sync.RWMutex
	closed bool
	// open counts iterators, snapshots and copies under way.
	open sync.WaitGroup
}

func guard(s queue.Store) *guardedStore { return &guardedStore{Store: s} }

// hold keeps the store open until the answered function is called.
func (g *guardedStore) hold() (release func(), err error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return nil, replaced
	}
	g.open.Add(1)
	return g.open.Done, nil
}

// ends tells whether the store is about to be closed.
func (g *guardedStore) ends() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.closed
}

// Get reads one key.
func (g *guardedStore) Get(key []byte) ([]byte, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return nil, replaced
	}
	return g.Store.Get(key)
}

// NewIter holds the store until the iterator is closed.
func (g *guardedStore) NewIter(lower, upper []byte) (queue.Iterator, error) {
	release, err := g.hold()
	if err != nil {
		return nil, err
	}
	it, err := g.Store.NewIter(lower, upper)
	if err != nil {
		release()
		return nil, err
	}
	return &guardedIter{Iterator: it, release: release}, nil
}

// NewSnapshot holds the store until the snapshot is closed.
func (g *guardedStore) NewSnapshot() queue.Snapshot {
	release, err := g.hold()
	if err != nil {
		return closedSnapshot{}
	}
	return &guardedSnapshot{Snapshot: g.Store.NewSnapshot(), release: release}
}

// Close waits for the readers and closes the store. It may be called more than once. A reader's end may have to wait for
// what the store writes, and that for a disk that has failed: it is let go before.
func (g *guardedStore) Close() error {
	g.mu.Lock()
	done := g.closed
	g.closed = true
	g.mu.Unlock()
	if done {
		return nil
	}
	if s, ok := g.Store.(interface{ Ending() }); ok {
		s.Ending()
	}
	g.open.Wait()
	return g.Store.Close()
}

type guardedIter struct {
	queue.Iterator
	release func()
	once    sync.Once
}

func (i *guardedIter) Close() error {
	err := i.Iterator.Close()
	i.once.Do(i.release)
	return err
}

type guardedSnapshot struct {
	queue.Snapshot
	release func()
	once    sync.Once
}

func (s *guardedSnapshot) Close() error {
	err := s.Snapshot.Close()
	s.once.Do(s.release)
	return err
}

// closedSnapshot is a snapshot of a store that was replaced.
type closedSnapshot struct{}

func (closedSnapshot) Get([]byte) ([]byte, error)                  { return nil, replaced }
func (closedSnapshot) NewIter(_, _ []byte) (queue.Iterator, error) { return nil, replaced }
func (closedSnapshot) Close() error                                { return nil }

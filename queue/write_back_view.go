package queue

import (
	"errors"
	"maps"
	"slices"
	"sync"
)

// view is the store beneath as it was at one moment, for all who read it as it was then. That is the store itself, until a
// layer that they do not have is to be written out: then it is pinned by a snapshot. Most readers are gone by then, and a
// snapshot would keep the store from forgetting what was removed.
type view struct {
	store Store
	// readers and retired are guarded by WriteBack.mu. Nobody new reads a retired view.
	readers int
	retired bool
	// mu is held shared by those who read; pin and close hold it alone.
	mu       sync.RWMutex
	snapshot Snapshot // nil: not pinned
}

// reader is what is read. The caller holds mu.
func (v *view) reader() Reader {
	if v.snapshot != nil {
		return v.snapshot
	}
	return v.store
}

func (v *view) get(key []byte) ([]byte, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.reader().Get(key)
}

// iterate walks the view. The iterator stays what it is when the view is pinned or closed.
func (v *view) iterate(lower, upper []byte) (Iterator, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.reader().NewIter(lower, upper)
}

func (v *view) pin() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.snapshot = v.store.NewSnapshot()
}

// close lets go of the snapshot. It may be called more than once.
func (v *view) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.snapshot == nil {
		return nil
	}
	snapshot := v.snapshot
	v.snapshot = nil
	return snapshot.Close()
}

// retire parts the view of who reads now from that of who will have the layer that is frozen. Under mu.
func (s *WriteBack) retire() {
	v := s.below
	s.below, s.retired = nil, nil
	if v != nil && v.readers > 0 {
		v.retired, s.retired = true, v
		s.pinned[v] = struct{}{}
	}
}

// pin pins the view that was retired.
func (s *WriteBack) pin() {
	s.mu.Lock()
	v := s.retired
	s.retired = nil
	s.mu.Unlock()
	if v == nil {
		return
	}
	v.pin()
	s.mu.Lock()
	gone := v.readers == 0
	s.mu.Unlock()
	if gone { // the last of them left before there was anything to close
		s.background.Go(func() { _ = v.close() }) // it has been read by nobody
	}
}

// leave takes a reader off the layer and the view of a moment; the view's last one closes it.
func (s *WriteBack) leave(v *view, top *layer) error {
	s.mu.Lock()
	top.leave()
	v.readers--
	last := v.readers == 0 && v.retired
	if last {
		delete(s.pinned, v)
	}
	// Pebble has the end of a snapshot wait for its manifest, and that may wait for a disk that has failed, until Ending.
	later := last && !s.closed
	if later {
		s.background.Go(func() { _ = v.close() })
	}
	s.mu.Unlock()
	if !last || later {
		return nil
	}
	return v.close()
}

// unpin closes the views of those who did not leave. The store is closed, and they read nothing any more.
func (s *WriteBack) unpin() error {
	s.mu.Lock()
	pinned := slices.Collect(maps.Keys(s.pinned))
	s.mu.Unlock()
	var errs []error
	for _, v := range pinned {
		errs = append(errs, v.close())
	}
	return errors.Join(errs...)
}

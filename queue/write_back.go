package queue

import (
	"errors"
	"fmt"
	"sync"
)

const (
	// writeBackBytes is how much is written into a layer before it is written out. While the disk does not follow, it takes as
	// much again, and so did the one before that is being written out: a crash loses four times as much at the most.
	writeBackBytes = 8 << 20
	// writeBackRanges is how many ranges a layer may remove before it is written out: each read looks through all of them.
	writeBackRanges = 64
)

// WriteBack is a Store that keeps in memory what was committed last, and writes it to the store beneath in a few large
// batches. What is set and removed meanwhile never gets there, and what is set again and again gets there once.
//
// It is three layers: what is being written now, what is being written out, and the store beneath. A crash loses the first
// two, so what is left is a prefix of the batches, as the contract has it.
type WriteBack struct {
	beneath Store
	disk    diskStore // beneath, if it is on a disk; else nil
	most    int

	// mu guards what follows. Nothing waits under it.
	mu      sync.Mutex
	layers  layers
	spare   *draft             // of a batch that is done, for the next one
	below   *view              // of who reads now; nil: nobody asked since the last layer was written out
	retired *view              // of who reads and has not the layer that is being written out
	pinned  map[*view]struct{} // those of who read since before that
	closed  bool
	err     error // why a layer could not be written out
	// writing is closed when the layer that is being written out is; nil: none is.
	writing chan struct{}
	// background counts layers that are written out with nobody waiting.
	background sync.WaitGroup
}

// diskStore is what a store on a disk can do beside: Pebble.
type diskStore interface {
	// Err is the failure that ended the store's life as a store that can be written to; Failed is closed when there is one.
	Err() error
	Failed() <-chan struct{}
	// NoRoom is ErrNoRoom while the disk is full.
	NoRoom() error
	// NewWriteBatch is NewBatch for one that only writes, about so many bytes.
	NewWriteBatch(bytes int) Batch
	// Ending tells the store that it will be closed soon.
	Ending()
}

var (
	_ Store     = (*WriteBack)(nil)
	_ diskStore = (*Pebble)(nil)
)

// layers are what lies over the store beneath, the newest first, as they were at a version.
type layers struct {
	top, out *layer // out is nil if nothing is being written out
	version  uint64
}

// get tells what the layers say of a key.
func (l layers) get(key []byte) (value []byte, there, said bool) {
	if value, there, said = l.top.get(key, l.version); said || l.out == nil {
		return value, there, said
	}
	return l.out.get(key, l.version)
}

// NewWriteBack puts a write-back layer over a store, which belongs to it from now on. It is written out when so many bytes
// were written into it; 0 means 8 MiB.
func NewWriteBack(beneath Store, bytes int) *WriteBack {
	if bytes <= 0 {
		bytes = writeBackBytes
	}
	disk, _ := beneath.(diskStore)
	return &WriteBack{beneath: beneath, disk: disk, most: bytes, layers: layers{top: newLayer(0)}, pinned: map[*view]struct{}{}}
}

// Get implements Reader.
func (s *WriteBack) Get(key []byte) ([]byte, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	value, err := snap.Get(key)
	return value, errors.Join(err, snap.Close())
}

// NewIter implements Reader: it walks the store as it is now.
func (s *WriteBack) NewIter(lower, upper []byte) (Iterator, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	it, err := snap.NewIter(lower, upper)
	return it, errors.Join(err, snap.Close()) // the iterator has what it needs
}

// NewSnapshot implements Store.
func (s *WriteBack) NewSnapshot() Snapshot {
	snap, err := s.snapshot()
	if err != nil {
		return closedSnapshot{}
	}
	return snap
}

func (s *WriteBack) snapshot() (*writeBackSnapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moment()
}

// moment is the store at this moment. Under mu.
func (s *WriteBack) moment() (*writeBackSnapshot, error) {
	if s.closed {
		return nil, ErrClosed
	}
	if s.below == nil {
		s.below = &view{store: s.beneath}
	}
	s.below.readers++
	s.layers.top.open(s.layers.version)
	return &writeBackSnapshot{store: s, layers: s.layers, below: s.below}, nil
}

// read counts one who reads a layer beside those who were counted, until unread.
func (s *WriteBack) read(l *layer, version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.open(version)
}

func (s *WriteBack) unread(l *layer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.leave()
}

// NewBatch implements Store. Writing to a batch after an iterator over it was made does not change what that one walks.
func (s *WriteBack) NewBatch() Batch { return &writeBackBatch{store: s} }

// begin gives a batch the store at this moment, and room for what it writes.
func (s *WriteBack) begin(b *writeBackBatch) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.snapshot, err = s.moment(); err != nil {
		return err
	}
	if b.draft, s.spare = s.spare, nil; b.draft == nil {
		b.draft = newDraft()
	}
	return nil
}

// give takes back what a batch wrote down, for the next one to write on.
func (s *WriteBack) give(d *draft) {
	if !d.reset() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = d
}

// commit makes the writes of a batch in the top layer, under a version that those who read it do not have.
func (s *WriteBack) commit(writes []batchWrite) error {
	if err := s.failure(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.err != nil:
		return s.err
	}
	s.layers.version++
	s.layers.top.change(writes, s.layers.version)
	return s.pace()
}

// failure is why the store takes no more writes.
func (s *WriteBack) failure() error {
	if s.disk == nil {
		return nil
	}
	return s.disk.Err()
}

// noRoom is ErrNoRoom while the disk is full.
func (s *WriteBack) noRoom() error {
	if s.disk == nil {
		return nil
	}
	return s.disk.NoRoom()
}

// pace begins to write the layer out when it is full, and holds the writer up when the one before is not out by the time
// that it is full once more. While the disk is full a layer waits as long as it may. Under mu.
func (s *WriteBack) pace() error {
	for s.err == nil && !s.closed && s.full(1) {
		if s.writing == nil && (s.full(2) || s.noRoom() == nil) {
			l, done := s.freeze()
			s.background.Go(func() { _ = s.writeOut(l, done) }) // who commits next is told of its error
			return nil
		}
		if !s.full(2) {
			return nil
		}
		if err := s.wait(); err != nil {
			return err
		}
	}
	return s.err
}

// wait waits until the layer that is being written out is, or for the failure of the store beneath: then it may never be.
// Under mu, which it lets go meanwhile.
func (s *WriteBack) wait() error {
	writing := s.writing
	s.mu.Unlock()
	defer s.mu.Lock()
	if s.disk == nil {
		<-writing
		return nil
	}
	select {
	case <-writing:
		return nil
	case <-s.disk.Failed():
		return s.disk.Err()
	}
}

func (s *WriteBack) full(times int) bool {
	return s.layers.top.bytes >= times*s.most || len(s.layers.top.removed) >= times*writeBackRanges
}

// freeze takes the newest layer to be written out; the next one begins. Under mu, and only if none is being written out.
func (s *WriteBack) freeze() (l *layer, done chan struct{}) {
	s.writing = make(chan struct{})
	s.layers.out = s.layers.top
	s.layers.top = newLayer(len(s.layers.out.slots))
	s.retire()
	return s.layers.out, s.writing
}

// writeOut writes a layer out.
func (s *WriteBack) writeOut(l *layer, done chan struct{}) error {
	s.pin()
	err := s.write(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = nil
	close(done)
	if err != nil { // it stays where it is: what was committed can be read
		s.err = fmt.Errorf("queue: write out: %w", err)
		return s.err
	}
	s.layers.out = nil
	return nil
}

func (s *WriteBack) write(l *layer) error {
	var b Batch
	if s.disk != nil {
		b = s.disk.NewWriteBatch(l.size())
	} else {
		b = s.beneath.NewBatch()
	}
	if err := l.writeTo(b); err != nil {
		return errors.Join(err, b.Close())
	}
	return errors.Join(b.Commit(), b.Close())
}

// Flush implements Store. It waits for the disk.
func (s *WriteBack) Flush() error {
	if err := s.empty(); err != nil {
		return err
	}
	return s.beneath.Flush()
}

// Checkpoint implements Store.
func (s *WriteBack) Checkpoint(dir string) error {
	if err := s.empty(); err != nil {
		return err
	}
	return s.beneath.Checkpoint(dir)
}

// empty writes out all that was committed before the call.
func (s *WriteBack) empty() error {
	if err := s.noRoom(); err != nil { // one more batch would help nobody
		return err
	}
	s.mu.Lock()
	for s.writing != nil {
		if err := s.wait(); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	switch {
	case s.closed:
		s.mu.Unlock()
		return ErrClosed
	case s.err != nil || s.layers.top.empty():
		defer s.mu.Unlock()
		return s.err
	}
	l, done := s.freeze()
	s.mu.Unlock()
	return s.writeOut(l, done)
}

// Ending tells the store beneath that it will be closed once those who read it have ended.
func (s *WriteBack) Ending() {
	if s.disk != nil {
		s.disk.Ending()
	}
}

// Close writes out what was committed and closes the store beneath. Batches, iterators and snapshots must be closed before.
// A second Close does nothing.
func (s *WriteBack) Close() error {
	s.Ending()
	s.mu.Lock()
	done := s.closed
	s.closed = true
	for s.writing != nil { // the store beneath is ending, so it will be
		writing := s.writing
		s.mu.Unlock()
		<-writing
		s.mu.Lock()
	}
	top, err := s.layers.top, s.err
	s.mu.Unlock()
	if done {
		return nil
	}
	s.background.Wait()
	err = errors.Join(err, s.unpin())
	if err == nil && s.failure() == nil && !top.empty() {
		err = s.write(top)
	}
	return errors.Join(err, s.beneath.Close())
}

package queue

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrNoRoom is what a store answers that cannot do something now because its disk is full. It has not failed: it waits
// for space to be freed and goes on by itself, with everything that was committed.
var ErrNoRoom = errors.New("queue: the disk is full")

// roomEvery is how often a write that found the disk full is tried again.
const roomEvery = 250 * time.Millisecond

// room holds writes of tables that find the disk full until there is space again. A full disk is the one failure after
// which it is known what the disk holds: so much of the write as it took. Nobody else waits for a table that is being
// written; all would wait for the manifest, whose few bytes therefore fail the store.
type room struct {
	failure *failure
	dir     string        // the store's; what is written elsewhere, to a checkpoint, does not wait
	waiting int           // writes that wait; guarded by failure.mu
	filled  chan struct{} // closed while a write waits; guarded by failure.mu
}

func (r *room) init(f *failure, dir string) {
	r.failure, r.dir, r.filled = f, dir, make(chan struct{})
}

// holds tells whether writes to a file wait for room.
func (r *room) holds(name string) bool {
	return filepath.Ext(name) == ".sst" && filepath.Dir(name) == filepath.Clean(r.dir)
}

// full is a channel that is closed while the disk is full.
func (r *room) full() <-chan struct{} {
	r.failure.mu.Lock()
	defer r.failure.mu.Unlock()
	return r.filled
}

// retry does something until the disk is not full any more. While the store opens, and once it closes, it does not wait.
func (r *room) retry(do func() error) error {
	err := do()
	if !errors.Is(err, syscall.ENOSPC) || !r.begin(err) {
		return err
	}
	defer r.end()
	again := time.NewTicker(roomEvery)
	defer again.Stop()
	for {
		select {
		case <-again.C:
		case <-r.failure.closing():
			return err
		case <-r.failure.failed:
			return r.failure.pass()
		}
		if err = do(); !errors.Is(err, syscall.ENOSPC) {
			return err
		}
	}
}

// begin notes a write that waits; false: the store opens, closes or has failed, and nothing may wait.
func (r *room) begin(err error) bool {
	f := r.failure
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed == nil || f.ending || f.err != nil {
		return false
	}
	if r.waiting++; r.waiting == 1 {
		close(r.filled)
		f.logger.Error("the disk is full: the store waits until space is freed", "error", err)
	}
	return true
}

func (r *room) end() {
	f := r.failure
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.waiting--; r.waiting == 0 {
		r.filled = make(chan struct{})
		if f.err == nil && !f.ending {
			f.logger.Info("there is space on the disk again: the store goes on")
		}
	}
}

// roomyFile is a file whose writes wait for room.
type roomyFile struct {
	vfs.File
	room *room
}

func (f *roomyFile) Write(p []byte) (written int, err error) {
	err = f.room.retry(func() error {
		n, err := f.File.Write(p[written:])
		written += n
		return err
	})
	return written, err
}

// noRoom is the answer to what cannot be done while the disk is full.
func noRoom(what string) error {
	return fmt.Errorf("queue: %s: %w: %w", what, ErrNoRoom, syscall.ENOSPC)
}

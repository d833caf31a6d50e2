package queue_test

import (
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"sluice/queue"
)

// A batch that was at work while a layer was written out holds a snapshot of Pebble's, and to close one may wait for a disk that
// has failed. Who commits must not: the node could not end.
func TestABatchEndsOnAFailedDisk(t *testing.T) {
	t.Parallel()
	disk := newFaultDisk(syscall.EIO, func(op errorfs.Op) bool { return op.Path == "/store" && op.Kind == errorfs.OpFileSync })
	p, err := queue.OpenPebble("/store", queue.PebbleConfig{FS: errorfs.Wrap(disk.MemFS, disk.fault), MemTableBytes: 64 << 10, CacheBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)})
	mustNot(t, err)
	s := queue.NewWriteBack(p, 0)
	mustNot(t, writeBatch(s, 1))
	b := s.NewBatch()
	mustNot(t, b.Set([]byte("key-00"), []byte("000002")))
	mustNot(t, s.Flush())
	mustNot(t, writeBatch(s, 3))
	disk.fault.On()
	if err := s.Flush(); err == nil {
		t.Fatal("a flush to a disk that fails says nothing")
	}
	committed := make(chan error, 1)
	go func() { committed <- b.Commit() }()
	select {
	case err := <-committed:
		if err == nil {
			t.Error("a commit to a store that has failed says nothing")
		}
	case <-time.After(time.Minute):
		t.Error("a commit waits for a disk that has failed")
	}
	if err := s.Close(); err == nil {
		t.Error("Close says nothing of the disk")
	}
}

// snapshotCounter is a store that counts its snapshots.
type snapshotCounter struct {
	*queue.Pebble
	snapshots atomic.Int64
}

func (c *snapshotCounter) NewSnapshot() queue.Snapshot {
	c.snapshots.Add(1)
	return c.Pebble.NewSnapshot()
}

// Snapshots of Pebble's are for those who read while a layer is written out: the one who writes has it.
func TestAWriterAloneNeedsNoSnapshot(t *testing.T) {
	t.Parallel()
	c := &snapshotCounter{Pebble: openPebble(t, "/store", vfs.NewMem())}
	s := queue.NewWriteBack(c, 64<<10)
	for n := range 3000 {
		mustNot(t, writeBatch(s, n))
	}
	closeStore(t, s)
	if n := c.snapshots.Load(); n > 0 {
		t.Errorf("%d snapshots for one who writes alone", n)
	}
}

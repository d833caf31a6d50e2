package queue_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"sluice/queue"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := openPebble(t, "/store", vfs.NewMem())
	for n := 1; n <= 300; n++ {
		mustNot(t, writeBatch(s, n))
	}
	mustNot(t, s.Flush())
	var m queue.StoreMetrics
	for range 100 { // a compaction may just have removed the tables whose blocks were read
		if n := batchOf(t, s); n != 300 {
			t.Fatalf("the store holds batch %d", n)
		}
		if m = s.Metrics(); m.CacheBytes > 0 {
			break
		}
	}
	if m.DiskBytes == 0 || m.Tables == 0 || m.MemTableBytes == 0 || m.CacheBytes == 0 || m.Flushes == 0 ||
		m.BytesCommitted < 300*20*500 || m.BytesFlushed == 0 || m.ReadAmplification == 0 || m.Misuses != 0 {
		t.Errorf("figures are missing: %+v", m)
	}
	closeStore(t, s)
	if m := s.Metrics(); m != (queue.StoreMetrics{}) {
		t.Errorf("a closed store has figures: %+v", m)
	}
}

// What is set and removed before memory is written out never reaches a table, within one batch and over several.
func TestSettledMessagesNeverReachTheDisk(t *testing.T) {
	t.Parallel()
	s, err := queue.OpenPebble("/store", queue.PebbleConfig{FS: vfs.NewMem()})
	mustNot(t, err)
	defer closeStore(t, s)
	value := make([]byte, 1000)
	for n := range 2000 {
		b := s.NewBatch()
		mustNot(t, b.Set(fmt.Appendf(nil, "m-%d", n), value))
		mustNot(t, b.Set(fmt.Appendf(nil, "n-%d", n), value))
		mustNot(t, b.SingleDelete(fmt.Appendf(nil, "n-%d", n)))
		mustNot(t, b.Commit())
		b = s.NewBatch()
		mustNot(t, b.SingleDelete(fmt.Appendf(nil, "m-%d", n)))
		mustNot(t, b.Commit())
	}
	mustNot(t, s.Flush())
	m := s.Metrics()
	if m.BytesCommitted < 4_000_000 || m.BytesFlushed > 10_000 {
		t.Errorf("of %d bytes committed %d were written", m.BytesCommitted, m.BytesFlushed)
	}
}

// Memory stays bounded under a writer that outruns the disk: it is held up until there is room.
func TestWritersWaitForTheDisk(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	slow := make(chan struct{})
	disk := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isTable(op) && op.Kind == errorfs.OpCreate {
			<-slow
		}
		return nil
	}))
	s := openPebble(t, "/store", disk)
	done := make(chan error, 1)
	go func() {
		for n := 1; n <= 200; n++ {
			if err := writeBatch(s, n); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for s.Metrics().Stalls == 0 {
		select {
		case err := <-done:
			t.Fatalf("the writer was not held up: %v", err)
		default:
		}
	}
	if m := s.Metrics(); m.MemTableBytes > 5*(64<<10) {
		t.Errorf("%d bytes in memory", m.MemTableBytes)
	}
	close(slow)
	mustNot(t, within(t, "the writer", func() error { return <-done }))
	if n := batchOf(t, s); n != 200 {
		t.Errorf("the store holds batch %d", n)
	}
	closeStore(t, s)
}

// A checkpoint that fails says so and leaves nothing; the store goes on.
func TestCheckpointFault(t *testing.T) {
	t.Parallel()
	disk := newFaultDisk(syscall.ENOSPC, func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpCreate && filepath.Dir(op.Path) == "/checkpoint"
	})
	s := openPebble(t, "/store", errorfs.Wrap(disk.MemFS, disk.fault))
	mustNot(t, writeBatch(s, 1))
	disk.fault.On()
	if err := s.Checkpoint("/checkpoint"); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Checkpoint on a full disk: %v", err)
	}
	disk.fault.Off()
	if _, err := disk.Stat("/checkpoint"); err == nil {
		t.Error("half a checkpoint is left")
	}
	mustNot(t, writeBatch(s, 2))
	mustNot(t, s.Checkpoint("/checkpoint"))
	c := openPebble(t, "/checkpoint", disk.MemFS)
	if n := batchOf(t, c); n != 2 {
		t.Errorf("the checkpoint holds batch %d", n)
	}
	closeStore(t, c)
	closeStore(t, s)
}

// Several stores of one process share one bounded cache, and closing leaves no goroutine.
func TestSharedCache(t *testing.T) {
	before := goleak.IgnoreCurrent()
	cache := queue.NewBlockCache(1)
	cfg := smallPebble(nil)
	cfg.Cache = cache
	for range 2 {
		s, err := queue.OpenPebble(t.TempDir(), cfg)
		mustNot(t, err)
		for n := 1; n <= 100; n++ {
			mustNot(t, writeBatch(s, n))
		}
		mustNot(t, s.Flush())
		if n := batchOf(t, s); n != 100 {
			t.Errorf("the store holds batch %d", n)
		}
		if m := s.Metrics(); m.CacheBytes == 0 {
			t.Error("the store reads past the cache")
		}
		closeStore(t, s)
	}
	cache.Close()
	goleak.VerifyNone(t, before)
}

// A store that was closed is opened again with everything in it: Close flushes.
func TestReopen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	for n := 1; n <= 3; n++ {
		s, err := queue.OpenPebble(dir, smallPebble(nil))
		mustNot(t, err)
		if found := batchOf(t, s); found != n-1 {
			t.Fatalf("opened again, the store holds batch %d, want %d", found, n-1)
		}
		mustNot(t, writeBatch(s, n))
		closeStore(t, s)
	}
}

// What was committed while a flush was under way is written by the next one, though nothing was committed since.
func TestFlushWritesWhatWasCommittedDuringAnother(t *testing.T) {
	t.Parallel()
	for range 20 {
		disk := vfs.NewCrashableMem()
		s := openPebble(t, "/store", disk)
		b := s.NewBatch()
		for k := range 5000 { // in no order: Pebble sorts so large a batch before anybody sees it
			mustNot(t, b.Set(fmt.Appendf(nil, "key-%04d", k*7919%5000), make([]byte, 100)))
		}
		done := make(chan error, 1)
		go func() { done <- b.Commit() }()
		for committed := false; !committed; {
			select {
			case err := <-done:
				mustNot(t, err)
				committed = true
			default:
				mustNot(t, s.Flush())
			}
		}
		mustNot(t, s.Flush())
		crashed := openPebble(t, "/store", disk.CrashClone(vfs.CrashCloneCfg{}))
		_, err := crashed.Get([]byte("key-0001"))
		closeStore(t, crashed)
		closeStore(t, s)
		if err != nil {
			t.Fatalf("after Commit, Flush and a crash the batch is gone: %v", err)
		}
	}
}

// A checkpoint of a store that was opened a moment ago, and in which nothing was committed since, is whole: Pebble left its
// manifest empty, and a node that was sent it as a snapshot could never start again.
func TestCheckpointOfAStoreJustOpened(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	s := openPebble(t, "/1", disk)
	mustNot(t, writeBatch(s, 1))
	for n := 2; n < 5; n++ {
		mustNot(t, s.Checkpoint(fmt.Sprint("/", n)))
		closeStore(t, s)
		s = openPebble(t, fmt.Sprint("/", n), disk)
		if got := batchOf(t, s); got != 1 {
			t.Fatalf("checkpoint %d holds batch %d", n, got)
		}
	}
	closeStore(t, s)
}

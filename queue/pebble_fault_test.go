package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"sluice/queue"
)

// patience is how long a test waits for something that takes milliseconds before it says that it hangs.
const patience = 30 * time.Second

// within fails the test if what it waits for does not come.
func within[T any](t *testing.T, what string, do func() T) T {
	t.Helper()
	done := make(chan T, 1)
	go func() { done <- do() }()
	select {
	case got := <-done:
		return got
	case <-time.After(patience):
		t.Fatalf("%s hangs", what)
		panic("unreachable")
	}
}

// writeBatch commits one batch in which every key holds the batch's number.
func writeBatch(s queue.Store, n int) error {
	b := s.NewBatch()
	defer b.Close()
	for k := range 20 {
		if err := b.Set(fmt.Appendf(nil, "key-%02d", k), fmt.Appendf(nil, "%06d%0500d", n, k)); err != nil {
			return err
		}
	}
	return b.Commit()
}

// batchOf tells which batch a store holds, 0 for none, and fails the test if it holds parts of several.
func batchOf(t *testing.T, s queue.Store) int {
	t.Helper()
	it, err := s.NewIter(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	found, keys := 0, 0
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscanf(string(value[:6]), "%d", &n); err != nil {
			t.Fatal(err)
		}
		if keys > 0 && n != found {
			t.Fatalf("the store holds parts of batches %d and %d", found, n)
		}
		found = n
		keys++
	}
	if err := it.Error(); err != nil {
		t.Fatal(err)
	}
	if keys != 0 && keys != 20 {
		t.Fatalf("the store holds %d of 20 keys", keys)
	}
	return found
}

// faultDisk is a disk in memory on which some operations can be made to fail.
type faultDisk struct {
	*vfs.MemFS
	fault *errorfs.Toggle
	hits  atomic.Int64 // operations that failed
}

func newFaultDisk(err error, hit func(errorfs.Op) bool) *faultDisk {
	d := &faultDisk{MemFS: vfs.NewCrashableMem()}
	d.fault = &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !hit(op) {
			return nil
		}
		d.hits.Add(1)
		return &vfsPathError{op.Path, err}
	})}
	return d
}

// vfsPathError is an error as the operating system gives it: with the file's name.
type vfsPathError struct {
	path string
	err  error
}

func (e *vfsPathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *vfsPathError) Unwrap() error { return e.err }

func isTable(op errorfs.Op) bool    { return path.Ext(op.Path) == ".sst" }
func isManifest(op errorfs.Op) bool { return strings.HasPrefix(path.Base(op.Path), "MANIFEST") }

func TestDiskFaultSurfaces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		hit  func(errorfs.Op) bool
	}{
		{"table cannot be created", syscall.EIO, func(op errorfs.Op) bool { return isTable(op) && op.Kind == errorfs.OpCreate }},
		{"table cannot be written", syscall.EIO, func(op errorfs.Op) bool {
			return isTable(op) && op.Kind == errorfs.OpFileWrite
		}},
		{"table cannot be synced", syscall.EIO, func(op errorfs.Op) bool {
			return isTable(op) && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
		}},
		{"no space for the manifest", syscall.ENOSPC, func(op errorfs.Op) bool {
			return isManifest(op) && op.Kind == errorfs.OpFileWrite
		}},
		{"manifest cannot be synced", syscall.EIO, func(op errorfs.Op) bool {
			return isManifest(op) && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
		}},
		{"directory cannot be synced", syscall.EIO, func(op errorfs.Op) bool {
			return op.Path == "/store" && op.Kind == errorfs.OpFileSync
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			disk := newFaultDisk(c.err, c.hit)
			testFlushFault(t, disk, c.err)
		})
		t.Run(c.name+" under load", func(t *testing.T) {
			t.Parallel()
			disk := newFaultDisk(c.err, c.hit)
			s := openPebble(t, "/store", errorfs.Wrap(disk.MemFS, disk.fault))
			mustNot(t, writeBatch(s, 1))
			mustNot(t, s.Flush())
			disk.fault.On()
			testLoadFault(t, disk, s, c.err)
		})
	}
}

// A flush that fails says so, and so does everything after it; reads go on; what a crash leaves is whole.
func testFlushFault(t *testing.T, disk *faultDisk, want error) {
	s := openPebble(t, "/store", errorfs.Wrap(disk.MemFS, disk.fault))
	mustNot(t, writeBatch(s, 1))
	mustNot(t, s.Flush())
	mustNot(t, writeBatch(s, 2))
	disk.fault.On()
	if err := within(t, "Flush", s.Flush); !errors.Is(err, want) {
		t.Fatalf("Flush on a failing disk: %v, want %v", err, want)
	}
	checkFailed(t, s, want)
	if n := batchOf(t, s); n != 2 {
		t.Errorf("after the failure reads see batch %d, want 2", n)
	}
	disk.fault.Off() // A disk that recovers changes nothing: what it holds is not known.
	checkFailed(t, s, want)
	checkLeft(t, disk, s, want, 1, 2)
}

// A writer that never flushes learns of the failure, too, and is not held up for ever.
func testLoadFault(t *testing.T, disk *faultDisk, s *queue.Pebble, want error) {
	t.Helper()
	committed := 1
	err := within(t, "Commit", func() error {
		for {
			if err := writeBatch(s, committed+1); err != nil {
				return err
			}
			committed++
		}
	})
	if !errors.Is(err, want) {
		t.Fatalf("Commit on a failing disk: %v, want %v", err, want)
	}
	checkFailed(t, s, want)
	if n := batchOf(t, s); n != committed && n != committed+1 {
		t.Errorf("after the failure reads see batch %d, want %d", n, committed)
	}
	checkLeft(t, disk, s, want, 1, committed+1)
}

func mustNot(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// checkFailed checks that a store that failed takes nothing any more.
func checkFailed(t *testing.T, s *queue.Pebble, want error) {
	t.Helper()
	select {
	case <-s.Failed():
	case <-time.After(patience):
		t.Fatal("Failed does not tell")
	}
	for what, do := range map[string]func() error{
		"Err":        s.Err,
		"Commit":     func() error { return writeBatch(s, 999999) },
		"Flush":      s.Flush,
		"Checkpoint": func() error { return s.Checkpoint("/checkpoint") },
	} {
		if err := within(t, what, do); !errors.Is(err, want) {
			t.Errorf("%s of a store that failed: %v, want %v", what, err, want)
		}
	}
}

// checkLeft closes the store and checks what a new one finds, after a crash at the failure and after the Close.
func checkLeft(t *testing.T, disk *faultDisk, s *queue.Pebble, want error, least, most int) {
	t.Helper()
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	if err := within(t, "Close", s.Close); !errors.Is(err, want) {
		t.Errorf("Close of a store that failed: %v, want %v", err, want)
	}
	if hits := disk.hits.Load(); hits > 5 {
		t.Errorf("%d writes were tried on the failing disk", hits)
	}
	for what, left := range map[string]*vfs.MemFS{"crash": crashed, "Close": disk.MemFS} {
		again := openPebble(t, "/store", left)
		if n := batchOf(t, again); n < least || n > most {
			t.Errorf("after %s the store holds batch %d, want %d to %d", what, n, least, most)
		}
		mustNot(t, writeBatch(again, 7))
		mustNot(t, again.Flush())
		closeStore(t, again)
	}
}

func needsRoom(op errorfs.Op) bool {
	return isTable(op) && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite)
}

// heard is a log that tells when a line with some text was written.
type heard struct {
	text string
	told chan struct{} // closed then
	once sync.Once
}

func (h *heard) Write(line []byte) (int, error) {
	if strings.Contains(string(line), h.text) {
		h.once.Do(func() { close(h.told) })
	}
	return len(line), nil
}

// A disk without room for a table is not a failure: the store says so, and goes on once there is room.
func TestAFullDiskIsWaitedFor(t *testing.T) {
	t.Parallel()
	disk := newFaultDisk(syscall.ENOSPC, needsRoom)
	goesOn := &heard{text: "goes on", told: make(chan struct{})}
	cfg := smallPebble(errorfs.Wrap(disk.MemFS, disk.fault))
	cfg.Logger = slog.New(slog.NewTextHandler(goesOn, nil))
	s, err := queue.OpenPebble("/store", cfg)
	mustNot(t, err)
	mustNot(t, writeBatch(s, 1))
	disk.fault.On()
	for range 2 {
		if err := within(t, "Flush", s.Flush); !errors.Is(err, queue.ErrNoRoom) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Flush on a full disk: %v, want ErrNoRoom", err)
		}
	}
	if err := within(t, "Checkpoint", func() error { return s.Checkpoint("/checkpoint") }); !errors.Is(err, queue.ErrNoRoom) {
		t.Fatalf("Checkpoint on a full disk: %v, want ErrNoRoom", err)
	}
	mustNot(t, writeBatch(s, 2))
	if n, err := batchOf(t, s), s.Err(); n != 2 || err != nil {
		t.Fatalf("on a full disk reads see batch %d, and the store says %v", n, err)
	}
	disk.fault.Off()
	mustNot(t, within(t, "the wait for room", func() error {
		<-goesOn.told
		return nil
	}))
	mustNot(t, within(t, "Flush", s.Flush))
	crashed := openPebble(t, "/store", disk.CrashClone(vfs.CrashCloneCfg{}))
	if n := batchOf(t, crashed); n != 2 {
		t.Errorf("after a crash the store holds batch %d", n)
	}
	closeStore(t, crashed)
	closeStore(t, s)
}

// What memory does not hold is refused, and a store that closes does not wait for room.
func TestAFullDiskEndsTheStoreAtLast(t *testing.T) {
	t.Parallel()
	disk := newFaultDisk(syscall.ENOSPC, needsRoom)
	s := openPebble(t, "/store", errorfs.Wrap(disk.MemFS, disk.fault))
	mustNot(t, writeBatch(s, 1))
	mustNot(t, s.Flush())
	disk.fault.On()
	testLoadFault(t, disk, s, syscall.ENOSPC)

	disk = newFaultDisk(syscall.ENOSPC, needsRoom)
	s = openPebble(t, "/store", errorfs.Wrap(disk.MemFS, disk.fault))
	mustNot(t, writeBatch(s, 1))
	disk.fault.On()
	if err := within(t, "Flush", s.Flush); !errors.Is(err, queue.ErrNoRoom) {
		t.Fatal(err)
	}
	if err := within(t, "Close", s.Close); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close on a full disk: %v", err)
	}
}

// Compactions fail in the background, when nobody waits.
func TestCompactionFaultSurfaces(t *testing.T) {
	t.Parallel()
	disk := newFaultDisk(syscall.EIO, func(op errorfs.Op) bool { return isTable(op) && op.Kind == errorfs.OpFileReadAt })
	s := openPebble(t, "/store", errorfs.Wrap(disk.MemFS, disk.fault))
	disk.fault.On()
	err := within(t, "compaction", func() error {
		for n := 1; ; n++ {
			if err := errors.Join(writeBatch(s, n), s.Flush()); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, syscall.EIO) {
		t.Fatalf("a compaction that cannot read: %v, want EIO", err)
	}
	checkFailed(t, s, syscall.EIO)
	_ = within(t, "Close", s.Close)
}

// A failure during Open is its error, and leaves nothing behind that keeps the next Open out.
func TestOpenFault(t *testing.T) {
	t.Parallel()
	t.Run("new store", func(t *testing.T) {
		t.Parallel()
		testOpenFault(t, vfs.NewMem)
	})
	t.Run("old store", func(t *testing.T) {
		t.Parallel()
		sound := flushedStore(t)
		testOpenFault(t, func() *vfs.MemFS { return copyDisk(t, sound) })
	})
}

func testOpenFault(t *testing.T, fresh func() *vfs.MemFS) {
	failed := 0
	for i := int32(0); i < 60; i++ {
		mem := fresh()
		index := errorfs.OnIndex(i)
		writes := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && index.MaybeError(op) != nil {
				return &vfsPathError{op.Path, syscall.EIO}
			}
			return nil
		})
		s, err := openWithin(t, errorfs.Wrap(mem, writes))
		if err != nil {
			failed++
			if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "/store") {
				t.Fatalf("write %d fails during Open: %v, want EIO and the store's name", i, err)
			}
		} else {
			_ = within(t, "Close", s.Close)
		}
		closeStore(t, openPebble(t, "/store", mem))
	}
	if failed < 5 {
		t.Errorf("%d failures only", failed)
	}
}

func openWithin(t *testing.T, disk vfs.FS) (*queue.Pebble, error) {
	t.Helper()
	var err error
	s := within(t, "OpenPebble", func() (s *queue.Pebble) {
		s, err = queue.OpenPebble("/store", smallPebble(disk))
		return s
	})
	return s, err
}

// Pebble's words come through slog, and nothing ends the process.
func TestFailureIsLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	disk := newFaultDisk(syscall.ENOSPC, func(op errorfs.Op) bool { return isManifest(op) && op.Kind == errorfs.OpFileWrite })
	cfg := smallPebble(errorfs.Wrap(disk.MemFS, disk.fault))
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := queue.OpenPebble("/store", cfg)
	mustNot(t, err)
	mustNot(t, writeBatch(s, 1))
	disk.fault.On()
	if err := within(t, "Flush", s.Flush); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	_ = within(t, "Close", s.Close)
	for _, want := range []string{"level=DEBUG", "level=ERROR", "store failed", "no space left on device", "MANIFEST", "store=/store"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, &log)
		}
	}
}

func TestStoreInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openPebble(t, dir, nil)
	defer closeStore(t, s)
	_, err := queue.OpenPebble(dir, smallPebble(nil))
	if err == nil || errors.Is(err, queue.ErrCorrupt) || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), dir) {
		t.Fatalf("a store opened twice: %v", err)
	}
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	for _, cfg := range []queue.PebbleConfig{{CacheBytes: -1}, {MemTableBytes: 1}, {MemTableBytes: 1 << 40}, {OpenFiles: 3}} {
		if _, err := queue.OpenPebble(t.TempDir(), cfg); err == nil {
			t.Errorf("OpenPebble takes %+v", cfg)
		}
	}
}

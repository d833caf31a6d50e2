package queue_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/queue"
	"sluice/queue/storetest"
)

// names gives names that differ.
func names(dir string) func() string {
	var n atomic.Int64
	return func() string { return filepath.Join(dir, fmt.Sprint("checkpoint-", n.Add(1))) }
}

func TestConformanceMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		s := queue.NewMemoryStore()
		return storetest.Fixture{
			Store: s,
			Crash: func() queue.Store { return s.CrashCopy(rand.IntN(s.Unflushed() + 1)) },
			Checkpointed: func(dir string) queue.Store {
				c, ok := s.Checkpointed(dir)
				if !ok {
					t.Fatalf("no checkpoint %s", dir)
				}
				return c
			},
			Dir: names("/"),
		}
	})
}

// openPebble opens a store whose tables in memory are so small that background work is always under way.
func openPebble(t testing.TB, dir string, fs vfs.FS) *queue.Pebble {
	t.Helper()
	s, err := queue.OpenPebble(dir, smallPebble(fs))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func smallPebble(fs vfs.FS) queue.PebbleConfig {
	return queue.PebbleConfig{FS: fs, MemTableBytes: 64 << 10, CacheBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)}
}

func closeStore(t testing.TB, s queue.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// On a file system in memory that forgets what was not synced.
func TestConformancePebble(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		mem := vfs.NewCrashableMem()
		s := openPebble(t, "/data/store", mem)
		t.Cleanup(func() { closeStore(t, s) })
		return storetest.Fixture{
			Store: s,
			Crash: func() queue.Store {
				left := mem.CrashClone(vfs.CrashCloneCfg{
					UnsyncedDataPercent: rand.IntN(101),
					RNG:                 rand.New(rand.NewPCG(rand.Uint64(), 1)),
				})
				return openPebble(t, "/data/store", left)
			},
			Checkpointed: func(dir string) queue.Store { return openPebble(t, dir, mem) },
			Dir:          names("/data"),
		}
	})
}

// On the real file system; a crash is a checkpoint, which a crash leaves at the least.
func TestConformancePebbleOnDisk(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		dir := t.TempDir()
		s := openPebble(t, filepath.Join(dir, "store"), nil)
		t.Cleanup(func() { closeStore(t, s) })
		next := names(dir)
		return storetest.Fixture{
			Store: s,
			Crash: func() queue.Store {
				name := next()
				if err := s.Checkpoint(name); err != nil {
					t.Fatal(err)
				}
				return openPebble(t, name, nil)
			},
			Checkpointed: func(dir string) queue.Store { return openPebble(t, dir, nil) },
			Dir:          next,
		}
	})
}

// Over a store that tells of a SingleDelete of a key that was set more than once. So little is written at once that all
// three layers hold something.
func TestConformanceWriteBack(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		beneath := queue.NewMemoryStore()
		s := queue.NewWriteBack(beneath, 1<<10)
		t.Cleanup(func() { closeStore(t, s) })
		return storetest.Fixture{
			Store: s,
			Crash: func() queue.Store {
				return queue.NewWriteBack(beneath.CrashCopy(rand.IntN(beneath.Unflushed()+1)), 1<<10)
			},
			Checkpointed: func(dir string) queue.Store {
				c, ok := beneath.Checkpointed(dir)
				if !ok {
					t.Fatalf("no checkpoint %s", dir)
				}
				return queue.NewWriteBack(c, 0)
			},
			Dir: names("/"),
		}
	})
}

func TestConformanceWriteBackOverPebble(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		mem := vfs.NewCrashableMem()
		open := func(dir string, fs vfs.FS) *queue.WriteBack { return queue.NewWriteBack(openPebble(t, dir, fs), 8<<10) }
		s := open("/data/store", mem)
		t.Cleanup(func() { closeStore(t, s) })
		return storetest.Fixture{
			Store: s,
			Crash: func() queue.Store {
				return open("/data/store", mem.CrashClone(vfs.CrashCloneCfg{
					UnsyncedDataPercent: rand.IntN(101),
					RNG:                 rand.New(rand.NewPCG(rand.Uint64(), 1)),
				}))
			},
			Checkpointed: func(dir string) queue.Store { return open(dir, mem) },
			Dir:          names("/data"),
		}
	})
}

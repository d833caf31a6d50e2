package queue_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"sluice/queue"
)

// put commits one key.
func put(s queue.Store, key, value string) error {
	b := s.NewBatch()
	return errors.Join(b.Set([]byte(key), []byte(value)), b.Commit(), b.Close())
}

// all reads everything, forward or back.
func all(r queue.Reader, back bool) (found map[string]string, err error) {
	it, err := r.NewIter(nil, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Error(), it.Close()) }()
	found = map[string]string{}
	first, next := it.First, it.Next
	if back {
		first, next = it.Last, it.Prev
	}
	for ok := first(); ok; ok = next() {
		value, err := it.Value()
		if err != nil {
			return nil, err
		}
		found[string(it.Key())] = string(value)
	}
	return found, nil
}

// past is what a store held after each batch, which writes its number under "n".
type past struct {
	t                *testing.T
	mu               sync.Mutex
	states           map[string]map[string]string
	begun, committed atomic.Int64
}

// is checks that what was read is the state after one batch, between two.
func (p *past) is(what string, found map[string]string, err error, from, to int64) {
	p.t.Helper()
	if err != nil {
		p.t.Errorf("%s: %v", what, err)
		return
	}
	p.mu.Lock()
	want := p.states[found["n"]]
	p.mu.Unlock()
	var n int64
	_, _ = fmt.Sscan(found["n"], &n) // nothing: 0
	if n < from || n > to || !maps.Equal(found, want) {
		p.t.Errorf("%s is of batch %d, want %d to %d: %q, want %q", what, n, from, to, found, want)
	}
}

// One writes, others read, flush, take checkpoints and crash, while layers so small that one is always being written out go
// their way: what anybody reads is what one batch left.
func TestWriteBackWhileItIsWrittenOut(t *testing.T) {
	t.Parallel()
	for range 4 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { t.Parallel(); writeAndRead(t, seed) })
	}
}

func writeAndRead(t *testing.T, seed uint64) {
	chance := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	disk := vfs.NewCrashableMem()
	s := queue.NewWriteBack(openPebble(t, "/data/store", disk), 1<<10+chance(0).IntN(8<<10))
	p := &past{t: t, states: map[string]map[string]string{"": {}}}
	written := make(chan struct{})
	var others sync.WaitGroup
	for n := range uint64(3) {
		others.Go(func() { read(p, s, chance(10+n), written) })
	}
	others.Go(func() { flushAndCrash(p, s, disk, chance(20), written) })
	p.write(s, chance(30), 3000)
	close(written)
	others.Wait()
	closeStore(t, s)
	again := openPebble(t, "/data/store", disk)
	found, err := all(again, false)
	p.is("what a store holds that was closed", found, err, p.committed.Load(), p.committed.Load())
	closeStore(t, again)
}

// write commits batches of every kind of write, over keys of several tables.
func (p *past) write(s queue.Store, rng *rand.Rand, batches int) {
	now, sets := map[string]string{}, map[string]int{}
	key := func() string { return fmt.Sprint([]string{"", "\x00", "a", "b", "\xff"}[rng.IntN(5)], rng.IntN(6)) }
	for n := 1; n <= batches; n++ {
		b := s.NewBatch()
		for range rng.IntN(12) {
			k := key()
			switch chance := rng.IntN(100); {
			case chance < 55:
				now[k] = fmt.Sprintf("%d-%0*d", n, 1+rng.IntN(60), 0)
				sets[k]++
				mustNot(p.t, b.Set([]byte(k), []byte(now[k])))
			case chance < 65:
				delete(now, k)
				delete(sets, k)
				mustNot(p.t, b.Delete([]byte(k)))
			case chance < 97 && sets[k] <= 1:
				delete(now, k)
				delete(sets, k)
				mustNot(p.t, b.SingleDelete([]byte(k)))
			case chance >= 97:
				upper := key()
				maps.DeleteFunc(now, func(at, _ string) bool { return at >= k && at < upper })
				maps.DeleteFunc(sets, func(at string, _ int) bool { return at >= k && at < upper })
				mustNot(p.t, b.DeleteRange([]byte(k), []byte(upper)))
			}
		}
		now["n"] = fmt.Sprint(n)
		mustNot(p.t, b.Set([]byte("n"), []byte(now["n"])))
		p.mu.Lock()
		p.states[now["n"]] = maps.Clone(now)
		p.mu.Unlock()
		p.begun.Store(int64(n))
		mustNot(p.t, b.Commit())
		p.committed.Store(int64(n))
	}
}

// read takes snapshots until done, and reads each twice.
func read(p *past, s queue.Store, rng *rand.Rand, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		from := p.committed.Load()
		snap := s.NewSnapshot()
		to := p.begun.Load()
		for range 2 {
			found, err := all(snap, rng.IntN(2) == 0)
			p.is("a snapshot", found, err, from, to)
		}
		mustNot(p.t, snap.Close())
		found, err := all(s, rng.IntN(2) == 0)
		p.is("a walk", found, err, from, p.begun.Load())
	}
}

// flushAndCrash flushes, takes checkpoints, and looks at what a loss of power would leave.
func flushAndCrash(p *past, s queue.Store, disk *vfs.MemFS, rng *rand.Rand, done <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		default:
		}
		from, dir := p.committed.Load(), fmt.Sprint("/data/checkpoint-", n)
		mustNot(p.t, s.Flush())
		mustNot(p.t, s.Checkpoint(dir))
		copied := openPebble(p.t, dir, disk)
		found, err := all(copied, false)
		p.is("a checkpoint", found, err, from, p.begun.Load())
		closeStore(p.t, copied)
		left := openPebble(p.t, "/data/store", disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}))
		found, err = all(left, false)
		p.is("what a crash left", found, err, from, p.begun.Load())
		closeStore(p.t, left)
	}
}

// slowly is a store whose batches take their time to be committed, and that can still be read when it is closed.
type slowly struct {
	queue.Store
	committing, goOn chan struct{}
}

func (s *slowly) NewBatch() queue.Batch { return &slowBatch{s.Store.NewBatch(), s} }
func (s *slowly) Close() error          { return nil }

type slowBatch struct {
	queue.Batch
	store *slowly
}

func (b *slowBatch) Commit() error {
	b.store.committing <- struct{}{}
	<-b.store.goOn
	return b.Batch.Commit()
}

// A Close waits for what a Flush is writing out, or what came later would go before it.
func TestCloseOfAWriteBackWaitsForAFlush(t *testing.T) {
	t.Parallel()
	beneath := &slowly{queue.NewMemoryStore(), make(chan struct{}), make(chan struct{})}
	s := queue.NewWriteBack(beneath, 0)
	mustNot(t, put(s, "k", "1"))
	flushed, closed := make(chan error, 1), make(chan error, 1)
	go func() { flushed <- s.Flush() }()
	<-beneath.committing
	mustNot(t, put(s, "k", "2"))
	go func() { closed <- s.Close() }()
	beneath.goOn <- struct{}{}
	mustNot(t, <-flushed)
	<-beneath.committing
	beneath.goOn <- struct{}{}
	mustNot(t, <-closed)
	if v, err := beneath.Get([]byte("k")); string(v) != "2" {
		t.Errorf("k is %q (%v) after Close, committed last was 2", v, err)
	}
}

// Whoever still has a batch when the store is closed is told so; the store closes.
func TestAWriteBackClosesOverABatch(t *testing.T) {
	t.Parallel()
	for _, flush := range []bool{false, true} {
		s := queue.NewWriteBack(openPebble(t, "/store", vfs.NewMem()), 0)
		mustNot(t, put(s, "a", "1"))
		b := s.NewBatch()
		mustNot(t, b.Set([]byte("b"), nil))
		if flush {
			mustNot(t, s.Flush())
		}
		closeStore(t, s)
		if err := b.Commit(); !errors.Is(err, queue.ErrClosed) {
			t.Errorf("a batch of a store that was closed: %v", err)
		}
	}
}

// failing is an iterator that finds nothing, and says why.
type failing struct{ queue.Iterator }

var errUnread = errors.New("a block cannot be read")

func (failing) First() bool            { return false }
func (failing) Last() bool             { return false }
func (failing) SeekGE(key []byte) bool { return false }
func (failing) Error() error           { return errUnread }

type unreadable struct{ queue.Store }

func (u unreadable) NewIter(lower, upper []byte) (queue.Iterator, error) {
	it, err := u.Store.NewIter(lower, upper)
	return failing{it}, err
}

// A walk that cannot read what lies beneath ends there: it does not go on with what the layers hold.
func TestAWalkOverAWriteBackEndsWithItsError(t *testing.T) {
	t.Parallel()
	s := queue.NewWriteBack(unreadable{queue.NewMemoryStore()}, 0)
	defer closeStore(t, s)
	mustNot(t, put(s, "b", "1"))
	it, err := s.NewIter(nil, nil)
	mustNot(t, err)
	for name, move := range map[string]func() bool{"First": it.First, "Last": it.Last, "SeekGE": func() bool { return it.SeekGE([]byte("a")) }} {
		if move() || !errors.Is(it.Error(), errUnread) {
			t.Errorf("%s stands on %q, though what lies before could not be read; the error is %v", name, it.Key(), it.Error())
		}
	}
	mustNot(t, it.Close())
}

// A disk that fails while a layer is written out is told to the next who commits, and what was committed can be read.
func TestAFailedWriteOutIsTold(t *testing.T) {
	t.Parallel()
	var fails atomic.Bool
	disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fails.Load() && isTable(op) {
			return errors.New("the disk fails")
		}
		return nil
	}))
	p, err := queue.OpenPebble("/store", queue.PebbleConfig{FS: disk, MemTableBytes: 64 << 10, CacheBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)})
	mustNot(t, err)
	s := queue.NewWriteBack(p, 4<<10)
	fails.Store(true)
	n := 0
	for ; err == nil && n < 100_000; n++ {
		err = put(s, fmt.Sprint("k", n), string(make([]byte, 500)))
	}
	if err == nil {
		t.Fatal("no commit tells of the disk")
	}
	for k := range n - 1 {
		if _, err := s.Get(fmt.Append(nil, "k", k)); err != nil {
			t.Fatalf("k%d of %d, which was committed: %v", k, n, err)
		}
	}
	if err := s.Close(); err == nil {
		t.Error("Close says nothing of the disk")
	}
}

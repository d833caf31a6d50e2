package queue_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// opsPerBatch is how many operations one batch carries in the benchmarks.
const opsPerBatch = 500

// benchInstances is how many instances the operations are spread over.
const benchInstances = 1000

// benchIndexed gives batches of Pebble's own that read their own writes, over a database set up as the store's.
func benchIndexed(b *testing.B) func() queue.Batch {
	b.Helper()
	options := &pebble.Options{
		DisableWAL: true, MemTableSize: 32 << 20, FormatMajorVersion: pebble.FormatNewest, CacheSize: 160 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 }, Logger: silent{},
	}
	for i := range options.Levels {
		options.Levels[i].IndexBlockSize = 256 << 10
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(b.TempDir(), options)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		m := db.Metrics()
		total := m.Total()
		b.ReportMetric(float64(total.TableBytesFlushed+total.TableBytesCompacted)/float64(b.N), "disk-B/op")
		_ = db.Close()
	})
	return func() queue.Batch { return &indexedBatch{db.NewIndexedBatch()} }
}

func benchStore(b *testing.B) func() queue.Batch {
	b.Helper()
	s, err := queue.OpenPebble(b.TempDir(), queue.PebbleConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		m := s.Metrics()
		b.ReportMetric(float64(m.BytesFlushed+m.BytesCompacted)/float64(b.N), "disk-B/op")
		closeStore(b, s)
	})
	return s.NewBatch
}

// benchMemory flushes with each new batch: the memory store then forgets what a crash could lose, and nothing is paid.
func benchMemory(b *testing.B) func() queue.Batch {
	b.Helper()
	s := queue.NewMemoryStore()
	return func() queue.Batch {
		_ = s.Flush() // It cannot fail while the store is open.
		return s.NewBatch()
	}
}

// cpu gives the processor time of the whole process so far: background work counts, other processes do not.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppendSettle is what one message of 256 bytes costs the store from its acceptance to its settlement: it is
// appended, read, removed and remembered, and its instance's header is written twice; batches carry 500 of them. Settled
// is what was appended so many messages before. Indexed is Pebble with its own batches in place of ours.
func BenchmarkAppendSettle(b *testing.B) {
	for _, behind := range []int{1000, 100_000} {
		for _, store := range []struct {
			name string
			open func(*testing.B) func() queue.Batch
		}{{"pebble", benchStore}, {"indexed", benchIndexed}, {"memory", benchMemory}} {
			b.Run(fmt.Sprintf("%s/behind=%d", store.name, behind), func(b *testing.B) {
				benchAppendSettle(b, store.open(b), behind)
			})
		}
	}
}

func benchAppendSettle(b *testing.B, begin func() queue.Batch, behind int) {
	w := &appendSettle{header: make([]byte, 200), now: time.Now().UnixMilli()}
	batch := begin()
	step := func(n int) {
		if err := w.step(batch, n, behind); err != nil {
			b.Fatal(err)
		}
		if n%opsPerBatch == opsPerBatch-1 {
			if err := errors.Join(batch.Commit(), batch.Close()); err != nil {
				b.Fatal(err)
			}
			batch = begin()
		}
	}
	for n := range behind {
		step(n)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for n := range b.N {
		step(behind + n)
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
	if err := batch.Close(); err != nil {
		b.Fatal(err)
	}
}

// appendSettle is the work of one message on a store.
type appendSettle struct {
	header []byte
	now    int64
}

func (w *appendSettle) message(n int) *logv1.MessageRecord {
	return &logv1.MessageRecord{
		Message: &sluicev1.Message{Id: fmt.Sprintf("message-%032d", n), Type: "order", Data: make([]byte, 256)},
		Seq:     uint64(n), Lane: sluicev1.Lane_LANE_NORMAL, TimeMs: w.now,
	}
}

func (w *appendSettle) touch(b queue.Batch, uid uint64) error {
	key := binary.BigEndian.AppendUint64([]byte{'I'}, uid)
	if _, err := b.Get(key); err != nil && !errors.Is(err, queue.ErrNotFound) {
		return err
	}
	return b.Set(key, w.header)
}

func (w *appendSettle) step(b queue.Batch, n, behind int) error {
	uid := uint64(n % benchInstances)
	if _, _, err := queue.Unsettled(b, uid, fmt.Sprintf("message-%032d", n)); !errors.Is(err, queue.ErrNotFound) {
		return fmt.Errorf("message %d is there already: %v", n, err)
	}
	if err := errors.Join(queue.Append(b, uid, w.message(n)), w.touch(b, uid)); err != nil {
		return err
	}
	if n < behind {
		return nil
	}
	old := n - behind
	uid = uint64(old % benchInstances)
	m, err := queue.Message(b, uid, sluicev1.Lane_LANE_NORMAL, uint64(old))
	if err != nil {
		return err
	}
	memory := queue.Memory{Application: 1, Instance: uid}
	settled := &logv1.SettledRecord{Id: m.Message.Id, Seq: m.Seq}
	return errors.Join(queue.Remove(b, uid, m), memory.Remember(b, queue.BucketEnd(w.now, 600_000), settled), w.touch(b, uid))
}

// BenchmarkBatch compares our batch, the net effect of its writes in a map that is written into a plain Pebble batch at
// the end, with Pebble's own batch that reads its own writes. An operation is 6 Set, 2 Get, 2 SingleDelete.
func BenchmarkBatch(b *testing.B) {
	b.Run("overlay", func(b *testing.B) { benchBatch(b, benchStore(b)) })
	b.Run("indexed", func(b *testing.B) { benchBatch(b, benchIndexed(b)) })
}

func benchBatch(b *testing.B, begin func() queue.Batch) {
	r := rand.New(rand.NewPCG(1, 2))
	body, header := make([]byte, 256), make([]byte, 120)
	key := func(kind byte, a, b uint64) []byte {
		k := append(make([]byte, 0, 40), kind)
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(append(k, "orders/customer-"...), a), b)
	}
	const behind = 1000
	var instances [behind]uint64
	w := begin()
	get := func(key []byte) error {
		if _, err := w.Get(key); !errors.Is(err, queue.ErrNotFound) {
			return err
		}
		return nil
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for n := range b.N {
		i, seq := r.Uint64N(benchInstances), uint64(n)
		err := errors.Join(
			get(key('h', i, 0)), get(key('d', i, seq)),
			w.Set(key('h', i, 0), header), w.Set(key('m', i, seq), body), w.Set(key('b', i, seq), body),
			w.Set(key('d', i, seq), header[:30]), w.Set(key('t', seq, i), header[:8]), w.Set(key('c', 0, 0), header[:16]),
		)
		if n >= behind {
			err = errors.Join(err, w.SingleDelete(key('m', instances[n%behind], seq-behind)),
				w.SingleDelete(key('b', instances[n%behind], seq-behind)))
		}
		instances[n%behind] = i
		if n%opsPerBatch == opsPerBatch-1 {
			err = errors.Join(err, w.Commit(), w.Close())
			w = begin()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}

// indexedBatch is Pebble's own batch; the benchmarks walk nothing.
type indexedBatch struct{ b *pebble.Batch }

func (x *indexedBatch) Get(key []byte) ([]byte, error) {
	value, closer, err := x.b.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, queue.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return append(make([]byte, 0, len(value)), value...), closer.Close()
}
func (x *indexedBatch) NewIter(_, _ []byte) (queue.Iterator, error) {
	return nil, errors.ErrUnsupported
}
func (x *indexedBatch) Set(key, value []byte) error   { return x.b.Set(key, value, nil) }
func (x *indexedBatch) Delete(key []byte) error       { return x.b.Delete(key, nil) }
func (x *indexedBatch) SingleDelete(key []byte) error { return x.b.SingleDelete(key, nil) }
func (x *indexedBatch) DeleteRange(lower, upper []byte) error {
	return x.b.DeleteRange(lower, upper, nil)
}
func (x *indexedBatch) Commit() error { return x.b.Commit(pebble.NoSync) }
func (x *indexedBatch) Close() error  { return x.b.Close() }

// silent is a logger for a database that only a benchmark opens.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

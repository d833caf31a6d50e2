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

func benchPebble(b *testing.B) *queue.Pebble {
	b.Helper()
	s, err := queue.OpenPebble(b.TempDir(), queue.PebbleConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closeStore(b, s) })
	return s
}

func benchStores(b *testing.B, run func(*testing.B, queue.Store)) {
	b.Run("pebble", func(b *testing.B) { run(b, benchPebble(b)) })
	b.Run("memory", func(b *testing.B) { run(b, queue.NewMemoryStore()) })
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
// is what was appended so many messages before: a backlog that fits in memory, and one that does not.
func BenchmarkAppendSettle(b *testing.B) {
	for _, behind := range []int{1000, 100_000} {
		b.Run(fmt.Sprint("behind=", behind), func(b *testing.B) {
			benchStores(b, func(b *testing.B, s queue.Store) { benchAppendSettle(b, s, behind) })
		})
	}
}

func benchAppendSettle(b *testing.B, s queue.Store, behind int) {
	w := &appendSettle{header: make([]byte, 200), now: time.Now().UnixMilli()}
	batch := s.NewBatch()
	step := func(n int) {
		if err := w.step(batch, n, behind); err != nil {
			b.Fatal(err)
		}
		if n%opsPerBatch == opsPerBatch-1 {
			if err := batch.Commit(); err != nil {
				b.Fatal(err)
			}
			batch = s.NewBatch()
			if m, ok := s.(*queue.MemoryStore); ok {
				_ = m.Flush() // It forgets what a crash could lose; there is no disk to pay for.
			}
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
	if p, ok := s.(*queue.Pebble); ok {
		m := p.Metrics()
		b.ReportMetric(float64(m.BytesFlushed+m.BytesCompacted)/float64(b.N+behind), "disk-B/op")
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

// kvBatch is what BenchmarkBatch needs of a batch.
type kvBatch interface {
	get(key []byte) error
	set(key, value []byte) error
	singleDelete(key []byte) error
	commit() error
}

// BenchmarkBatch compares our batch, the net effect of its writes in a map that is written into a plain Pebble batch at
// the end, with Pebble's own batch that reads its own writes. An operation is 6 Set, 2 Get, 2 SingleDelete.
func BenchmarkBatch(b *testing.B) {
	b.Run("overlay", func(b *testing.B) {
		s := benchPebble(b)
		benchBatch(b, &overlayBatch{s, s.NewBatch()})
	})
	b.Run("indexed", func(b *testing.B) {
		options := &pebble.Options{
			DisableWAL: true, MemTableSize: 32 << 20, FormatMajorVersion: pebble.FormatNewest, CacheSize: 160 << 20,
			CompactionConcurrencyRange: func() (int, int) { return 1, 2 }, Logger: silent{},
		}
		for i := range options.Levels {
			options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		}
		db, err := pebble.Open(b.TempDir(), options)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = db.Close() })
		benchBatch(b, &indexedBatch{db, db.NewIndexedBatch()})
	})
}

func benchBatch(b *testing.B, w kvBatch) {
	r := rand.New(rand.NewPCG(1, 2))
	body, header := make([]byte, 256), make([]byte, 120)
	key := func(kind byte, a, b uint64) []byte {
		k := append(make([]byte, 0, 40), kind)
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(append(k, "orders/customer-"...), a), b)
	}
	const behind = 1000
	var instances [behind]uint64
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	defer func() { b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op") }()
	for n := range b.N {
		i, seq := r.Uint64N(benchInstances), uint64(n)
		err := errors.Join(
			w.get(key('h', i, 0)), w.get(key('d', i, seq)),
			w.set(key('h', i, 0), header), w.set(key('m', i, seq), body), w.set(key('b', i, seq), body),
			w.set(key('d', i, seq), header[:30]), w.set(key('t', seq, i), header[:8]), w.set(key('c', 0, 0), header[:16]),
		)
		if n >= behind {
			err = errors.Join(err, w.singleDelete(key('m', instances[n%behind], seq-behind)),
				w.singleDelete(key('b', instances[n%behind], seq-behind)))
		}
		instances[n%behind] = i
		if n%opsPerBatch == opsPerBatch-1 {
			err = errors.Join(err, w.commit())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

type overlayBatch struct {
	store *queue.Pebble
	batch queue.Batch
}

func (o *overlayBatch) get(key []byte) error {
	if _, err := o.batch.Get(key); !errors.Is(err, queue.ErrNotFound) {
		return err
	}
	return nil
}
func (o *overlayBatch) set(key, value []byte) error   { return o.batch.Set(key, value) }
func (o *overlayBatch) singleDelete(key []byte) error { return o.batch.SingleDelete(key) }
func (o *overlayBatch) commit() error {
	err := o.batch.Commit()
	o.batch = o.store.NewBatch()
	return err
}

type indexedBatch struct {
	db    *pebble.DB
	batch *pebble.Batch
}

func (o *indexedBatch) get(key []byte) error {
	value, closer, err := o.batch.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_ = append([]byte(nil), value...) // The store's users get a copy of their own.
	return closer.Close()
}
func (o *indexedBatch) set(key, value []byte) error   { return o.batch.Set(key, value, nil) }
func (o *indexedBatch) singleDelete(key []byte) error { return o.batch.SingleDelete(key, nil) }
func (o *indexedBatch) commit() error {
	err := errors.Join(o.batch.Commit(pebble.NoSync), o.batch.Close())
	o.batch = o.db.NewIndexedBatch()
	return err
}

// silent is a logger for a database that only a benchmark opens.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

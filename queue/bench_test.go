package queue_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// opsPerBatch is how many operations one batch carries in the benchmarks.
const opsPerBatch = 500

// benchInstances is how many instances the operations are spread over.
const benchInstances = 1000

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
// is what was appended so many messages before.
func BenchmarkAppendSettle(b *testing.B) {
	for _, behind := range []int{1000, 100_000} {
		for _, store := range []struct {
			name string
			open func(*testing.B) func() queue.Batch
		}{{"pebble", benchStore}, {"memory", benchMemory}} {
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

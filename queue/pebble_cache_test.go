package queue_test

import (
	"crypto/rand"
	"encoding/binary"
	"testing"

	"sluice/queue"
)

// A cache that rests holds no more than it keeps at rest, whatever is read; it takes its room again when it is woken, and what is
// read is the same all the while.
func TestCacheGivesUpBlocksAtRest(t *testing.T) {
	t.Parallel()
	const records, size = 1000, 100 << 10
	cache := queue.NewBlockCache(1)
	s, err := queue.OpenPebble(t.TempDir(), queue.PebbleConfig{Cache: cache})
	mustNot(t, err)
	value := make([]byte, size)
	for n := range uint64(records) {
		_, _ = rand.Read(value) // so that it cannot be compressed; it never fails
		binary.BigEndian.PutUint64(value, n)
		b := s.NewBatch()
		mustNot(t, b.Set(binary.BigEndian.AppendUint64(nil, n), value))
		mustNot(t, b.Commit())
		mustNot(t, b.Close())
	}
	mustNot(t, s.Flush())
	held := func() int64 {
		t.Helper()
		for n := range uint64(records) {
			v, err := s.Get(binary.BigEndian.AppendUint64(nil, n))
			mustNot(t, err)
			if len(v) != size || binary.BigEndian.Uint64(v) != n {
				t.Fatalf("record %d reads as %d bytes", n, len(v))
			}
		}
		return s.Metrics().CacheBytes
	}
	const rest, block = 16 << 20, 2 << 20 // and how far a part of the cache may be off by a block, all parts together
	awake := held()
	if awake < 2*rest {
		t.Fatalf("the cache holds %d bytes: too few to tell by", awake)
	}
	if gaveUp := cache.Rest(); gaveUp < awake-rest {
		t.Errorf("the cache gave up %d bytes of %d", gaveUp, awake)
	}
	if now := held(); now > rest+block {
		t.Errorf("the cache holds %d bytes at rest", now)
	}
	cache.Wake()
	if now := held(); now < awake {
		t.Errorf("woken, the cache holds %d bytes, and held %d before", now, awake)
	}
	closeStore(t, s)
	cache.Close()
	cache.Close()
	if gaveUp := cache.Rest(); gaveUp != 0 {
		t.Errorf("closed, the cache gave up %d bytes", gaveUp)
	}
	cache.Wake()
}

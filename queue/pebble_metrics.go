package queue

import (
	"sync"
	"sync/atomic"
)

// StoreMetrics is what a store costs now and has cost since it was opened.
type StoreMetrics struct {
	// DiskBytes is what the store takes on disk, tables that wait for their deletion among it.
	DiskBytes uint64
	// Tables is the number of live tables on disk.
	Tables int64
	// MemTableBytes is what the tables in memory hold allocated.
	MemTableBytes uint64
	// CacheBytes is what the block cache holds now; CacheHits and CacheMisses count look-ups of blocks.
	CacheBytes, CacheHits, CacheMisses int64
	// Flushes and Compactions count what background work has done; CompactionDebtBytes is what it has before it.
	Flushes, Compactions int64
	CompactionDebtBytes  uint64
	// BytesCommitted is what batches brought; BytesFlushed and BytesCompacted are what was written to tables for it. Write amplification is (BytesFlushed + BytesCompacted) / BytesCommitted. It is
	// below 1 where messages are settled before the memory is written out.
	BytesCommitted, BytesFlushed, BytesCompacted uint64
	// ReadAmplification is the number of places that a read may have to look into.
	ReadAmplification int
	// Stalls counts commits that had to wait for the disk.
	Stalls uint64
	// Misuses counts keys removed by SingleDelete that were set more than once. It must stay 0.
	Misuses uint64
}

// storeCounts is what the store counts itself.
type storeCounts struct {
	bytesIn, stalls, misuses atomic.Uint64
}

// Metrics tells the store's figures; all zero once it is closed.
func (p *Pebble) Metrics() StoreMetrics {
	if err := p.enter(); err != nil {
		return StoreMetrics{}
	}
	defer p.gate.RUnlock()
	m := p.db.Metrics()
	total := m.Total()
	return StoreMetrics{
		DiskBytes:           m.DiskSpaceUsage(),
		Tables:              total.TablesCount,
		MemTableBytes:       m.MemTable.Size,
		CacheBytes:          m.BlockCache.Size,
		CacheHits:           m.BlockCache.Hits,
		CacheMisses:         m.BlockCache.Misses,
		Flushes:             m.Flush.Count,
		Compactions:         m.Compact.Count,
		CompactionDebtBytes: m.Compact.EstimatedDebt,
		BytesCommitted:      p.counts.bytesIn.Load(),
		BytesFlushed:        total.TableBytesFlushed,
		BytesCompacted:      total.TableBytesCompacted,
		ReadAmplification:   m.ReadAmp(),
		Stalls:              p.counts.stalls.Load(),
		Misuses:             p.counts.misuses.Load(),
	}
}

const (
	// memTablesMax is how many full tables may stand in memory before commits wait for the disk: one being filled, one
	// being written, one in between.
	memTablesMax = 3
	// sublevelsMax is how many layers of tables level 0 may have before commits wait for compactions.
	sublevelsMax = 24
)

// pace holds commits up when the disk does not follow, so that memory stays bounded, and lets them go when it fails.
// Looking costs some microseconds, so it is done once per quarter of a table.
type pace struct {
	tableBytes uint64
	progress   chan struct{} // holds a token when background work ended since the last look

	mu        sync.Mutex // held while waiting: one waits for the disk, the rest for the one
	committed uint64     // bytes since the last look; guarded by mu
}

func (p *pace) init(tableBytes uint64) {
	p.tableBytes = tableBytes
	p.progress = make(chan struct{}, 1)
}

// signal tells that background work ended. It never waits.
func (p *pace) signal() {
	select {
	case p.progress <- struct{}{}:
	default:
	}
}

// wait returns when there is room for a batch of n bytes, or with the store's failure.
func (p *pace) wait(store *Pebble, n int) error {
	if err := store.failure.get(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed += uint64(n)
	if p.committed < p.tableBytes/4 {
		return nil
	}
	p.committed = 0
	if p.room(store) {
		return nil
	}
	store.counts.stalls.Add(1)
	for {
		select {
		case <-p.progress:
			if err := store.failure.get(); err != nil { // a store that has failed may not tell how full it is before it ends
				return err
			}
			if p.room(store) {
				return nil
			}
		case <-store.failure.failed:
			return store.failure.get()
		case <-store.room.full():
			return store.failure.set(noRoom("commit beyond what memory holds"))
		}
	}
}

func (p *pace) room(store *Pebble) bool {
	m := store.db.Metrics()
	return m.MemTable.Size < memTablesMax*p.tableBytes && m.Levels[0].Sublevels < sublevelsMax
}

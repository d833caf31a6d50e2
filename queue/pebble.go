package queue

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrClosed is what a store answers once it is closed.
var ErrClosed = errors.New("queue: store is closed")

// PebbleConfig is what a Pebble store may be told. The zero value is good.
type PebbleConfig struct {
	// CacheBytes bounds the block cache, in bytes; 0 means 48 MiB. It is not used when Cache is set.
	CacheBytes int64
	// Cache is a block cache that several stores of one process may share; nil means one of its own.
	Cache *BlockCache
	// MemTableBytes is the size at which a table in memory is written out, in bytes; 0 means 32 MiB. At most four
	// of them exist at a time, and only under a load that outruns the disk. It must be at least 64 KiB.
	MemTableBytes int64
	// OpenFiles bounds the files that are kept open; 0 means 512.
	OpenFiles int
	// FS is the file system; nil means the operating system's, watched for slow writes.
	FS vfs.FS
	// Logger takes what the store has to say; nil means slog.Default().
	Logger *slog.Logger
}

const (
	defaultMemTableBytes = 32 << 20
	defaultOpenFiles     = 512
	// l0Tables is how many tables may lie over each other before they are merged with what is beneath, and baseBytes how large
	// that may be: what is removed soon is merged less often. Bloom filters answer for most of the tables.
	l0Tables, baseBytes = 12, 256 << 20
	// bloomBitsPerKey costs a little over a byte a key and answers 99 % of the look-ups of unknown ids without a read.
	bloomBitsPerKey = 10
	// indexBlockBytes keeps a table's index in one block: a look-up reads one block less.
	indexBlockBytes = 256 << 10
	// manifestBytesMax bounds what a start has to read before it knows the tables.
	manifestBytesMax = 8 << 20
	// diskSlowAfter is how long one write may take before the log says that the disk is slow.
	diskSlowAfter = 5 * time.Second
	// stallNever keeps Pebble from holding a writer up by itself: it would hold it for ever once the disk fails, and
	// Close with it. The store holds writers up instead (see pace), and lets them go with the error.
	stallNever = 1 << 20
)

// withDefaults gives the configuration with every zero replaced.
func (c PebbleConfig) withDefaults() PebbleConfig {
	if c.CacheBytes == 0 {
		c.CacheBytes = defaultCacheBytes
	}
	if c.MemTableBytes == 0 {
		c.MemTableBytes = defaultMemTableBytes
	}
	if c.OpenFiles == 0 {
		c.OpenFiles = defaultOpenFiles
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// validate tells what of the configuration cannot be.
func (c PebbleConfig) validate() error {
	switch {
	case c.CacheBytes < 0:
		return fmt.Errorf("queue: CacheBytes %d is negative", c.CacheBytes)
	case c.MemTableBytes < 64<<10 || c.MemTableBytes > 1<<30:
		return fmt.Errorf("queue: MemTableBytes %d is not within 64 KiB and 1 GiB", c.MemTableBytes)
	case c.OpenFiles < 64:
		return fmt.Errorf("queue: OpenFiles %d is below 64", c.OpenFiles)
	}
	return nil
}

// Pebble is a Store on disk. It keeps no write-ahead log: what was committed since the last Flush, or since Pebble wrote
// its memory out by itself, is lost in a crash, always from the end and never in part of a batch.
//
// Once the disk fails under its background work the store has failed for good: Commit, Flush and Checkpoint answer the
// error from then on, nothing of the directory is touched any more, and Failed tells at once. Reads go on. A full disk is
// no failure: what must be written waits for room, and Flush and Checkpoint answer ErrNoRoom meanwhile.
type Pebble struct {
	db     *pebble.DB
	dir    string
	config PebbleConfig

	failure failure
	room    room
	pace    pace
	counts  storeCounts

	// flushing lets one Flush run at a time; dirty tells whether anything was committed since the last one began, or none was.
	flushing sync.Mutex
	dirty    atomic.Bool

	// gate is held shared by whoever is inside db, and alone by Close, since Pebble panics when used after its end.
	gate   sync.RWMutex
	closed bool

	// checkpoints counts Pebble's checkpoints under way: one may outlive the call that a failure ended.
	checkpoints sync.WaitGroup
	diskWatch   io.Closer    // nil for a file system that the caller gave
	lock        *pebble.Lock // nil where Pebble made the directory and holds the lock itself
}

var _ Store = (*Pebble)(nil)

// OpenPebble opens the store in dir, which is created if need be, or says why not: ErrCorrupt if a file is damaged. Only
// one process can have a store open. Pebble's own goroutines run until Close.
func OpenPebble(dir string, cfg PebbleConfig) (*Pebble, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Pebble{dir: dir, config: cfg}
	p.failure.init(cfg.Logger.With("store", dir))
	p.room.init(&p.failure, dir)
	p.pace.init(uint64(cfg.MemTableBytes))

	base := cfg.FS
	if base == nil {
		base, p.diskWatch = vfs.WithDiskHealthChecks(vfs.Default, diskSlowAfter, nil, p.diskSlow)
	}
	if err := p.open(base); err != nil {
		_ = p.letGo() // The error of the opening is what the caller has to know.
		return nil, fmt.Errorf("queue: open store %s: %w", dir, err)
	}
	p.failure.park()
	return p, nil
}

// open locks the directory, checks and clears what Pebble itself would pass over, and opens the database.
func (p *Pebble) open(base vfs.FS) error {
	options := p.options(base)
	defer options.Cache.Unref()
	if _, err := base.Stat(p.dir); err == nil {
		lock, err := pebble.LockDirectory(p.dir, base)
		if err != nil {
			return openError(err)
		}
		p.lock, options.Lock = lock, lock
		if err := prepareDir(base, p.dir, options); err != nil {
			return err
		}
	}
	db, err := pebble.Open(p.dir, options)
	if err != nil {
		return manifestError(base, p.dir, openError(err))
	}
	if err := p.failure.get(); err != nil {
		_ = db.Close() // The failure is what the caller has to know.
		return err
	}
	p.db = db
	// Pebble (2.1.7) writes no manifest before its first flush, and a checkpoint made before that has an empty one.
	p.dirty.Store(true)
	return nil
}

// prepareDir checks the files of a directory that is locked and removes Pebble's logs: with the write-ahead log off
// they are empty, yet Pebble would flush for each of them before it is open, and would try without end if that failed.
func prepareDir(base vfs.FS, dir string, options *pebble.Options) error {
	if err := checkFiles(base, dir, options); err != nil {
		return err
	}
	names, err := base.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			if err := base.Remove(base.PathJoin(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// options is the one place that sets how Pebble works. The caller gives the reference on the cache back.
func (p *Pebble) options(base vfs.FS) *pebble.Options {
	var cache *pebble.Cache
	if shared := p.config.Cache; shared != nil {
		cache = shared.cache
		cache.Ref()
	} else {
		// Pebble takes the room of its tables in memory out of the cache: without more it would hold no blocks under load.
		cache = pebble.NewCache(p.config.CacheBytes + memTablesMax*p.config.MemTableBytes)
	}
	o := &pebble.Options{
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatNewest,
		FS:                          &guardedFS{FS: base, failure: &p.failure, room: &p.room},
		Cache:                       cache,
		MemTableSize:                uint64(p.config.MemTableBytes),
		MemTableStopWritesThreshold: stallNever,
		L0StopWritesThreshold:       stallNever,
		L0CompactionThreshold:       l0Tables,
		LBaseMaxBytes:               baseBytes,
		MaxOpenFiles:                p.config.OpenFiles,
		MaxManifestFileSize:         manifestBytesMax,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      (*pebbleLogger)(&p.failure),
		EventListener:               p.events(),
	}
	for i := range o.Levels {
		o.Levels[i].IndexBlockSize = indexBlockBytes
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBitsPerKey)
	}
	return o
}

// enter lets a caller into the database unless it is closed; the caller calls p.gate.RUnlock when it is done.
func (p *Pebble) enter() error {
	p.gate.RLock()
	if p.closed {
		p.gate.RUnlock()
		return ErrClosed
	}
	return nil
}

// Get implements Reader.
func (p *Pebble) Get(key []byte) ([]byte, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.gate.RUnlock()
	return pebbleGet(p.db, key)
}

// NewIter implements Reader: it walks the store as it is now.
func (p *Pebble) NewIter(lower, upper []byte) (Iterator, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.gate.RUnlock()
	return pebbleIter(p.db, lower, upper)
}

// NewSnapshot implements Store. A snapshot holds disk space that compactions would free: close it soon.
func (p *Pebble) NewSnapshot() Snapshot {
	if err := p.enter(); err != nil {
		return closedSnapshot{}
	}
	defer p.gate.RUnlock()
	return &pebbleSnapshot{store: p, snapshot: p.db.NewSnapshot()}
}

// NewBatch implements Store. Writing to a batch after an iterator over it was made does not change what that one walks.
func (p *Pebble) NewBatch() Batch {
	if err := p.enter(); err != nil {
		return closedBatch{}
	}
	defer p.gate.RUnlock()
	return &pebbleBatch{store: p, batch: p.db.NewIndexedBatch()}
}

// NewWriteBatch is NewBatch for one that only writes, about so many bytes: its reads fail. It costs less.
func (p *Pebble) NewWriteBatch(bytes int) Batch {
	if err := p.enter(); err != nil {
		return closedBatch{}
	}
	defer p.gate.RUnlock()
	return &pebbleBatch{store: p, batch: p.db.NewBatchWithSize(bytes)}
}

// NoRoom is ErrNoRoom while the disk is full.
func (p *Pebble) NoRoom() error {
	select {
	case <-p.room.full():
		return noRoom("flush")
	default:
		return nil
	}
}

// commit gives a batch to Pebble, all at once.
func (p *Pebble) commit(batch *pebble.Batch) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.gate.RUnlock()
	if batch.Empty() {
		return p.failure.get()
	}
	if err := p.pace.wait(p, batch.Len()); err != nil {
		return err
	}
	p.counts.bytesIn.Add(uint64(batch.Len()))
	if err := p.db.Apply(batch, pebble.NoSync); err != nil {
		return p.failure.set(fmt.Errorf("queue: commit: %w", err))
	}
	p.dirty.Store(true) // not before: a flush meanwhile would take it for itself, and write all but this batch
	return p.failure.get()
}

// Flush implements Store. It waits for the disk. A failure of any background work so far is its error, too.
func (p *Pebble) Flush() error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.gate.RUnlock()
	return p.flush()
}

func (p *Pebble) flush() error {
	p.flushing.Lock()
	defer p.flushing.Unlock()
	if err := p.failure.get(); err != nil {
		return err
	}
	if err := p.NoRoom(); err != nil { // to put one more table in line would cost memory, and help nobody
		return err
	}
	if !p.dirty.Swap(false) {
		return nil
	}
	done, err := p.db.AsyncFlush()
	if err != nil {
		return p.failure.set(fmt.Errorf("queue: flush: %w", err))
	}
	select {
	case <-done:
	case <-p.failure.failed:
	case <-p.room.full():
		p.dirty.Store(true)
		return noRoom("flush")
	}
	return p.failure.get()
}

// Checkpoint implements Store: it flushes and then links the tables into dir, which must not exist, so that dir holds
// everything committed before the call. OpenPebble opens it.
func (p *Pebble) Checkpoint(dir string) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.gate.RUnlock()
	if err := p.flush(); err != nil {
		return err
	}
	// A disk that fails meanwhile holds Pebble's own work up until Close, and a checkpoint may stand behind it.
	done := make(chan error, 1)
	p.checkpoints.Go(func() { done <- p.db.Checkpoint(dir) })
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("queue: checkpoint %s: %w", dir, corruption(err))
		}
		return p.failure.get()
	case <-p.failure.failed:
		return p.failure.get()
	}
}

// Failed is closed when the store's disk has failed; Err tells why. A node that sees it stops at once instead of at its
// next write.
func (p *Pebble) Failed() <-chan struct{} { return p.failure.failed }

// Err is the failure that ended the store's life as a store that can be written to; nil while it is sound.
func (p *Pebble) Err() error { return p.failure.get() }

// Ending tells the store that it will be closed once those who read it have ended: what waits for a disk that has failed,
// or that is full, ends with its error from now on. Else Pebble would have the end of a snapshot wait for it, too.
func (p *Pebble) Ending() { p.failure.release() }

// Close flushes, waits for background work to end and closes the files. Batches, iterators and snapshots must be closed
// before. A second Close does nothing.
func (p *Pebble) Close() error {
	p.failure.release()
	p.gate.Lock()
	defer p.gate.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.checkpoints.Wait()
	flushed := p.flush()
	closed := errors.Join(p.db.Close(), p.letGo())
	if flushed != nil {
		return flushed
	}
	if closed != nil {
		return fmt.Errorf("queue: close store %s: %w", p.dir, closed)
	}
	return nil
}

// letGo gives back what was taken beside the database.
func (p *Pebble) letGo() error {
	var err error
	if p.lock != nil {
		err = p.lock.Close()
	}
	if p.diskWatch != nil {
		err = errors.Join(err, p.diskWatch.Close())
	}
	return err
}

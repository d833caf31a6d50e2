package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// failure remembers the first error that ends a store's life, and keeps the disk as it was at that moment.
//
// Pebble tries a failed flush again without end, and relies on the process ending when its manifest cannot be written: a
// second try could delete a table that the first one did record. So nothing may reach the disk after a failure: what tries
// waits (which also keeps the retries from spinning) until Close lets it go with the error.
type failure struct {
	logger *slog.Logger
	failed chan struct{} // closed once err is set

	mu     sync.Mutex
	err    error         // the first failure; guarded by mu
	closed chan struct{} // closed by release; guarded by mu, nil while failing calls are answered at once
	ending bool          // release was called
}

func (f *failure) init(logger *slog.Logger) {
	f.logger = logger
	f.failed = make(chan struct{})
}

// set records the failure if it is the first and gives the one that stands.
func (f *failure) set(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.err = err
	close(f.failed)
	f.logger.Error("store failed; it takes no more writes", "error", err)
	return err
}

// get is the failure, nil while there is none.
func (f *failure) get() error {
	select {
	case <-f.failed:
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.err
	default:
		return nil
	}
}

// park makes writes to the disk wait once the store has failed. It is called when the store is open: before that, the
// caller of OpenPebble waits for the answer.
func (f *failure) park() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = make(chan struct{})
}

// release ends the waiting: Close needs the goroutines that wait.
func (f *failure) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ending {
		f.ending = true
		close(f.closed)
	}
}

// closing is closed once the store closes; nil while it opens.
func (f *failure) closing() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// pass lets a write through to the disk while the store is sound.
func (f *failure) pass() error {
	err := f.get()
	if err == nil {
		return nil
	}
	if closing := f.closing(); closing != nil {
		<-closing
	}
	return err
}

// guardedFS keeps writes from the disk after a failure; reads and the removal of a half-made checkpoint pass.
type guardedFS struct {
	vfs.FS
	failure *failure
	room    *room
}

func (g *guardedFS) Create(name string, category vfs.DiskWriteCategory) (file vfs.File, err error) {
	create := func() error {
		if err := g.failure.pass(); err != nil {
			return err
		}
		if err := g.beforeMarker(name); err != nil {
			return err
		}
		file, err = g.FS.Create(name, category)
		return err
	}
	if !g.room.holds(name) {
		if err := create(); err != nil {
			return nil, err
		}
		return &guardedFile{File: file, failure: g.failure}, nil
	}
	if err := g.room.retry(create); err != nil {
		return nil, err
	}
	return &roomyFile{File: &guardedFile{File: file, failure: g.failure}, room: g.room}, nil
}

// markerPrefix begins the names of Pebble's markers: empty files whose names tell which manifest counts.
const markerPrefix = "marker."

// beforeMarker makes the names in a marker's directory durable before a marker is made that tells of one of them. Pebble
// syncs the directory only once, after the marker is made: after a loss of power in between, the marker may be there, and
// the manifest that it names may not (cockroachdb/pebble #5825). File systems that make a new file's name durable with its
// content hide that; POSIX does not promise it.
func (g *guardedFS) beforeMarker(name string) error {
	if !strings.HasPrefix(g.PathBase(name), markerPrefix) {
		return nil
	}
	dir, err := g.FS.OpenDir(g.PathDir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (g *guardedFS) Link(from, to string) error {
	if err := g.failure.pass(); err != nil {
		return err
	}
	return g.FS.Link(from, to)
}

func (g *guardedFS) Remove(name string) error {
	if err := g.failure.pass(); err != nil {
		return err
	}
	return g.FS.Remove(name)
}

func (g *guardedFS) Rename(from, to string) error {
	if err := g.failure.pass(); err != nil {
		return err
	}
	return g.FS.Rename(from, to)
}

func (g *guardedFS) OpenDir(name string) (vfs.File, error) {
	dir, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardedDir{File: dir, name: name, failure: g.failure}, nil
}

func (g *guardedFS) Unwrap() vfs.FS { return g.FS }

// guardedFile is a file that guardedFS made.
type guardedFile struct {
	vfs.File
	failure *failure
}

func (g *guardedFile) Write(p []byte) (int, error) {
	if err := g.failure.pass(); err != nil {
		return 0, err
	}
	return g.File.Write(p)
}

func (g *guardedFile) Sync() error {
	if err := g.failure.pass(); err != nil {
		return err
	}
	return g.File.Sync()
}

func (g *guardedFile) SyncData() error {
	if err := g.failure.pass(); err != nil {
		return err
	}
	return g.File.SyncData()
}

// guardedDir is a directory that guardedFS opened.
type guardedDir struct {
	vfs.File
	name    string
	failure *failure
}

// Sync fails the store by itself: Pebble panics, in a goroutine of its own, when it cannot sync a directory. It may go on
// here, since nothing it does after this reaches the disk.
func (g *guardedDir) Sync() error {
	if err := g.failure.pass(); err != nil {
		return nil
	}
	if err := g.File.Sync(); err != nil {
		_ = g.failure.set(fmt.Errorf("queue: sync directory %s: %w", g.name, err))
	}
	return nil
}

// pebbleLogger takes Pebble's own words. Pebble counts on Fatalf ending the process; here it ends the store.
type pebbleLogger failure

func (l *pebbleLogger) Infof(format string, args ...any) {
	if l.logger.Enabled(context.Background(), slog.LevelDebug) {
		l.logger.Debug(fmt.Sprintf(format, args...))
	}
}

func (l *pebbleLogger) Errorf(format string, args ...any) {
	l.logger.Error(fmt.Sprintf(format, args...))
}

func (l *pebbleLogger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			_ = (*failure)(l).set(fmt.Errorf("queue: %s: %w", strings.TrimSuffix(text, ": "+err.Error()), corruption(err)))
			return
		}
	}
	_ = (*failure)(l).set(fmt.Errorf("queue: %s", text))
}

// events turns what Pebble tells of its background work into failures, log lines and figures. The callbacks run under
// Pebble's locks: they neither wait nor call back.
func (p *Pebble) events() *pebble.EventListener {
	log := p.failure.logger
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			_ = p.failure.set(fmt.Errorf("queue: background work: %w", corruption(err)))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			_ = p.failure.set(corruptFile(info.Path, info.Details))
		},
		FlushEnd:      func(pebble.FlushInfo) { p.pace.signal() },
		CompactionEnd: func(pebble.CompactionInfo) { p.pace.signal() },
		DiskSlow:      p.diskSlow,
		LowDiskSpace: func(info pebble.LowDiskSpaceInfo) {
			log.Warn("disk space is low", "available_bytes", info.AvailBytes, "total_bytes", info.TotalBytes)
		},
		TableDeleted: func(info pebble.TableDeleteInfo) {
			if info.Err != nil {
				log.Warn("an obsolete table stays on disk", "file", info.Path, "error", info.Err)
			}
		},
		PossibleAPIMisuse: func(info pebble.PossibleAPIMisuseInfo) {
			if info.Kind == pebble.NondeterministicSingleDelete {
				p.counts.misuses.Add(1)
				log.Error("a key was removed by SingleDelete that was set more than once", "key", fmt.Sprintf("%q", info.UserKey))
			}
		},
	}
}

func (p *Pebble) diskSlow(info vfs.DiskSlowInfo) {
	p.failure.logger.Warn("disk is slow", "file", info.Path, "operation", info.OpType.String(), "took", info.Duration)
}

// corruptFile is the error for one damaged file.
func corruptFile(path string, cause error) error {
	return fmt.Errorf("%w: file %s: %w", ErrCorrupt, path, cause)
}

// corruption marks an error of Pebble's with ErrCorrupt and the file's name if it tells of a damaged file.
func corruption(err error) error {
	if err == nil || errors.Is(err, ErrCorrupt) {
		return err
	}
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return corruptFile(info.Path, info.Details)
	}
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// openError tells a damaged store from a disk or a caller in trouble. When a store opens, a file that is missing, too
// short or senseless is damage; what the operating system refused for another reason is not.
func openError(err error) error {
	if marked := corruption(err); errors.Is(marked, ErrCorrupt) {
		return marked
	}
	text := err.Error()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return err
	case strings.Contains(text, "lock held by current process"), strings.Contains(text, "resource temporarily unavailable"):
		return fmt.Errorf("it is in use by another process: %w", err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, record.ErrInvalidChunk),
		strings.Contains(text, "object size mismatch"), strings.Contains(text, "OPTIONS"):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

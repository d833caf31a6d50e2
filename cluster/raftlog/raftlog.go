// Package raftlog keeps the raft log and raft's few stable values on disk, and notices when the disk lies, hangs or
// fails: a checksum per entry, a deadline per write, and no second try after an error.
package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"go.etcd.io/bbolt"
	boltErrors "go.etcd.io/bbolt/errors"

	"sluice/internal/disk"
	"sluice/internal/obs"
)

// Backend names the library that keeps the log. The stable values are in raft-boltdb with either.
type Backend string

// The backends to choose from.
const (
	WAL  Backend = "wal"
	Bolt Backend = "bolt"
)

// Config says how a Store keeps its entries. The zero value of a field means its default.
type Config struct {
	// Backend is WAL by default. A folder made with one is refused with another.
	Backend Backend
	// WriteDeadline is how long one append may take; default 10 s. Past it the store has failed for good.
	WriteDeadline time.Duration
	// OnStuck is told, once, of an append that takes longer than the deadline.
	OnStuck func(err error)
	// Files is the file system of the folder, if it is not the operating system's: for simulations. Only WAL can be kept
	// there. If it has a method Delay, each sync of the log waits for it first.
	Files disk.FS
	// SegmentBytes is how many bytes a segment of the log in Files has before the next is begun; default 128 KiB.
	SegmentBytes int
	// Logger takes the libraries' lines; default slog.Default.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Backend = cmp.Or(c.Backend, WAL)
	c.WriteDeadline = cmp.Or(c.WriteDeadline, 10*time.Second)
	c.SegmentBytes = cmp.Or(c.SegmentBytes, fileSegmentBytes)
	if c.OnStuck == nil {
		c.OnStuck = func(error) {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if c.Backend != WAL && c.Backend != Bolt {
		return fmt.Errorf("raftlog: backend %q; allowed are %q and %q", c.Backend, WAL, Bolt)
	}
	if c.Files != nil && c.Backend != WAL {
		return fmt.Errorf("raftlog: backend %q in a file system other than the system's; allowed is %q", c.Backend, WAL)
	}
	if c.SegmentBytes < fileSegmentLeast {
		return fmt.Errorf("raftlog: segments of %d bytes; allowed are %d and more", c.SegmentBytes, fileSegmentLeast)
	}
	if c.WriteDeadline < 0 {
		return fmt.Errorf("raftlog: the write deadline is %v; it must be positive", c.WriteDeadline)
	}
	return nil
}

// Names of what lies in the folder.
const (
	markerFile = "backend"
	stableFile = "stable.db"
	logFile    = "log.db"
	walDir     = "wal"
)

// Store is a raft.LogStore, raft.StableStore and raft.MonotonicLogStore in one folder.
type Store struct {
	*checked
	raft.StableStore
	closers []io.Closer
}

// Open opens or makes the store in dir. What an earlier process wrote and did not sync is durable before it is read: raft
// takes all that it reads for stored.
func Open(dir string, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Files != nil {
		return openFiles(dir, cfg)
	}
	if err := disk.MakeFolders(disk.System(), dir, 0o700); err != nil {
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	if err := disk.SyncAll(disk.System(), dir); err != nil {
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	marked, err := readMark(dir, cfg.Backend)
	if err != nil {
		return nil, err
	}
	claim, err := openClaim(disk.System(), dir, !marked)
	if err != nil {
		return nil, err
	}
	bolt, err := openBolt(filepath.Join(dir, stableFile))
	if err != nil {
		return nil, errors.Join(openError(filepath.Join(dir, stableFile), err), claim.Close())
	}
	log, err := openLog(dir, cfg)
	if err != nil {
		return nil, errors.Join(openError(logPath(dir, cfg.Backend), err), bolt.Close(), claim.Close())
	}
	stable, err := boltStable(filepath.Join(dir, stableFile), marked, bolt)
	if err == nil {
		err = claim.meet(dir, log)
	}
	if err == nil && !marked {
		err = mark(dir, cfg.Backend)
	}
	if err != nil {
		return nil, errors.Join(err, log.Close(), bolt.Close(), claim.Close())
	}
	return &Store{checked: check(log, claim, dir, cfg), StableStore: stable, closers: []io.Closer{log, bolt, claim}}, nil
}

// boltStable keeps the stable values in a bolt file.
func boltStable(path string, made bool, bolt *raftboltdb.BoltStore) (*stable, error) {
	get := func() ([]byte, error) {
		record, err := bolt.Get(stableKey)
		if errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return nil, nil
		}
		return record, err
	}
	return openStable(path, made, get, func(record []byte) error { return bolt.Set(stableKey, record) })
}

// openError names the file or folder and tells damage from trouble that passes. The libraries' words for damage
// mislead: a file full of noise has "another version" to them.
func openError(path string, err error) error {
	for _, damage := range []error{boltErrors.ErrInvalid, boltErrors.ErrVersionMismatch, boltErrors.ErrChecksum, wal.ErrCorrupt} {
		if errors.Is(err, damage) {
			return fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
		}
	}
	return fmt.Errorf("raftlog: open %s: %w", path, err)
}

// logPath is where a backend keeps its entries.
func logPath(dir string, b Backend) string {
	if b == Bolt {
		return filepath.Join(dir, logFile)
	}
	return filepath.Join(dir, walDir)
}

// ErrMissing is a store of which a part is gone: what was acknowledged may have gone with it.
var ErrMissing = errors.New("raftlog: a part of the log is missing")

// readMark tells whether the store in dir was made before, by this backend, and is there with all its parts: a part that
// is gone would be made anew, empty, and the node would vote as if it had never seen what it acknowledged. The mark is
// written last, so a folder without one holds nothing yet, or has lost it.
func readMark(dir string, b Backend) (marked bool, err error) {
	path := filepath.Join(dir, markerFile)
	was, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, noOther(dir, b)
	case err != nil:
		return false, fmt.Errorf("raftlog: %w", err)
	case strings.TrimSpace(string(was)) != string(b):
		return false, fmt.Errorf("raftlog: %s holds a log kept by %q; it cannot be opened with %q: start the node with the log store it has, or with an empty data folder", dir, strings.TrimSpace(string(was)), b)
	}
	for _, part := range []string{stableFile, claimFile, logParts[b]} {
		if _, err := os.Stat(filepath.Join(dir, part)); err != nil {
			return true, fmt.Errorf("%w: %s: %w", ErrMissing, filepath.Join(dir, part), err)
		}
	}
	return true, nil
}

// logParts names, by backend, the file without which there is no log.
var logParts = map[Backend]string{WAL: filepath.Join(walDir, metadb.FileName), Bolt: logFile}

// noOther refuses a folder without a mark that holds the log of another backend.
func noOther(dir string, b Backend) error {
	for other, part := range logParts {
		if _, err := os.Stat(filepath.Join(dir, part)); err == nil && other != b {
			return fmt.Errorf("raftlog: %s holds a log kept by %q; it cannot be opened with %q: start the node with the log store it has, or with an empty data folder", dir, other, b)
		}
	}
	return nil
}

// mark notes, durably, that the store is whole and which backend it belongs to.
func mark(dir string, b Backend) (err error) {
	file, err := os.OpenFile(filepath.Join(dir, markerFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("raftlog: %w", err)
	}
	_, err = file.WriteString(string(b) + "\n")
	err = errors.Join(err, file.Sync(), file.Close())
	folder, opened := os.Open(dir)
	if opened == nil {
		opened = errors.Join(folder.Sync(), folder.Close())
	}
	if err = errors.Join(err, opened); err != nil {
		return fmt.Errorf("raftlog: %w", err)
	}
	return nil
}

// backend is a log of a library.
type backend interface {
	raft.LogStore
	io.Closer
}

func openLog(dir string, cfg Config) (backend, error) {
	path := logPath(dir, cfg.Backend)
	if cfg.Backend == Bolt {
		return openBolt(path)
	}
	if err := errors.Join(disk.MakeFolders(disk.System(), path, 0o700), disk.SyncAll(disk.System(), path)); err != nil {
		return nil, err
	}
	meta := &metadb.BoltMetaDB{}
	files := &segmentFiles{files: disk.System(), make: makeRoom}
	log, err := wal.Open(path, wal.WithLogger(obs.Hclog(cfg.Logger, "raft-wal")), wal.WithMetaStore(&mendedMeta{meta, walfs.New()}),
		wal.WithSegmentFiler(segment.NewFiler(path, files)))
	if err != nil {
		return nil, errors.Join(err, meta.Close())
	}
	return &walLog{log, meta}, nil
}

// walLog closes what the library leaves open: without this its folder could not be opened again by the same process.
type walLog struct {
	*wal.WAL
	meta *metadb.BoltMetaDB
}

// Close closes the log and its list of segments.
func (w *walLog) Close() error { return errors.Join(w.WAL.Close(), w.meta.Close()) }

// openBolt opens a bolt file with care for bursts: the list of free pages is not written with each commit.
// A file that another process holds is an error after a moment, not a wait for ever.
func openBolt(path string) (*raftboltdb.BoltStore, error) {
	return raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: 2 * time.Second,
	}})
}

// Close closes it, unless a write hangs: then the files are left to the end of the process.
func (s *Store) Close() error {
	if err := s.stop(); err != nil {
		return err
	}
	var err error
	for _, c := range s.closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

// IsMonotonic tells raft that gaps between indexes are refused, with either backend, so that both behave alike.
func (s *Store) IsMonotonic() bool { return true }

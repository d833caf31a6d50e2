// Package snapshot keeps raft's snapshots as folders of files, without copying what the state store already wrote.
//
// A snapshot that a node takes of itself is a folder handed over by rename (Sink.Adopt). Only when one is sent to a
// node that lags behind does it become a stream: an archive with a checksum per file and an end that proves it whole.
package snapshot

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"sluice/internal/disk"
)

const (
	filesDir  = "files"
	metaFile  = "meta.json"
	tmpSuffix = ".tmp"
)

// Config says how snapshots are kept. The zero value of a field means its default.
type Config struct {
	// Retain is how many snapshots are kept; default 2.
	Retain int
	// MaxBytes bounds the archive that a leader sends; default 1 TiB.
	MaxBytes int64
	// Files is the file system; default the operating system's.
	Files disk.FS
	// Proves tells by its name whether a file proves by itself that it is as it was written, as Check sees by reading it: its
	// error is an ErrBroken if it is not. Of the others a checksum is kept with the snapshot. Default: no file does.
	Proves func(name string) bool
	Check  func(path string) error
	// OnBroken is told that a snapshot is not as it was written, when somebody who wanted to read it finds it so. It must
	// not block. Default: nobody is told.
	OnBroken func(error)
	// Logger takes what is odd; default slog.Default.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Retain = cmp.Or(c.Retain, 2)
	c.MaxBytes = cmp.Or(c.MaxBytes, 1<<40)
	if c.Files == nil {
		c.Files = disk.System()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.OnBroken == nil {
		c.OnBroken = func(error) {}
	}
	return c
}

// Store is a raft.SnapshotStore. Its methods are safe for use by several goroutines.
type Store struct {
	dir string
	cfg Config
	// mu guards open, which counts the readers of each snapshot: what is read is not reaped.
	mu   sync.Mutex
	open map[string]int
}

// meta is what a snapshot says of itself.
type meta struct {
	raft.SnapshotMeta
	// Sums are the checksums, as in an archive, of the files that do not prove themselves.
	Sums map[string]uint32
}

// sealed is the form of meta on disk.
type sealed struct {
	CRC  uint32
	Meta json.RawMessage
}

// Open opens or makes the store in dir, and clears what an interrupted snapshot left. A snapshot that a killed process
// completed and did not tell of is durable before it is listed.
func Open(dir string, cfg Config) (*Store, error) {
	s := &Store{dir: dir, cfg: cfg.withDefaults(), open: map[string]int{}}
	switch {
	case s.cfg.Retain < 1:
		return nil, fmt.Errorf("snapshot: retain is %d; at least 1 is needed", s.cfg.Retain)
	case s.cfg.Proves != nil && s.cfg.Check == nil:
		return nil, errors.New("snapshot: files prove themselves, but there is no Check")
	}
	if err := disk.MakeFolders(s.cfg.Files, dir, 0o700); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	names, err := disk.List(s.cfg.Files, dir)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) {
			if err := s.cfg.Files.RemoveAll(filepath.Join(dir, name)); err != nil {
				return nil, fmt.Errorf("snapshot: %w", err)
			}
		}
	}
	return s, nil
}

// Create begins a snapshot, which is a *Sink.
func (s *Store) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("snapshot: version %d is not supported", version)
	}
	id := fmt.Sprintf("%d-%d-%d", term, index, time.Now().UnixMilli())
	tmp := filepath.Join(s.dir, id+tmpSuffix)
	if err := disk.MakeFolder(s.cfg.Files, tmp, 0o700); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return &Sink{store: s, tmp: tmp, meta: meta{SnapshotMeta: raft.SnapshotMeta{
		Version: version, ID: id, Index: index, Term: term, Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}}, nil
}

// List gives the whole snapshots, newest first. A broken one is passed over, and the log says so.
func (s *Store) List() ([]*raft.SnapshotMeta, error) {
	names, err := disk.List(s.cfg.Files, s.dir)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	var metas []*raft.SnapshotMeta
	for _, name := range names {
		if info, err := s.cfg.Files.Stat(filepath.Join(s.dir, name)); err != nil || !info.IsDir() || strings.HasSuffix(name, tmpSuffix) {
			continue
		}
		m, _, err := s.read(name)
		if err != nil {
			s.cfg.Logger.Warn("a snapshot is passed over", "snapshot", name, "error", err)
			continue
		}
		metas = append(metas, &m.SnapshotMeta)
	}
	slices.SortFunc(metas, func(a, b *raft.SnapshotMeta) int {
		return cmp.Or(cmp.Compare(b.Term, a.Term), cmp.Compare(b.Index, a.Index), cmp.Compare(b.ID, a.ID))
	})
	return metas, nil
}

// read reads a snapshot's meta and the names of its files, and checks that they fit. What cannot be read need not be broken: it
// may have been reaped meanwhile.
func (s *Store) read(id string) (*meta, []file, error) {
	if id != filepath.Base(id) {
		return nil, nil, fmt.Errorf("%w: %q names no snapshot", ErrBroken, id)
	}
	m, err := readMeta(s.cfg.Files, filepath.Join(s.dir, id))
	if err != nil {
		return nil, nil, err
	}
	files, err := list(s.cfg.Files, filepath.Join(s.dir, id, filesDir))
	if err != nil {
		return nil, nil, fmt.Errorf("snapshot: %w", err)
	}
	if m.ID != id || archiveSize(files) != m.Size {
		return nil, nil, fmt.Errorf("%w: the files of %s are not those that its %s tells of", ErrBroken, id, metaFile)
	}
	return m, files, nil
}

func readMeta(fsys disk.FS, dir string) (*meta, error) {
	b, err := disk.ReadFile(fsys, filepath.Join(dir, metaFile))
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	var on sealed
	m := &meta{}
	if err := json.Unmarshal(b, &on); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBroken, metaFile, err)
	}
	if crc32.Checksum(on.Meta, castagnoli) != on.CRC {
		return nil, fmt.Errorf("%w: the checksum of %s does not fit", ErrBroken, metaFile)
	}
	if err := json.Unmarshal(on.Meta, m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBroken, metaFile, err)
	}
	return m, nil
}

func (m *meta) write(fsys disk.FS, dir string) error {
	inner, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b, err := json.Marshal(sealed{CRC: crc32.Checksum(inner, castagnoli), Meta: inner})
	if err != nil {
		return err
	}
	return disk.WriteFile(fsys, filepath.Join(dir, metaFile), b)
}

// Open streams a snapshot as an archive. The snapshot is kept until the stream is closed. Every file is seen to be as it was
// written before the archive ends: what was damaged on this disk is never taken over by another node.
func (s *Store) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.use(id, 1)
	m, files, err := s.read(id)
	if err != nil {
		s.use(id, -1)
		s.tell(err)
		return nil, nil, err
	}
	out, in := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := write(in, s.cfg.Files, filepath.Join(s.dir, id, filesDir), files, s.proof(m))
		s.tell(err)
		_ = in.CloseWithError(err) // the reader gets the error
	}()
	return &m.SnapshotMeta, &stream{PipeReader: out, done: done, release: func() { s.use(id, -1) }}, nil
}

// tell passes on that a snapshot is broken.
func (s *Store) tell(err error) {
	if errors.Is(err, ErrBroken) {
		s.cfg.OnBroken(err)
	}
}

func (s *Store) proves(name string) bool { return s.cfg.Proves != nil && s.cfg.Proves(name) }

// proof checks the files of a snapshot as they are read: those that prove themselves by that, the others by the checksum
// that is kept of them.
func (s *Store) proof(m *meta) proof {
	return proof{
		before: func(path string) error {
			if !s.proves(filepath.Base(path)) {
				return nil
			}
			return s.cfg.Check(path)
		},
		after: func(name string, sum uint32) error {
			if want, ok := m.Sums[name]; ok && want != sum {
				return fmt.Errorf("%w: the checksum of %s does not fit", ErrBroken, filepath.Join(s.dir, m.ID, filesDir, name))
			}
			return nil
		},
	}
}

// stream is an archive being read.
type stream struct {
	*io.PipeReader
	done    chan struct{}
	release func()
	once    sync.Once
}

// Close ends the stream, read or not.
func (s *stream) Close() error {
	err := s.PipeReader.Close()
	s.once.Do(func() {
		<-s.done
		s.release()
	})
	return err
}

func (s *Store) use(id string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[id] += n; s.open[id] <= 0 {
		delete(s.open, id)
	}
}

// reap removes the snapshots beyond those retained, but for those being read, and for the one that was made just now, which may
// be older than others.
func (s *Store) reap(made string) error {
	metas, err := s.List()
	if err != nil || len(metas) <= s.cfg.Retain {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range metas[s.cfg.Retain:] {
		if s.open[m.ID] > 0 || m.ID == made {
			continue
		}
		// First out of the list, then gone: a crash in between leaves nothing half listed.
		old, tmp := filepath.Join(s.dir, m.ID), filepath.Join(s.dir, m.ID+tmpSuffix)
		if err := errors.Join(s.cfg.Files.Rename(old, tmp), s.cfg.Files.RemoveAll(tmp)); err != nil {
			return fmt.Errorf("snapshot: reap: %w", err)
		}
	}
	return nil
}

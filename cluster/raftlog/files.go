package raftlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"sluice/internal/disk"
	"sluice/internal/obs"
)

const (
	// fileSegmentBytes is the default size of a segment outside of the operating system's files: small, for its disk is
	// memory.
	fileSegmentBytes = 128 << 10
	// fileSegmentLeast is the smallest: tests and seeds need none below it.
	fileSegmentLeast = 4 << 10
)

// openFiles opens or makes the store in a folder of another file system. The log is raft-wal's as ever; its list of
// segments and raft's stable values are in a plain file, for bolt maps its own into memory.
func openFiles(dir string, cfg Config) (*Store, error) {
	path := logPath(dir, WAL)
	if err := disk.MakeFolders(cfg.Files, path, 0o700); err != nil {
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	if err := errors.Join(disk.SyncAll(cfg.Files, dir), disk.SyncAll(cfg.Files, path)); err != nil {
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	meta, err := loadMeta(cfg.Files, path)
	if err != nil {
		return nil, err
	}
	made := len(meta.kept.State.Segments) > 0
	claim, err := openClaim(cfg.Files, dir, !made)
	if err != nil {
		return nil, err
	}
	stable, err := openStable(meta.path, made,
		func() ([]byte, error) { return meta.GetStable(stableKey) }, func(record []byte) error { return meta.SetStable(stableKey, record) })
	if err != nil {
		return nil, errors.Join(err, claim.Close())
	}
	files := &segmentFiles{files: cfg.Files, make: makeZeros}
	log, err := wal.Open(path, wal.WithLogger(obs.Hclog(cfg.Logger, "raft-wal")), wal.WithMetaStore(&mendedMeta{meta, files}),
		wal.WithSegmentFiler(segment.NewFiler(path, files)), wal.WithSegmentSize(cfg.SegmentBytes))
	if err != nil {
		return nil, errors.Join(openError(path, err), claim.Close())
	}
	if err := claim.meet(dir, log); err != nil {
		return nil, errors.Join(err, log.Close(), claim.Close())
	}
	return &Store{checked: check(log, claim, dir, cfg), StableStore: stable, closers: []io.Closer{log, claim}}, nil
}

const fileMetaName = "meta.json"

// fileMeta keeps raft-wal's list of segments and raft's stable values in one file, which is replaced whole.
type fileMeta struct {
	files disk.FS
	path  string
	// mu guards kept, which is on disk before it is seen here. Nothing waits under it but the disk itself.
	mu   sync.Mutex
	kept fileMetaKept
}

type fileMetaKept struct {
	State  types.PersistentState
	Stable map[string][]byte
}

// loadMeta reads the file. Segments without it are a log that has lost its head.
func loadMeta(files disk.FS, dir string) (*fileMeta, error) {
	m := &fileMeta{files: files, path: filepath.Join(dir, fileMetaName), kept: fileMetaKept{Stable: map[string][]byte{}}}
	content, err := disk.ReadFile(files, m.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		names, err := disk.List(files, dir)
		if err != nil {
			return nil, fmt.Errorf("raftlog: %w", err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".wal") {
				return nil, fmt.Errorf("%w: %s", ErrMissing, m.path)
			}
		}
		return m, nil
	case err != nil:
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	if err := json.Unmarshal(content, &m.kept); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, m.path, err)
	}
	return m, nil
}

// Load gives the list of segments.
func (m *fileMeta) Load(string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.State, nil
}

// CommitState replaces the list of segments.
func (m *fileMeta) CommitState(s types.PersistentState) error {
	return m.update(func(k *fileMetaKept) { k.State = s })
}

// GetStable reads a value; nil: there is none.
func (m *fileMeta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.Stable[string(key)], nil
}

// SetStable keeps a value.
func (m *fileMeta) SetStable(key, value []byte) error {
	return m.update(func(k *fileMetaKept) { k.Stable[string(key)] = value })
}

func (m *fileMeta) update(change func(*fileMetaKept)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := fileMetaKept{State: m.kept.State, Stable: map[string][]byte{}}
	for k, v := range m.kept.Stable {
		next.Stable[k] = v
	}
	change(&next)
	content, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := disk.ReplaceFile(m.files, m.path, content); err != nil {
		return err
	}
	m.kept = next
	return nil
}

// Close has nothing to close.
func (m *fileMeta) Close() error { return nil }

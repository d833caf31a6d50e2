package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"sluice/internal/disk"
)

// segmentFiles is what raft-wal asks of a file system.
type segmentFiles struct {
	files disk.FS
	// make makes a file of zeros, with room for all of them.
	make func(files disk.FS, path string, size uint64) error
}

// makeZeros makes a file by writing zeros.
func makeZeros(files disk.FS, path string, size uint64) error {
	file, err := disk.Create(files, path)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(make([]byte, size), 0)
	return errors.Join(err, file.Close())
}

// makeRoom makes a file of the operating system's by asking for room, which takes no time.
func makeRoom(_ disk.FS, path string, size uint64) error {
	file, err := walfs.New().Create(filepath.Dir(path), filepath.Base(path), size)
	if err != nil {
		return err
	}
	return file.Close()
}

// ListDir lists the files of a folder in order.
func (s *segmentFiles) ListDir(dir string) ([]string, error) { return disk.List(s.files, dir) }

// Create makes a file of zeros.
func (s *segmentFiles) Create(dir, name string, size uint64) (types.WritableFile, error) {
	path := filepath.Join(dir, name)
	if _, err := s.files.Stat(path); err == nil {
		return nil, fmt.Errorf("raftlog: %s: %w", path, fs.ErrExist)
	}
	if err := s.make(s.files, path, size); err != nil {
		return nil, err
	}
	return s.open(path)
}

// Delete removes a file, durably.
func (s *segmentFiles) Delete(dir, name string) error {
	if err := s.files.Remove(filepath.Join(dir, name)); err != nil {
		return err
	}
	return disk.SyncFolder(s.files, dir)
}

// OpenReader opens a file to be read.
func (s *segmentFiles) OpenReader(dir, name string) (types.ReadableFile, error) {
	return s.files.Open(filepath.Join(dir, name))
}

// OpenWriter opens a file that is there to be written on.
func (s *segmentFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	path := filepath.Join(dir, name)
	if _, err := s.files.Stat(path); err != nil {
		return nil, err
	}
	return s.open(path)
}

func (s *segmentFiles) open(path string) (types.WritableFile, error) {
	file, err := disk.Open(s.files, path)
	if err != nil {
		return nil, err
	}
	return &segmentFile{File: file, files: s.files, dir: filepath.Dir(path)}, nil
}

// segmentFile makes its name durable with its first sync.
type segmentFile struct {
	disk.File
	files disk.FS
	dir   string
	// named: its name and its size are durable. One goroutine at a time syncs it.
	named bool
}

// Sync makes what was written durable, for as long as the disk takes. When the file was changed is not made durable with
// each sync: file systems that keep a journal would have to write to that, too.
func (f *segmentFile) Sync() error {
	if d, ok := f.files.(interface{ Delay() }); ok {
		d.Delay()
	}
	if f.named {
		return f.SyncData()
	}
	if err := f.File.Sync(); err != nil {
		return err
	}
	if err := disk.SyncFolder(f.files, f.dir); err != nil {
		return err
	}
	f.named = true
	return nil
}

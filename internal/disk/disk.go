// Package disk is the file system beneath a node: the operating system's, or one in memory whose power can fail, that
// can fill up and break.
package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// FS is a file system: that of the state's store, so that all of a node's data lies on one.
type FS = vfs.FS

// File is an open file or folder.
type File = vfs.File

// System is the operating system's file system.
func System() FS { return system{vfs.Default} }

type system struct{ vfs.FS }

// Lock takes a file that one process at a time may have. The answered error is ErrLocked if another has it.
func (system) Lock(path string) (io.Closer, error) {
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	closed := lock.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	return nil, errors.Join(err, closed)
}

// ErrLocked is what Lock answers while somebody else has the file.
var ErrLocked = errors.New("disk: locked by another process")

// Create makes a file, in the place of one that is there.
func Create(files FS, path string) (File, error) {
	return files.Create(path, vfs.WriteCategoryUnspecified)
}

// Open opens a file that is there to be written on at any place.
func Open(files FS, path string) (File, error) {
	return files.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
}

// ReadFile reads a whole file.
func ReadFile(files FS, path string) (content []byte, err error) {
	file, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return io.ReadAll(file)
}

// WriteFile makes a file with a content that is on the disk when it returns; the file's name is once SyncFolder was
// called for its folder.
func WriteFile(files FS, path string, content []byte) error {
	file, err := Create(files, path)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// ReplaceFile puts content in a file's place so that after a crash the old or the new one is there, whole.
func ReplaceFile(files FS, path string, content []byte) error {
	temporary := path + ".new"
	if err := WriteFile(files, temporary, content); err != nil {
		return err
	}
	if err := files.Rename(temporary, path); err != nil {
		return err
	}
	return SyncFolder(files, filepath.Dir(path))
}

// SyncFolder makes the names in a folder durable.
func SyncFolder(files FS, dir string) error {
	d, err := files.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// List gives the names in a folder, in order.
func List(files FS, dir string) ([]string, error) {
	names, err := files.List(dir)
	slices.Sort(names)
	return names, err
}

// SyncAll makes durable what a folder holds: the content of its files, and the names in it. A process that was killed
// leaves things written that were never synced. They are read at the next start like all else, and a loss of power would
// take them away once something was built upon them.
func SyncAll(files FS, dir string) error {
	names, err := List(files, dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		info, err := files.Stat(path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			continue
		}
		file, err := Open(files, path)
		if err != nil {
			return err
		}
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			return err
		}
	}
	return SyncFolder(files, dir)
}

// MakeFolders makes a folder and those above it that are absent, and makes their names durable: what is synced within
// them later is then found after a loss of power. So are the names that the folder holds already, and its own: a process
// that was killed may have given them a moment ago. A folder above them that this process may not read, or that cannot be
// synced, is left as it is.
func MakeFolders(files FS, dir string, perm os.FileMode) error {
	dir = filepath.Clean(dir)
	var unsynced []string
	for at := dir; ; at = filepath.Dir(at) {
		_, err := files.Stat(at)
		if err != nil && (!errors.Is(err, os.ErrNotExist) || at == filepath.Dir(at)) {
			return err
		}
		unsynced = append(unsynced, at)
		if err == nil {
			break
		}
	}
	// One after the other: a process that is killed leaves one name at most that is not durable.
	for _, at := range slices.Backward(unsynced) {
		if err := files.MkdirAll(at, perm); err != nil {
			return err
		}
		if err := SyncFolder(files, filepath.Dir(at)); err != nil && !notOurs(err) {
			return err
		}
	}
	return SyncFolder(files, dir)
}

// notOurs tells whether a folder of somebody else's cannot be synced by this process, or not at all.
func notOurs(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP)
}

// MakeFolder makes a folder that must not be there yet.
func MakeFolder(files FS, dir string, perm os.FileMode) error {
	if _, err := files.Stat(dir); err == nil {
		return fmt.Errorf("mkdir %s: %w", dir, os.ErrExist)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return files.MkdirAll(dir, perm)
}

package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrGone is what a Mount answers once its process has no disk any more.
var ErrGone = errors.New("disk: this process has no disk any more")

// Memory is a disk in memory. Processes mount it one after the other; it keeps apart what was synced from what was only
// written.
type Memory struct {
	mu      sync.Mutex
	files   *vfs.MemFS
	mounted *Mount
}

// NewMemory is an empty disk.
func NewMemory() *Memory { return &Memory{files: vfs.NewCrashableMem()} }

// Mount gives the disk to a process, and takes it from the one that had it: to that one the disk is gone, as if it had
// been killed, and what it wrote is there, synced or not.
func (m *Memory) Mount() *Mount {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unmount()
	m.mounted = &Mount{FS: m.files, gone: make(chan struct{})}
	return m.mounted
}

// Unmount takes the disk from the process that has it.
func (m *Memory) Unmount() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unmount()
}

func (m *Memory) unmount() {
	if m.mounted != nil {
		close(m.mounted.gone)
		m.mounted = nil
	}
}

// PowerLoss unmounts the disk and loses what was not synced: each block of a file and each name in a folder stays with a
// chance of so many percent.
func (m *Memory) PowerLoss(rng *rand.Rand, stay int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unmount()
	m.files = m.files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: stay, RNG: rng})
}

// Wipe unmounts the disk and empties it.
func (m *Memory) Wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unmount()
	m.files = vfs.NewCrashableMem()
}

// Files lists the paths of all files that hold something, in order.
func (m *Memory) Files() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return walk(m.files, "/")
}

func walk(files FS, dir string) (paths []string, err error) {
	names, err := List(files, dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		at := path.Join(dir, name)
		info, err := files.Stat(at)
		if err != nil {
			return nil, err
		}
		switch {
		case info.IsDir():
			below, err := walk(files, at)
			if err != nil {
				return nil, err
			}
			paths = append(paths, below...)
		case info.Size() > 0:
			paths = append(paths, at)
		}
	}
	return paths, nil
}

// Damage changes the content of a file, durably, while no process has the disk.
func (m *Memory) Damage(at string, change func(content []byte) []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mounted != nil {
		return fmt.Errorf("disk: a process has it: only a disk that is not in use can be damaged")
	}
	content, err := ReadFile(m.files, at)
	if err != nil {
		return err
	}
	if err := WriteFile(m.files, at, change(content)); err != nil {
		return err
	}
	return SyncFolder(m.files, path.Dir(at))
}

// Mount is the disk in the hands of one process. What goes wrong with it is set by its methods, at any time; it concerns
// what begins afterwards, and what waits.
type Mount struct {
	FS
	gone chan struct{}

	// mu guards what follows.
	mu sync.Mutex
	// refused is the error of all that changes something, failed that of every sync; nil: none.
	refused, failed error
	// slow is how long a sync takes. held is closed when the disk hangs no more; nil: it does not hang.
	slow func() time.Duration
	held chan struct{}
	// watch is told of every change; nil: nobody is.
	watch func(op Op, name string, made bool)
}

// Op is what is done to a file or folder.
type Op string

// What changes a disk. A folder is synced as a file is.
const (
	OpCreate Op = "create"
	OpWrite  Op = "write"
	OpSync   Op = "sync"
	OpRename Op = "rename"
	OpRemove Op = "remove"
	OpLink   Op = "link"
	OpFolder Op = "make folder"
)

// Watch has a function told of each change: before it is made, and once it was made. It is called by whoever makes the
// change, and must not wait. If it takes the disk away from the process, what it was told of before is not made.
func (m *Mount) Watch(f func(op Op, name string, made bool)) { m.set(func() { m.watch = f }) }

// Refuse has all that changes something fail with an error, as on a disk that is full or may only be read; nil: no more.
func (m *Mount) Refuse(err error) { m.set(func() { m.refused = err }) }

// FailSyncs has every sync fail with an error; nil: no more.
func (m *Mount) FailSyncs(err error) { m.set(func() { m.failed = err }) }

// Slow says how long each sync of a log takes; nil: no time.
func (m *Mount) Slow(span func() time.Duration) { m.set(func() { m.slow = span }) }

// Hang has every sync of a log wait until Resume.
func (m *Mount) Hang() {
	m.set(func() {
		if m.held == nil {
			m.held = make(chan struct{})
		}
	})
}

// Resume ends Hang.
func (m *Mount) Resume() {
	m.set(func() {
		if m.held != nil {
			close(m.held)
			m.held = nil
		}
	})
}

func (m *Mount) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// writable tells why nothing can be changed.
func (m *Mount) writable() error {
	select {
	case <-m.gone:
		return ErrGone
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused
}

// syncable tells why a sync fails.
func (m *Mount) syncable() error {
	if err := m.writable(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// Delay waits for as long as the disk takes for one sync. It waits on channels alone, so that simulated time goes on. The
// raft log asks for it: what syncs under a lock must not wait.
func (m *Mount) Delay() {
	m.mu.Lock()
	slow, held := m.slow, m.held
	m.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-m.gone:
			return
		}
	}
	if slow == nil {
		return
	}
	timer := time.NewTimer(slow())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.gone:
	}
}

// Lock is free: a Mount belongs to one process.
func (m *Mount) Lock(string) (io.Closer, error) { return unlocked{}, m.writable() }

type unlocked struct{}

func (unlocked) Close() error { return nil }

// Create makes a file.
func (m *Mount) Create(name string, category vfs.DiskWriteCategory) (file File, err error) {
	err = m.change(OpCreate, name, func() error {
		file, err = m.FS.Create(name, category)
		return err
	})
	return m.wrap(file, name, err)
}

// OpenReadWrite opens a file, which is made if it is absent.
func (m *Mount) OpenReadWrite(name string, category vfs.DiskWriteCategory, options ...vfs.OpenOption) (file File, err error) {
	err = m.change(OpCreate, name, func() error {
		file, err = m.FS.OpenReadWrite(name, category, options...)
		return err
	})
	return m.wrap(file, name, err)
}

// ReuseForWrite makes a file of an old one.
func (m *Mount) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (file File, err error) {
	err = m.change(OpCreate, to, func() error {
		file, err = m.FS.ReuseForWrite(from, to, category)
		return err
	})
	return m.wrap(file, to, err)
}

// OpenDir opens a folder to be synced.
func (m *Mount) OpenDir(name string) (File, error) {
	file, err := m.FS.OpenDir(name)
	return m.wrap(file, name, err)
}

func (m *Mount) wrap(file File, name string, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &mountedFile{File: file, mount: m, name: name}, nil
}

// Link gives a file another name.
func (m *Mount) Link(from, to string) error {
	return m.change(OpLink, to, func() error { return m.FS.Link(from, to) })
}

// Remove takes a name away.
func (m *Mount) Remove(name string) error {
	return m.change(OpRemove, name, func() error { return m.FS.Remove(name) })
}

// RemoveAll takes a folder away with all that is in it.
func (m *Mount) RemoveAll(name string) error {
	return m.change(OpRemove, name, func() error { return m.FS.RemoveAll(name) })
}

// Rename moves a name.
func (m *Mount) Rename(from, to string) error {
	return m.change(OpRename, to, func() error { return m.FS.Rename(from, to) })
}

// MkdirAll makes a folder and those above it.
func (m *Mount) MkdirAll(dir string, perm fs.FileMode) error {
	return m.change(OpFolder, dir, func() error { return m.FS.MkdirAll(dir, perm) })
}

// change makes a change, if it can be made, and tells of it.
func (m *Mount) change(op Op, name string, do func() error) error {
	m.mu.Lock()
	watch := m.watch
	m.mu.Unlock()
	if watch != nil {
		watch(op, name, false)
	}
	allowed := m.writable
	if op == OpSync {
		allowed = m.syncable
	}
	if err := allowed(); err != nil {
		return err
	}
	err := do()
	if err == nil && watch != nil {
		watch(op, name, true)
	}
	return err
}

// Unwrap hides what is beneath: nothing goes past the faults.
func (m *Mount) Unwrap() FS { return nil }

type mountedFile struct {
	File
	mount *Mount
	name  string
}

func (f *mountedFile) Write(p []byte) (n int, err error) {
	err = f.mount.change(OpWrite, f.name, func() error {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

func (f *mountedFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.mount.change(OpWrite, f.name, func() error {
		n, err = f.File.WriteAt(p, at)
		return err
	})
	return n, err
}

func (f *mountedFile) Sync() error {
	return f.mount.change(OpSync, f.name, f.File.Sync)
}

func (f *mountedFile) SyncData() error { return f.Sync() }

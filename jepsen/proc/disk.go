//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// disk is where one node keeps its data: a file that holds an ext4, mounted.
type disk struct {
	image, dir string
	mounted    bool
	// full: nothing is to have room on it.
	full atomic.Bool
}

const (
	// diskBytes is the size of a disk. A fresh node needs about 70 MB.
	diskBytes = 400 << 20
	// ext4Shutdown is EXT4_IOC_SHUTDOWN; with noLogFlush the file system stops at once, and what was not synced is gone.
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// canMount says what is missing to have disks of one's own.
func canMount() error {
	if os.Geteuid() != 0 {
		return errors.New("mounting needs root")
	}
	for _, program := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("there is no program %s", program)
		}
	}
	return nil
}

// newDisk makes and mounts a disk.
func newDisk(ctx context.Context, image, dir string) (*disk, error) {
	d := &disk{image: image, dir: dir}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("proc: disk: %w", err)
	}
	return d, d.format(ctx)
}

// format makes the disk a fresh one, and mounts it.
func (d *disk) format(ctx context.Context) error {
	if err := os.RemoveAll(d.image); err != nil {
		return fmt.Errorf("proc: disk: %w", err)
	}
	f, err := os.Create(d.image)
	if err == nil {
		err = errors.Join(f.Truncate(diskBytes), f.Close())
	}
	if err != nil {
		return fmt.Errorf("proc: disk: %w", err)
	}
	if _, err := command(ctx, "", "mkfs.ext4", "-q", "-F", "-m", "0", d.image); err != nil {
		return err
	}
	return d.mount(ctx)
}

func (d *disk) mount(ctx context.Context) error {
	_, err := command(ctx, "", "mount", "-o", "loop,noatime", d.image, d.dir)
	d.mounted = err == nil
	return errors.Join(err, d.settle())
}

// settle makes room again if there should be: a loss of power may have brought back what was removed.
func (d *disk) settle() error {
	if d.full.Load() {
		return nil
	}
	return d.empty()
}

func (d *disk) unmount(ctx context.Context) error {
	if !d.mounted {
		return nil
	}
	_, err := command(ctx, "", "umount", d.dir)
	if err == nil {
		d.mounted = false
	}
	return err
}

// remove unmounts the disk, as soon as nobody uses it, and removes it.
func (d *disk) remove(ctx context.Context) error {
	if err := d.unmount(ctx); err != nil {
		if _, err := command(ctx, "", "umount", "-l", d.dir); err != nil {
			return err
		}
	}
	return os.Remove(d.image)
}

// losePower has the file system stop as it is on the disk.
func (d *disk) losePower() error {
	dir, err := os.Open(d.dir)
	if err != nil {
		return fmt.Errorf("proc: power loss: %w", err)
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), ext4Shutdown, noLogFlush); err != nil {
		return fmt.Errorf("proc: power loss: EXT4_IOC_SHUTDOWN of %s: %w", d.dir, err)
	}
	return nil
}

// powerUp mounts the disk again: its journal is replayed.
func (d *disk) powerUp(ctx context.Context) error {
	if err := d.unmount(ctx); err != nil {
		return err
	}
	return d.mount(ctx)
}

func (d *disk) filler() string { return filepath.Join(d.dir, "filler") }

// fill leaves no room on the disk.
func (d *disk) fill() error {
	d.full.Store(true)
	f, err := os.Create(d.filler())
	if err != nil {
		return fmt.Errorf("proc: fill a disk: %w", err)
	}
	defer f.Close()
	for step, size := int64(64<<20), int64(0); step >= 4096; {
		err := syscall.Fallocate(int(f.Fd()), 0, size, step)
		switch {
		case err == nil:
			size += step
		case errors.Is(err, syscall.ENOSPC):
			step /= 2
		default:
			return fmt.Errorf("proc: fill a disk: %w", err)
		}
	}
	return nil
}

// free makes room on the disk, or at its next start if it has no power.
func (d *disk) free() error {
	d.full.Store(false)
	if err := d.empty(); err != nil && !errors.Is(err, syscall.EIO) {
		return err
	}
	return nil
}

func (d *disk) empty() error {
	if err := os.Remove(d.filler()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("proc: make room on a disk: %w", err)
	}
	return nil
}

// freeze has every write wait; thaw lets them go on.
func (d *disk) freeze(ctx context.Context) error {
	_, err := command(ctx, "", "fsfreeze", "-f", d.dir)
	return err
}

func (d *disk) thaw(ctx context.Context) error {
	_, err := command(ctx, "", "fsfreeze", "-u", d.dir)
	return err
}

// refuseWrites makes the disk read-only, as a kernel does after an error: files that are open for writing stay open, and
// writes to them fail.
func (d *disk) refuseWrites(ctx context.Context) error {
	_, err := command(ctx, "", "mount", "-o", "remount,abort", d.dir)
	return err
}

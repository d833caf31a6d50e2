package cluster

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	diskLook = 250 * time.Millisecond
	// diskReserveShare is the greatest part of a file system that is kept free, as a divisor.
	diskReserveShare = 20
	// abdicateEvery is how often a leader with a full disk tries to hand over.
	abdicateEvery = 30 * time.Second
)

// space watches the space left in the data folder. While there is too little the node takes no new commands as leader
// and hands over, but goes on following; when space is freed it goes on by itself.
type space struct {
	dir  string
	free func(dir string) (free, total uint64, err error)
	// reserve bytes are kept free, but at most one part in share of the file system.
	reserve atomic.Uint64
	share   atomic.Uint64
	log     *slog.Logger
	// low: below the reserve; bottom: below half of it.
	low, bottom atomic.Bool
}

func newSpace(cfg Config, log *slog.Logger) *space {
	d := &space{dir: cfg.DataDir, free: cfg.FreeSpace, log: log}
	d.reserve.Store(cfg.DiskReserve)
	d.share.Store(diskReserveShare)
	return d
}

// full tells whether there is too little space for new commands.
func (d *space) full() bool { return d.low.Load() }

// critical tells whether there is too little space even for what other nodes committed.
func (d *space) critical() bool { return d.bottom.Load() }

// look measures the space left.
func (d *space) look() {
	free, total, err := d.free(d.dir)
	if err != nil {
		d.log.Warn("cannot tell how much disk is left", "error", err)
		return
	}
	reserve := min(d.reserve.Load(), total/d.share.Load())
	low := free < reserve
	d.bottom.Store(free < reserve/2)
	if d.low.Swap(low) == low {
		return
	}
	if low {
		d.log.Error("the disk is full: this node takes no commands until space is freed", "folder", d.dir, "free_bytes", free, "needed_bytes", reserve)
	} else {
		d.log.Info("there is space on the disk again", "folder", d.dir, "free_bytes", free)
	}
}

// statfs asks the operating system.
func statfs(dir string) (free, total uint64, err error) {
	var s unix.Statfs_t
	err = unix.Statfs(dir, &s)
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), err
}

// watchDisk looks at the disk until ctx ends.
func (n *Node) watchDisk(ctx context.Context) {
	var tried time.Time
	ticker := time.NewTicker(diskLook)
	defer ticker.Stop()
	for {
		n.disk.look()
		if n.disk.full() && n.isLeader() && time.Since(tried) > abdicateEvery {
			tried = time.Now()
			n.abdicate()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

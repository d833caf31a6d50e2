package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	diskLook = time.Second
	// diskReserveShare is the greatest part of a file system that is kept free, as a divisor.
	diskReserveShare = 20
	// abdicateEvery is how often a leader with a full disk tries to hand over.
	abdicateEvery = 30 * time.Second
)

// disk watches the space left in the data folder. While there is too little the node takes no new commands as leader
// and hands over, but goes on following; when space is freed it goes on by itself.
type disk struct {
	dir     string
	reserve uint64
	log     *slog.Logger
	low     atomic.Bool
}

func (d *disk) full() bool { return d.low.Load() }

// look measures the space left.
func (d *disk) look() {
	var s unix.Statfs_t
	if err := unix.Statfs(d.dir, &s); err != nil {
		d.log.Warn("cannot tell how much disk is left", "error", err)
		return
	}
	block := uint64(s.Bsize)
	free, reserve := s.Bavail*block, min(d.reserve, s.Blocks*block/diskReserveShare)
	low := free < reserve
	if d.low.Swap(low) == low {
		return
	}
	if low {
		d.log.Error("the disk is full: this node takes no commands until space is freed", "folder", d.dir, "free_bytes", free, "needed_bytes", reserve)
	} else {
		d.log.Info("there is space on the disk again", "folder", d.dir, "free_bytes", free)
	}
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

// noteStorage looks at an error that raft's log gave the leader: a full disk may be freed; whatever else a disk says
// ends the node, for what it holds then is not known.
func (n *Node) noteStorage(err error) {
	switch {
	case errors.Is(err, unix.ENOSPC):
		n.disk.look()
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EROFS):
		n.fatal(err)
	}
}

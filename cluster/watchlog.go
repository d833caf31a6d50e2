package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// errDiskFull is what the raft log says instead of trying to write to a disk that is all but full. Nothing was written
// then, so the log can go on once space is freed; a write that did fail ends the node.
var errDiskFull = fmt.Errorf("cluster: the raft log takes no more entries: %w", unix.ENOSPC)

// watchedLog is the raft log, watched: raft itself would go on after an error.
type watchedLog struct {
	raftStore
	node *Node
}

// StoreLogs appends entries, or refuses to before it touches a full disk.
func (w *watchedLog) StoreLogs(logs []*raft.Log) error {
	if w.node.disk.critical() {
		return errDiskFull
	}
	return w.note("write", w.raftStore.StoreLogs(logs))
}

// StoreLog appends one entry.
func (w *watchedLog) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

// GetLog reads an entry; one that is not as it was written ends the node.
func (w *watchedLog) GetLog(index uint64, l *raft.Log) error {
	err := w.raftStore.GetLog(index, l)
	if errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	return w.note("read", err)
}

// DeleteRange removes entries.
func (w *watchedLog) DeleteRange(first, last uint64) error {
	return w.note("cut", w.raftStore.DeleteRange(first, last))
}

// IsMonotonic tells whether the log beneath refuses gaps.
func (w *watchedLog) IsMonotonic() bool {
	m, ok := w.raftStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

func (w *watchedLog) note(what string, err error) error {
	if err == nil {
		return nil
	}
	w.node.fatal(fmt.Errorf("cluster: %s the raft log: %w", what, err))
	return err
}

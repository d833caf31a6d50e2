package cluster

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// errDiskFull is what the raft log says instead of trying to write to a disk that is all but full. Nothing was written
// then, so the log can go on once space is freed; a write that did fail ends the node.
var errDiskFull = fmt.Errorf("cluster: the raft log takes no more entries: %w", unix.ENOSPC)

// watchedLog is the raft log with its stable values, watched: raft itself would go on after some errors, and end the
// process with a panic after others.
type watchedLog struct {
	RaftLog
	node *Node
}

// StoreLogs appends entries, or refuses to before it touches a full disk. When it returns they are on the disk, or this node
// leads and acknowledges them to nobody before they are.
func (w *watchedLog) StoreLogs(logs []*raft.Log) error {
	if w.node.disk.critical() {
		return errDiskFull
	}
	if err := w.followsSnapshot(logs[0].Index); err != nil {
		return err
	}
	if later, ok := w.RaftLog.(laterLog); ok && w.node.besideFollowers(logs) {
		return w.note("write", later.StoreLater(logs, func(err error) {
			_ = w.note("write", err) // it ends the node; there is nobody else to tell
		}))
	}
	return w.note("write", w.RaftLog.StoreLogs(logs))
}

// followsSnapshot refuses to begin a log anywhere but right behind the newest snapshot. Entries from before it may still be
// on their way when a snapshot is taken over: after them the log could not go on.
func (w *watchedLog) followsSnapshot(first uint64) error {
	if last, err := w.LastIndex(); err != nil || last > 0 {
		return err
	}
	if index, _, ok := w.node.newestSnapshot(); ok && first != index+1 {
		return fmt.Errorf("cluster: entry %d does not follow on snapshot %d", first, index)
	}
	return nil
}

// StoreLog appends one entry.
func (w *watchedLog) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

// GetLog reads an entry; one that is not as it was written ends the node.
//
// Of the last entry of its newest snapshot a follower is told the term though the log begins behind it. Raft compares that
// with what a leader says comes before its entries, and knows it only while nothing lies behind the snapshot: entries sent
// once more from there on, because an answer was lost, it would refuse. The leader would then send the snapshot again and
// again, and each time the follower would throw away entries that it had acknowledged (raft 1.7.3, appendEntries and
// installSnapshot).
func (w *watchedLog) GetLog(index uint64, l *raft.Log) error {
	err := w.RaftLog.GetLog(index, l)
	if errors.Is(err, raft.ErrLogNotFound) {
		if newest, term, ok := w.node.newestSnapshot(); ok && index == newest && w.node.follows() {
			*l = raft.Log{Index: index, Term: term, Type: raft.LogNoop}
			return nil
		}
		return err
	}
	return w.park(w.note("read", err))
}

// follows tells that raft runs and has a leader, or looks for one. A leader is not told what a snapshot ends with: it would
// send the entry, of which nothing but the term is known.
func (n *Node) follows() bool {
	r := n.raft()
	return r != nil && r.State() == raft.Follower
}

// newestSnapshot is the last entry of the newest snapshot that this node holds.
func (n *Node) newestSnapshot() (index, term uint64, ok bool) {
	snapshots, err := n.snaps.List()
	if err != nil || len(snapshots) == 0 {
		return 0, 0, false
	}
	return snapshots[0].Index, snapshots[0].Term, true
}

// snapshotTerm is the term of the last entry of a snapshot that this node holds.
func (n *Node) snapshotTerm(index uint64) (term uint64, ok bool) {
	snapshots, err := n.snaps.List()
	if err != nil {
		return 0, false
	}
	for _, s := range snapshots {
		if s.Index == index {
			return s.Term, true
		}
	}
	return 0, false
}

// Set and SetUint64 keep raft's vote and term; what cannot be written ends the node.
func (w *watchedLog) Set(key, value []byte) error {
	return w.park(w.note("write the stable values of", w.RaftLog.Set(key, value)))
}

// SetUint64 is Set of a number.
func (w *watchedLog) SetUint64(key []byte, value uint64) error {
	return w.park(w.note("write the stable values of", w.RaftLog.SetUint64(key, value)))
}

// DeleteRange removes entries.
func (w *watchedLog) DeleteRange(first, last uint64) error {
	return w.note("cut", w.RaftLog.DeleteRange(first, last))
}

// IsMonotonic tells whether the log beneath refuses gaps.
func (w *watchedLog) IsMonotonic() bool {
	m, ok := w.RaftLog.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// park keeps an error that raft answers with a panic from it, once raft runs: the node is ending, and does not wait for
// raft then. The goroutine ends when the node has.
func (w *watchedLog) park(err error) error {
	if err == nil || w.node.raft() == nil {
		return err
	}
	w.node.parkOnce.Do(func() { close(w.node.parked) })
	<-w.node.abandoned
	runtime.Goexit()
	return nil
}

func (w *watchedLog) note(what string, err error) error {
	if err == nil {
		return nil
	}
	w.node.fatal(fmt.Errorf("cluster: %s the raft log: %w", what, err))
	return err
}

package cluster

import (
	"errors"
	"fmt"
)

// ErrLost is a data folder that has lost something which the node acknowledged or voted for. To go on with what is left
// would break the promise that a majority of disks has every acknowledged entry.
var ErrLost = errors.New("cluster: the data folder has lost a part of its data")

// whole refuses a folder in which raft has written and whose log, term or state are no longer there. A log that is cut
// within is noticed by what reads it; here are the losses that would look like a node that has seen nothing yet.
func (n *Node) whole() error {
	i := n.folder.current()
	if !i.Established {
		return nil
	}
	term, err := n.raftLog.GetUint64([]byte("CurrentTerm"))
	if err != nil && err.Error() != "not found" { // raft compares the text, too: its stores share no error
		return fmt.Errorf("cluster: read raft's term: %w", err)
	}
	first, err1 := n.raftLog.FirstIndex()
	last, err2 := n.raftLog.LastIndex()
	snapshots, err3 := n.snaps.List()
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("cluster: look at the raft log: %w", err)
	}
	// An entry is in the log before it is applied, unless it came with the state of a leader.
	applied, covered := n.group.applied.index(), max(last, i.RestoredIndex)
	from := applied
	if len(snapshots) > 0 {
		from, covered = max(from, snapshots[0].Index), max(covered, snapshots[0].Index)
	}
	switch {
	case term == 0:
		return lost("raft's term and vote are gone")
	case last == 0 && len(snapshots) == 0:
		return lost("the raft log is gone, and there is no snapshot")
	case applied > covered:
		return lost(fmt.Sprintf("the raft log ends at index %d and the state at %d", last, applied))
	case len(snapshots) > 0 && last < snapshots[0].Index && snapshots[0].Index <= applied && i.RestoredIndex < snapshots[0].Index:
		// It is this node's own: a leader's is ahead of the state until it is taken up, which is noted.
		return lost(fmt.Sprintf("the raft log ends at index %d and the snapshot that this node took at %d", last, snapshots[0].Index))
	case first > from+1:
		return lost(fmt.Sprintf("the state ends at index %d and the raft log begins at %d", from, first))
	case len(snapshots) == 0 && first > 1, len(snapshots) > 0 && first > snapshots[0].Index+1:
		return lost(fmt.Sprintf("the raft log begins at index %d, and no whole snapshot reaches there", first))
	}
	return nil
}

func lost(what string) error {
	return fmt.Errorf("%w: %s", ErrLost, what)
}

// establish notes that raft has written in this folder, once it has.
func (n *Node) establish() {
	if err := n.folder.establish(); err != nil {
		n.fatal(err)
	}
}

package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// takeUp ends what a crash interrupted while this node took a leader's snapshot: the snapshot is kept, and the state, the
// log or both are still those from before. Raft takes up the state alone at its start, and nothing of a log that may have no
// gaps: it would append behind the snapshot, for which the log ends too early, and the node would end again and again. The
// state comes first, so that no entry goes before what stands in for it is there. It may be repeated after a crash at any
// point.
func (n *Node) takeUp(latest *raft.SnapshotMeta) error {
	if latest.Index > n.group.applied.index() {
		if err := n.takeUpState(latest); err != nil {
			return fmt.Errorf("cluster: take up the state of snapshot %s: %w", latest.ID, err)
		}
	}
	cut, err := cutLog(n.raftLog, latest)
	if err != nil {
		return fmt.Errorf("cluster: take up snapshot %s: the raft log: %w", latest.ID, err)
	}
	if cut {
		n.log.Info("the raft log begins anew behind a leader's snapshot", "index", latest.Index)
	}
	return nil
}

func (n *Node) takeUpState(latest *raft.SnapshotMeta) error {
	_, source, err := n.snaps.Open(latest.ID)
	if err != nil {
		return err
	}
	return errors.Join(n.group.restore(source), source.Close())
}

// cutLog empties a log that does not lead to a snapshot, and tells whether it did: its last entry comes before the
// snapshot's, or it has another entry there than the snapshot was made of. Then its entries up to the snapshot need not be
// those that were committed, and a leader would send them to others; and those behind it were not committed.
func cutLog(log raft.LogStore, latest *raft.SnapshotMeta) (cut bool, err error) {
	first, err1 := log.FirstIndex()
	last, err2 := log.LastIndex()
	if err := errors.Join(err1, err2); err != nil || last == 0 || first > latest.Index {
		return false, err
	}
	if last >= latest.Index {
		var at raft.Log
		if err := log.GetLog(latest.Index, &at); err != nil || at.Term == latest.Term {
			return false, err
		}
	}
	return true, log.DeleteRange(first, last)
}

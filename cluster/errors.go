package cluster

import (
	"context"
	"errors"
	"strings"

	"github.com/hashicorp/raft"

	"sluice/api/reason"
	"sluice/cluster/raftlog"
	"sluice/cluster/snapshot"
	"sluice/queue"
	"sluice/transport"
)

// raftRefusal turns an error of raft into what a caller may conclude: not done, or unknown.
func raftRefusal(err error) error {
	var refusal *reason.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return reason.NoLeader.Errorf("this node is not the leader: %v", err)
	case strings.Contains(err.Error(), errDiskFull.Error()): // raft does not wrap what its log says
		return reason.DiskFull.Errorf("the leader's disk is full: free some space")
	}
	return reason.OutcomeUnknown.Errorf("it may or may not be done, and the same call with the same id is safe: %v", err)
}

// changeRefusal turns an error of a call to a peer that changes something into what a caller may conclude.
func changeRefusal(err error) error {
	var refusal *reason.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, transport.ErrUnreachable):
		return reason.NoLeader.Errorf("the leader was not reached: %v", err)
	}
	return reason.OutcomeUnknown.Errorf("it may or may not be done, and the same call with the same id is safe: %v", err)
}

// readRefusal turns an error of a call to a peer that changes nothing into a refusal: such a call may be made again.
func readRefusal(err error) error {
	var refusal *reason.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return reason.NoLeader.Errorf("the leader did not answer in time: %v", err)
	}
	return reason.NoLeader.Errorf("the leader was not reached: %v", err)
}

// Damaged tells whether an error of a node, from New or Run, says that files in its data folder are not as they were
// written. The node cannot go on with that folder.
func Damaged(err error) bool {
	return errors.Is(err, queue.ErrCorrupt) || errors.Is(err, raftlog.ErrCorrupt) || errors.Is(err, raftlog.ErrDamaged) || errors.Is(err, raftlog.ErrMissing) || errors.Is(err, snapshot.ErrBroken) || errors.Is(err, ErrLost)
}

// alsoFailed adds what failed afterwards to why something failed, unless it is the same again: a store that has failed
// tells of it once more when it is closed.
func alsoFailed(first, then error) error {
	if then == nil || strings.Contains(first.Error(), then.Error()) {
		return first
	}
	return errors.Join(first, then)
}

// notDone tells whether a call was refused because there was no leader, so that it may be tried again.
func notDone(err error) bool { return errors.Is(err, reason.NoLeader) }

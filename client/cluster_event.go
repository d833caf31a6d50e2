package client

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	sluicev1 "sluice/api/sluice/v1"
)

// ClusterEventType says what happened in the cluster.
type ClusterEventType string

// The types of events of the cluster. docs/events.md tells when each comes, and what it carries.
const (
	TypeRecoveryEntered ClusterEventType = "recovery-entered"
	// TypeRecoveryCompleted: nothing was held, the instance is normal. TypeDraining: the backlog is drained first.
	TypeRecoveryCompleted ClusterEventType = "recovery-completed"
	TypeDraining          ClusterEventType = "draining"
	TypeDrained           ClusterEventType = "drained"
	// TypeHeldTooLong: a recovery lasts longer than the application's Supervision allows.
	TypeHeldTooLong         ClusterEventType = "held-too-long"
	TypeMessageDeferred     ClusterEventType = "message-deferred"
	TypeMessageDuplicate    ClusterEventType = "message-duplicate"
	TypeMessageExpired      ClusterEventType = "message-expired"
	TypeMessageDeadLettered ClusterEventType = "message-dead-lettered"
	TypeMessageReplaced     ClusterEventType = "message-replaced"
	TypeMessageSkipped      ClusterEventType = "message-skipped"
	TypeMessagePutBack      ClusterEventType = "message-put-back"
	TypeSessionOpened       ClusterEventType = "session-opened"
	TypeSessionClosed       ClusterEventType = "session-closed"
	// TypeSessionLost: a session's lease ran out.
	TypeSessionLost                ClusterEventType = "session-lost"
	TypeApplicationRecoveryEntered ClusterEventType = "application-recovery-entered"
	TypeOperationProgress          ClusterEventType = "operation-progress"
	TypeLeaderChanged              ClusterEventType = "leader-changed"
	TypeInstanceTerminated         ClusterEventType = "instance-terminated"
)

var clusterEventTypes = []ClusterEventType{
	"", TypeRecoveryEntered, TypeRecoveryCompleted, TypeDraining, TypeDrained, TypeHeldTooLong, TypeMessageDeferred, TypeMessageDuplicate,
	TypeMessageExpired, TypeMessageDeadLettered, TypeMessageReplaced, TypeMessageSkipped, TypeMessagePutBack, TypeSessionOpened, TypeSessionClosed,
	TypeSessionLost, TypeApplicationRecoveryEntered, TypeOperationProgress, TypeLeaderChanged, TypeInstanceTerminated,
}

// ClusterEvent is one thing that happened in the cluster; Event is what a worker tells of. Fields that do not apply
// are zero.
type ClusterEvent struct {
	// Cursor is the place behind this event: to go on from, as WatchOptions.Since.
	Cursor Cursor
	Type   ClusterEventType
	Time   time.Time
	// Actor is who brought it about.
	Actor string
	// Application, and the key of the Instance within it.
	Application, Instance string
	Epoch                 Epoch
	Mode                  Mode
	MessageID             string
	Seq                   Seq
	Lane                  Lane
	// Detail is a cause, a reason or an error, for a person; at most some 500 bytes.
	Detail string
	// DeferredMessages is how many the instance, or the application, held at that point.
	DeferredMessages uint64
	// SessionID of TypeSession….
	SessionID string
	// Operation, of TypeOperationProgress, as it was then.
	Operation *Operation
	// NodeID and Term, of TypeLeaderChanged: who leads, in which term of raft.
	NodeID string
	Term   uint64
}

func clusterEventOf(e *sluicev1.Event) ClusterEvent {
	out := ClusterEvent{
		Cursor: placeCursor(e.GetIndex(), e.GetPlace()), Type: word(clusterEventTypes, e.GetType()), Time: timeOf(e.GetTime()), Actor: e.GetActor(),
		Application: e.GetApplication(), Instance: e.GetInstance(), Epoch: Epoch(e.GetEpoch()), Mode: word(modes, e.GetMode()),
		MessageID: e.GetMessageId(), Seq: Seq(e.GetSeq()), Lane: word(lanes, e.GetLane()), Detail: e.GetDetail(),
		DeferredMessages: e.GetDeferredMessages(), SessionID: e.GetSessionId(), NodeID: e.GetNodeId(), Term: e.GetTerm(),
	}
	if o := e.GetOperation(); o != nil {
		operation, _ := operationOf(o, nil)
		out.Operation = &operation
	}
	return out
}

// Cursor is a place in the stream of events: "17" is behind all events of log index 17, "17.0" behind the first of
// them. Empty: before the oldest that is kept. It may be stored, and used at any node.
type Cursor string

func indexCursor(index uint64) Cursor { return Cursor(strconv.FormatUint(index, 10)) }

func placeCursor(index uint64, place uint32) Cursor {
	return Cursor(fmt.Sprintf("%d.%d", index, place))
}

// parse takes a cursor apart; place is nil behind all events of the index.
func (c Cursor) parse() (index uint64, place *uint32, err error) {
	if c == "" {
		return 0, nil, nil
	}
	bad := refuse(ErrBadField, "%q is no place among events: want INDEX or INDEX.PLACE, as in 17 or 17.0", string(c))
	whole, part, within := strings.Cut(string(c), ".")
	if index, err = strconv.ParseUint(whole, 10, 64); err != nil {
		return 0, nil, bad
	}
	if !within {
		return index, nil, nil
	}
	n, err := strconv.ParseUint(part, 10, 32)
	if err != nil || index == 0 {
		return 0, nil, bad
	}
	p := uint32(n)
	return index, &p, nil
}

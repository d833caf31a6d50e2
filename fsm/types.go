package fsm

import (
	"errors"
	"fmt"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
)

// InstanceID names an instance.
type InstanceID struct{ Application, Key string }

// String is application/key.
func (id InstanceID) String() string { return id.Application + "/" + id.Key }

// MessageRef names a message of an instance by its id.
type MessageRef struct {
	InstanceID
	ID string
}

// Entry is one raft log entry. Data is a marshalled logv1.Entry; empty for entries of raft itself.
type Entry struct {
	Index, Term uint64
	Data        []byte
}

// Result holds the outcomes of an entry, one a command, and the chained hash over the writes up to it; nothing for an
// entry that had been applied before.
type Result struct {
	Outcomes []*logv1.Outcome
	Digest   uint64
}

// Errors after which a node must stop: to skip an entry would be divergence.
var (
	// ErrUnknownCommand: the entry was made by a newer version.
	ErrUnknownCommand = errors.New("fsm: the entry holds a command that this version does not know")
	// ErrCorruptEntry: the entry cannot be decoded.
	ErrCorruptEntry = errors.New("fsm: the entry cannot be decoded")
	// ErrDiverged: this replica's state differs from the leader's.
	ErrDiverged = errors.New("fsm: the state differs from the leader's")
	// ErrStopped: an earlier call failed; the machine in memory is no longer that of the store.
	ErrStopped = errors.New("fsm: stopped by an earlier error")
)

// DivergedError says where the digests were compared.
type DivergedError struct {
	Index        uint64
	Ours, Theirs []byte
}

// Error names the index and both digests.
func (e *DivergedError) Error() string {
	return fmt.Sprintf("%v: at index %d the digest is %x, the leader's is %x", ErrDiverged, e.Index, e.Ours, e.Theirs)
}

// Unwrap makes it an ErrDiverged.
func (e *DivergedError) Unwrap() error { return ErrDiverged }

// Touch names an instance whose offer to its owner may have changed.
type Touch struct {
	InstanceID
	Owner string
	// Drains: its recovery is complete, and what was deferred meanwhile is being worked off.
	Drains bool
	// rests: nothing of the instance was left to be offered; then epoch and next tell the moment: its epoch, and the sequence
	// number of its next message.
	rests       bool
	epoch, next uint64
}

// Rests tells that nothing of the instance is to be offered, unless it is touched again; given is what was handed out of
// it. What was handed out since tells of a later touch.
func (t Touch) Rests(given Given) bool {
	return t.rests && given.epoch <= t.epoch && given.seq < t.next
}

// Effects are hints for the leader, derivable again from a View.
type Effects struct {
	Touched       []Touch
	Settled       []MessageRef
	Opened, Ended []string
	// Work names applications in which instances began to wait for an owner.
	Work []string
	// Entered names applications that entered recovery as a whole.
	Entered []string
	// DeadlineMS is the earliest due time newly set, Unix ms; 0: none.
	DeadlineMS int64
	// Outgoing and Operations tell that such work waits for the leader.
	Outgoing, Operations bool
	// Events tells that there are new events to be read; on every node, not the leader alone.
	Events   bool
	Counters Counters
}

// Counters tell what one call of Apply did, for metrics.
type Counters struct {
	Accepted, Deferred, Recovery, Duplicates uint64
	Refused                                  map[string]uint64
	Settled                                  map[sluicev1.SettlementKind]uint64
	Transitions                              map[sluicev1.Mode]uint64
	Events                                   map[sluicev1.EventType]uint64
	Commands                                 uint64
}

func newCounters() Counters {
	return Counters{Refused: map[string]uint64{}, Settled: map[sluicev1.SettlementKind]uint64{}, Transitions: map[sluicev1.Mode]uint64{}, Events: map[sluicev1.EventType]uint64{}}
}

func (e *Effects) touch(i *instance) {
	if i.rec.Owner != "" {
		e.Touched = append(e.Touched, Touch{InstanceID: i.id(), Owner: i.rec.Owner, Drains: i.rec.Mode == drainingMode})
	}
}

// settled is a touch by a message that was settled: mostly it leaves nothing to be offered.
func (e *Effects) settled(i *instance) {
	if i.rec.Owner != "" {
		e.Touched = append(e.Touched, Touch{InstanceID: i.id(), Owner: i.rec.Owner, Drains: i.rec.Mode == drainingMode, rests: i.idle(), epoch: i.rec.Epoch, next: i.rec.NextSeq})
	}
}

func (e *Effects) deadline(ms int64) {
	if e.DeadlineMS == 0 || ms < e.DeadlineMS {
		e.DeadlineMS = ms
	}
}

func (e *Effects) work(application string) {
	if n := len(e.Work); n == 0 || e.Work[n-1] != application {
		e.Work = append(e.Work, application)
	}
}

const (
	normalMode   = sluicev1.Mode_MODE_NORMAL
	recoveryMode = sluicev1.Mode_MODE_RECOVERY
	drainingMode = sluicev1.Mode_MODE_DRAINING

	normalLane   = sluicev1.Lane_LANE_NORMAL
	recoveryLane = sluicev1.Lane_LANE_RECOVERY
	outgoingLane = sluicev1.Lane_LANE_OUTGOING
)

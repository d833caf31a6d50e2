package client

import (
	"context"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// HoldKind says what holds an instance.
type HoldKind string

// The kinds of holds.
const (
	// HoldNoWorker: there is something to handle, and no worker of the application is connected.
	HoldNoWorker HoldKind = "no-worker"
	// HoldNoCapacity: it waits for an owner; the workers are full, or have not asked for work yet.
	HoldNoCapacity HoldKind = "no-capacity"
	// HoldRecovery: it is in recovery.
	HoldRecovery HoldKind = "recovery"
	// HoldApplicationRecovery: its application is in recovery as a whole.
	HoldApplicationRecovery HoldKind = "application-recovery"
	// HoldInDoubt: a recovery handler or an operator must say up to where messages took effect.
	HoldInDoubt HoldKind = "in-doubt"
	// HoldRecoveryMessages: recovery messages are unsettled.
	HoldRecoveryMessages HoldKind = "recovery-messages"
	// HoldBackoff: the head of the lane, or the recovery, waits for its backoff.
	HoldBackoff HoldKind = "backoff"
	// HoldInFlight: the head is with a handler.
	HoldInFlight HoldKind = "in-flight"
	// HoldDraining: it drains its backlog.
	HoldDraining HoldKind = "draining"
	// HoldTerminated: it was terminated.
	HoldTerminated HoldKind = "terminated"
)

var holdKinds = []HoldKind{
	"", HoldNoWorker, HoldNoCapacity, HoldRecovery, HoldApplicationRecovery, HoldInDoubt, HoldRecoveryMessages, HoldBackoff, HoldInFlight, HoldDraining, HoldTerminated,
}

// Hold is one thing that keeps an instance from handling its next message.
type Hold struct {
	// Kind; empty: one that this version does not know.
	Kind HoldKind
	// Text says what it is, Release what would release it: a command, a worker or a time. Both are for people.
	Text, Release string
	// Until is when it ends by itself; zero: it does not.
	Until time.Time
}

// Explanation tells all about what holds one instance.
type Explanation struct {
	Instance Instance
	// Actor began the present mode.
	Actor string
	// Head is the first unsettled message of the lane that the mode offers; nil: none.
	Head *ListedMessage
	// InDoubtMessages are those of the normal lane.
	InDoubtMessages uint64
	// Until is when the recovery completes by itself, if nothing is in doubt or pending then; zero: it does not.
	Until time.Time
	// RecoveryAttempts of this recovery's handler failed, the last one with RecoveryError.
	RecoveryAttempts int
	RecoveryError    string
	// OwnerName is the name that the owner gave itself.
	OwnerName string
	// Sessions of the application are live; SessionsWithRoom may own more instances.
	Sessions, SessionsWithRoom int
	// Holds is empty when nothing holds the instance. The first is what to see to first.
	Holds []Hold
	// DeadLetters are those that the instance keeps, at most 10,000.
	DeadLetters int
}

// Explain tells what holds an instance and what would release it, read linearizably.
func (i Instances) Explain(ctx context.Context, id InstanceID) (Explanation, error) {
	if err := checkInstance(id); err != nil {
		return Explanation{}, err
	}
	e, err := Call[sluicev1.GetInstanceRequest, sluicev1.Explanation](ctx, i.c,
		sluicev1connect.InstanceServiceExplainProcedure, &sluicev1.GetInstanceRequest{Application: id.Application, Instance: id.Key})
	if err != nil {
		return Explanation{}, err
	}
	return explanationOf(e), nil
}

func explanationOf(e *sluicev1.Explanation) Explanation {
	out := Explanation{
		Actor: e.GetActor(), InDoubtMessages: e.GetInDoubtMessages(), Until: timeOf(e.GetUntil()),
		RecoveryAttempts: int(e.GetRecoveryAttempts()), RecoveryError: e.GetRecoveryError(), OwnerName: e.GetOwnerName(),
		Sessions: int(e.GetSessions()), SessionsWithRoom: int(e.GetSessionsWithRoom()), DeadLetters: int(e.GetDeadLetters()),
	}
	out.Instance, _ = instanceOf(e.GetInstance(), nil)
	if e.GetHead() != nil {
		head := listedOf(e.GetHead())
		out.Head = &head
	}
	for _, h := range e.GetHolds() {
		out.Holds = append(out.Holds, Hold{Kind: word(holdKinds, h.GetKind()), Text: h.GetText(), Release: h.GetRelease(), Until: timeOf(h.GetUntil())})
	}
	return out
}

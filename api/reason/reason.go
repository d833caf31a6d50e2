// Package reason names every refusal of the public contract, once.
//
// A Reason is an error, so that errors.Is(err, reason.NotOwner) holds at every layer: in the state machine's
// outcomes, in the services' answers and in the client. Each belongs to exactly one Connect code.
package reason

import (
	"fmt"

	sluicev1 "sluice/api/sluice/v1"
)

// Reason says why something was refused or could not be done.
type Reason string

// The reasons of the public contract.
const (
	BadName  Reason = "BAD_NAME"
	BadField Reason = "BAD_FIELD"
	// IDReused: the same id or request id with other content.
	IDReused    Reason = "ID_REUSED"
	UnknownType Reason = "UNKNOWN_TYPE"

	UnknownApplication Reason = "UNKNOWN_APPLICATION"
	UnknownInstance    Reason = "UNKNOWN_INSTANCE"
	UnknownMessage     Reason = "UNKNOWN_MESSAGE"
	UnknownTransaction Reason = "UNKNOWN_TRANSACTION"
	// UnknownSession: never opened, closed or expired.
	UnknownSession Reason = "UNKNOWN_SESSION"
	// UnknownOperation names an operation that does not exist.
	UnknownOperation Reason = "UNKNOWN_OPERATION"
	// UnknownMember: no member of the cluster has that node id, or has it any more.
	UnknownMember Reason = "UNKNOWN_MEMBER"

	// MemberExists: a node with an empty folder wants to join under the id of a member that votes, or that runs elsewhere.
	MemberExists Reason = "MEMBER_EXISTS"

	OutOfPattern Reason = "OUT_OF_PATTERN"
	// NotSuitable: the message's class is not taken in the instance's mode.
	NotSuitable             Reason = "NOT_SUITABLE"
	StaleEpoch              Reason = "STALE_EPOCH"
	NotOwner                Reason = "NOT_OWNER"
	NotInRecovery           Reason = "NOT_IN_RECOVERY"
	PendingRecoveryMessages Reason = "PENDING_RECOVERY_MESSAGES"
	AlreadySettled          Reason = "ALREADY_SETTLED"
	NotInFlight             Reason = "NOT_IN_FLIGHT"
	InFlight                Reason = "IN_FLIGHT"
	OutOfOrder              Reason = "OUT_OF_ORDER"
	Terminated              Reason = "TERMINATED"
	// Changed: the message is no longer as the caller saw it.
	Changed Reason = "CHANGED"
	// EventsGone: events are asked for that are no longer kept.
	EventsGone Reason = "EVENTS_GONE"

	LimitMessageBytes     Reason = "LIMIT_MESSAGE_BYTES"
	LimitInboxMessages    Reason = "LIMIT_INBOX_MESSAGES"
	LimitInboxBytes       Reason = "LIMIT_INBOX_BYTES"
	LimitDeferredMessages Reason = "LIMIT_DEFERRED_MESSAGES"
	LimitDeferredBytes    Reason = "LIMIT_DEFERRED_BYTES"
	LimitApplicationBytes Reason = "LIMIT_APPLICATION_BYTES"
	Rate                  Reason = "RATE"

	// NoLeader, Overloaded and DiskFull: not done; try again.
	NoLeader   Reason = "NO_LEADER"
	Overloaded Reason = "OVERLOADED"
	DiskFull   Reason = "DISK_FULL"
	// OutcomeUnknown: may or may not be done; the same call with the same id is safe.
	OutcomeUnknown Reason = "OUTCOME_UNKNOWN"

	Denied     Reason = "DENIED"
	NoIdentity Reason = "NO_IDENTITY"
	// NotImplemented: the method is part of the contract and not served by this version.
	NotImplemented Reason = "NOT_IMPLEMENTED"
)

// InstanceTerminated is the dead-letter reason of what was unsettled when its instance was terminated.
const InstanceTerminated = "INSTANCE_TERMINATED"

var codes = map[Reason]string{
	BadName: "invalid_argument", BadField: "invalid_argument", IDReused: "invalid_argument", UnknownType: "invalid_argument",
	UnknownApplication: "not_found", UnknownInstance: "not_found", UnknownMessage: "not_found", UnknownTransaction: "not_found",
	UnknownSession: "not_found", UnknownOperation: "not_found", UnknownMember: "not_found",
	OutOfPattern: "failed_precondition", NotSuitable: "failed_precondition", StaleEpoch: "failed_precondition", NotOwner: "failed_precondition",
	NotInRecovery: "failed_precondition", PendingRecoveryMessages: "failed_precondition", AlreadySettled: "failed_precondition",
	NotInFlight: "failed_precondition", InFlight: "failed_precondition", OutOfOrder: "failed_precondition", Terminated: "failed_precondition",
	Changed: "failed_precondition", MemberExists: "failed_precondition", EventsGone: "out_of_range",
	LimitMessageBytes: "resource_exhausted", LimitInboxMessages: "resource_exhausted", LimitInboxBytes: "resource_exhausted",
	LimitDeferredMessages: "resource_exhausted", LimitDeferredBytes: "resource_exhausted", LimitApplicationBytes: "resource_exhausted", Rate: "resource_exhausted",
	NoLeader: "unavailable", Overloaded: "unavailable", DiskFull: "unavailable",
	OutcomeUnknown: "unknown",
	Denied:         "permission_denied", NoIdentity: "unauthenticated",
	NotImplemented: "unimplemented",
}

// Error makes a Reason an error to compare with.
func (r Reason) Error() string { return string(r) }

// Code is the Connect code, in lower case, that the reason belongs to; "internal" for a reason that is none of ours.
func (r Reason) Code() string {
	if c, ok := codes[r]; ok {
		return c
	}
	return "internal"
}

// Fault makes a refusal of one part of a call.
func (r Reason) Fault(format string, args ...any) *sluicev1.Fault {
	return &sluicev1.Fault{Code: r.Code(), Reason: string(r), Message: fmt.Sprintf(format, args...)}
}

// Errorf makes a refusal as a Go error that wraps the reason.
func (r Reason) Errorf(format string, args ...any) *Error {
	return &Error{Reason: r, Message: fmt.Sprintf(format, args...)}
}

// Error is a refusal: its reason, and a text that says what was wrong and what is allowed.
type Error struct {
	Reason  Reason
	Message string
}

// Error begins with the reason in brackets, as every error of the public contract does.
func (e *Error) Error() string { return "[" + string(e.Reason) + "] " + e.Message }

// Unwrap lets errors.Is find the reason.
func (e *Error) Unwrap() error { return e.Reason }

// Fault is the refusal as part of an answer.
func (e *Error) Fault() *sluicev1.Fault {
	return &sluicev1.Fault{Code: e.Reason.Code(), Reason: string(e.Reason), Message: e.Message}
}

// FromFault is the refusal of a fault as an error; nil of nil.
func FromFault(f *sluicev1.Fault) error {
	if f == nil {
		return nil
	}
	return &Error{Reason: Reason(f.Reason), Message: f.Message}
}

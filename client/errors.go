package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"connectrpc.com/connect"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// Reason says why something was refused or could not be done. It is an error, to compare with by errors.Is.
type Reason = reason.Reason

// The reasons of the public contract, for errors.Is.
const (
	ErrBadName                 = reason.BadName
	ErrBadField                = reason.BadField
	ErrIDReused                = reason.IDReused
	ErrUnknownType             = reason.UnknownType
	ErrUnknownApplication      = reason.UnknownApplication
	ErrUnknownInstance         = reason.UnknownInstance
	ErrUnknownMessage          = reason.UnknownMessage
	ErrUnknownTransaction      = reason.UnknownTransaction
	ErrUnknownSession          = reason.UnknownSession
	ErrUnknownOperation        = reason.UnknownOperation
	ErrUnknownMember           = reason.UnknownMember
	ErrMemberExists            = reason.MemberExists
	ErrOutOfPattern            = reason.OutOfPattern
	ErrNotSuitable             = reason.NotSuitable
	ErrStaleEpoch              = reason.StaleEpoch
	ErrNotOwner                = reason.NotOwner
	ErrNotInRecovery           = reason.NotInRecovery
	ErrPendingRecoveryMessages = reason.PendingRecoveryMessages
	ErrAlreadySettled          = reason.AlreadySettled
	ErrNotInFlight             = reason.NotInFlight
	ErrInFlight                = reason.InFlight
	ErrOutOfOrder              = reason.OutOfOrder
	ErrTerminated              = reason.Terminated
	// ErrChanged: the message is no longer as it was seen.
	ErrChanged = reason.Changed
	// ErrEventsGone: events are asked for that are no longer kept.
	ErrEventsGone            = reason.EventsGone
	ErrLimitMessageBytes     = reason.LimitMessageBytes
	ErrLimitInboxMessages    = reason.LimitInboxMessages
	ErrLimitInboxBytes       = reason.LimitInboxBytes
	ErrLimitDeferredMessages = reason.LimitDeferredMessages
	ErrLimitDeferredBytes    = reason.LimitDeferredBytes
	ErrLimitApplicationBytes = reason.LimitApplicationBytes
	ErrRate                  = reason.Rate
	ErrNoLeader              = reason.NoLeader
	ErrOverloaded            = reason.Overloaded
	ErrDiskFull              = reason.DiskFull
	// ErrOutcomeUnknown: the call may or may not have taken effect; the same call with the same id is safe. What only
	// reads or waits has no such outcome: see ErrEndUnknown.
	ErrOutcomeUnknown = reason.OutcomeUnknown
	ErrDenied         = reason.Denied
	ErrNoIdentity     = reason.NoIdentity
	ErrNotImplemented = reason.NotImplemented
)

// The client's own reasons, for errors.Is.
const (
	// ErrUnreachable: no connection to a node could be made, or what answers there is no node, or one of the two refused
	// the other's certificate; nothing was done. The last two will not pass: Temporary is false if they hold for every
	// address.
	ErrUnreachable Reason = "UNREACHABLE"
	// ErrLeaseLost is the cause of a handler's cancelled context when its worker could not renew its lease in time.
	ErrLeaseLost Reason = "LEASE_LOST"
	// ErrFenced is the cause of a handler's cancelled context when its instance went to a later epoch or another owner.
	ErrFenced Reason = "FENCED"
	// ErrStopped is the cause of a handler's cancelled context when its worker stopped and the grace time was over.
	ErrStopped Reason = "STOPPED"
	// ErrClosed: the Sender or the Client was closed; nothing was done.
	ErrClosed Reason = "CLOSED"
	// ErrEndUnknown: how a message ended could not be learnt; waiting changes nothing, and can be done again. Of
	// Client.Ask and of a Pending with a receipt it says that the message was accepted: it need not be sent again.
	ErrEndUnknown Reason = "END_UNKNOWN"
	// ErrStateNewer: an instance's state is of a newer schema version than this worker knows.
	ErrStateNewer Reason = "STATE_NEWER"
	// ErrStateUnreadable: an instance's state cannot be decoded, or not be brought to the schema's version.
	ErrStateUnreadable Reason = "STATE_UNREADABLE"
)

// How an awaited message ended, other than completed, for errors.Is.
const (
	ErrSkipped      Reason = "SKIPPED"
	ErrDeadLettered Reason = "DEAD_LETTERED"
	ErrExpired      Reason = "EXPIRED"
)

// Error is a call, or a part of one, that was refused or not done.
type Error struct {
	// Code is the Connect code in lower case: "not_found", "failed_precondition", "unavailable", "unknown", …
	Code string
	// Reason is the refusal; empty when a node gave none.
	Reason Reason
	// Message says what was wrong and what is allowed.
	Message string
	// Node is the address that answered or was tried last; empty: the client refused by itself.
	Node string
	// MessageID is set for a single message: the id that it was sent with, also when the client made it.
	MessageID string
	// Uncertain: this or an earlier attempt of the same call may have taken effect, or may still do so.
	Uncertain bool

	cause   error
	lasting bool // no node can be reached, and trying again does not mend it
}

// Error begins with the reason in brackets.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Reason != "" {
		fmt.Fprintf(&b, "[%s] ", string(e.Reason))
	}
	b.WriteString(e.Message)
	if e.Node != "" {
		fmt.Fprintf(&b, " (%s)", e.Node)
	}
	return b.String()
}

// Unwrap lets errors.Is find the reason and, where a context ended, context.Canceled or context.DeadlineExceeded.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Reason != "" {
		errs = append(errs, e.Reason)
	}
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	return errs
}

// Temporary says that the same call with the same ids is worth repeating: it was not done, or its outcome is unknown.
func (e *Error) Temporary() bool {
	return !e.lasting && (e.Code == "unavailable" || e.Code == "unknown")
}

// unsettled says that no node has judged the call. A worker that has a session goes on then for as long as the lease
// stands, also if the failure looks as if it would last: certificates are replaced.
func (e *Error) unsettled() bool { return e.lasting || e.Temporary() }

// refuse is the client's own refusal, before anything is sent.
func refuse(r Reason, format string, args ...any) *Error {
	return &Error{Code: r.Code(), Reason: r, Message: fmt.Sprintf(format, args...)}
}

// faultError is the refusal of one part of a call; nil of nil.
func faultError(f *sluicev1.Fault, node string) *Error {
	if f == nil {
		return nil
	}
	e := &Error{Code: f.GetCode(), Reason: Reason(f.GetReason()), Message: f.GetMessage(), Node: node}
	e.Uncertain = e.Code == "unknown"
	return e
}

// attemptError judges what one attempt at one node came to. What a node did not say itself comes from the way there:
// then nothing was done if no connection was made, and else the outcome is unknown.
func attemptError(ctx context.Context, err error, node string) *Error {
	e := &Error{Code: connect.CodeOf(err).String(), Message: err.Error(), Node: node}
	var ce *connect.Error
	if errors.As(err, &ce) {
		e.Message = ce.Message()
		e.Reason, e.Message = reasonOf(ce)
	}
	var way *wayError
	switch {
	case errors.As(err, &way):
		e.Code, e.Reason, e.Message, e.cause, e.lasting = "unavailable", ErrUnreachable, way.Error(), way.err, way.lasting
	case ctx.Err() != nil:
		e.Code, e.Reason, e.cause = "unknown", ErrOutcomeUnknown, ctx.Err()
	case e.Reason != "" || connect.IsWireError(err) && !transient(ce):
	case notConnected(err):
		e.Code, e.Reason = "unavailable", ErrUnreachable
	default:
		e.Code, e.Reason = "unknown", ErrOutcomeUnknown
	}
	e.Uncertain = e.Code == "unknown"
	return e
}

// transient says that a node, or a proxy before it, answered without a reason in a way that does not judge the call.
func transient(ce *connect.Error) bool {
	switch ce.Code() {
	case connect.CodeUnavailable, connect.CodeUnknown, connect.CodeCanceled, connect.CodeDeadlineExceeded, connect.CodeAborted:
		return true
	}
	return false
}

// reasonOf reads the reason from the error's detail, else from the brackets at the start of its message.
func reasonOf(ce *connect.Error) (Reason, string) {
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if detail, ok := v.(*sluicev1.ErrorDetail); ok && detail.GetReason() != "" {
				return Reason(detail.GetReason()), strings.TrimPrefix(detail.GetMessage(), "["+detail.GetReason()+"] ")
			}
		}
	}
	text := ce.Message()
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if name, message, ok := strings.Cut(rest, "] "); ok && Reason(name).Code() != "internal" {
			return Reason(name), message
		}
	}
	return "", text
}

// notConnected says that no connection was made, so that nothing can have been done.
func notConnected(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || strings.Contains(err.Error(), notEstablished)
}

// endUnknown is an error of waiting for the end of a message. That the waiting came to nothing is no unknown outcome:
// it was not the message that was sent. Nil is nil, and how a message ended is left as it is.
func endUnknown(err error, id, said string) error {
	var ended *SettledError
	if err == nil || errors.As(err, &ended) {
		return err
	}
	e := *asError(err)
	if e.Reason != ErrOutcomeUnknown && e.Reason != ErrEndUnknown {
		e.cause = err // its reason can be asked for, too
	}
	e.Code, e.Reason, e.MessageID, e.Uncertain = ErrOutcomeUnknown.Code(), ErrEndUnknown, id, false
	e.Message = said + ": " + e.Message
	return &e
}

// asError is any error of this package as an *Error.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: "internal", Message: err.Error(), cause: err}
}

// SettledError is returned by Await for a message that ended other than completed.
type SettledError struct {
	// Status is the message's status; its Settlement and DeadLetter say how it ended.
	Status MessageStatus
}

// Error says how the message ended and, for a dead letter, why.
func (e *SettledError) Error() string {
	if d := e.Status.DeadLetter; d != nil {
		return fmt.Sprintf("%s: %s: %s", e.Status, d.Reason, d.LastError)
	}
	return e.Status.String()
}

// Unwrap lets errors.Is find ErrSkipped, ErrDeadLettered or ErrExpired.
func (e *SettledError) Unwrap() error {
	switch e.Status.Settlement {
	case SettlementSkipped:
		return ErrSkipped
	case SettlementDeadLettered:
		return ErrDeadLettered
	case SettlementExpired:
		return ErrExpired
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/client"
)

// Exit codes, part of the public contract.
const (
	exitDone         = 0
	exitError        = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitDenied       = 4
	exitUnavailable  = 5
	exitPrecondition = 6
	exitUnknown      = 7 // the outcome is unknown: the same command with the same id is safe
)

// usageError is a command line that says nothing that can be done.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// hinted is an error with a line that says what to do next.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// hint gives an error a next step, unless there is none.
func hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// quiet is an exit code for which everything has been said.
type quiet int

func (q quiet) Error() string { return fmt.Sprintf("exit %d", int(q)) }

// report says what went wrong and what to do next, one line each, and gives the exit code.
func (sh *shell) report(cmd *cobra.Command, err error) int {
	var q quiet
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &q):
		return int(q)
	}
	code := sh.exitCode(err)
	fmt.Fprintf(sh.err, "sluice: %s\n", oneLine(err.Error()))
	if next := nextStep(err); next != "" {
		fmt.Fprintf(sh.err, "  next: %s\n", known(next, cmd))
	} else if code == exitUsage {
		fmt.Fprintf(sh.err, "  next: see %s --help\n", cmd.CommandPath())
	}
	return code
}

// known puts the instance or the application that a command is about into a hint that is written for any.
func known(next string, cmd *cobra.Command) string {
	app, _ := cmd.Flags().GetString("app") // a command without the flag has none
	key, _ := cmd.Flags().GetString("instance")
	at := target{app, key}
	switch args := cmd.Flags().Args(); {
	case cmd.HasParent() && cmd.Parent().Name() == "app" && len(args) == 1:
		at.app = args[0]
	case strings.Contains(cmd.Use, "APP/KEY") && len(args) > 0:
		_ = at.take(args[:1]) // one that is none is left out
	}
	if at.app == "" {
		return next
	}
	if at.key != "" {
		next = strings.ReplaceAll(next, "APP/KEY", at.String())
	}
	return anyApp.ReplaceAllString(next, "${1}"+at.app+"${2}")
}

// anyApp is the word for an application in a hint, but not that of an instance.
var anyApp = regexp.MustCompile(`(\s)APP(\s|$|\))`)

// oneLine keeps an error to its line.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// codes are the exit codes of Connect's.
var codes = map[string]int{
	"not_found": exitNotFound, "permission_denied": exitDenied, "unauthenticated": exitDenied,
	"unavailable": exitUnavailable, "failed_precondition": exitPrecondition, "unknown": exitUnknown,
}

// unknownCode is the Connect code of what may or may not be done.
var unknownCode = client.ErrOutcomeUnknown.Code()

func (sh *shell) exitCode(err error) int {
	var wrong *usageError
	if errors.As(err, &wrong) || !sh.started {
		return exitUsage
	}
	if code, ok := codes[connectCode(err)]; ok {
		return code
	}
	return exitError
}

// connectCode is the Connect code of an error of the client or of the contract; empty: it is neither.
func connectCode(err error) string {
	var (
		refusal *client.Error
		fault   *reason.Error
	)
	switch {
	case errors.As(err, &refusal):
		return refusal.Code
	case errors.As(err, &fault):
		return fault.Reason.Code()
	case errors.Is(err, errNotSettled), errors.Is(err, errNotEnded):
		return client.ErrNoLeader.Code()
	case errors.Is(err, errNothingYet):
		return client.ErrUnknownInstance.Code()
	case errors.Is(err, errInDoubt):
		return client.ErrNotInRecovery.Code()
	}
	return ""
}

// steps say what to do next about a refusal.
var steps = []struct {
	reason error
	next   string
}{
	{client.ErrUnreachable, "is a node running? start one with: sluice dev   (or name one with --addr HOST:PORT)"},
	{reason.NoLeader, "a majority of the nodes must run and reach each other; see: sluice cluster status"},
	{reason.Overloaded, "try again in a moment, or send less at once"},
	{reason.DiskFull, "free space on the nodes' disks; nothing accepted was lost"},
	{reason.OutcomeUnknown, "repeat the command with the same id: it has no second effect"},
	{reason.UnknownApplication, "declare it with: sluice app apply -f FILE   (see what there is: sluice app list)"},
	{reason.UnknownInstance, "an instance exists from its first accepted message, transaction or change of mode on; see: sluice instance list --app APP"},
	{reason.UnknownMessage, "see what is unsettled: sluice instance messages APP/KEY"},
	{reason.UnknownOperation, "see which there are: sluice operation list"},
	{reason.MemberExists, "give the node another id; or, if that member is gone and its folder lost: sluice cluster remove ID --yes"},
	{reason.Rate, "ask another node, with --addr; of operations end some, see: sluice operation list"},
	{reason.UnknownMember, "see who is one: sluice cluster members"},
	{reason.UnknownTransaction, "the transaction must be begun by a type that opens it; see the application's patterns: sluice app get APP"},
	{reason.UnknownType, "see which types the application knows: sluice app get APP -o json"},
	{reason.OutOfPattern, "see what the pattern allows after which step: sluice app get APP -o json"},
	{reason.NotSuitable, "see the instance's mode: sluice instance get APP/KEY"},
	{reason.NotInRecovery, "see the instance's mode: sluice instance get APP/KEY"},
	{reason.StaleEpoch, "the instance has moved on; see its epoch: sluice instance get APP/KEY"},
	{reason.PendingRecoveryMessages, "let a worker settle them, or give --discard-recovery-messages; see: sluice instance messages APP/KEY --lane recovery"},
	{reason.InFlight, "put the instance into recovery first: sluice instance recover APP/KEY"},
	{reason.AlreadySettled, "see how it ended: sluice await APP/KEY --id ID"},
	{reason.Changed, "look at it again: sluice instance peek APP/KEY --seq N"},
	{reason.EventsGone, "see what is kept: sluice events   (and what is in recovery now: sluice instance list --app APP --mode recovery)"},
	{reason.Terminated, "the name is free again after the deduplication window"},
	{reason.IDReused, "give a new --id, or send the same content again"},
	{reason.LimitDeferredMessages, "complete the instance's recovery, or raise the limit with: sluice app apply"},
	{reason.LimitDeferredBytes, "complete the instance's recovery, or raise the limit with: sluice app apply"},
	{reason.LimitApplicationBytes, "complete recoveries, or raise the limit with: sluice app apply"},
	{reason.LimitInboxMessages, "start more workers, or raise the limit with: sluice app apply"},
	{reason.LimitInboxBytes, "start more workers, or raise the limit with: sluice app apply"},
	{reason.LimitMessageBytes, "send less, or raise limits.max_message_bytes with: sluice app apply"},
	{reason.BadName, "an application is [a-z0-9][a-z0-9._-]{0,62}; a key, id, type or transaction 1 to 256 bytes without control characters"},
	{reason.NotImplemented, "this version does not serve it; see: sluice version"},
	{reason.Denied, "ask whoever runs the cluster for the right"},
	{reason.NoIdentity, "give a certificate: --tls-cert FILE --tls-key FILE"},
	{context.DeadlineExceeded, "give it more time with --timeout, and see: sluice cluster status"},
}

func nextStep(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	if misfit(err) && strings.Contains(err.Error(), "is no Sluice node") {
		return "--addr is a node's --listen address; name one with --addr HOST:PORT"
	}
	if misfit(err) {
		return "for nodes that speak TLS give --tls-ca FILE, and a certificate that they accept with --tls-cert FILE --tls-key FILE; for plain text none of them; --addr is a node's --listen address"
	}
	for _, s := range steps {
		if errors.Is(err, s.reason) {
			return s.next
		}
	}
	return ""
}

// misfit says that no node can be reached, and that trying again does not mend it.
func misfit(err error) bool {
	var refusal *client.Error
	return errors.As(err, &refusal) && refusal.Reason == client.ErrUnreachable && !refusal.Temporary()
}

// faultError makes the refusal of one part of a call an error.
func faultError(f *sluicev1.Fault) error {
	if f == nil {
		return nil
	}
	return &client.Error{Code: f.GetCode(), Reason: client.Reason(f.GetReason()), Message: f.GetMessage()}
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/client"
)

// reported is what the shell says of an error, and its exit code.
func reported(err error) (string, int) {
	var out bytes.Buffer
	sh := &shell{err: &out, started: true}
	code := sh.report(newVersion(sh), err)
	return out.String(), code
}

func TestWhatFailsAfterTheReceiptSaysThatTheMessageWasAccepted(t *testing.T) {
	t.Parallel()
	at, receipt := target{"shops", "tea"}, &sluicev1.Receipt{MessageId: "q1", Seq: 7, Disposition: sluicev1.Disposition_DISPOSITION_DEFERRED}
	for _, err := range []error{
		&client.Error{Code: "unavailable", Reason: client.ErrNoLeader, Message: "no answer in time"}, &client.Error{Code: "permission_denied", Reason: client.ErrDenied}, errors.New("interrupted"),
	} {
		text, code := reported(endUnknown(at, receipt, err))
		if code != exitUnknown || !strings.Contains(text, "message q1 was accepted (seq 7, deferred), but its end is not known: ") || !strings.Contains(text, "next: sluice await shops/tea --id q1\n") {
			t.Errorf("%v: exit %d, %s", err, code, text)
		}
	}
	text, code := reported(endUnknown(at, receipt, fmt.Errorf("%w: deferred", errNotSettled)))
	if code != exitUnavailable || !strings.Contains(text, "message q1 was accepted (seq 7, deferred) and is not settled yet: deferred") {
		t.Errorf("not in time: exit %d, %s", code, text)
	}
}

func TestAFailureOfSendingNamesTheMessageThatMayHaveBeenAccepted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code int
		says bool
	}{
		{&client.Error{Code: "unknown", Reason: client.ErrOutcomeUnknown, Uncertain: true}, exitUnknown, true},
		{&client.Error{Code: "canceled", Message: "not tried: context deadline exceeded", Uncertain: true}, exitUnknown, true},
		{&client.Error{Code: "internal", Message: "the node is ill"}, exitUnknown, true},
		{errors.New("the node answered 2 results for one message"), exitUnknown, true},
		{&client.Error{Code: "failed_precondition", Reason: client.ErrNotSuitable, Uncertain: true}, exitPrecondition, true},
		{&client.Error{Code: "failed_precondition", Reason: client.ErrNotSuitable}, exitPrecondition, false},
		{&client.Error{Code: "unavailable", Reason: client.ErrUnreachable}, exitUnavailable, false},
		{&client.Error{Code: "canceled", Message: "not tried: context canceled"}, exitError, false},
	} {
		text, code := reported(perhapsAccepted(c.err, "made-1"))
		if code != c.code || strings.Contains(text, "--id made-1") != c.says {
			t.Errorf("%v: exit %d, %s", c.err, code, text)
		}
	}
}

func TestAReplyCannotDriveATerminal(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]string{
		"4.20": "4.20\n", "4.20\n": "4.20\n", "": "\n", "a\tb\r\x1b[31m": "a\tb..[31m\n", "\xff é": ". é\n",
	} {
		if got := string(forTerminal([]byte(reply))); got != want {
			t.Errorf("%q: %q, want %q", reply, got, want)
		}
	}
}

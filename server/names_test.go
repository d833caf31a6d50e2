package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"a": true, "0": true, "a0._-": true, strings.Repeat("a", 63): true,
		"": false, "A": false, "a/b": false, "-a": false, ".a": false, "_a": false, strings.Repeat("a", 64): false, "ä": false, "a\n": false, "a b": false,
	} {
		if err := checkApplication(name); (err == nil) != ok || err != nil && !errors.Is(err, reason.BadName) {
			t.Errorf("application %q: want ok %v, got %v", name, ok, err)
		}
	}
	for key, ok := range map[string]bool{
		"k": true, ".": true, "日本語": true, "a b/c": true, "\"'<>&%": true, strings.Repeat("k", 256): true,
		"": false, strings.Repeat("k", 257): false, "a\nb": false, "a\x00": false, "a\u0085b": false, "\x7f": false, "\xff": false,
	} {
		if err := checkKey(key); (err == nil) != ok || err != nil && !errors.Is(err, reason.BadName) {
			t.Errorf("key %q: want ok %v, got %v", key, ok, err)
		}
	}
	if err := checkRequired("id", "a\tb"); !errors.Is(err, reason.BadField) {
		t.Errorf("id with a tab: want BAD_FIELD, got %v", err)
	}
	if err := checkOptional("request_id", ""); err != nil {
		t.Errorf("no request id: want it taken, got %v", err)
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		given *durationpb.Duration
		want  time.Duration
		ok    bool
	}{
		{nil, 30 * time.Second, true},
		{durationpb.New(0), 30 * time.Second, true},
		{durationpb.New(time.Second), time.Second, true},
		{durationpb.New(time.Minute), time.Minute, true},
		{durationpb.New(time.Minute + 1), 0, false},
		{durationpb.New(-1), 0, false},
		{&durationpb.Duration{Seconds: 1, Nanos: -1}, 0, false},
		{&durationpb.Duration{Seconds: 1 << 60}, 0, false},
	} {
		got, err := checkSpan("wait", c.given, 30*time.Second, time.Minute)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%v: want %v %v, got %v %v", c.given, c.want, c.ok, got, err)
		}
	}
}

func TestErrorsGetCodePrefixAndDetail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code connect.Code
		why  string
	}{
		{reason.NotOwner.Errorf("x"), connect.CodeFailedPrecondition, "NOT_OWNER"},
		{fmt.Errorf("wrapped: %w", reason.NoLeader.Errorf("x")), connect.CodeUnavailable, "NO_LEADER"},
		{reason.EventsGone.Errorf("x"), connect.CodeOutOfRange, "EVENTS_GONE"},
		{reason.OutcomeUnknown.Errorf("x"), connect.CodeUnknown, "OUTCOME_UNKNOWN"},
		{reason.NotImplemented.Errorf("x"), connect.CodeUnimplemented, "NOT_IMPLEMENTED"},
		{reason.Denied.Errorf("x"), connect.CodePermissionDenied, "DENIED"},
		{reason.NoIdentity.Errorf("x"), connect.CodeUnauthenticated, "NO_IDENTITY"},
		{reason.Reason("ODD").Errorf("x"), connect.CodeInternal, "ODD"},
		{context.Canceled, connect.CodeCanceled, "CANCELED"},
		{fmt.Errorf("wrapped: %w", context.DeadlineExceeded), connect.CodeDeadlineExceeded, "DEADLINE_EXCEEDED"},
		{connect.NewError(connect.CodeResourceExhausted, errors.New("too big")), connect.CodeResourceExhausted, "LIMIT_MESSAGE_BYTES"},
		{connect.NewError(connect.CodeInvalidArgument, errors.New("bad")), connect.CodeInvalidArgument, "BAD_FIELD"},
		{connect.NewError(connect.CodeInvalidArgument, reason.BadName.Errorf("bad")), connect.CodeInvalidArgument, "BAD_NAME"},
		{errors.New("disk on fire"), connect.CodeInternal, "INTERNAL"},
	} {
		wire := toWire(c.err)
		if wire.Code() != c.code || !strings.HasPrefix(wire.Message(), "["+c.why+"] ") {
			t.Errorf("%v: want %v [%s], got %v %s", c.err, c.code, c.why, wire.Code(), wire.Message())
		}
		if len(wire.Details()) != 1 {
			t.Fatalf("%v: want one detail, got %d", c.err, len(wire.Details()))
		}
		detail, err := wire.Details()[0].Value()
		if err != nil || detail.(*sluicev1.ErrorDetail).GetReason() != c.why {
			t.Errorf("%v: want the reason in the detail, got %v %v", c.err, detail, err)
		}
		if again := toWire(wire); again.Code() != c.code || len(again.Details()) != 1 || !strings.HasPrefix(again.Message(), "["+c.why+"] ") || strings.Count(again.Message(), "["+c.why+"]") != 1 {
			t.Errorf("%v: want the same again, got %v", wire, again)
		}
	}
}

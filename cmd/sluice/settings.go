package main

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
)

// fillSettings shows what an application declares beside its patterns, and the defaults of what it does not.
func fillSettings(t *table, a *sluicev1.Application) {
	d := a.GetDelivery()
	if d == nil {
		d = &sluicev1.Application_Delivery{}
	}
	t.row("window", setOr(d.Window, "1"))
	t.row("max attempts", setOrNone(d.MaxAttempts, "10"))
	t.row("backoff", lengthOr(d.GetBackoffInitial(), 500*time.Millisecond)+" at first, at most "+lengthOr(d.GetBackoffMax(), time.Minute))
	t.row("on max attempts", policyOr(d.GetOnMaxAttempts()))
	t.row("on owner lost", policyOr(d.GetOnOwnerLost()))
	fillLimits(t, a.GetLimits())
	t.row("dedup window", lengthOr(a.GetRetention().GetDedupWindow(), 24*time.Hour))
	var history *uint32
	if r := a.GetRetention(); r != nil {
		history = r.HistoryLimit
	}
	t.row("history limit", setOr(history, "100"))
	clock := "run (default)"
	if c := a.GetExpiryClock(); c != sluicev1.ExpiryClock_EXPIRY_CLOCK_UNSPECIFIED {
		clock = strings.TrimPrefix(word(c), "clock-")
	}
	t.row("expiry clock", clock)
}

func fillLimits(t *table, l *sluicev1.Limits) {
	if l == nil {
		l = &sluicev1.Limits{}
	}
	t.row("max message", bytesOr(l.MaxMessageBytes, "1.0 MiB"))
	t.row("max inbox", setOrNone(l.MaxInboxMessages, "100000")+" messages, "+bytesOr(l.MaxInboxBytes, "256.0 MiB"))
	t.row("max deferred", setOrNone(l.MaxDeferredMessages, "10000")+" messages, "+bytesOr(l.MaxDeferredBytes, "64.0 MiB"))
	t.row("max deferred, in all", bytesOr(l.MaxApplicationDeferredBytes, "no limit"))
	t.row("max state", bytesOr(l.MaxStateBytes, "1.0 MiB"))
	t.row("max outgoing", setOrNone(l.MaxOutgoing, "100"))
}

// setOr is a value that was declared, or the default, marked so.
func setOr[V uint32 | uint64](v *V, otherwise string) string {
	if v == nil {
		return otherwise + " (default)"
	}
	return fmt.Sprint(*v)
}

// setOrNone is setOr of what has no limit at 0.
func setOrNone[V uint32 | uint64](v *V, otherwise string) string {
	if v != nil && *v == 0 {
		return "no limit"
	}
	return setOr(v, otherwise)
}

func bytesOr(v *uint64, otherwise string) string {
	if v != nil && *v > 0 {
		return size(*v)
	}
	return setOrNone(v, otherwise)
}

func lengthOr(d *durationpb.Duration, otherwise time.Duration) string {
	if d == nil {
		return otherwise.String() + " (default)"
	}
	return d.AsDuration().String()
}

func policyOr(p sluicev1.Policy) string {
	if p == sluicev1.Policy_POLICY_UNSPECIFIED {
		return "recover (default)"
	}
	return word(p)
}

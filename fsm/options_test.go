package fsm_test

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
)

func window(n uint32) func(*sluicev1.Application) {
	return func(a *sluicev1.Application) { a.Delivery.Window = &n }
}

func maxAttempts(n uint32) func(*sluicev1.Application) {
	return func(a *sluicev1.Application) { a.Delivery.MaxAttempts = &n }
}

func atMaxAttempts(p sluicev1.Policy) func(*sluicev1.Application) {
	return func(a *sluicev1.Application) { a.Delivery.OnMaxAttempts = p }
}

func redeliver(a *sluicev1.Application) {
	a.Delivery.OnOwnerLost = sluicev1.Policy_POLICY_REDELIVER
}

func backoff(initial, most time.Duration) func(*sluicev1.Application) {
	return func(a *sluicev1.Application) {
		a.Delivery.BackoffInitial, a.Delivery.BackoffMax = durationpb.New(initial), durationpb.New(most)
	}
}

func dedup(d time.Duration) func(*sluicev1.Application) {
	return func(a *sluicev1.Application) { a.Retention.DedupWindow = durationpb.New(d) }
}

func historyLimit(n uint32) func(*sluicev1.Application) {
	return func(a *sluicev1.Application) { a.Retention.HistoryLimit = &n }
}

func freeze(a *sluicev1.Application) { a.ExpiryClock = sluicev1.ExpiryClock_EXPIRY_CLOCK_FREEZE }

func heldAfter(d time.Duration) func(*sluicev1.Application) {
	return func(a *sluicev1.Application) { a.Supervision = &sluicev1.Supervision{HeldAfter: durationpb.New(d)} }
}

func limits(l *sluicev1.Limits) func(*sluicev1.Application) {
	return func(a *sluicev1.Application) { a.Limits = l }
}

func patterns(ps ...*sluicev1.Pattern) func(*sluicev1.Application) {
	return func(a *sluicev1.Application) { a.Patterns = ps }
}

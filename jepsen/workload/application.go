package workload

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"sluice/client"
)

// The types of messages. Work is normal, fix is for recovery, note is suitable in both modes.
const (
	TypeWork = "work"
	TypeFix  = "fix"
	TypeNote = "note"
)

// Applications are those under test: accounts recover when an owner is lost or a message is poison; feeds, whose
// handlers are idempotent, are delivered again and dead-letter their poison, and have a window of four.
func Applications() []client.Application {
	patterns := []client.Pattern{{Name: "main", Types: []client.MessageType{
		{Name: TypeWork}, {Name: TypeFix, Suitable: client.SuitableRecovery}, {Name: TypeNote, Suitable: client.SuitableBoth},
	}}}
	// An outage would put whole applications into recovery for what the handlers fail on purpose.
	watch := client.Supervision{OutageInstances: client.NoLimit}
	return []client.Application{
		{Name: "accounts", Patterns: patterns, Supervision: watch, Delivery: client.DeliveryPolicy{
			Window: 1, MaxAttempts: 3, BackoffInitial: 50 * time.Millisecond, BackoffMax: 200 * time.Millisecond,
		}},
		{Name: "feeds", Patterns: patterns, Supervision: watch, Delivery: client.DeliveryPolicy{
			Window: 4, MaxAttempts: 3, BackoffInitial: 50 * time.Millisecond, BackoffMax: 200 * time.Millisecond,
			OnMaxAttempts: client.PolicyDeadLetter, OnOwnerLost: client.PolicyRedeliver,
		}},
	}
}

// Instance is the key of an application's nth instance.
func Instance(n int) string { return fmt.Sprintf("i%02d", n) }

// chance is a source that depends on a seed and a name alone, so that no two goroutines share one.
func chance(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash takes everything
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

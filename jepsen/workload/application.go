package workload

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"sluice/client"
)

// The types of messages. Work is normal, fix is for recovery, note is suitable in both modes. Finish ends the default
// transaction of a feed, which work begins anew.
const (
	TypeWork   = "work"
	TypeFix    = "fix"
	TypeNote   = "note"
	typeFinish = "finish"
)

// The patterns whose transactions are begun by name, with the types in an order that they allow. An order is for normal
// mode, a talk for both.
var (
	orderTypes = []string{"open", "item", "item", "close"}
	talkTypes  = []string{"hello", "say", "say", "bye"}
)

func inOrder(pattern string, suitable client.Suitability, names []string) client.Pattern {
	first, middle, last := names[0], names[1], names[len(names)-1]
	return client.Pattern{Name: pattern, Types: []client.MessageType{
		{Name: first, Suitable: suitable, After: []string{""}, Opens: true},
		{Name: middle, Suitable: suitable, After: []string{first, middle}},
		{Name: last, Suitable: suitable, After: []string{first, middle}, Closes: true},
		{Name: TypeNote, Suitable: client.SuitableBoth},
	}}
}

// Applications are those under test: accounts recover when an owner is lost or a message is poison, and have outages;
// feeds, whose handlers are idempotent, are delivered again and dead-letter their poison, have a window of four, little
// room, transactions that follow patterns, and a time to expiry that stands still in recovery.
func Applications() []client.Application {
	types := []client.MessageType{{Name: TypeWork}, {Name: TypeFix, Suitable: client.SuitableRecovery}, {Name: TypeNote, Suitable: client.SuitableBoth}}
	begun := []client.MessageType{{Name: TypeWork, Opens: true}, types[1], types[2], {Name: typeFinish, Closes: true}}
	return []client.Application{
		{
			Name: "accounts", Patterns: []client.Pattern{{Name: "main", Types: types}},
			Supervision: client.Supervision{OutageInstances: outageInstances, OutageWindow: 10 * time.Second},
			Delivery:    client.DeliveryPolicy{Window: 1, MaxAttempts: 3, BackoffInitial: 50 * time.Millisecond, BackoffMax: 200 * time.Millisecond},
		},
		{
			Name: "feeds", Supervision: client.Supervision{OutageInstances: client.NoLimit},
			Patterns: []client.Pattern{
				{Name: "main", Types: begun}, inOrder("order", client.SuitableNormal, orderTypes), inOrder("talk", client.SuitableBoth, talkTypes),
			},
			Delivery: client.DeliveryPolicy{
				Window: 4, MaxAttempts: 3, BackoffInitial: 50 * time.Millisecond, BackoffMax: 200 * time.Millisecond,
				OnMaxAttempts: client.PolicyDeadLetter, OnOwnerLost: client.PolicyRedeliver,
			},
			Limits:       client.Limits{MaxInboxMessages: 12, MaxDeferredMessages: 6, MaxDeferredBytes: 60, MaxApplicationDeferredBytes: 150, MaxMessageBytes: 200},
			FreezeExpiry: true,
		},
	}
}

// outageInstances is how many accounts fail alike in an outage.
const outageInstances = 4

// Instance is the key of an application's nth instance.
func Instance(n int) string { return fmt.Sprintf("i%02d", n) }

// chance is a source that depends on a seed and a name alone, so that no two goroutines share one.
func chance(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash takes everything
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

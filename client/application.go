package client

import (
	"context"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// NoLimit lifts a limit whose zero value means the default.
const NoLimit = -1

// Application is the declaration of a kind of instance.
type Application struct {
	// Name is [a-z0-9][a-z0-9._-]{0,62}.
	Name string
	// Patterns are the message exchange patterns. None: every type is allowed, suitable in normal mode; types that
	// begin with "recovery." in recovery mode.
	Patterns  []Pattern
	Limits    Limits
	Delivery  DeliveryPolicy
	Retention Retention
	// Supervision says when to raise the alarm.
	Supervision Supervision
	// FreezeExpiry stops the time to expiry while an instance is in recovery.
	FreezeExpiry bool

	// What follows is filled in by the cluster and ignored by Apply.

	// Version grows with each Apply that changed something.
	Version uint64
	// RecoveryGeneration is the position in the log of the last application-wide entry into recovery.
	RecoveryGeneration uint64
	// Recovery is that entry; nil: there was none. It stays when the recovery has been completed.
	Recovery *ApplicationRecovery
	Counts   ModeCounts
	// Duplicate: the same request was carried out before.
	Duplicate bool
}

// Pattern says which message types a transaction may carry, in what order, and in which mode each is suitable.
type Pattern struct {
	Name  string
	Types []MessageType
}

// MessageType is one type of a pattern.
type MessageType struct {
	Name string
	// Suitable; empty: SuitableNormal.
	Suitable Suitability
	// After allows the type only if the transaction's last sequenced type is in the list ("" = none yet). Empty: at
	// any time, and the step does not move.
	After []string
	// Opens begins a transaction; Closes ends it.
	Opens, Closes bool
}

// Suitability says in which mode a message type is suitable.
type Suitability string

// The suitabilities.
const (
	SuitableNormal   Suitability = "normal"
	SuitableRecovery Suitability = "recovery"
	SuitableBoth     Suitability = "both"
)

var suitabilities = []Suitability{"", SuitableNormal, SuitableRecovery, SuitableBoth}

// Policy says what follows a lost owner or the last attempt.
type Policy string

// The policies.
const (
	// PolicyRecover sends the instance into recovery.
	PolicyRecover Policy = "recover"
	// PolicyDeadLetter dead-letters the message after its last attempt.
	PolicyDeadLetter Policy = "dead-letter"
	// PolicyRedeliver delivers again what was with a lost owner: for idempotent handlers.
	PolicyRedeliver Policy = "redeliver"
)

var policies = []Policy{"", PolicyRecover, PolicyDeadLetter, PolicyRedeliver}

// Limits of an application. Zero: the default; NoLimit: none.
type Limits struct {
	// MaxMessageBytes of a message's data, up to 15 MiB, which is what a node takes, with NoLimit, too. Default 1 MiB.
	MaxMessageBytes int64
	// MaxInboxMessages and MaxInboxBytes of an instance, both lanes. Default 100,000 and 256 MiB.
	MaxInboxMessages, MaxInboxBytes int64
	// MaxDeferredMessages and MaxDeferredBytes of an instance. Default 10,000 and 64 MiB.
	MaxDeferredMessages, MaxDeferredBytes int64
	// MaxApplicationDeferredBytes over all instances. Default none.
	MaxApplicationDeferredBytes int64
	// MaxStateBytes of an instance. Default 1 MiB.
	MaxStateBytes int64
	// MaxOutgoing messages of one settlement. Default 100.
	MaxOutgoing int64
}

// DeliveryPolicy says how messages are handed to workers.
type DeliveryPolicy struct {
	// Window is how many messages of an instance may be out at once, 1 to 1,024. Default 1.
	Window int
	// MaxAttempts before OnMaxAttempts; NoLimit: for ever. Default 10.
	MaxAttempts int
	// BackoffInitial and BackoffMax bound the pause after a failed attempt, each up to 24 h. Default 0.5 s and 60 s.
	BackoffInitial, BackoffMax time.Duration
	// OnMaxAttempts is PolicyRecover (default) or PolicyDeadLetter.
	OnMaxAttempts Policy
	// OnOwnerLost is PolicyRecover (default) or PolicyRedeliver.
	OnOwnerLost Policy
}

// Retention says how long an application remembers.
type Retention struct {
	// DedupWindow is how long a settled message's id is remembered: 1 s to 366 days. Default 24 h.
	DedupWindow time.Duration
	// HistoryLimit is how many transitions are kept of an instance, 1 to 10,000. Default 100.
	HistoryLimit int
}

// ApplicationRecovery is an entry of a whole application into recovery.
type ApplicationRecovery struct {
	// Generation is its position in the log.
	Generation uint64
	Time       time.Time
	Cause      string
	Actor      string
	// Outage is set when failures that are alike brought it about.
	Outage *Outage
}

// Outage is many instances that failed alike within a short time.
type Outage struct {
	// Fingerprint is the same for error texts that differ only in numbers, ids and quoted strings.
	Fingerprint string
	// Error is the text of one of them, at most 512 bytes.
	Error     string
	Instances uint64
	FirstTime time.Time
}

// ModeCounts counts an application's instances by effective mode.
type ModeCounts struct {
	Normal, Recovery, Draining      uint64
	DeferredMessages, DeferredBytes uint64
}

// Applications declares applications and turns whole applications to recovery and back.
type Applications struct{ c *Client }

// Applications are the calls that concern applications.
func (c *Client) Applications() Applications { return Applications{c} }

// Apply creates an application or replaces its declaration.
func (a Applications) Apply(ctx context.Context, app Application) (Application, error) {
	if err := checkApplication(app.Name); err != nil {
		return Application{}, err
	}
	req, err := app.proto()
	if err != nil {
		return Application{}, err
	}
	return applicationOf(Call[sluicev1.Application, sluicev1.Application](ctx, a.c, sluicev1connect.ApplicationServiceApplyProcedure, req))
}

// Get shows one application.
func (a Applications) Get(ctx context.Context, name string) (Application, error) {
	return applicationOf(Call[sluicev1.GetApplicationRequest, sluicev1.Application](ctx, a.c,
		sluicev1connect.ApplicationServiceGetProcedure, &sluicev1.GetApplicationRequest{Name: name}))
}

// List shows all applications.
func (a Applications) List(ctx context.Context) ([]Application, error) {
	res, err := Call[sluicev1.ListApplicationsRequest, sluicev1.ListApplicationsResponse](ctx, a.c,
		sluicev1connect.ApplicationServiceListProcedure, &sluicev1.ListApplicationsRequest{})
	if err != nil {
		return nil, err
	}
	out := make([]Application, len(res.GetApplications()))
	for i, app := range res.GetApplications() {
		out[i], _ = applicationOf(app, nil)
	}
	return out, nil
}

// EnterRecovery puts every instance of an application into recovery with one log entry. An empty request id is made.
func (a Applications) EnterRecovery(ctx context.Context, name, cause, requestID string) (Application, error) {
	return applicationOf(Call[sluicev1.EnterApplicationRecoveryRequest, sluicev1.Application](ctx, a.c,
		sluicev1connect.ApplicationServiceEnterRecoveryProcedure, &sluicev1.EnterApplicationRecoveryRequest{
			Application: name, Cause: cause, RequestId: orNewID(requestID),
		}))
}

// CompleteRecovery starts the completion of the recovery that EnterRecovery began; the leader carries it out in the
// background, at most rate instances a second (0: as fast as the cluster allows). An empty request id is made.
func (a Applications) CompleteRecovery(ctx context.Context, name string, rate float64, requestID string) (Operation, error) {
	return operationOf(Call[sluicev1.CompleteApplicationRecoveryRequest, sluicev1.Operation](ctx, a.c,
		sluicev1connect.ApplicationServiceCompleteRecoveryProcedure, &sluicev1.CompleteApplicationRecoveryRequest{
			Application: name, Rate: rate, RequestId: orNewID(requestID),
		}))
}

func orNewID(id string) string {
	if id == "" {
		return NewID()
	}
	return id
}

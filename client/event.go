package client

// EventKind is what a worker tells of.
type EventKind string

// The kinds of events.
const (
	EventSessionOpened EventKind = "session opened"
	// EventSessionLost: the session expired or was closed by someone else; all that was in hand is fenced.
	EventSessionLost   EventKind = "session lost"
	EventSessionClosed EventKind = "session closed"
	// EventLeaseLapsed: the lease could not be renewed in time; handlers were interrupted, none begins.
	EventLeaseLapsed EventKind = "lease lapsed"
	EventLeaseKept   EventKind = "lease kept"
	// EventDisconnected: the stream of deliveries broke; a new one is made.
	EventDisconnected EventKind = "disconnected"
	// EventCompleted, EventFailed and EventRejected: a settlement was acknowledged. Err is the handler's.
	EventCompleted EventKind = "completed"
	EventFailed    EventKind = "failed"
	EventRejected  EventKind = "rejected"
	// EventRefused: a settlement was refused; Err says why.
	EventRefused EventKind = "settlement refused"
	// EventFenced: an instance went to a later epoch or another owner while something of it was in hand.
	EventFenced EventKind = "fenced"
	// EventRecoveryCompleted and EventRecoveryFailed: a recovery handler's end was acknowledged.
	EventRecoveryCompleted EventKind = "recovery completed"
	EventRecoveryFailed    EventKind = "recovery failed"
	// EventRecoveryUnhandled: an instance is in recovery and the worker has no recovery handler; InDoubt, and in Seq the
	// last of them.
	EventRecoveryUnhandled EventKind = "recovery unhandled"
)

// Event is something that a worker tells of. Fields that do not apply are zero.
type Event struct {
	Kind     EventKind
	Session  string
	Instance InstanceID
	Epoch    Epoch
	Lane     Lane
	Seq      Seq
	// InDoubt is how many messages of the normal lane are in doubt.
	InDoubt int
	Err     error
}

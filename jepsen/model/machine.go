package model

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// Point is a place in the committed order: the entry, and the command within it.
type Point struct {
	Index uint64
	Place int
}

// Before tells that p comes first.
func (p Point) Before(q Point) bool {
	return p.Index < q.Index || p.Index == q.Index && p.Place < q.Place
}

// String is index.place.
func (p Point) String() string { return fmt.Sprintf("%d.%d", p.Index, p.Place) }

// Mismatch is an outcome that is not the one that was promised.
type Mismatch struct {
	At Point
	// Invariant is the one that it speaks against: I2, I3, ….
	Invariant string
	Text      string
}

// Taken is a settlement that the cluster took.
type Taken struct {
	At   Point
	Life *Life
}

// Beyond is the error of a command or field that the model does not cover.
type Beyond struct{ What string }

// Error names what is not covered.
func (b *Beyond) Error() string { return "model: not covered: " + b.What }

// Machine is the state after a part of the committed order.
type Machine struct {
	applications map[string]*application
	instances    map[ID]*Instance
	sessions     map[string]*session
	operations   map[string]*operation
	requests     map[request]remembered
	outbox       []parcel
	// versions are those under which messages were changed, each with the revision that it stood for then.
	versions map[version]int
	// entries counts application-wide entries into recovery.
	entries int
	// clock is the greatest time that an entry carried, began the first one, in Unix milliseconds; memory is the
	// shortest deduplication window that was declared.
	clock, began, memory int64
	at                   Point
	// beyond is set when a command led to what is not covered.
	beyond *Beyond
	// mismatches of the entry at work.
	mismatches []Mismatch
	// Lives are all messages that were ever accepted, in the order of acceptance.
	Lives []*Life
	// Transitions are all changes of mode.
	Transitions []Transition
	// OwnersLost are where a lease ran out whose holder had messages out or recovered an instance, once for each.
	OwnersLost []Point
	// Happened counts what is rare: put back, expired, …
	Happened map[string]int
	// Taken are the settlements of handlers that the cluster took, in its order, whatever was promised.
	Taken []Taken
}

// ID names an instance.
type ID struct{ Application, Key string }

// String is application/key.
func (id ID) String() string { return id.Application + "/" + id.Key }

// session is a worker's lease.
type session struct {
	application     string
	capacity, owned int
}

// request is what the memory of request ids goes by.
type request struct {
	method string
	of     ID
	id     string
}

// remembered is a call that succeeded: what was asked and answered.
type remembered struct {
	asked   proto.Message
	outcome *logv1.Outcome
}

// parcel is an outgoing message on its way.
type parcel struct {
	from    *Instance
	message *sluicev1.Message
}

// New makes the state before the first entry.
func New() *Machine {
	return &Machine{
		applications: map[string]*application{}, instances: map[ID]*Instance{}, sessions: map[string]*session{},
		operations: map[string]*operation{}, requests: map[request]remembered{}, versions: map[version]int{}, Happened: map[string]int{},
	}
}

// Instances are those that exist, by their names. They must not be changed.
func (m *Machine) Instances() map[ID]*Instance { return m.instances }

// Outbox is how many outgoing messages are on their way.
func (m *Machine) Outbox() int { return len(m.outbox) }

// Apply replays one entry, and holds the outcomes that the cluster told against those that were promised. An error says
// that the model cannot go on.
func (m *Machine) Apply(index uint64, entry *logv1.Entry, outcomes []*logv1.Outcome) ([]Mismatch, error) {
	m.mismatches = nil
	m.clock = max(m.clock, entry.TimeMs)
	if m.began == 0 {
		m.began = m.clock
	}
	if m.memory != 0 && m.clock-m.began >= m.memory {
		return nil, &Beyond{"what comes after the deduplication window"}
	}
	if len(outcomes) != len(entry.Commands) {
		return nil, fmt.Errorf("model: entry %d has %d commands and %d outcomes", index, len(entry.Commands), len(outcomes))
	}
	for n, c := range entry.Commands {
		m.at = Point{index, n}
		err := m.command(c, outcomes[n])
		if err == nil && m.beyond != nil {
			err = m.beyond
		}
		if err != nil {
			return m.mismatches, fmt.Errorf("model: entry %d, command %d: %w", index, n, err)
		}
	}
	return m.mismatches, nil
}

func (m *Machine) command(c *logv1.Command, o *logv1.Outcome) error {
	switch k := c.Kind.(type) {
	case *logv1.Command_Send:
		return m.send(k.Send, o)
	case *logv1.Command_Settle:
		return m.settle(k.Settle, o)
	case *logv1.Command_Assign:
		return m.assign(k.Assign, o)
	case *logv1.Command_Advance:
		return m.advance(o)
	case *logv1.Command_ForwardOutgoing:
		return m.forward(k.ForwardOutgoing)
	case *logv1.Command_ApplyApplication:
		return m.declare(k.ApplyApplication)
	case *logv1.Command_BeginTransaction:
		return m.beginTransaction(k.BeginTransaction, o)
	case *logv1.Command_EndTransaction:
		return m.endTransaction(k.EndTransaction, o)
	case *logv1.Command_OpenSession:
		return m.openSession(k.OpenSession, o)
	case *logv1.Command_CloseSession:
		return m.closeSession(k.CloseSession, o)
	case *logv1.Command_ExpireSessions:
		return m.expireSessions(k.ExpireSessions)
	case *logv1.Command_CheckDigest, *logv1.Command_LeaderElected:
		return nil // they change nothing that was promised
	}
	return m.operate(c, o)
}

// operate is command, of what operators and their operations do.
func (m *Machine) operate(c *logv1.Command, o *logv1.Outcome) error {
	switch k := c.Kind.(type) {
	case *logv1.Command_EnterApplicationRecovery:
		return m.enterApplication(k.EnterApplicationRecovery, o)
	case *logv1.Command_CompleteApplicationRecovery:
		return m.completeApplication(k.CompleteApplicationRecovery, o)
	case *logv1.Command_EnterRecovery:
		return m.enterRecovery(k.EnterRecovery, o)
	case *logv1.Command_CompleteRecovery:
		return m.completeRecovery(k.CompleteRecovery, o)
	case *logv1.Command_ResolveMessage:
		return m.resolve(k.ResolveMessage, o)
	case *logv1.Command_PutBack:
		return m.putBack(k.PutBack, o)
	case *logv1.Command_Terminate:
		return m.terminate(k.Terminate, o)
	case *logv1.Command_BeginOperation:
		return m.beginOperation(k.BeginOperation, o)
	case *logv1.Command_AddOperationItems:
		return m.addItems(k.AddOperationItems, o)
	case *logv1.Command_StepOperation:
		return m.stepOperation(k.StepOperation, o)
	case *logv1.Command_SteerOperation:
		return m.steerOperation(k.SteerOperation, o)
	}
	return &Beyond{fmt.Sprintf("a command of type %T", c.Kind)}
}

// wrong notes a mismatch.
func (m *Machine) wrong(invariant, format string, args ...any) {
	m.mismatches = append(m.mismatches, Mismatch{At: m.at, Invariant: invariant, Text: fmt.Sprintf(format, args...)})
}

// invariants are what a refusal that should have been given, or should not, speaks against.
var invariants = map[reason.Reason]string{
	reason.StaleEpoch: "I7", reason.NotOwner: "I8", reason.AlreadySettled: "I2", reason.OutOfOrder: "I3", reason.NotInFlight: "I4",
	reason.NotSuitable: "I4", reason.OutOfPattern: "I4", reason.UnknownTransaction: "I4", reason.UnknownType: "I4",
	reason.LimitMessageBytes: "I4", reason.LimitInboxMessages: "I4", reason.LimitInboxBytes: "I4", reason.LimitDeferredMessages: "I4",
	reason.LimitDeferredBytes: "I4", reason.LimitApplicationBytes: "I4", reason.InFlight: "I4",
	reason.IDReused: "I10", reason.UnknownMessage: "I1",
}

// judged holds a refusal, or none, against the one that was promised, and tells whether the command was carried out.
func (m *Machine) judged(what string, promised reason.Reason, fault *sluicev1.Fault) bool {
	told := reason.Reason(fault.GetReason())
	if promised != told {
		invariant := invariants[promised]
		if invariant == "" {
			invariant = invariants[told]
		}
		if invariant == "" {
			invariant = "I9"
		}
		m.wrong(invariant, "%s: promised is %s, the cluster answered %s", what, orDone(promised), orDone(told))
	}
	return promised == ""
}

func orDone(r reason.Reason) string {
	if r == "" {
		return "that it is done"
	}
	return string(r)
}

package model

import (
	"slices"

	sluicev1 "sluice/api/sluice/v1"
)

// The modes.
const (
	Normal   = "normal"
	Recovery = "recovery"
	Draining = "draining"
)

// Epoch is one epoch of an instance. Its number is learned.
type Epoch struct {
	// Number is 0 until an answer told it.
	Number uint64
	// after is a number that it must be greater than.
	after uint64
}

// Instance is one instance.
type Instance struct {
	ID    ID
	app   *application
	Mode  string
	Epoch *Epoch
	// Owner is a session's id; empty: nobody.
	Owner string
	// born is the entry since which it exists.
	born uint64
	// NextSeq is the sequence number of the next message, in whichever lane.
	NextSeq uint64
	// Lanes hold what is unsettled, in order.
	Lanes [2]Lane
	// window is that of the epoch.
	window int
	// drainTo is the tail of the normal lane at completion, while draining.
	drainTo uint64
	// waiting are dead letters that are put back once nothing is out; until then nothing goes out beyond behind.
	waiting []*Life
	behind  uint64
	// entered is the application-wide entry that began the present recovery; 0: another one did.
	entered int
	// poison is what the failures that made a message poison have in common; empty: none did in this recovery.
	poison string
	// The recovery handler's failed attempts, in this recovery, and until when it waits.
	recoveryAttempts int
	recoveryWait     int64
	recoveryFailure  failure
	// until is when the recovery ends by itself; 0: it does not.
	until int64
	// since is when the present recovery began, frozen how long those before it lasted, all together.
	since, frozen  int64
	lastCompletion *completion
	transactions   map[string]transaction
	// Terminated: nothing can be done to it any more.
	Terminated bool
	// State is what handlers keep.
	State string
	// byID is the memory of message ids.
	byID map[string]*Life
	// bySeq finds a message by lane and number, settled or not.
	bySeq [2]map[uint64]*Life
	// dead counts dead letters of its lanes.
	dead int
	// DeadOutgoing counts outgoing messages that were refused at their targets.
	DeadOutgoing int
	// Versions are what an observer could have seen, in order.
	Versions []Version
}

// Lane numbers.
const (
	normalLane   = 0
	recoveryLane = 1
)

// Lane is what is unsettled of a lane.
type Lane struct {
	Messages []*Life
	// attempts of the head that failed in this series, and until when it waits.
	attempts int
	wait     int64
}

// failure is the last failed attempt of something, for its repeats.
type failure struct {
	epoch   *Epoch
	attempt int
	by      *sluicev1.Settlement // nil: no worker reported it
}

// completion is the last one, for its repeats.
type completion struct {
	ended, begun *Epoch
	through      uint64
	state        *string // nil: it set none
	mode         string
}

// Version is how an instance stood from a point on.
type Version struct {
	At       Point
	Mode     string
	Epoch    *Epoch
	NextSeq  uint64
	Owner    string
	Deferred int
	// State is what handlers found.
	State string
}

// Life is one accepted message, from acceptance to settlement, and again if that is revoked.
type Life struct {
	Instance *Instance
	// Message is as it was first sent; Data is its content now, which an operator may have replaced.
	Message *sluicev1.Message
	Data    []byte
	Seq     uint64
	Lane    int
	// Disposition, Mode, Epoch and Ahead as the receipt told them.
	Disposition string
	Mode        string
	Epoch       *Epoch
	Ahead       uint64
	Accepted    Point
	// Told is the disposition that the cluster's receipt told; empty: an outgoing message, of which there is none.
	Told string
	Ending
	// Revoked are the endings before, each with the point at which the dead letter was put back.
	Revoked []Revoked
	// Attempts are those that failed, in all.
	Attempts int
	failure  failure
	// doubt: it was out when its instance entered recovery.
	doubt bool
	// expires is when, in Unix milliseconds; 0: never. Of a clock that freezes, frozen is where it stood at acceptance.
	expires, frozen int64
	// lookAt is when it is looked whether it has expired. held: it was out then, or in doubt; freed: it was, and is not.
	lookAt      int64
	held, freed bool
	// revision counts what changes a message's version.
	revision int
}

// Ending is how a message's life ended.
type Ending struct {
	// Settlement is empty while it is unsettled: completed, skipped, dead-lettered or expired.
	Settlement string
	Settled    Point
	// By is the worker's settlement; nil: an operator, the completion of a recovery, or time settled it.
	By *sluicev1.Settlement
	// Session of the worker, and the epoch and attempt that the settlement was under.
	Session string
	Under   *Epoch
	Attempt int
	// Through: a completion said that it took effect.
	Through bool
	// Found is the instance's state before its settlement: what its handler was to see.
	Found string
}

// Revoked is an ending that an operator revoked.
type Revoked struct {
	Ending
	At Point
}

// dead tells of a dead letter: what was dead-lettered or has expired.
func (l *Life) dead() bool { return l.Settlement == "dead-lettered" || l.Settlement == "expired" }

// Transition is one change of an instance's mode.
type Transition struct {
	At       Point
	Instance *Instance
	From, To string
	// Epoch that begins; of a drain that ends, the one that goes on.
	Epoch *Epoch
	// Whole: the application entered as a whole; Outage: for failures alike.
	Whole, Outage bool
	// Held is how many deferred messages there were.
	Held int
	// Ended is the epoch that a completion ended, and State what it left; nil: it was none.
	Ended *Epoch
	State string
}

func laneNumber(l sluicev1.Lane) int {
	if l == sluicev1.Lane_LANE_RECOVERY {
		return recoveryLane
	}
	return normalLane
}

// find gives an instance, or one that does not exist yet and is kept by keep.
func (m *Machine) find(id ID) *Instance {
	if i := m.instances[id]; i != nil {
		return i
	}
	a := m.applications[id.Application]
	return &Instance{
		ID: id, app: a, Mode: Normal, Epoch: &Epoch{}, NextSeq: 1, window: a.window, byID: map[string]*Life{},
		bySeq: [2]map[uint64]*Life{{}, {}}, transactions: map[string]transaction{},
	}
}

// keep makes an instance exist.
func (m *Machine) keep(i *Instance) {
	if m.instances[i.ID] == nil {
		i.born = m.at.Index
	}
	m.instances[i.ID], i.app.instances[i] = i, true
}

// changed notes a version.
func (m *Machine) changed(i *Instance) {
	v := Version{At: m.at, Mode: i.Mode, Epoch: i.Epoch, NextSeq: i.NextSeq, Owner: i.Owner, Deferred: i.deferred(), State: i.State}
	if n := len(i.Versions); n > 0 && i.Versions[n-1].At == m.at {
		i.Versions[n-1] = v
		return
	}
	i.Versions = append(i.Versions, v)
}

func (i *Instance) deferred() (count int) {
	for _, l := range i.Lanes[normalLane].Messages {
		if l.Disposition == "deferred" {
			count++
		}
	}
	return count
}

// working is the lane that the mode offers.
func (i *Instance) working() int {
	if i.Mode == Recovery {
		return recoveryLane
	}
	return normalLane
}

func (i *Instance) waits() bool {
	return i.Mode == Recovery && i.recoveryWait != 0 || i.Lanes[i.working()].wait != 0
}

// out are the messages out with the owner.
func (i *Instance) out() []*Life {
	all := i.Lanes[i.working()].Messages
	if i.Owner == "" || i.waits() {
		return nil
	}
	all = all[:min(len(all), i.window)]
	if len(i.waiting) > 0 && i.Mode != Recovery {
		for len(all) > 0 && all[len(all)-1].Seq > i.behind {
			all = all[:len(all)-1]
		}
	}
	return all
}

func (i *Instance) hasWork() bool {
	if i.Terminated {
		return false
	}
	if i.Mode == Recovery {
		return i.recoveryWait == 0
	}
	return i.Lanes[normalLane].wait == 0 && len(i.Lanes[normalLane].Messages) > 0
}

// inDoubt tells that a message of the normal lane is in doubt.
func (i *Instance) inDoubt() bool {
	return slices.ContainsFunc(i.Lanes[normalLane].Messages, func(l *Life) bool { return l.doubt })
}

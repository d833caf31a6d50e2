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
	// NextSeq is the sequence number of the next message, in whichever lane.
	NextSeq uint64
	// Lanes hold what is unsettled, in order.
	Lanes [2]Lane
	// window is that of the epoch.
	window int
	// doubt is the last message in doubt of each lane; 0: none.
	doubt [2]uint64
	// drainTo is the tail of the normal lane at completion, while draining.
	drainTo uint64
	// generation is the application-wide entry that began the present recovery; 0: another one did.
	generation uint64
	// The recovery handler's failed attempts, in this recovery, and until when it waits.
	recoveryAttempts int
	recoveryWait     int64
	recoveryFailure  failure
	until            bool
	lastCompletion   *completion
	// State is what handlers keep.
	State string
	// byID is the memory of message ids.
	byID map[string]*Life
	// bySeq finds a message by lane and number, settled or not.
	bySeq [2]map[uint64]*Life
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
}

// completion is the last one, for its repeats.
type completion struct {
	ended, begun *Epoch
	through      uint64
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

// Life is one accepted message, from acceptance to settlement.
type Life struct {
	Instance *Instance
	Message  *sluicev1.Message
	Seq      uint64
	Lane     int
	// Disposition, Mode, Epoch and Ahead as the receipt told them.
	Disposition string
	Mode        string
	Epoch       *Epoch
	Ahead       uint64
	Accepted    Point
	// Told is the disposition that the cluster's receipt told; empty: an outgoing message, of which there is none.
	Told string
	// Settlement is empty while it is unsettled: completed, skipped or dead-lettered.
	Settlement string
	Settled    Point
	// By is the worker's settlement; nil: an operator, or the completion of a recovery, settled it.
	By *sluicev1.Settlement
	// Session of the worker, and the epoch and attempt that the settlement was under.
	Session string
	Under   *Epoch
	Attempt int
	// Through: a completion said that it took effect.
	Through bool
	// Found is the instance's state before its settlement: what its handler was to see.
	Found   string
	failure failure
}

// Transition is one change of an instance's mode.
type Transition struct {
	At       Point
	Instance *Instance
	From, To string
	// Epoch that begins; of a drain that ends, the one that goes on.
	Epoch *Epoch
	// OwnerLost: a session's lease ran out. Whole: the application entered as a whole.
	OwnerLost, Whole bool
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
		bySeq: [2]map[uint64]*Life{{}, {}},
	}
}

func (m *Machine) keep(i *Instance) { m.instances[i.ID] = i }

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
	return all[:min(len(all), i.window)]
}

func (i *Instance) hasWork() bool {
	if i.Mode == Recovery {
		return i.recoveryWait == 0
	}
	return i.Lanes[normalLane].wait == 0 && len(i.Lanes[normalLane].Messages) > 0
}

// inDoubt tells that a message of the normal lane is in doubt.
func (i *Instance) inDoubt() bool {
	all := i.Lanes[normalLane].Messages
	return len(all) > 0 && all[0].Seq <= i.doubt[normalLane]
}

// newEpoch fences off all that was done under the epoch before. number is 0 if it is not known yet.
func (i *Instance) newEpoch(number uint64) {
	i.Epoch = &Epoch{Number: number, after: max(i.Epoch.Number, i.Epoch.after)}
	i.window = i.app.window
}

// sees holds an epoch that an answer told against the instance's own.
func (m *Machine) sees(e *Epoch, told uint64, where string) {
	switch {
	case e.Number == 0 && told > e.after:
		e.Number = told
	case e.Number == 0:
		m.wrong("I7", "%s: the epoch %d is not greater than %d, which was before it", where, told, e.after)
	case e.Number != told:
		m.wrong("I7", "%s: the epoch is %d, the cluster answered %d", where, e.Number, told)
	}
}

// is tells whether an epoch that was asked for is the current one. If the number is not known yet, the cluster's own
// answer decides, where it can be true.
func (e *Epoch) is(asked uint64, staleTold bool) bool {
	if e.Number != 0 {
		return e.Number == asked
	}
	if asked <= e.after || staleTold {
		return false
	}
	e.Number = asked
	return true
}

// turnToRecovery enters recovery: what is out is in doubt from now on.
func (m *Machine) turnToRecovery(i *Instance, number uint64, t Transition) {
	last := uint64(0)
	if out := i.out(); len(out) > 0 {
		last = out[len(out)-1].Seq
	}
	if i.Mode == Recovery {
		i.doubt[recoveryLane] = max(i.doubt[recoveryLane], last)
	} else {
		i.doubt = [2]uint64{normalLane: last}
	}
	from := i.Mode
	i.Mode, i.drainTo, i.recoveryWait, i.recoveryAttempts, i.until = Recovery, 0, 0, 0, false
	i.Lanes[normalLane].wait, i.Lanes[recoveryLane].wait = 0, 0
	i.generation = 0
	if t.Whole {
		i.generation = number
	}
	i.newEpoch(number)
	t.From, t.To = from, Recovery
	m.transition(i, t)
}

func (m *Machine) transition(i *Instance, t Transition) {
	t.At, t.Instance, t.Epoch, t.Held = m.at, i, i.Epoch, i.deferred()
	m.Transitions = append(m.Transitions, t)
	m.changed(i)
}

// turnBack completes a recovery: what took effect is settled, what is left of the recovery lane is dead-lettered, and
// what was deferred is let go. state is nil if it stays as it is.
func (m *Machine) turnBack(i *Instance, through uint64, state *string) {
	last := &completion{ended: i.Epoch, through: through}
	through = min(through, i.doubt[normalLane])
	for _, l := range slices.Clone(i.Lanes[normalLane].Messages) {
		if l.Seq <= through {
			l.Through = true
			m.end(l, "completed")
		}
	}
	for _, l := range slices.Clone(i.Lanes[recoveryLane].Messages) {
		m.end(l, "dead-lettered")
	}
	i.newEpoch(0)
	i.doubt, i.generation, i.recoveryWait, i.recoveryAttempts, i.recoveryFailure, i.until = [2]uint64{}, 0, 0, 0, failure{}, false
	for n := range i.Lanes {
		i.Lanes[n].attempts, i.Lanes[n].wait = 0, 0
	}
	i.Mode = Normal
	if i.deferred() > 0 {
		i.Mode = Draining
		all := i.Lanes[normalLane].Messages
		i.drainTo = all[len(all)-1].Seq
	}
	if state != nil {
		i.State = *state
	}
	last.begun, last.mode, i.lastCompletion = i.Epoch, i.Mode, last
	m.transition(i, Transition{From: Recovery, To: i.Mode, Ended: last.ended, State: i.State})
}

// end settles a message, once.
func (m *Machine) end(l *Life, settlement string) {
	i := l.Instance
	lane := &i.Lanes[l.Lane]
	if lane.Messages[0] == l {
		lane.attempts, lane.wait = 0, 0
	}
	at := slices.Index(lane.Messages, l)
	lane.Messages = slices.Delete(slices.Clone(lane.Messages), at, at+1)
	l.Settlement, l.Settled, l.failure = settlement, m.at, failure{}
	if normal := i.Lanes[normalLane].Messages; i.Mode == Draining && (len(normal) == 0 || normal[0].Seq > i.drainTo) {
		i.Mode, i.drainTo = Normal, 0
		m.transition(i, Transition{From: Draining, To: Normal})
	}
	m.changed(i)
}

// disown takes an instance from its owner, and fences it off.
func (m *Machine) disown(i *Instance, fenced bool) {
	if s := m.sessions[i.Owner]; s != nil {
		s.owned--
	}
	i.Owner = ""
	if !fenced {
		i.newEpoch(0)
	}
	m.changed(i)
}

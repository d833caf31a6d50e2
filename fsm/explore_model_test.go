package fsm_test

import (
	"fmt"
	"slices"

	sluicev1 "sluice/api/sluice/v1"
)

// The model is what the semantics promise, told a second time: as sets and lists, without positions, laziness or a
// store. It shares no code with the machine. A ghost is a value: copying it copies all of it.

// scope is a small world to explore: two sessions, up to two instances, up to three messages.
type scope struct {
	name        string
	messages    []scopeMessage
	instances   []string
	window      int
	maxAttempts int
	redeliver   bool
	deadLetter  bool
	// What the alphabet holds beside sending, assigning, settling, entering, completing, expiring and closing.
	fail, wide, skip bool
	// An operator dead-letters messages of the normal lane, and puts them back.
	surgery bool
	// A completed message leaves a state, a reply, and the outgoing messages that come from it.
	effects bool
	// Time passes, and with it the life of the messages that expire; freeze: not while in recovery.
	expiry, freeze bool
	depth, shallow int // how deep by default, and in short runs; 0: to the end
}

type scopeMessage struct {
	instance int
	id       string
	recovery bool
	from     int // sent when the message with this number, from 1, is completed; 0: sent by a client
	expires  bool
}

// who is a settlement's identity.
type who struct {
	epoch   uint64
	attempt int
	outcome sluicev1.Outcome
}

// gmsg is what the ghost knows of a message.
type gmsg struct {
	sent, deferred bool
	past           bool // its time to expire has passed
	lane           int  // 0 normal, 1 recovery
	seq            uint64
	kind           sluicev1.SettlementKind
	by             who // of the settlement
	failed         who // the last failed attempt
	receipt        *sluicev1.Receipt
}

// glane is a lane: the messages in it, in order.
type glane struct {
	list     [3]int
	n        int
	attempts int
	waits    bool
}

func (l *glane) remove(m int) {
	for at := 0; at < l.n; at++ {
		if l.list[at] == m {
			if at == 0 {
				l.attempts, l.waits = 0, false
			}
			copy(l.list[at:], l.list[at+1:])
			l.n--
			return
		}
	}
}

// glast is the last completion.
type glast struct {
	done           bool
	epoch, through uint64
	mode           sluicev1.Mode
	after          uint64
	set            bool // it set a state
}

// ginst is what the ghost knows of an instance, as it is in effect.
type ginst struct {
	exists      bool
	mode        sluicev1.Mode
	epoch       uint64
	grows       bool // the epoch must grow with the action at work
	owner       int  // -1: none
	lanes       [2]glane
	next, tail  uint64
	mark        uint64
	doubt       [2]uint8 // sets of messages
	recAttempts int
	recWaits    bool
	recFailed   who
	wide        bool // the application's last entry began this recovery
	last        glast
	state       int   // number, from 1, of the message that left the state; -1: a completed recovery did
	outDead     int   // outgoing messages that were refused
	waiting     uint8 // set of dead letters that are to be put back
	behind      int   // how many messages are out before them
}

// hand is a delivery that a worker still holds although it is not out any more.
type hand struct {
	held     bool
	instance int
	epoch    uint64
	lane     int
	seq      uint64
	attempt  int
	message  int // -1: the recovery itself
}

type ghost struct {
	inst    [2]ginst
	msgs    [3]gmsg
	open    [2]bool
	hands   [2]hand
	wides   int
	index   uint64
	now     int64
	highest uint64 // epoch seen
	outbox  goutbox
	window  int
}

func newGhost() ghost {
	g := ghost{now: start}
	for n := range g.inst {
		g.inst[n] = ginst{mode: normal, owner: -1, next: 1}
	}
	return g
}

func (i *ginst) working() int {
	if i.mode == recovery {
		return 1
	}
	return 0
}

func (i *ginst) waits() bool {
	return i.lanes[i.working()].waits || i.mode == recovery && i.recWaits
}

// out are the messages that are out with the owner.
func (i *ginst) out(window int) []int {
	if i.owner < 0 || i.waits() {
		return nil
	}
	l := &i.lanes[i.working()]
	if i.waiting != 0 && i.mode != recovery {
		window = min(window, i.behind)
	}
	return l.list[:min(l.n, window)]
}

func (i *ginst) hasWork() bool {
	if i.mode == recovery {
		return !i.recWaits
	}
	return i.lanes[0].n > 0 && !i.lanes[0].waits
}

// born makes an instance exist.
func (i *ginst) born() {
	if !i.exists {
		i.exists, i.grows = true, true
	}
}

// enter turns an instance to recovery.
func (g *ghost) enter(n int, s *scope, wide bool) {
	i := &g.inst[n]
	out := uint8(0)
	for _, m := range i.out(s.window) {
		out |= 1 << m
	}
	if i.mode == recovery {
		i.doubt[1] |= out
	} else {
		i.doubt = [2]uint8{out, 0}
	}
	i.mode, i.grows, i.wide, i.mark = recovery, true, wide, 0
	i.recAttempts, i.recWaits = 0, false
	i.lanes[0].waits, i.lanes[1].waits = false, false
}

// settle ends a message.
func (g *ghost) settle(m int, at int, kind sluicev1.SettlementKind, by who) {
	msg, i := &g.msgs[m], &g.inst[at]
	msg.kind, msg.by = kind, by
	if i.waiting != 0 && i.mode != recovery && slices.Contains(i.out(g.window), m) {
		i.behind--
	}
	i.lanes[msg.lane].remove(m)
	i.doubt[msg.lane] &^= 1 << m
	g.letBack(at)
	i.drained(g)
}

// drained ends draining once nothing up to the mark is left.
func (i *ginst) drained(g *ghost) {
	if i.mode != draining {
		return
	}
	if l := &i.lanes[0]; l.n == 0 || g.msgs[l.list[0]].seq > i.mark {
		i.mode, i.mark = normal, 0
	}
}

// complete ends a recovery.
func (g *ghost) complete(n int, through uint64) {
	i := &g.inst[n]
	for m := range g.msgs {
		if i.doubt[0]&(1<<m) != 0 && g.msgs[m].seq <= through {
			g.settle(m, n, kindCompleted, who{})
		}
	}
	for i.lanes[1].n > 0 {
		g.settle(i.lanes[1].list[0], n, kindDead, who{})
	}
	i.last = glast{done: true, epoch: i.epoch, through: through}
	i.mode, i.grows, i.doubt, i.wide = normal, true, [2]uint8{}, false
	i.recAttempts, i.recWaits, i.recFailed = 0, false, who{}
	for l := range i.lanes {
		i.lanes[l].attempts, i.lanes[l].waits = 0, false
	}
	for _, m := range i.lanes[0].list[:i.lanes[0].n] {
		if g.msgs[m].deferred {
			i.mode, i.mark = draining, i.tail
		}
	}
	i.last.mode = i.mode
}

// lose takes an instance from an owner whose lease ran out.
func (g *ghost) lose(n int, s *scope) {
	i := &g.inst[n]
	out := i.out(s.window)
	switch {
	case i.mode == recovery && !i.recWaits:
		g.enter(n, s, false)
	case i.mode == recovery || len(out) == 0:
	case s.redeliver:
		m := out[0]
		l := &i.lanes[0]
		l.attempts++
		g.msgs[m].failed = who{i.epoch, l.attempts, outFailed}
		g.lastAttempt(n, m, s, who{})
	default:
		g.enter(n, s, false)
	}
	i.owner, i.grows = -1, true
}

// lastAttempt draws the consequence if the attempt that failed was the last one allowed.
func (g *ghost) lastAttempt(n, m int, s *scope, by who) bool {
	i, lane := &g.inst[n], g.msgs[m].lane
	switch {
	case i.lanes[lane].attempts < s.maxAttempts:
		return false
	case lane == 1 || s.deadLetter:
		g.settle(m, n, kindDead, by)
	default:
		g.enter(n, s, false)
	}
	return true
}

// offers are the deliveries that are out with an instance's owner, the announcement of a recovery first.
func (g *ghost) offers(n int, s *scope) (ds []hand) {
	i := &g.inst[n]
	if i.owner < 0 {
		return nil
	}
	if i.mode == recovery && !i.recWaits {
		ds = append(ds, hand{true, n, i.epoch, 1, 0, i.recAttempts + 1, -1})
	}
	for at, m := range i.out(s.window) {
		d := hand{true, n, i.epoch, i.working(), g.msgs[m].seq, 1, m}
		if at == 0 {
			d.attempt = i.lanes[d.lane].attempts + 1
		}
		ds = append(ds, d)
	}
	return ds
}

// judge says what becomes of a settlement: "" for carried out.
func (g *ghost) judge(session int, d hand, o sluicev1.Outcome, s *scope) string {
	i := &g.inst[d.instance]
	if g.repeats(d, o) {
		return "duplicate"
	}
	switch {
	case !g.open[session]:
		return "UNKNOWN_SESSION"
	case d.epoch != i.epoch:
		return "STALE_EPOCH"
	case i.owner != session:
		return "NOT_OWNER"
	case d.message < 0:
		if i.mode != recovery || i.recWaits || d.attempt != i.recAttempts+1 {
			return "NOT_IN_FLIGHT"
		}
		return ""
	case g.msgs[d.message].kind != 0:
		return "ALREADY_SETTLED"
	case d.lane != i.working():
		return "NOT_IN_FLIGHT"
	}
	for at, m := range i.out(s.window) {
		switch {
		case m != d.message:
		case at > 0:
			return "OUT_OF_ORDER"
		case d.attempt != i.lanes[d.lane].attempts+1:
			return "NOT_IN_FLIGHT"
		default:
			return ""
		}
	}
	return "NOT_IN_FLIGHT"
}

// repeats tells that a settlement took effect before.
func (g *ghost) repeats(d hand, o sluicev1.Outcome) bool {
	failed := g.inst[d.instance].recFailed
	if d.message >= 0 {
		m := &g.msgs[d.message]
		if m.kind != 0 {
			return m.by == who{d.epoch, d.attempt, o}
		}
		failed = m.failed
	}
	return o == outFailed && failed.epoch == d.epoch && d.attempt <= failed.attempt
}

// carryOut gives a settlement that is not refused its effect.
func (g *ghost) carryOut(d hand, o sluicev1.Outcome, s *scope) {
	i := &g.inst[d.instance]
	by := who{d.epoch, d.attempt, o}
	switch {
	case d.message < 0:
		i.recAttempts++
		i.recWaits, i.recFailed = true, by
	case o == outCompleted:
		g.settle(d.message, d.instance, kindCompleted, by)
		g.takeEffect(d.message, d.instance, s)
	default:
		l := &i.lanes[d.lane]
		l.attempts++
		g.msgs[d.message].failed = by
		if !g.lastAttempt(d.instance, d.message, s, by) {
			l.waits = true
		}
	}
}

// gate says what becomes of a message: a disposition, or the reason of a refusal.
func (g *ghost) gate(m scopeMessage) (sluicev1.Disposition, string) {
	switch mode := g.inst[m.instance].mode; {
	case mode == recovery && m.recovery:
		return dispRecovery, ""
	case m.recovery:
		return 0, "NOT_SUITABLE"
	case mode == normal:
		return dispAccepted, ""
	default:
		return dispDeferred, ""
	}
}

// accept puts a message into its lane and gives the receipt that is due, but for epoch and index.
func (g *ghost) accept(n int, m scopeMessage, d sluicev1.Disposition) *sluicev1.Receipt {
	i, msg := &g.inst[m.instance], &g.msgs[n]
	i.born()
	lane := 0
	if d == dispRecovery {
		lane = 1
	}
	l := &i.lanes[lane]
	*msg = gmsg{sent: true, deferred: d == dispDeferred, lane: lane, seq: i.next}
	want := &sluicev1.Receipt{MessageId: m.id, Seq: i.next, Disposition: d, Mode: i.mode, Ahead: uint64(l.n)}
	l.list[l.n] = n
	l.n++
	if lane == 0 {
		i.tail = i.next
	}
	i.next++
	return want
}

// inDoubt tells whether a message of the normal lane is in doubt.
func (i *ginst) inDoubt() bool { return i.doubt[0] != 0 }

func (d hand) String() string {
	return fmt.Sprintf("instance %d epoch %d lane %d seq %d attempt %d", d.instance, d.epoch, d.lane, d.seq, d.attempt)
}

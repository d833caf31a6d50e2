package cluster

import (
	"container/list"
	"sync"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// formersMax bounds the memory of which session an instance was with last.
const formersMax = 16384

// dispatcher is what a leader remembers of sessions: their leases, what they own, what was handed to them. All of it
// can be found again from the state: a new leader offers everything that is out once more. Its methods decide and
// read no clock; the caller does the reading of the state, the waiting and the proposing.
type dispatcher struct {
	redeliverAfter time.Duration
	// planning is rung when there may be something to assign.
	planning bell

	// mu guards all that follows, in sessions and held instances, too. It is never held during a read of the state.
	mu       sync.Mutex
	sessions map[string]*session
	owner    map[fsm.InstanceID]*held
	// hungry holds the applications in which instances may wait for an owner.
	hungry map[string]bool
	// former remembers the last owner of instances that were released, so that they go back to it if they can.
	former map[fsm.InstanceID]string
	pace   pace
}

// session is a worker's lease and all that is known of its work.
type session struct {
	id, application string
	ttl             time.Duration
	capacity        int
	expires         time.Time
	// expiring: the end of the lease is being proposed; it can be renewed no more unless that fails.
	expiring bool
	owned    map[fsm.InstanceID]*held
	// ready holds, first come first served, the instances that may have something to offer; each once.
	ready list.List
	// handed holds the instances with something handed out and unsettled, oldest hand-out first.
	handed list.List
	// idle holds the instances without work, least recently used first.
	idle list.List
	// polls holds the polls that wait.
	polls map[*waitingPoll]struct{}
	// reserved counts assignments under way.
	reserved int
	// credit is what polls that did not wait asked for, until creditEnds.
	credit     int
	creditEnds time.Time
	// last is the last answered poll that had a request id.
	last *answeredPoll
}

// held is an instance and what its owner was given of it.
type held struct {
	id      fsm.InstanceID
	session *session
	given   fsm.Given
	// stream names the stream that brought the owner what was given last; empty: none, or it may not have arrived.
	stream string
	// version grows with every change of given, so that a hand-out is taken back only if it was the last.
	version uint64
	at      time.Time
	// inReady, inHanded and inIdle are its places in the session's lists, inLine in that of the pace; nil: not in it.
	inReady, inHanded, inIdle, inLine *list.Element
	// drains: it was draining when it was last touched; what was found when this node took the lead is not marked. turn:
	// it has waited for room, and its turn has come.
	drains, turn bool
	// taken is the epoch whose recovery the owner was given; 0: none.
	taken uint64
}

// waitingPoll is one poll that waits for a delivery.
type waitingPoll struct {
	max  int
	wake bell
}

func newDispatcher(redeliverAfter time.Duration, drainBeside int) *dispatcher {
	return &dispatcher{
		redeliverAfter: redeliverAfter, planning: newBell(), sessions: map[string]*session{}, owner: map[fsm.InstanceID]*held{},
		hungry: map[string]bool{}, former: map[fsm.InstanceID]string{},
		pace: pace{share: drainBeside, waited: newBell()},
	}
}

// open makes a session known, with a full lease, if it is not known yet.
func (d *dispatcher) open(rec *logv1.SessionRecord, now time.Time) *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.sessions[rec.Id]; s != nil {
		return s
	}
	ttl := time.Duration(rec.TtlMs) * time.Millisecond
	s := &session{
		id: rec.Id, application: rec.Application, ttl: ttl, capacity: int(rec.Capacity), expires: now.Add(ttl),
		owned: map[fsm.InstanceID]*held{}, polls: map[*waitingPoll]struct{}{},
	}
	d.sessions[rec.Id] = s
	return s
}

// find answers a session; nil if it is not known.
func (d *dispatcher) find(id string) *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[id]
}

// end forgets a session and wakes its polls.
func (d *dispatcher) end(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sessions[id]
	if s == nil {
		return
	}
	for _, h := range s.owned {
		d.drop(h)
	}
	delete(d.sessions, id)
	s.wake()
}

func (s *session) wake() {
	for p := range s.polls {
		p.wake.ring()
	}
}

// touch notes that an instance's offer may have changed; its owner is who owns it, or did until just now. It answers false
// if that session is not known.
func (d *dispatcher) touch(t fsm.Touch) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, id := d.sessions[t.Owner], t.InstanceID
	if s == nil {
		return false
	}
	h := d.owner[id]
	if h != nil && h.session != s {
		d.drop(h)
		h = nil
	}
	if h == nil {
		h = &held{id: id, session: s}
		d.owner[id], s.owned[id] = h, h
	}
	h.drains = t.Drains
	if t.Rests(h.given) {
		d.rest(h)
	} else {
		d.makeReady(h)
	}
	return true
}

// rest notes that there is nothing to offer of an instance. What is being read of it may be of before, and is not to be
// handed out.
func (d *dispatcher) rest(h *held) {
	s := h.session
	unlist(&s.ready, &h.inReady)
	d.pace.leave(h)
	h.turn = false
	h.version++
	d.classify(s, h, &fsm.Offer{Idle: true})
}

// makeReady has an instance looked at. One that drains and waits for room goes on waiting.
func (d *dispatcher) makeReady(h *held) {
	if h.inLine != nil && h.drains {
		return
	}
	d.pace.leave(h)
	s := h.session
	if h.inReady == nil {
		h.inReady = s.ready.PushBack(h)
	}
	s.wake()
}

// drop forgets that a session owns an instance.
func (d *dispatcher) drop(h *held) {
	s := h.session
	unlist(&s.ready, &h.inReady)
	unlist(&s.handed, &h.inHanded)
	unlist(&s.idle, &h.inIdle)
	d.pace.leave(h)
	delete(s.owned, h.id)
	if d.owner[h.id] == h {
		delete(d.owner, h.id)
	}
	if len(d.former) >= formersMax {
		clear(d.former)
	}
	d.former[h.id] = s.id
}

func unlist(l *list.List, at **list.Element) {
	if *at != nil {
		l.Remove(*at)
		*at = nil
	}
}

// enter offers every owned instance of an application again: all of them entered recovery.
func (d *dispatcher) enter(application string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sessions {
		if s.application != application {
			continue
		}
		for _, h := range s.owned {
			h.drains = false
			d.makeReady(h)
		}
	}
}

// begin prepares a poll: what was given too long ago, or everything if afresh, is to be offered again.
func (d *dispatcher) begin(s *session, afresh bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for e := s.handed.Front(); e != nil; e = s.handed.Front() {
		h := e.Value.(*held)
		if !afresh && now.Sub(h.at) < min(s.ttl/2, d.redeliverAfter) {
			return
		}
		h.reset()
		unlist(&s.handed, &h.inHanded)
		d.makeReady(h)
	}
}

// reset makes everything that is out count as not given. That the recovery was taken stays true: to offer it again
// to an owner that may have it makes no older handler begin.
func (h *held) reset() {
	h.given, h.stream = fsm.Given{}, ""
	h.version++
}

// pick takes the next instance that may have something to offer.
func (d *dispatcher) pick(s *session, now time.Time) (h *held, given fsm.Given, version uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for e := s.ready.Front(); e != nil; e = s.ready.Front() {
		h = e.Value.(*held)
		unlist(&s.ready, &h.inReady)
		if !d.lineUp(h, now) {
			return h, h.given, h.version
		}
	}
	return nil, fsm.Given{}, 0
}

// allowance is for how many messages there is room in one look at an instance that was picked, and how many instances of its
// session wait to be looked at.
func (d *dispatcher) allowance(h *held, now time.Time) (room, others int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.room(h, now), h.session.ready.Len()
}

// follows tells whether what a stream brings of an instance comes after what that stream itself brought last.
func (d *dispatcher) follows(h *held, stream string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return stream != "" && stream == h.stream
}

// handOut is what one poll was given of one instance.
type handOut struct {
	held          *held
	before, after fsm.Given
	version       uint64
	epoch         uint64
	count         int
	identities    map[identity]bool
}

// identity is that of a delivery, within an instance and its epoch.
type identity struct {
	lane    sluicev1.Lane
	seq     uint64
	attempt uint32
}

// handed notes an offer's deliveries as given to the owner, by a stream or, without a name, a single poll. It answers nil,
// and nothing counts as given, if the offer is no longer the one to give: the owner is another, another poll was faster, or
// there is nothing left to offer.
func (d *dispatcher) handed(h *held, version uint64, stream string, before fsm.Given, o *fsm.Offer, now time.Time) *handOut {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := h.session
	if d.owner[h.id] != h {
		return nil
	}
	if h.version != version {
		d.makeReady(h)
		return nil
	}
	if o.Owner != s.id {
		// Touched again since it was picked: what was read may be of before the session got it back.
		if h.inReady == nil && h.inLine == nil {
			d.drop(h)
			d.planning.ring()
		}
		return nil
	}
	d.classify(s, h, o)
	if len(o.Deliveries) == 0 {
		return nil
	}
	h.given, h.stream, h.at = o.Given, stream, now
	h.version++
	d.count(h, o, now)
	if o.RecoveryTaken {
		h.taken = o.Epoch
	}
	unlist(&s.handed, &h.inHanded)
	h.inHanded = s.handed.PushBack(h)
	out := &handOut{held: h, before: before, after: o.Given, version: h.version, epoch: o.Epoch, count: len(o.Deliveries), identities: map[identity]bool{}}
	for _, x := range o.Deliveries {
		out.identities[identityOf(x)] = true
	}
	return out
}

func identityOf(x *sluicev1.Delivery) identity { return identity{x.Lane, x.Seq, x.Attempt} }

// classify keeps the lists true to an offer.
func (d *dispatcher) classify(s *session, h *held, o *fsm.Offer) {
	unlist(&s.idle, &h.inIdle)
	if o.Idle {
		h.inIdle = s.idle.PushBack(h)
		unlist(&s.handed, &h.inHanded)
		if d.crowded(s) {
			d.planning.ring()
		}
	}
	if o.More && h.inReady == nil {
		d.makeReady(h)
	}
}

// takeBack makes what a poll was given count as not given: its answer reached nobody.
func (d *dispatcher) takeBack(outs []*handOut) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(outs) - 1; i >= 0; i-- {
		h := outs[i].held
		if d.owner[h.id] != h {
			continue
		}
		if h.version == outs[i].version {
			h.given, h.stream = outs[i].before, ""
			h.version++
		} else {
			h.reset()
		}
		h.taken = 0
		d.makeReady(h)
	}
}

// quiesced tells whether the owner of an instance in recovery has taken the recovery of this epoch.
func (d *dispatcher) quiesced(id fsm.InstanceID, owner string, epoch uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.owner[id]
	return h != nil && h.session.id == owner && h.taken == epoch && epoch != 0
}

// counts are for the metrics.
func (d *dispatcher) counts() (sessions, polls, owned, paced int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sessions {
		polls += len(s.polls)
	}
	return len(d.sessions), polls, len(d.owner), d.pace.waiting()
}

package client

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	sluicev1 "sluice/api/sluice/v1"
)

// host is what a worker has in hand: instances, their messages, and settlements on their way. One host serves a
// worker's sessions one after the other, so that a handler of a lost session that has not returned yet still keeps
// others off its instance.
//
// Everything below mu is guarded by it. Handlers, the network and event functions run outside of it: changes under mu
// start handlers, and leave word for the link in changed and for a stop in quiet.
type host struct {
	cfg    WorkerConfig
	client *Client
	log    *slog.Logger

	changed chan struct{} // a token: settlements, or credit that is worth telling, may wait for the link
	quiet   chan struct{} // a token: a handler returned or a settlement was answered
	lost    chan struct{} // a token: the session is gone
	stopped chan struct{} // closed when the worker begins to stop

	mu       sync.Mutex
	session  string // empty between sessions
	table    map[InstanceID]*hosted
	idlers   *list.List // of *hosted, the least recently used first
	ready    []*hosted  // with a message that may be handled, in the order in which they became so
	waiting  []*hosted  // with a recovery that may be handled
	running  int        // message handlers at work, at most cfg.Concurrency
	recovers int        // recovery handlers at work, at most cfg.Concurrency: apart, for they wait for messages
	paused   bool       // the lease lapsed: no handler begins
	stopping bool
	out      outbox
	held     int // messages of normal lanes in hand: they use credit
	due      int // credit to give back
	parked   map[*lane]*hosted
	events   []Event // to tell after mu is given back
}

func newHost(c *Client, cfg WorkerConfig) *host {
	return &host{
		cfg: cfg, client: c, log: cfg.Logger,
		changed: make(chan struct{}, 1), quiet: make(chan struct{}, 1), lost: make(chan struct{}, 1), stopped: make(chan struct{}),
		table: map[InstanceID]*hosted{}, idlers: list.New(), parked: map[*lane]*hosted{},
	}
}

// unlock gives mu back and then tells the events.
func (h *host) unlock() {
	events := h.events
	h.events = nil
	h.mu.Unlock()
	for _, e := range events {
		h.cfg.OnEvent(e)
	}
}

func (h *host) tell(e Event) {
	if h.cfg.OnEvent != nil {
		e.Session = h.session
		h.events = append(h.events, e)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// arrive takes deliveries of a session in hand.
func (h *host) arrive(session string, deliveries []*sluicev1.Delivery) {
	h.mu.Lock()
	defer h.unlock()
	if h.stopping || session != h.session {
		return
	}
	for _, d := range deliveries {
		if !h.take(d) {
			h.due++
		}
	}
	if h.worthTelling() { // what is in hand now counts, too
		poke(h.changed)
	}
}

// take takes one delivery in hand; false: it uses no credit, because it is ignored or of a recovery. A recovery's
// messages must come while messages wait for its end, and the instance's window bounds them.
func (h *host) take(w *sluicev1.Delivery) bool {
	id, epoch := InstanceID{Application: w.GetApplication(), Key: w.GetInstance()}, Epoch(w.GetEpoch())
	hd := h.table[id]
	switch {
	case hd == nil:
		hd = h.adopt(id)
		hd.begin(epoch, w.GetState())
	case epoch < hd.epoch || epoch == hd.epoch && hd.fenced:
		return false
	case epoch > hd.epoch:
		h.fence(hd)
		hd.begin(epoch, w.GetState())
	}
	h.rouse(hd)
	if w.GetKind() == sluicev1.DeliveryKind_DELIVERY_RECOVERY {
		h.announce(hd, w)
		return false
	}
	d := deliveryOf(w)
	if !hd.lane(d.Lane).add(d) {
		h.rest(hd)
		return false
	}
	h.park(hd, hd.lane(d.Lane))
	if d.Lane == LaneRecovery {
		hd.wake()
		return false
	}
	h.held++
	h.kick(hd)
	return true
}

// adopt makes room for an instance. The cluster lets idle instances go without a word, least recently used first, so
// the table keeps as many again as may be owned at once.
func (h *host) adopt(id InstanceID) *hosted {
	for len(h.table) >= 2*h.cfg.Capacity && h.idlers.Len() > 0 {
		oldest := h.idlers.Remove(h.idlers.Front()).(*hosted)
		delete(h.table, oldest.id)
	}
	hd := &hosted{id: id, arrived: make(chan struct{}, 1)}
	h.table[id] = hd
	return hd
}

// rouse takes an instance from the idle.
func (h *host) rouse(hd *hosted) {
	if hd.place != nil {
		h.idlers.Remove(hd.place)
		hd.place = nil
	}
}

// rest puts an instance among the idle if it is.
func (h *host) rest(hd *hosted) {
	if hd.place == nil && hd.idle() {
		hd.interrupt(nil)
		hd.place = h.idlers.PushBack(hd)
	}
}

// kick begins to handle an instance's next message as soon as a handler is free.
func (h *host) kick(hd *hosted) {
	h.enqueue(hd)
	for h.running < h.cfg.Concurrency {
		next, d, ctx := h.next()
		if d == nil {
			return
		}
		h.running++
		go h.run(next, d, ctx)
	}
}

func (h *host) enqueue(hd *hosted) {
	if !hd.queued && h.startable(hd) {
		hd.queued = true
		h.ready = append(h.ready, hd)
	}
}

func (h *host) startable(hd *hosted) bool {
	return !h.paused && !h.stopping && !hd.busy && !hd.fenced && hd.barrier == 0 && hd.work == nil && hd.normal.ready() != nil
}

// next begins the message that waits longest for a handler; nil: none does.
func (h *host) next() (*hosted, *Delivery, context.Context) {
	for len(h.ready) > 0 {
		hd := h.ready[0]
		h.ready[0] = nil
		h.ready = h.ready[1:]
		hd.queued = false
		if h.startable(hd) {
			hd.busy = true
			d := hd.normal.begin()
			delete(h.parked, &hd.normal)
			d.state = hd.state
			return hd, d, hd.context()
		}
		h.rest(hd)
	}
	return nil, nil, nil
}

// run handles messages until none is ready.
func (h *host) run(hd *hosted, d *Delivery, ctx context.Context) {
	for d != nil {
		err := guard(ctx, func(ctx context.Context) error { return h.cfg.Handler(ctx, d) })
		h.logPanic(d, err)
		if wantsRecovery(err) {
			err = h.enterRecovery(d, err)
		}
		hd, d, ctx = h.finish(hd, d, ctx, err)
	}
}

func (h *host) logPanic(d *Delivery, err error) {
	var p *panicError
	if errors.As(err, &p) {
		h.log.Error("a handler panicked", "instance", d.Instance.String(), "seq", d.Seq, "panic", p.value, "stack", p.stack)
	}
}

// finish takes a handler's outcome and begins the next message.
func (h *host) finish(hd *hosted, d *Delivery, ctx context.Context, err error) (*hosted, *Delivery, context.Context) {
	h.mu.Lock()
	defer h.unlock()
	hd.busy = false
	h.conclude(hd, d, ctx, err)
	h.enqueue(hd)
	h.kickRecovery(hd)
	h.rest(hd)
	next, message, nextCtx := h.next()
	if message == nil {
		h.running--
		poke(h.quiet)
	}
	return next, message, nextCtx
}

// conclude makes a settlement of a handler's outcome, if its epoch still stands.
func (h *host) conclude(hd *hosted, d *Delivery, ctx context.Context, err error) {
	if hd.epoch != d.Epoch || hd.fenced {
		return
	}
	if errors.Is(err, errHandedOver) {
		h.fence(hd)
		return
	}
	h.release(1)
	if err != nil && errors.Is(context.Cause(ctx), ErrStopped) {
		hd.normal.current = nil // it goes back with the session, and no attempt is counted
		return
	}
	s := &settling{hd: hd, d: d, err: err, wire: d.settlement(err), barrier: err != nil || !d.effects.none()}
	hd.normal.end(s.wire.GetOutcome() == sluicev1.Outcome_OUTCOME_FAILED)
	if s.barrier {
		hd.barrier++
	}
	h.out.put(s)
	poke(h.changed)
}

// release gives credit back for messages that are no longer in hand.
func (h *host) release(count int) {
	h.held -= count
	h.due += count
	if count > 0 {
		poke(h.changed)
	}
}

// fence drops what is in hand of an instance: its epoch is over.
func (h *host) fence(hd *hosted) {
	count := len(hd.normal.queue)
	if hd.normal.current != nil {
		count++
	}
	h.release(count)
	if hd.busy || count > 0 || hd.work != nil {
		h.tell(Event{Kind: EventFenced, Instance: hd.id, Epoch: hd.epoch, Err: ErrFenced})
	}
	hd.interrupt(ErrFenced)
	delete(h.parked, &hd.normal)
	delete(h.parked, &hd.recovery)
	hd.begin(hd.epoch, nil)
	hd.fenced = true
	hd.wake()
}

// errHandedOver ends a message whose handler asked for recovery: the message is in doubt now.
var errHandedOver = errors.New("the instance entered recovery")

func wantsRecovery(err error) bool {
	var v *verdict
	return errors.As(err, &v) && v.recover
}

// wishTimeout bounds a worker's own request to enter recovery.
const wishTimeout = 30 * time.Second

// enterRecovery carries out a handler's wish, under the epoch of its message.
func (h *host) enterRecovery(d *Delivery, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), wishTimeout)
	defer cancel()
	h.mu.Lock()
	session := h.session
	h.mu.Unlock()
	_, refusal := h.client.Instances().enterRecovery(ctx, d.Instance, EnterRecovery{Cause: errorText(err)}, session, d.Epoch)
	if refusal == nil || fencing(asError(refusal).Reason) {
		return errHandedOver
	}
	return errors.Join(err, refusal)
}

// fencing says that a refusal means that the epoch is over for this worker.
func fencing(r Reason) bool {
	switch r {
	case ErrStaleEpoch, ErrNotOwner, ErrUnknownInstance, ErrTerminated, ErrNotInRecovery, ErrUnknownSession:
		return true
	}
	return false
}

// pause interrupts all handlers and lets none begin: the lease lapsed.
func (h *host) pause() {
	h.mu.Lock()
	defer h.unlock()
	if h.paused {
		return
	}
	h.paused = true
	h.log.Warn("the worker's lease could not be renewed in time: its handlers are interrupted", "session", h.session)
	h.tell(Event{Kind: EventLeaseLapsed, Err: ErrLeaseLost})
	for _, hd := range h.table {
		hd.interrupt(ErrLeaseLost)
	}
}

// resume lets handlers begin again.
func (h *host) resume() {
	h.mu.Lock()
	defer h.unlock()
	if !h.paused {
		return
	}
	h.paused = false
	h.tell(Event{Kind: EventLeaseKept})
	for _, hd := range h.table {
		h.kick(hd)
		h.kickRecovery(hd)
	}
}

// lose is for a session that is known to be gone.
func (h *host) lose() { poke(h.lost) }

// reset drops all that the lost session had in hand.
func (h *host) reset() {
	h.mu.Lock()
	defer h.unlock()
	h.log.Warn("the worker's session is gone: all that was in hand is fenced", "session", h.session)
	h.tell(Event{Kind: EventSessionLost, Err: ErrUnknownSession})
	for id, hd := range h.table {
		h.rouse(hd)
		h.fence(hd)
		hd.queued = false
		if !hd.busy {
			delete(h.table, id)
		}
	}
	for _, s := range h.out.clear() {
		s.answer(refuse(ErrUnknownSession, "the session is gone"))
	}
	h.ready, h.waiting, h.session = nil, nil, ""
	h.held, h.due, h.paused = 0, 0, false
	select {
	case <-h.lost:
	default:
	}
}

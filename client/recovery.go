package client

import (
	"context"
	"errors"
	"log/slog"
	"time"

	sluicev1 "sluice/api/sluice/v1"
)

// InDoubt is a message whose handler may or may not have taken effect.
type InDoubt struct {
	Lane    Lane
	Seq     Seq
	Message Message
	// DataOmitted: Message comes without its data, because those before it hold 8 MiB already. Instances.ListMessages has it.
	DataOmitted bool
	// Attempts are the last that failed, oldest first, at most 10. A poison message has them; one whose worker was
	// lost may have none.
	Attempts []Attempt
}

// Recovery is the recovery of one instance in the hands of a recovery handler. When the handler returns nil, the
// worker handles the recovery messages that are left, and completes the recovery with ProcessedThrough and SetState.
// It is for one goroutine at a time and of no use after the handler returned.
type Recovery struct {
	Instance InstanceID
	// Epoch is the fencing token for effects outside Sluice, together with Instance.
	Epoch Epoch
	// Attempt counts from 1.
	Attempt int
	// Cause is why the instance is in recovery.
	Cause string
	// InDoubt are the messages that were with a handler, in order, lane by lane. Those of the recovery lane are
	// delivered again in it.
	InDoubt []InDoubt
	// DeferredMessages counts what is held until the recovery completes.
	DeferredMessages uint64

	host *host
	hd   *hosted
	// begun and ctx are guarded by host.mu.
	begun    bool
	ctx      context.Context
	through  Seq
	setState bool
	state    []byte
	current  *Delivery // given by Next and not settled
}

func recoveryOf(h *host, hd *hosted, w *sluicev1.Delivery) *Recovery {
	r := &Recovery{
		Instance: hd.id, Epoch: hd.epoch, Attempt: int(w.GetAttempt()), Cause: w.GetRecovery().GetCause(),
		DeferredMessages: w.GetRecovery().GetDeferredMessages(), host: h, hd: hd,
	}
	for _, d := range w.GetRecovery().GetInDoubt() {
		r.InDoubt = append(r.InDoubt, InDoubt{Lane: word(lanes, d.GetLane()), Seq: Seq(d.GetSeq()), Message: messageOf(d.GetMessage()), DataOmitted: d.GetDataOmitted(), Attempts: attemptsOf(d.GetAttempts())})
	}
	return r
}

// State is the instance's state as of the last settlement, or what SetState has set since. It must not be changed in
// place. Nil: none.
func (r *Recovery) State() []byte {
	r.host.mu.Lock()
	defer r.host.mu.Unlock()
	return r.latest()
}

// latest is State under host.mu. Recovery messages see it, too, so that what they set builds on what was set here.
func (r *Recovery) latest() []byte {
	if r.setState {
		return r.state
	}
	return r.hd.state
}

// SetState replaces the instance's state when the recovery completes, or with the completion of the next recovery
// message whose handler sets the state, which sees this one. That message's state stands from then on, also if this handler
// ends before the recovery is completed: what is in doubt is in doubt then for the next one, which may find it counted in
// the state. A handler that waits for recovery messages keeps in the state up to which seq it has counted.
func (r *Recovery) SetState(state []byte) { r.setState, r.state = true, state }

// ProcessedThrough says that the in-doubt messages of the normal lane up to seq took effect: they are settled as
// completed. The rest is delivered again, in order. Without it, nothing in doubt took effect.
func (r *Recovery) ProcessedThrough(seq Seq) { r.through = seq }

// Next waits for the next message of the recovery lane. The one it gave before is settled as completed, unless Settle
// has settled it. Messages for which the handler does not wait go to WorkerConfig.OnRecoveryMessage after it returned.
// The error wraps ErrFenced, ErrLeaseLost or ErrStopped when the recovery is no longer this worker's.
func (r *Recovery) Next(ctx context.Context) (*Delivery, error) {
	if err := r.settleCurrent(ctx, nil); err != nil {
		return nil, err
	}
	d, err := r.take(ctx)
	r.current = d
	return d, err
}

// Settle ends the message that Next gave last: as completed with its effects if err is nil, else as a handler's error
// would. It returns when the settlement was acknowledged, or refused.
func (r *Recovery) Settle(ctx context.Context, err error) error { return r.settleCurrent(ctx, err) }

func (r *Recovery) settleCurrent(ctx context.Context, err error) error {
	d := r.current
	if d == nil {
		return nil
	}
	r.current = nil
	return r.settle(ctx, d, err)
}

// take waits for a recovery message.
func (r *Recovery) take(ctx context.Context) (*Delivery, error) {
	for {
		d, err := r.tryTake()
		if d != nil || err != nil {
			return d, err
		}
		if err := r.wait(ctx, nil); err != nil {
			return nil, err
		}
	}
}

// tryTake takes a recovery message if one has arrived; nil without an error: none has.
func (r *Recovery) tryTake() (*Delivery, error) {
	r.host.mu.Lock()
	defer r.host.unlock()
	switch {
	case !r.stands():
		return nil, ErrFenced
	case r.host.stopping:
		return nil, ErrStopped
	case r.hd.recovery.ready() == nil:
		return nil, nil
	}
	d := r.hd.recovery.begin()
	delete(r.host.parked, &r.hd.recovery)
	d.state = r.latest()
	return d, nil
}

// stands says that the recovery is still this worker's. Under host.mu.
func (r *Recovery) stands() bool {
	return r.hd.epoch == r.Epoch && !r.hd.fenced && r.hd.work == r
}

// wait waits until a recovery message may have arrived, or until the timer fires.
func (r *Recovery) wait(ctx context.Context, timer <-chan time.Time) error {
	select {
	case <-r.hd.arrived:
	case <-timer:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	case <-r.host.stopped:
		return ErrStopped
	}
	return nil
}

// settle settles a recovery message and waits for the answer. A refusal of the message alone is not an error: the
// message is over, or comes again.
func (r *Recovery) settle(ctx context.Context, d *Delivery, err error) error {
	s := &settling{hd: r.hd, d: d, err: err, wire: d.settlement(err), done: make(chan error, 1)}
	r.host.mu.Lock()
	if !r.stands() {
		r.host.unlock()
		return ErrFenced
	}
	r.hd.recovery.end(s.wire.GetOutcome() == sluicev1.Outcome_OUTCOME_FAILED)
	r.host.out.put(s)
	poke(r.host.changed)
	r.host.unlock()
	select {
	case refusal := <-s.done:
		if refusal != nil && fencing(asError(refusal).Reason) {
			return errors.Join(ErrFenced, refusal)
		}
		if refusal == nil && s.wire.GetSetState() {
			r.setState, r.state = false, nil // the message's state is the later one, and has taken effect
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// handleLeft handles the recovery messages that have arrived and that the handler did not ask for.
func (r *Recovery) handleLeft(ctx context.Context) error {
	for {
		d, err := r.tryTake()
		if d == nil {
			return err
		}
		err = guard(ctx, func(ctx context.Context) error { return r.host.cfg.OnRecoveryMessage(ctx, d) })
		r.host.logPanic(d, err)
		if err := r.settle(ctx, d, err); err != nil {
			return err
		}
	}
}

// pendingMax is how long a completion waits for recovery messages that are still to come before it is tried again:
// they may have been settled by someone else.
const pendingMax = 2 * time.Second

// complete ends the recovery. While recovery messages are unsettled it handles them and tries again.
func (r *Recovery) complete(ctx context.Context) error {
	if err := r.settleCurrent(ctx, nil); err != nil {
		return err
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, pendingMax) {
		if err := r.handleLeft(ctx); err != nil {
			return err
		}
		err := r.tryComplete(ctx)
		if err == nil || !errors.Is(err, ErrPendingRecoveryMessages) && !asError(err).unsettled() {
			return err
		}
		timer := time.NewTimer(pause)
		err = r.wait(ctx, timer.C)
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

// tryComplete calls CompleteRecovery under the epoch of this recovery, which makes repetitions harmless.
func (r *Recovery) tryComplete(ctx context.Context) error {
	r.host.mu.Lock()
	session := r.host.session
	r.host.mu.Unlock()
	_, err := r.host.client.Instances().completeRecovery(ctx, r.Instance, CompleteRecovery{
		Epoch: r.Epoch, ProcessedThrough: r.through, SetState: r.setState, State: r.state,
	}, session)
	return err
}

// announce takes a recovery in hand.
func (h *host) announce(hd *hosted, w *sluicev1.Delivery) {
	if hd.work != nil && int(w.GetAttempt()) <= hd.work.Attempt {
		return
	}
	hd.work = recoveryOf(h, hd, w)
	if h.cfg.OnRecovery == nil {
		h.unhandled(hd)
		return
	}
	h.kickRecovery(hd)
}

// errNoRecoveryHandler is what a worker without a recovery handler reports of each recovery.
var errNoRecoveryHandler = errors.New("this worker has no recovery handler")

// unhandled reports a recovery as failed, so that it does not pass for one that a handler is at work on, which the
// completion of a whole application leaves alone. It comes again after the application's backoff, to a worker that may
// know what to do; the log tells of it once.
func (h *host) unhandled(hd *hosted) {
	if hd.work.Attempt <= 1 {
		level := slog.LevelError
		if h.cfg.OnEvent != nil {
			level = slog.LevelInfo // who listens is told there
		}
		h.log.Log(context.Background(), level, "an instance is in recovery and this worker has no recovery handler (OnRecovery): it stays in recovery until an operator completes it",
			"instance", hd.id.String(), "epoch", hd.epoch, "cause", hd.work.Cause, "in_doubt", len(hd.work.InDoubt), "deferred", hd.work.DeferredMessages)
		e := Event{Kind: EventRecoveryUnhandled, Instance: hd.id, Epoch: hd.epoch, Lane: LaneNormal}
		for _, d := range hd.work.InDoubt {
			if d.Lane == LaneNormal {
				e.InDoubt, e.Seq = e.InDoubt+1, d.Seq
			}
		}
		h.tell(e)
	}
	h.reportFailed(hd.work, errNoRecoveryHandler)
}

// kickRecovery begins an instance's recovery as soon as a recovery handler is free.
func (h *host) kickRecovery(hd *hosted) {
	if h.recoverable(hd) && !hd.queued {
		hd.queued = true
		h.waiting = append(h.waiting, hd)
	}
	h.nextRecovery()
}

func (h *host) recoverable(hd *hosted) bool {
	return !h.paused && !h.stopping && !hd.busy && !hd.fenced && hd.work != nil && !hd.work.begun && h.cfg.OnRecovery != nil
}

func (h *host) nextRecovery() {
	for len(h.waiting) > 0 && h.recovers < h.cfg.Concurrency {
		hd := h.waiting[0]
		h.waiting = h.waiting[1:]
		hd.queued = false
		if h.recoverable(hd) {
			h.recovers++
			hd.busy, hd.work.begun = true, true
			hd.work.ctx = hd.context()
			go h.runRecovery(hd.work)
		}
	}
}

// runRecovery runs the recovery handler and completes the recovery.
func (h *host) runRecovery(r *Recovery) {
	err := guard(r.ctx, func(ctx context.Context) error { return h.cfg.OnRecovery(ctx, r) })
	h.logPanic(&Delivery{Instance: r.Instance}, err)
	if err == nil {
		err = r.complete(r.ctx)
	}
	h.recovered(r, err)
}

// recovered takes a recovery's outcome. A recovery that failed is reported, and is delivered again after the backoff;
// one that the worker's stop broke off goes back with the session.
func (h *host) recovered(r *Recovery, err error) {
	h.mu.Lock()
	defer h.unlock()
	hd := r.hd
	hd.busy = false
	h.recovers--
	if r.stands() {
		switch {
		case err == nil:
			h.tell(Event{Kind: EventRecoveryCompleted, Instance: hd.id, Epoch: r.Epoch})
			hd.work = nil
			h.fence(hd) // the epoch is over; the next one comes with its own deliveries
		case errors.Is(err, ErrFenced) || fencing(asError(err).Reason):
			h.fence(hd)
		case !h.stopping:
			h.log.Error("a recovery failed; it is delivered again after a backoff", "instance", hd.id.String(), "epoch", r.Epoch, "attempt", r.Attempt, "error", err)
			h.reportFailed(r, err)
		}
	}
	h.enqueue(hd)
	h.kick(hd)
	h.kickRecovery(hd)
	h.rest(hd)
	poke(h.quiet)
}

// reportFailed settles the recovery itself, number 0 of the recovery lane, as failed.
func (h *host) reportFailed(r *Recovery, err error) {
	if r.hd.recovery.current != nil { // handed out and not settled: it comes again
		r.hd.recovery.queue = append([]*Delivery{r.hd.recovery.current}, r.hd.recovery.queue...)
		r.hd.recovery.current = nil
	}
	report := Delivery{Instance: r.Instance, Epoch: r.Epoch, wire: &sluicev1.Delivery{
		Lane: sluicev1.Lane_LANE_RECOVERY, Attempt: uint32(r.Attempt),
	}}
	h.out.put(&settling{hd: r.hd, err: err, wire: report.settlement(err)})
	poke(h.changed)
}

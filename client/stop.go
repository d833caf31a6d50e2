package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// interruptedGrace is how long handlers have to return once their contexts were cancelled at the end of the grace time.
const interruptedGrace = 2 * time.Second

// stop ends a tenure in good order.
func (s *tenure) stop() error {
	s.beginStop()
	if !s.waitQuiet(s.cfg.Grace) {
		s.interruptAll()
		s.waitQuiet(interruptedGrace)
	}
	if s.isGone() {
		return fmt.Errorf("client: %w: the session expired while the worker stopped", ErrUnknownSession)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.client.cfg.Retry.Total)
	defer cancel()
	if err := s.giveUpStuck(ctx); err != nil {
		return fmt.Errorf("client: a handler did not return, and its instance could not be sent into recovery; the session will expire: %w", err)
	}
	if !s.settledAll() {
		return errors.New("client: not all settlements were acknowledged; the session will expire, and what is unsettled be in doubt")
	}
	_, err := Call[sluicev1.CloseSessionRequest, sluicev1.CloseSessionResponse](ctx, s.client,
		sluicev1connect.WorkerServiceCloseSessionProcedure, &sluicev1.CloseSessionRequest{SessionId: s.id})
	if err != nil && !errors.Is(err, ErrUnknownSession) {
		return fmt.Errorf("client: the session could not be closed and will expire: %w", err)
	}
	s.mu.Lock()
	defer s.unlock()
	s.log.Info("the worker's session was handed back", "session", s.id)
	s.tell(Event{Kind: EventSessionClosed})
	return nil
}

// beginStop lets no further handler begin, and drops what has not begun: it goes back with the session.
func (h *host) beginStop() {
	h.mu.Lock()
	defer h.unlock()
	h.stopping = true
	close(h.stopped)
	h.ready, h.waiting = nil, nil
	for _, hd := range h.table {
		hd.queued = false
		hd.normal.queue, hd.recovery.queue = nil, nil
	}
	poke(h.quiet)
}

// waitQuiet waits until no handler is at work and every settlement is answered; false: not within d.
func (h *host) waitQuiet(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		h.mu.Lock()
		quiet := h.running == 0 && h.recovers == 0 && h.out.empty()
		h.unlock()
		if quiet {
			return true
		}
		select {
		case <-h.quiet:
		case <-h.lost:
			h.reset() // handlers are interrupted, and nobody answers settlements any more
		case <-timer.C:
			return false
		}
	}
}

// isGone says that the session was lost.
func (h *host) isGone() bool {
	h.mu.Lock()
	defer h.unlock()
	return h.session == ""
}

// interruptAll cancels the handlers' contexts.
func (h *host) interruptAll() {
	h.mu.Lock()
	defer h.unlock()
	for _, hd := range h.table {
		hd.interrupt(ErrStopped)
	}
}

// giveUpStuck sends instances into recovery whose handlers have not returned: what they handle is in doubt, messages of
// the recovery lane among it, and must not go back with the session as if it were not.
func (s *tenure) giveUpStuck(ctx context.Context) error {
	s.mu.Lock()
	stuck := map[InstanceID]Epoch{}
	for id, hd := range s.table {
		if hd.busy && !hd.fenced && (hd.normal.current != nil || hd.work != nil && hd.work.begun) {
			stuck[id] = hd.epoch
		}
	}
	s.unlock()
	for id, epoch := range stuck {
		s.log.Error("a handler did not return when the worker stopped: its instance enters recovery", "instance", id.String(), "epoch", epoch)
		_, err := s.client.Instances().enterRecovery(ctx, id, EnterRecovery{Cause: "the worker stopped while a handler was at work"}, s.id, epoch)
		if err != nil && !fencing(asError(err).Reason) {
			return err
		}
		s.mu.Lock()
		s.fence(s.table[id])
		s.unlock()
	}
	return nil
}

// settledAll says that every settlement that still counts was answered.
func (h *host) settledAll() bool {
	h.mu.Lock()
	defer h.unlock()
	for _, s := range h.out.pending {
		if s.current() {
			return false
		}
	}
	for _, f := range h.out.flights {
		for _, s := range f.batch {
			if s.current() {
				return false
			}
		}
	}
	return true
}

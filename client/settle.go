package client

import (
	"context"
	"time"

	sluicev1 "sluice/api/sluice/v1"
)

// againPause is the time before settlements are sent again that a node took and could not judge.
const againPause = 50 * time.Millisecond

// answer tells the one that waits, if anyone does.
func (s *settling) answer(e *Error) {
	if s.done == nil {
		return
	}
	if e == nil {
		s.done <- nil
		return
	}
	s.done <- e
}

// outgoing is the next batch of settlements to send, with its number and the credit to give back.
func (h *host) outgoing(most int) (id uint64, batch []*sluicev1.Settlement, credit int) {
	h.mu.Lock()
	defer h.unlock()
	id, settlings := h.out.take(most)
	for _, s := range settlings {
		batch = append(batch, s.wire)
	}
	if !h.stopping && (len(batch) > 0 || h.worthTelling()) {
		credit, h.due = h.due, 0
	}
	return id, batch, credit
}

// worthTelling tells that credit is to be given back without settlements. It waits for the next ones if there are any, up
// to half of what is given at most; without any until it is half of what is not in hand, so that the node is never short.
func (h *host) worthTelling() bool {
	if len(h.out.pending) > 0 {
		return 2*h.due >= h.cfg.Prefetch
	}
	return h.due > 0 && 2*h.due >= h.cfg.Prefetch-h.held
}

// answered takes the results of a batch; false: they do not fit it.
func (h *host) answered(id uint64, results []*sluicev1.SettleResult, node string) bool {
	h.mu.Lock()
	defer h.unlock()
	batch := h.out.answered(id)
	if len(batch) != len(results) {
		h.out.again(batch)
		return false
	}
	var again []*settling
	held := map[*hosted]bool{} // something of the instance goes again: what follows it goes after it
	for i, s := range batch {
		e := faultError(results[i].GetError(), node)
		if e != nil && (e.Temporary() || e.Reason == ErrOutOfOrder && held[s.hd]) {
			again, held[s.hd] = append(again, s), true
			continue
		}
		h.settled(s, e)
	}
	if len(again) > 0 {
		h.out.again(again)
		time.AfterFunc(againPause, func() { poke(h.changed) })
	}
	poke(h.changed)
	poke(h.quiet)
	return true
}

// refused takes the refusal of a whole batch.
func (h *host) refused(id uint64, e *Error) {
	h.mu.Lock()
	defer h.unlock()
	for _, s := range h.out.answered(id) {
		h.settled(s, e)
	}
	poke(h.changed)
	poke(h.quiet)
}

// broken makes all that was not answered wait for the next link.
func (h *host) broken() {
	h.mu.Lock()
	defer h.unlock()
	h.out.broken()
	poke(h.changed)
}

// settled draws the consequences of the answer to one settlement.
func (h *host) settled(s *settling, e *Error) {
	s.answer(e)
	if e != nil && e.Reason == ErrUnknownSession {
		h.lose()
		return
	}
	if !s.current() {
		return
	}
	if s.barrier {
		s.hd.barrier--
	}
	switch {
	case e == nil:
		h.accepted(s)
	case fencing(e.Reason):
		h.fence(s.hd)
	default:
		h.refusedOne(s, e)
	}
	h.kick(s.hd)
	h.rest(s.hd)
}

// accepted is for a settlement that took effect.
func (h *host) accepted(s *settling) {
	hd, w := s.hd, s.wire
	if w.GetSetState() {
		hd.state = w.GetState()
	}
	event := Event{Kind: EventCompleted, Instance: hd.id, Epoch: hd.epoch, Seq: Seq(w.GetSeq()), Lane: word(lanes, w.GetLane()), Err: s.err}
	switch {
	case s.d == nil:
		event.Kind = EventRecoveryFailed
	case w.GetOutcome() == sluicev1.Outcome_OUTCOME_FAILED:
		event.Kind = EventFailed
		h.park(hd, hd.lane(s.d.Lane))
	case w.GetOutcome() == sluicev1.Outcome_OUTCOME_REJECTED:
		event.Kind = EventRejected
	}
	h.tell(event)
}

// refusedOne is for a settlement that was refused for what it is, not for the epoch or owner.
func (h *host) refusedOne(s *settling, e *Error) {
	hd := s.hd
	h.log.Warn("a settlement was refused", "instance", hd.id.String(), "seq", s.wire.GetSeq(), "reason", string(e.Reason), "error", e.Message)
	h.tell(Event{Kind: EventRefused, Instance: hd.id, Epoch: hd.epoch, Seq: Seq(s.wire.GetSeq()), Lane: word(lanes, s.wire.GetLane()), Err: e})
	if s.d == nil {
		return
	}
	l := hd.lane(s.d.Lane)
	switch {
	case e.Reason == ErrAlreadySettled || e.Reason == ErrUnknownMessage:
		l.over(s.d.Seq)
	case e.Reason == ErrOutOfOrder:
		l.forget(s.d)
		l.missing = s.d.Seq
	case e.Reason == ErrNotInFlight || s.wire.GetOutcome() == sluicev1.Outcome_OUTCOME_FAILED:
		l.forget(s.d)
	default:
		// The handler's effects are at fault: its attempt failed, and the refusal says why.
		l.forget(s.d)
		l.failed = s.d
		failed := &settling{hd: hd, d: s.d, err: e, wire: s.d.settlement(e), barrier: true}
		hd.barrier++
		h.out.put(failed)
		poke(h.changed)
	}
}

// park watches a lane whose head failed while messages behind it are in hand. The head will come again, unless it was
// dead-lettered or someone resolved it: then only its status tells.
func (h *host) park(hd *hosted, l *lane) {
	if l.parked() {
		h.parked[l] = hd
	}
}

// parkedInterval is how often the status of parked heads is asked for.
const parkedInterval = time.Second

// unpark asks after the heads of parked lanes until ctx ends.
func (h *host) unpark(ctx context.Context) {
	for sleep(ctx, nil, parkedInterval) {
		h.mu.Lock()
		heads := map[*lane]*Delivery{}
		for l := range h.parked {
			heads[l] = l.failed
		}
		h.mu.Unlock()
		for l, d := range heads {
			if d == nil {
				continue
			}
			status, err := h.client.Get(ctx, d.Instance, d.Message.ID)
			if err == nil && status.Status == StatusSettled {
				h.pass(l, d)
			}
		}
	}
}

// pass lets the messages behind a head go that was settled without its handler.
func (h *host) pass(l *lane, d *Delivery) {
	h.mu.Lock()
	defer h.unlock()
	hd := h.parked[l]
	if hd == nil || l.failed != d {
		return
	}
	delete(h.parked, l)
	l.over(d.Seq)
	hd.wake()
	h.kick(hd)
	h.rest(hd)
}

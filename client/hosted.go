package client

import (
	"container/list"
	"context"
)

// hosted is one instance in a worker's hands, under one epoch at a time. All fields are guarded by host.mu.
type hosted struct {
	id    InstanceID
	epoch Epoch
	// fenced: the epoch is known to be over; what is still delivered under it is ignored.
	fenced bool
	// state is the instance's state under the epoch, as of the last acknowledged settlement.
	state []byte

	normal   lane
	recovery lane
	// work is the recovery that was announced under the epoch; nil: none.
	work *Recovery

	// busy: a handler is at work, perhaps one of an earlier epoch that has not returned yet: no other may begin.
	busy bool
	// barrier counts settlements that must be acknowledged before the next handler begins.
	barrier int
	// queued: it stands in one of the host's lists of what waits for a free handler.
	queued bool
	// arrived gets a token when a recovery message arrives.
	arrived chan struct{}

	// ctx is the handlers' context under this epoch, made when the first begins.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// place is where it stands among the idle; nil: it is not idle.
	place *list.Element
}

// context is the handlers' context under the epoch.
func (hd *hosted) context() context.Context {
	if hd.ctx == nil {
		hd.ctx, hd.cancel = context.WithCancelCause(context.Background())
	}
	return hd.ctx
}

// interrupt cancels the handlers' context; the next handler gets a new one.
func (hd *hosted) interrupt(cause error) {
	if hd.cancel != nil {
		hd.cancel(cause)
	}
	hd.ctx, hd.cancel = nil, nil
}

// begin starts anew under an epoch.
func (hd *hosted) begin(epoch Epoch, state []byte) {
	hd.epoch, hd.fenced, hd.state = epoch, false, state
	hd.normal, hd.recovery, hd.work, hd.barrier = lane{}, lane{}, nil, 0
}

// lane is the one of a delivery.
func (hd *hosted) lane(l Lane) *lane {
	if l == LaneRecovery {
		return &hd.recovery
	}
	return &hd.normal
}

// idle says that nothing but the state is worth keeping.
func (hd *hosted) idle() bool {
	return !hd.busy && !hd.queued && hd.barrier == 0 && hd.work == nil && hd.normal.failed == nil &&
		len(hd.normal.queue) == 0 && len(hd.recovery.queue) == 0
}

// wake tells a recovery handler that a recovery message arrived, or that things changed.
func (hd *hosted) wake() {
	select {
	case hd.arrived <- struct{}{}:
	default:
	}
}

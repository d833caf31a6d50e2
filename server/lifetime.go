package server

import (
	"context"
	"sync/atomic"

	"sluice/api/reason"
)

// errStopping refuses calls to a node that is on its way down.
var errStopping = reason.Overloaded.Errorf("this node is stopping and takes no more calls: ask another")

// lifetime is what the parts of a server know in common about its end, and how many calls it serves.
type lifetime struct {
	calls atomic.Int64
	// ending is done from the moment the server takes no more calls. Waits and streams end then; calls in
	// progress are finished.
	ending context.Context //nolint:containedctx // a signal that outlives every call
	end    context.CancelFunc
}

func newLifetime() *lifetime {
	l := &lifetime{}
	l.ending, l.end = context.WithCancel(context.Background())
	return l
}

func (l *lifetime) stopping() bool { return l.ending.Err() != nil }

// enter lets a call in, unless the server is stopping or serves as many as it may. After true, leave must follow.
func (l *lifetime) enter(most int) bool {
	if l.stopping() {
		return false
	}
	if l.calls.Add(1) > int64(most) {
		l.calls.Add(-1)
		return false
	}
	return true
}

func (l *lifetime) leave() { l.calls.Add(-1) }

// whyNot says why enter refused.
func (l *lifetime) whyNot() error {
	if l.stopping() {
		return errStopping
	}
	return reason.Overloaded.Errorf("this node serves as many calls as it may: try again, or ask another")
}

// untilEnd is a context for calls that wait: it ends with the call's own and when the server stops.
func (l *lifetime) untilEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.ending, func() { cancel(errStopping) })
	return ctx, func() { stop(); cancel(nil) }
}

// waitError is the error of a wait that untilEnd's context ended: the server's end explains it better than a
// cancelled context.
func (l *lifetime) waitError(ctx context.Context, err error) error {
	if err != nil && context.Cause(ctx) == error(errStopping) {
		return errStopping
	}
	return err
}

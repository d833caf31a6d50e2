package client

import (
	"context"
	"errors"
	"iter"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// watchSilence is how long a stream may say nothing before another node is tried: a node says something every 10 s.
const watchSilence = 30 * time.Second

// WatchOptions choose events. The zero value takes all that are kept, and all to come.
type WatchOptions struct {
	// Application, and the key of an Instance within it; empty: all. What an application does as a whole concerns
	// each of its instances.
	Application, Instance string
	// Types; none: all.
	Types []ClusterEventType
	// Since is the place to begin behind.
	Since Cursor
	// FromNow begins with what happens from now on; Since must be empty.
	FromNow bool
	// UntilNow ends the iteration when all that the asked node knew of at its beginning was handed over.
	UntilNow bool
	// Reached, if set, is told of each place up to which all events were handed over, at least every 10 s, by the
	// iteration's own goroutine: with a filter that lets little through, it is a later place to go on from than the
	// last event's.
	Reached func(Cursor)
}

func (o WatchOptions) request() (*sluicev1.WatchRequest, error) {
	index, place, err := o.Since.parse()
	if err != nil {
		return nil, err
	}
	if o.Application != "" {
		if err := checkApplication(o.Application); err != nil {
			return nil, err
		}
	}
	req := &sluicev1.WatchRequest{
		Application: o.Application, Instance: o.Instance, SinceIndex: index, SincePlace: place, FromNow: o.FromNow, UntilNow: o.UntilNow,
	}
	for _, name := range o.Types {
		t, err := value[sluicev1.EventType](clusterEventTypes, name)
		if err != nil {
			return nil, err
		}
		req.Types = append(req.Types, t)
	}
	return req, nil
}

// Watch iterates over the events of the cluster, each once, in the order of the log. When a node is lost it goes on at
// another one where it was, for as long as ctx lives; only at the beginning does an unreachable cluster end it, after
// the budget for retries. The last element may be an error: ErrEventsGone when events after Since are no longer kept,
// another refusal, or that ctx ended. To take longer over an event slows nobody else.
func (c *Client) Watch(ctx context.Context, o WatchOptions) iter.Seq2[ClusterEvent, error] {
	return func(yield func(ClusterEvent, error) bool) {
		req, err := o.request()
		if err != nil {
			yield(ClusterEvent{}, err)
			return
		}
		for res, err := range c.WatchResponses(ctx, req) {
			switch {
			case err != nil:
				yield(ClusterEvent{}, err)
				return
			case res.GetEvent() != nil:
				if !yield(clusterEventOf(res.GetEvent()), nil) {
					return
				}
			case o.Reached != nil:
				o.Reached(indexCursor(res.GetIndex()))
			}
		}
	}
}

// WatchResponses is Watch in the contract's own types: events, and, where only the index is set, marks up to where
// there are no more.
func (c *Client) WatchResponses(ctx context.Context, req *sluicev1.WatchRequest) iter.Seq2[*sluicev1.WatchResponse, error] {
	return func(yield func(*sluicev1.WatchResponse, error) bool) {
		w := &watcher{c: c, req: proto.CloneOf(req), yield: yield}
		if err := w.run(ctx); err != nil {
			yield(nil, err)
		}
	}
}

// watcher is one iteration. Its request moves on with what was handed over.
type watcher struct {
	c     *Client
	req   *sluicev1.WatchRequest
	yield func(*sluicev1.WatchResponse, error) bool
	// begun: a node has answered; over: the iteration needs no more.
	begun, over bool
}

// run opens stream after stream until one ends for good.
func (w *watcher) run(ctx context.Context) error {
	tries := newBudget(w.c.cfg.Retry)
	for {
		if e := w.c.usable(ctx); e != nil {
			return e
		}
		n := w.c.nodes.pick(time.Now())
		alive, e := w.stream(ctx, n)
		if w.over {
			return nil
		}
		if ctx.Err() != nil {
			continue // which says so
		}
		w.c.nodes.note(n, e.Temporary() && !alive, time.Now())
		if alive {
			w.begun, tries = true, newBudget(w.c.cfg.Retry)
		}
		if !e.Temporary() && e.Reason != ErrRate {
			return e
		}
		if e.Reason == ErrUnreachable && tries.tries+1 < len(w.c.nodes.all) {
			tries.tries++ // another node may be well: no pause
			continue
		}
		if tries.wait(ctx, w.c.closed) {
			continue
		}
		if !w.begun {
			return e
		}
		sleep(ctx, w.c.closed, jitter(w.c.cfg.Retry.Max))
	}
}

// errWatchEnded is a stream that a node ended without a word, as one that goes down does.
var errWatchEnded = errors.New("the node ended the stream")

// stream is one Watch call; alive says that the node answered.
func (w *watcher) stream(ctx context.Context, n *node) (alive bool, failure *Error) {
	// A deadline is this side's own: a node that knew it would end the stream with an error of its own, a moment before.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	silence := time.AfterFunc(watchSilence, cancel)
	defer silence.Stop()
	call := method[sluicev1.WatchRequest, sluicev1.WatchResponse](w.c, n, sluicev1connect.EventServiceWatchProcedure)
	stream, err := call.CallServerStream(inner, connect.NewRequest(w.req))
	if err == nil {
		alive, err = w.receive(stream, silence)
	}
	switch {
	case w.over:
		return alive, nil
	case err == nil && w.req.GetUntilNow() && alive:
		w.over = true
		return alive, nil
	case err == nil:
		err = errWatchEnded
	}
	e := attemptError(context.Background(), err, n.address)
	if e.Code == "unknown" { // nothing is changed by a watch: no outcome is in doubt
		e.Code, e.Reason, e.Uncertain = ErrNoLeader.Code(), ErrUnreachable, false
	}
	return alive, e
}

// receive hands over what comes until the stream ends.
func (w *watcher) receive(stream *connect.ServerStreamForClient[sluicev1.WatchResponse], silence *time.Timer) (alive bool, err error) {
	defer func() {
		if closed := stream.Close(); err == nil && !w.over {
			err = closed
		}
	}()
	for stream.Receive() {
		alive = true
		silence.Stop() // the time that is taken over an event is not the node's
		res := stream.Msg()
		if !w.yield(res, nil) {
			w.over = true
			return alive, nil
		}
		w.advance(res)
		silence.Reset(watchSilence)
	}
	return alive, stream.Err()
}

// advance notes what the next stream begins behind.
func (w *watcher) advance(res *sluicev1.WatchResponse) {
	w.req.FromNow = false
	if e := res.GetEvent(); e != nil {
		place := e.GetPlace()
		w.req.SinceIndex, w.req.SincePlace = e.GetIndex(), &place
		return
	}
	w.req.SinceIndex, w.req.SincePlace = res.GetIndex(), nil
}

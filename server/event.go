package server

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
	"sluice/fsm"
)

const (
	// watchBatch is how many events are read at once; then the state is let go of before they are sent.
	watchBatch = 256
	// watchMark is after how long without one a stream says up to where there is nothing.
	watchMark = 10 * time.Second
	// watchTypesMax bounds the types of one request.
	watchTypesMax = 100
)

// eventService tells what happened, from this node's own state, without a question to the leader.
type eventService struct {
	*lifetime
	node Node
	// watches holds a token for each stream that is served; every is after how long one says how far it is.
	watches chan struct{}
	every   time.Duration
}

func newEventService(life *lifetime, node Node, most int) *eventService {
	return &eventService{lifetime: life, node: node, watches: make(chan struct{}, most), every: watchMark}
}

// Watch streams events from a place on. A node that has not reached the place yet waits until it has.
func (s *eventService) Watch(ctx context.Context, req *connect.Request[sluicev1.WatchRequest], stream *connect.ServerStream[sluicev1.WatchResponse]) error {
	// The headers go out at once: who waits for them must not wait for the first event.
	if err := stream.Send(nil); err != nil {
		return err
	}
	return s.watch(ctx, req.Msg, stream.Send)
}

func (s *eventService) watch(ctx context.Context, m *sluicev1.WatchRequest, send func(*sluicev1.WatchResponse) error) error {
	if err := checkWatch(m); err != nil {
		return err
	}
	select {
	case s.watches <- struct{}{}:
		defer func() { <-s.watches }()
	default:
		return reason.Rate.Errorf("this node serves %d watches, which is the limit: ask another node, or end some", cap(s.watches))
	}
	wait, cancel := s.untilEnd(ctx)
	defer cancel()
	return s.waitError(wait, newWatch(s.node, m, send).run(wait, m, s.every))
}

func checkWatch(m *sluicev1.WatchRequest) error {
	if m.GetApplication() != "" {
		if err := checkApplication(m.GetApplication()); err != nil {
			return err
		}
	}
	switch {
	case m.GetInstance() != "" && m.GetApplication() == "":
		return reason.BadField.Errorf("instance is given without its application")
	case m.GetFromNow() && m.GetSinceIndex() != 0:
		return reason.BadField.Errorf("from_now and since_index are given: want one of them")
	case m.SincePlace != nil && m.GetSinceIndex() == 0:
		return reason.BadField.Errorf("since_place is a place within since_index, which is not given")
	}
	for _, t := range m.GetTypes() {
		if t == sluicev1.EventType_EVENT_UNSPECIFIED {
			return reason.BadField.Errorf("types holds %v: want some of %s, or none for all", t, allowedNames(t.Descriptor()))
		}
		if err := checkEnumValue("types", t); err != nil {
			return err
		}
	}
	return first(checkOptional("instance", m.GetInstance()), checkCount("types", len(m.GetTypes()), watchTypesMax))
}

// watch is one stream of events at work.
type watch struct {
	node   Node
	filter fsm.EventFilter
	send   func(*sluicev1.WatchResponse) error
	at     fsm.EventPlace
	// owed: the stream was behind since the last mark; ticked: it is time for one, come what may.
	owed, ticked bool
}

func newWatch(node Node, m *sluicev1.WatchRequest, send func(*sluicev1.WatchResponse) error) *watch {
	w := &watch{node: node, send: send, owed: true, filter: fsm.EventFilter{Application: m.GetApplication(), Instance: m.GetInstance()}}
	if len(m.GetTypes()) > 0 {
		w.filter.Types = map[sluicev1.EventType]bool{}
		for _, t := range m.GetTypes() {
			w.filter.Types[t] = true
		}
	}
	return w
}

// begin finds the place to begin at, and the index that this node has applied by then.
func (w *watch) begin(ctx context.Context, m *sluicev1.WatchRequest) (applied uint64, err error) {
	if err := w.node.Reached(ctx, m.GetSinceIndex()); err != nil {
		return 0, err
	}
	_, now, err := w.node.Read(ctx, true)
	switch {
	case err != nil:
		return 0, err
	case m.GetFromNow():
		w.at = fsm.AfterIndex(now.Index)
	case m.SincePlace != nil:
		w.at = fsm.EventPlace{Index: m.GetSinceIndex(), Place: m.GetSincePlace()}
	case m.GetSinceIndex() != 0:
		w.at = fsm.AfterIndex(m.GetSinceIndex())
	}
	return now.Index, nil
}

// run sends events until ctx ends, or, if that was asked for, until all that had happened at the beginning is sent.
func (w *watch) run(ctx context.Context, m *sluicev1.WatchRequest, every time.Duration) error {
	applied, err := w.begin(ctx, m)
	if err != nil {
		return err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	goOn := make(chan struct{})
	close(goOn)
	for {
		news := w.node.EventNews()
		whole, err := w.batch(ctx)
		if err != nil {
			return err
		}
		if whole && m.GetUntilNow() && !w.at.Before(fsm.AfterIndex(applied)) {
			return nil
		}
		if !whole {
			news = goOn
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			w.ticked = true
		case <-news:
		}
	}
}

// batch sends some events, and a mark where one is due; whole tells that there are no more for now.
func (w *watch) batch(ctx context.Context) (whole bool, err error) {
	view, _, err := w.node.Read(ctx, true)
	if err != nil {
		return false, err
	}
	page, err := view.Events(w.at, watchBatch, w.filter)
	if errors.Is(err, reason.NoLeader) {
		return true, nil // the state is being replaced by the leader's, which is news
	}
	if err != nil {
		return false, err
	}
	for _, e := range page.Events {
		if err := w.send(&sluicev1.WatchResponse{Event: e}); err != nil {
			return false, err
		}
	}
	w.at, w.owed = page.At, w.owed || len(page.Events) > 0 || !page.Whole
	return page.Whole, w.mark(page)
}

// mark says up to where everything was sent: at the beginning, whenever this stream has caught up again, and at each
// tick.
func (w *watch) mark(page *fsm.EventPage) error {
	if !w.ticked && !(page.Whole && w.owed) {
		return nil
	}
	index := page.At.Index
	if !page.Whole {
		index-- // more of this index may come
	}
	w.ticked, w.owed = false, !page.Whole
	return w.send(&sluicev1.WatchResponse{Index: index})
}

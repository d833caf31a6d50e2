package server

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"

	"sluice/api/reason"
	"sluice/fsm"
)

// watching is a stream of events that a test reads.
type watching struct {
	t      *testing.T
	stream *connect.ServerStreamForClient[sluicev1.WatchResponse]
	index  uint64 // of the last mark
}

func (s *realServer) watch(t *testing.T, m *sluicev1.WatchRequest, options ...connect.ClientOption) *watching {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	stream, err := sluicev1connect.NewEventServiceClient(s.h2, s.url, options...).Watch(ctx, connect.NewRequest(m))
	if err != nil {
		t.Fatal(err)
	}
	return &watching{t: t, stream: stream}
}

// caughtUp reads up to the next mark, and names the events of applications that came before it.
func (w *watching) caughtUp() string {
	w.t.Helper()
	var names []string
	for w.stream.Receive() {
		m := w.stream.Msg()
		if m.GetEvent() == nil {
			if m.GetIndex() < w.index {
				w.t.Errorf("the mark goes back from %d to %d", w.index, m.GetIndex())
			}
			w.index = m.GetIndex()
			return strings.Join(names, " ")
		}
		names = append(names, nameOf(m.GetEvent()))
	}
	w.t.Fatalf("the stream ended: %v", w.stream.Err())
	return ""
}

func nameOf(e *sluicev1.Event) string {
	return strings.Trim(strings.ToLower(strings.TrimPrefix(e.GetType().String(), "EVENT_"))+":"+e.GetInstance()+e.GetMessageId(), ":")
}

// rest reads to the end of the stream, which must be a good one, and gives the events.
func (w *watching) rest() (all []*sluicev1.Event) {
	w.t.Helper()
	for w.stream.Receive() {
		if e := w.stream.Msg().GetEvent(); e != nil {
			all = append(all, e)
		} else {
			w.index = w.stream.Msg().GetIndex()
		}
	}
	if err := w.stream.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (s *realServer) hold(t *testing.T, application, instance string, ids ...string) {
	t.Helper()
	s.must(t, "InstanceService/EnterRecovery", fmt.Sprintf(`{"application": %q, "instance": %q, "cause": "test"}`, application, instance))
	for _, id := range ids {
		s.must(t, "MessageService/Send", fmt.Sprintf(`{"messages": [{"application": %q, "instance": %q, "type": "t", "id": %q}]}`, application, instance, id))
	}
}

func TestWatchFollows(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	s.must(t, "ApplicationService/Apply", `{"name": "a"}`)
	s.hold(t, "a", "i", "m1")
	for name, option := range protocols() {
		t.Run(name, func(t *testing.T) {
			key := "of-" + name
			old, fresh := s.watch(t, &sluicev1.WatchRequest{Application: "a", Instance: key}, option), s.watch(t, &sluicev1.WatchRequest{FromNow: true}, option)
			if got := old.caughtUp() + fresh.caughtUp(); got != "" {
				t.Fatalf("before anything happened: %s", got)
			}
			s.hold(t, "a", key)
			for _, w := range []*watching{old, fresh} {
				if got := w.caughtUp(); got != "recovery_entered:"+key || w.index == 0 {
					t.Fatalf("got %q, up to %d", got, w.index)
				}
			}
		})
	}
}

func TestWatchUntilNowEndsAndResumes(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	s.must(t, "ApplicationService/Apply", `{"name": "a"}`)
	s.hold(t, "a", "i", "m1", "m2", "m3")
	types := []sluicev1.EventType{sluicev1.EventType_EVENT_MESSAGE_DEFERRED}
	whole := s.watch(t, &sluicev1.WatchRequest{UntilNow: true, Types: types})
	all := whole.rest()
	if len(all) != 3 || whole.index == 0 {
		t.Fatalf("got %v up to %d", all, whole.index)
	}
	for n, e := range all {
		place := e.GetPlace()
		rest := s.watch(t, &sluicev1.WatchRequest{UntilNow: true, Types: types, SinceIndex: e.GetIndex(), SincePlace: &place}).rest()
		if len(rest) != len(all)-n-1 {
			t.Errorf("after event %d: %v", n, rest)
		}
	}
	if rest := s.watch(t, &sluicev1.WatchRequest{UntilNow: true, SinceIndex: whole.index}).rest(); len(rest) != 0 {
		t.Errorf("after the mark: %v", rest)
	}
	if none := s.watch(t, &sluicev1.WatchRequest{UntilNow: true, FromNow: true}).rest(); len(none) != 0 {
		t.Errorf("from now until now: %v", none)
	}
}

// TestWatchOfWhatIsNotReachedYetWaits begins beyond what the node has applied, as at a follower that lags behind.
func TestWatchOfWhatIsNotReachedYetWaits(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	s.must(t, "ApplicationService/Apply", `{"name": "a"}`)
	now := s.watch(t, &sluicev1.WatchRequest{UntilNow: true, FromNow: true})
	now.rest()
	ahead := s.watch(t, &sluicev1.WatchRequest{SinceIndex: now.index + 2})
	s.hold(t, "a", "i", "m1", "m2", "m3", "m4") // its first entries are before the place
	got := ahead.caughtUp()
	for !strings.HasSuffix(got, "m4") {
		got += " " + ahead.caughtUp()
	}
	if strings.Contains(got, "m1") || !strings.Contains(got, "m3") {
		t.Fatalf("got %s", got)
	}
}

func TestWatchIsRefused(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	place := uint32(1)
	for name, m := range map[string]*sluicev1.WatchRequest{
		"instance alone":    {Instance: "i"},
		"bad application":   {Application: "A"},
		"two beginnings":    {FromNow: true, SinceIndex: 1},
		"place alone":       {SincePlace: &place},
		"no type":           {Types: []sluicev1.EventType{0}},
		"type of later":     {Types: []sluicev1.EventType{99}},
		"instance too long": {Application: "a", Instance: strings.Repeat("k", 257)},
		"too many types":    {Types: make([]sluicev1.EventType, 101)},
	} {
		w := s.watch(t, m)
		w.stream.Receive()
		why := "BAD_FIELD"
		if name == "bad application" {
			why = "BAD_NAME"
		}
		wantError(t, name, w.stream.Err(), connect.CodeInvalidArgument, why)
	}
}

// TestWatchesAreLimited takes the only place there is, and gives it back by ending the stream.
func TestWatchesAreLimited(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir(), func(c *Config) { c.Limits.Watches = 1 })
	ctx, end := context.WithCancel(t.Context())
	defer end()
	service := newEventService(s.lifetime, clusterNode{s.node}, 1)
	sent, ended := make(chan *sluicev1.WatchResponse), make(chan error, 1)
	go func() {
		ended <- service.watch(ctx, &sluicev1.WatchRequest{}, func(m *sluicev1.WatchResponse) error { sent <- m; return nil })
	}()
	<-sent
	err := service.watch(ctx, &sluicev1.WatchRequest{}, nil)
	wantError(t, "the second", toWire(err), connect.CodeResourceExhausted, "RATE")
	end()
	for over := false; !over; {
		select {
		case <-sent:
		case <-ended:
			over = true
		}
	}
	err = service.watch(t.Context(), &sluicev1.WatchRequest{UntilNow: true}, func(*sluicev1.WatchResponse) error { return nil })
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
}

// TestASlowWatcherSlowsNobody leaves one stream unread while another, and the node itself, go on.
func TestASlowWatcherSlowsNobody(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	s.must(t, "ApplicationService/Apply", `{"name": "a"}`)
	service := newEventService(s.lifetime, clusterNode{s.node}, 2)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	stuck, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		ended <- service.watch(ctx, &sluicev1.WatchRequest{Application: "a"}, func(m *sluicev1.WatchResponse) error {
			if m.GetEvent() == nil {
				return nil
			}
			stuck <- struct{}{}
			<-ctx.Done() // it reads no more
			return ctx.Err()
		})
	}()
	quick := s.watch(t, &sluicev1.WatchRequest{Application: "a"})
	s.hold(t, "a", "i", "m1")
	<-stuck
	s.hold(t, "a", "j", "m2", "m3")
	for got := ""; !strings.HasSuffix(got, "m3"); {
		got = quick.caughtUp()
	}
	end()
	if err := <-ended; err == nil {
		t.Error("the slow stream ended without an error")
	}
}

func TestWatchEndsWhenTheServerStops(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	w := s.watch(t, &sluicev1.WatchRequest{FromNow: true})
	w.caughtUp()
	s.halt(t)
	for w.stream.Receive() {
		_ = w.stream.Msg() // what happened until the end
	}
	wantError(t, "Watch", w.stream.Err(), connect.CodeUnavailable, "OVERLOADED")
}

// eventNode is a node whose events a test makes up.
type eventNode struct {
	Node
	mu    sync.Mutex
	news  chan struct{}
	pages []pageOf // the last is given for ever
}

type pageOf struct {
	page *fsm.EventPage
	err  error
}

func (n *eventNode) EventNews() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.news
}

// tell wakes the watchers.
func (n *eventNode) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.news)
	n.news = make(chan struct{})
}

func (n *eventNode) Reached(context.Context, uint64) error { return nil }

func (n *eventNode) Read(context.Context, bool) (View, Staleness, error) {
	return eventView{node: n}, Staleness{Index: 5}, nil
}

type eventView struct {
	View
	node *eventNode
}

func (v eventView) Events(fsm.EventPlace, int, fsm.EventFilter) (*fsm.EventPage, error) {
	v.node.mu.Lock()
	defer v.node.mu.Unlock()
	p := v.node.pages[0]
	if len(v.node.pages) > 1 {
		v.node.pages = v.node.pages[1:]
	}
	return p.page, p.err
}

func wholeAt(index uint64, events ...*sluicev1.Event) pageOf {
	return pageOf{page: &fsm.EventPage{Events: events, At: fsm.AfterIndex(index), Whole: true}}
}

// startWatch runs a watch of a made-up node and gives what it sends.
func startWatch(t *testing.T, n *eventNode, every time.Duration, m *sluicev1.WatchRequest) (sent chan *sluicev1.WatchResponse, ended chan error) {
	t.Helper()
	n.news = make(chan struct{})
	service := newEventService(newLifetime(), n, 1)
	service.every = every
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	sent, ended = make(chan *sluicev1.WatchResponse, 100), make(chan error, 1)
	go func() {
		ended <- service.watch(ctx, m, func(m *sluicev1.WatchResponse) error { sent <- m; return nil })
	}()
	return sent, ended
}

// TestWatchSaysHowFarItIs ticks while nothing happens, and while there is more than can be read at once.
func TestWatchSaysHowFarItIs(t *testing.T) {
	t.Parallel()
	quiet, _ := startWatch(t, &eventNode{pages: []pageOf{wholeAt(5)}}, time.Millisecond, &sluicev1.WatchRequest{})
	for range 3 {
		if m := <-quiet; m.GetIndex() != 5 || m.GetEvent() != nil {
			t.Fatalf("got %v", m)
		}
	}
	half := pageOf{page: &fsm.EventPage{At: fsm.EventPlace{Index: 9, Place: 3}}}
	busy, _ := startWatch(t, &eventNode{pages: []pageOf{half}}, time.Millisecond, &sluicev1.WatchRequest{})
	if m := <-busy; m.GetIndex() != 8 {
		t.Fatalf("in the middle of index 9: got %v", m)
	}
}

// TestWatchOutlivesAReplacedState is told that the state is being replaced, and goes on at the news.
func TestWatchOutlivesAReplacedState(t *testing.T) {
	t.Parallel()
	n := &eventNode{pages: []pageOf{wholeAt(5), {err: reason.NoLeader.Errorf("replaced")}, wholeAt(7, &sluicev1.Event{Index: 7})}}
	sent, ended := startWatch(t, n, time.Hour, &sluicev1.WatchRequest{})
	<-sent
	for {
		n.tell()
		select {
		case m := <-sent:
			if m.GetEvent().GetIndex() != 7 {
				t.Fatalf("got %v", m)
			}
			return
		case err := <-ended:
			t.Fatal(err)
		default:
		}
	}
}

func TestEventsThatAreGoneEndTheWatch(t *testing.T) {
	t.Parallel()
	n := &eventNode{pages: []pageOf{{err: reason.EventsGone.Errorf("the oldest has index 7")}}}
	_, ended := startWatch(t, n, time.Hour, &sluicev1.WatchRequest{SinceIndex: 3})
	wantError(t, "Watch", toWire(<-ended), connect.CodeOutOfRange, "EVENTS_GONE")
}

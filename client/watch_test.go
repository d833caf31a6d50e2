package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// told is what a node says in one stream, and how the stream ends.
type told struct {
	said []*sluicev1.WatchResponse
	end  error
}

// fakeEvents answers each Watch with the next of its answers, and notes what it was asked.
type fakeEvents struct {
	mu      sync.Mutex
	answers []told
	asked   []*sluicev1.WatchRequest
}

// Watch gives the next answer; after the last it waits until the call ends.
func (f *fakeEvents) Watch(ctx context.Context, req *connect.Request[sluicev1.WatchRequest], stream *connect.ServerStream[sluicev1.WatchResponse]) error {
	f.mu.Lock()
	f.asked = append(f.asked, req.Msg)
	if len(f.answers) == 0 {
		f.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
	answer := f.answers[0]
	f.answers = f.answers[1:]
	f.mu.Unlock()
	for _, m := range answer.said {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	return answer.end
}

func watchFake(t *testing.T, answers ...told) (*fakeEvents, *Client) {
	t.Helper()
	f := &fakeEvents{answers: answers}
	mux := http.NewServeMux()
	mux.Handle(sluicev1connect.NewEventServiceHandler(f))
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	c, err := New(Config{Addresses: []string{server.URL}, Retry: Retry{Attempts: 3, Initial: time.Millisecond, Max: 2 * time.Millisecond, Total: 10 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return f, c
}

func anEvent(index uint64, place uint32) *sluicev1.WatchResponse {
	return &sluicev1.WatchResponse{Event: &sluicev1.Event{Index: index, Place: place, Type: sluicev1.EventType_EVENT_LEADER_CHANGED, NodeId: "n1", Term: 3}}
}

func aMark(index uint64) *sluicev1.WatchResponse { return &sluicev1.WatchResponse{Index: index} }

// TestWatchGoesOnWhereItWas breaks streams after an event, after a mark and before anything, and looks at what is
// asked for next.
func TestWatchGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	f, c := watchFake(t,
		told{[]*sluicev1.WatchResponse{aMark(4), anEvent(5, 0), anEvent(5, 1)}, fail(reason.Overloaded)},
		told{nil, fail(reason.NoLeader)},
		told{[]*sluicev1.WatchResponse{anEvent(6, 0), aMark(9)}, nil},
		told{nil, connect.NewError(connect.CodeResourceExhausted, reason.Rate.Errorf("too many"))},
		told{[]*sluicev1.WatchResponse{anEvent(12, 3)}, nil},
	)
	var got []Cursor
	var reached []Cursor
	for e, err := range c.Watch(t.Context(), WatchOptions{FromNow: true, Types: []ClusterEventType{TypeLeaderChanged}, Reached: func(c Cursor) { reached = append(reached, c) }}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != TypeLeaderChanged || e.NodeID != "n1" || e.Term != 3 {
			t.Fatalf("got %+v", e)
		}
		if got = append(got, e.Cursor); e.Cursor == "12.3" {
			break
		}
	}
	if want := []Cursor{"5.0", "5.1", "6.0", "12.3"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if want := []Cursor{"4", "9"}; !slices.Equal(reached, want) {
		t.Errorf("reached %v, want %v", reached, want)
	}
	var asked []string
	for _, m := range f.asked {
		place := "-"
		if m.SincePlace != nil {
			place = fmt.Sprint(m.GetSincePlace())
		}
		asked = append(asked, fmt.Sprintf("%v %d %s %d", m.GetFromNow(), m.GetSinceIndex(), place, len(m.GetTypes())))
	}
	if want := []string{"true 0 - 1", "false 5 1 1", "false 5 1 1", "false 9 - 1", "false 9 - 1"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	gone := connect.NewError(connect.CodeOutOfRange, reason.EventsGone.Errorf("the oldest has index 7"))
	for name, c := range map[string]struct {
		answers []told
		options WatchOptions
		want    error
		events  int
	}{
		"until now":            {[]told{{[]*sluicev1.WatchResponse{anEvent(1, 0), aMark(2)}, nil}}, WatchOptions{UntilNow: true}, nil, 1},
		"events that are gone": {[]told{{[]*sluicev1.WatchResponse{anEvent(1, 0)}, fail(reason.NoLeader)}, {nil, gone}}, WatchOptions{}, ErrEventsGone, 1},
		"an unreachable start": {[]told{{nil, fail(reason.NoLeader)}, {nil, fail(reason.NoLeader)}, {nil, fail(reason.NoLeader)}}, WatchOptions{}, ErrNoLeader, 0},
		"a bad cursor":         {nil, WatchOptions{Since: "x"}, ErrBadField, 0},
		"a bad place":          {nil, WatchOptions{Since: "1.-1"}, ErrBadField, 0},
		"a place of nothing":   {nil, WatchOptions{Since: "0.1"}, ErrBadField, 0},
		"a bad type":           {nil, WatchOptions{Types: []ClusterEventType{"nonsense"}}, ErrBadField, 0},
		"a bad application":    {nil, WatchOptions{Application: "A"}, ErrBadName, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cl := watchFake(t, c.answers...)
			events := 0
			var last error
			for _, err := range cl.Watch(t.Context(), c.options) {
				if last != nil {
					t.Fatal("something comes after the error")
				}
				if last = err; err == nil {
					events++
				}
			}
			if !errors.Is(last, c.want) || events != c.events {
				t.Errorf("%d events and %v, want %d and %v", events, last, c.events, c.want)
			}
		})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, c := watchFake(t, told{[]*sluicev1.WatchResponse{anEvent(1, 0)}, nil})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range c.Watch(ctx, WatchOptions{}) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("got %v", last)
	}
}

// TestWatchEndsAtItsDeadline wants the deadline to be the caller's own, and not an error of the node.
func TestWatchEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	_, c := watchFake(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var last error
	for _, err := range c.Watch(ctx, WatchOptions{}) {
		last = err
	}
	if !errors.Is(last, context.DeadlineExceeded) {
		t.Errorf("got %v", last)
	}
}

func TestEveryTypeOfEventHasAName(t *testing.T) {
	t.Parallel()
	if len(clusterEventTypes) != len(sluicev1.EventType_name) {
		t.Fatalf("%d names for %d types", len(clusterEventTypes), len(sluicev1.EventType_name))
	}
	for number, name := range sluicev1.EventType_name {
		want := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "EVENT_"), "_", "-"))
		if got := clusterEventTypes[number]; number != 0 && string(got) != want {
			t.Errorf("%s is called %q", name, got)
		}
	}
}

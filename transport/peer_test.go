package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"sluice/api/reason"
)

// echo answers who asked for what.
func echo(_ context.Context, peer, method string, body []byte) ([]byte, error) {
	return fmt.Appendf(nil, "%s %s %s", peer, method, body), nil
}

func TestCallsAndTheirErrors(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a", nil), start(t, "b", nil)
	b.HandlePeers(func(ctx context.Context, peer, method string, body []byte) ([]byte, error) {
		switch method {
		case "Refuse":
			return nil, fmt.Errorf("wrapped: %w", reason.NoLeader.Errorf("not here"))
		case "Fail":
			return nil, errors.New("the disk is gone")
		case "TooLong":
			return make([]byte, PeerBytesMax+1), nil
		}
		return echo(ctx, peer, method, body)
	})
	large := bytes.Repeat([]byte("x"), 3*frameBytes)
	if out, err := a.CallPeer(t.Context(), b.Advertise(), "Echo", large); err != nil || !bytes.Equal(out, append([]byte("a Echo "), large...)) {
		t.Errorf("a large body: %d bytes, %v", len(out), err)
	}
	if _, err := a.CallPeer(t.Context(), b.Advertise(), "Refuse", nil); !errors.Is(err, reason.NoLeader) {
		t.Errorf("a refusal: %v", err)
	}
	for method, want := range map[string]string{"Fail": "the disk is gone", "TooLong": "at most 67108864 are allowed"} {
		var remote *RemoteError
		if _, err := a.CallPeer(t.Context(), b.Advertise(), method, nil); !errors.As(err, &remote) || !strings.Contains(remote.Text, want) {
			t.Errorf("%s: %v", method, err)
		}
	}
	for what, c := range map[string]struct {
		method string
		size   int
	}{"a body beyond its limit": {"Echo", PeerBytesMax + 1}, "a method beyond its limit": {strings.Repeat("m", methodBytesMax+1), 0}} {
		if _, err := a.CallPeer(t.Context(), b.Advertise(), c.method, make([]byte, c.size)); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestACallIsLostOrSurelyNotDone(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a", nil), start(t, "b", nil)
	began, ended := make(chan struct{}), make(chan struct{})
	b.HandlePeers(func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	if _, err := a.CallPeer(ctx, b.Advertise(), "Wait", nil); !errors.Is(err, ErrLost) || errors.Is(err, ErrUnreachable) {
		t.Errorf("given up under way: %v", err)
	}
	<-ended // the end of the caller's context travels
	if _, err := a.CallPeer(ctx, b.Advertise(), "Wait", nil); !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrLost) {
		t.Errorf("given up before: %v", err)
	}
	gone := start(t, "c", nil)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.CallPeer(t.Context(), gone.Advertise(), "Wait", nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a node that is gone: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.CallPeer(t.Context(), b.Advertise(), "Wait", nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("from a node that is closed: %v", err)
	}
}

func TestACallThatIsAnsweredAsNotDoneKeepsItsConnection(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a", nil), start(t, "b", nil)
	for range 5 {
		if _, err := a.CallPeer(t.Context(), b.Advertise(), "Echo", nil); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "does not take calls yet") {
			t.Fatalf("without a handler: %v", err)
		}
	}
	if n := b.nodeConns.Load(); n != 1 {
		t.Fatalf("%d connections are open, one is enough", n)
	}
	b.HandlePeers(echo)
	if out, err := a.CallPeer(t.Context(), b.Advertise(), "Echo", nil); err != nil || string(out) != "a Echo " {
		t.Fatalf("with a handler: %q %v", out, err)
	}
}

func TestANodeThatStartedAnewIsReachedAtOnce(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a", nil), start(t, "b", nil)
	b.HandlePeers(echo)
	if _, err := a.CallPeer(t.Context(), b.Advertise(), "Echo", nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, "b", func(c *Config) { c.Listen = b.Addr().String() })
	again.HandlePeers(echo)
	out, err := a.CallPeer(t.Context(), again.Advertise(), "Echo", nil)
	if errors.Is(err, ErrLost) {
		// The end of the old connection was not noticed before the call was sent on it.
		out, err = a.CallPeer(t.Context(), again.Advertise(), "Echo", nil)
	}
	if err != nil || string(out) != "a Echo " {
		t.Fatalf("%q %v", out, err)
	}
}

// TestABodyBeyondTheLimitIsRefusedByItsAnnouncement sends nothing of the body: were it waited for, or room made for
// it, no answer would come.
func TestABodyBeyondTheLimitIsRefusedByItsAnnouncement(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a", nil), start(t, "b", nil)
	b.HandlePeers(echo)
	conn, err := a.peers.get(t.Context(), b.Advertise())
	if err != nil {
		t.Fatal(err)
	}
	body, never := io.Pipe()
	t.Cleanup(func() { _ = never.Close() }) // a pipe's close never fails
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req := (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: b.Advertise(), Path: "/Echo"},
		Header: http.Header{}, Body: body, ContentLength: PeerBytesMax + 2,
	}).WithContext(ctx)
	resp, err := conn.http.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	out, err := readAnswer(resp)
	if status := resp.Header.Get(statusHeader); err != nil || status != statusNotDone || !strings.Contains(string(out), "at most 67108864") {
		t.Fatalf("%s %q %v", status, out, err)
	}
}

func TestBodiesWaitForRoom(t *testing.T) {
	t.Parallel()
	b := newBudget()
	release, err := b.take(t.Context(), memoryMax)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.take(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("beyond the limit: %v", err)
	}
	release()
	if _, err := b.take(t.Context(), memoryMax); err != nil {
		t.Fatal(err)
	}
}

// FuzzCall gives any request to the side that answers calls: the handler is called with the body and nothing else, if
// the body is whole, or the call is answered as not done.
func FuzzCall(f *testing.F) {
	f.Add("/Echo", "", int64(2), []byte{'x', bodyEnd})
	f.Add("/Echo", "1000000", int64(1), []byte{bodyEnd})
	f.Add("/", "x", int64(-1), []byte{})
	f.Add("/Echo", "-5", int64(PeerBytesMax+2), []byte{bodyEnd})
	f.Add("/Echo", "9223372036854775807", int64(3), []byte{bodyEnd})
	f.Fuzz(func(t *testing.T, path, timeout string, size int64, data []byte) {
		if size > 1<<20 && size <= PeerBytesMax+1 {
			size %= 1 << 20 // room for more is allowed, and would only make the runs slow
		}
		var called []byte
		tr := &Transport{memory: newBudget(), log: slog.New(slog.DiscardHandler)}
		tr.HandlePeers(func(_ context.Context, _, _ string, body []byte) ([]byte, error) {
			called = append([]byte{1}, body...)
			return body, nil
		})
		req := (&http.Request{
			Method: http.MethodPost, URL: &url.URL{Path: path}, Header: http.Header{timeoutHeader: {timeout}},
			Body: io.NopCloser(bytes.NewReader(data)), ContentLength: size,
		}).WithContext(t.Context())
		w := httptest.NewRecorder()
		tr.servePeer(w, req)
		whole := size >= 1 && size <= int64(len(data)) && data[size-1] == bodyEnd
		switch status := w.Header().Get(statusHeader); {
		case status == statusNotDone && called == nil:
		case status == statusDone && called != nil && whole && bytes.Equal(called[1:], data[:size-1]) && bytes.Equal(w.Body.Bytes(), data[:size-1]):
		default:
			t.Fatalf("status %q, the handler got %q", status, called)
		}
		if !tr.memory.free.TryAcquire(memoryMax) {
			t.Fatal("the room of the body was not given back")
		}
	})
}

func TestADeadlineTravels(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a", nil), start(t, "b", nil)
	deadlines := make(chan time.Duration, 1)
	b.HandlePeers(func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
		at, _ := ctx.Deadline()
		deadlines <- time.Until(at)
		return nil, nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := a.CallPeer(ctx, b.Advertise(), "Echo", nil); err != nil {
		t.Fatal(err)
	}
	if left := <-deadlines; left > time.Hour || left < time.Hour-patience {
		t.Fatalf("the handler has %v", left)
	}
}

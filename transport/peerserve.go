package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/proto"

	"sluice/api/reason"
)

const (
	// bodyTimeout is how long a peer may take to send the body of a call.
	bodyTimeout = 30 * time.Second
	// memoryMax bounds the bodies of all calls that are under way at this node, in bytes.
	memoryMax = 4 * PeerBytesMax
	// graceTime is how long calls that are under way may take to end when the node stops.
	graceTime      = time.Second
	methodBytesMax = 128
)

// PeerHandler answers calls of other nodes: peer is the caller's node id (its certificate proves it; in plain mode it is
// what the caller says). ctx ends when the caller gives up or its deadline passes. A *reason.Error travels as it is,
// other errors as text. The body is the handler's to keep.
type PeerHandler func(ctx context.Context, peer string, method string, body []byte) ([]byte, error)

// HandlePeers sets the handler of peers' calls. Until there is one, calls are answered as not done.
func (t *Transport) HandlePeers(h PeerHandler) { t.handler.Store(&h) }

type peerKey struct{}

func (t *Transport) peerServer() *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(t.servePeer), Protocols: onlyHTTP2(), HTTP2: http2Config(),
		ReadHeaderTimeout: t.cfg.HandshakeTimeout, ErrorLog: slog.NewLogLogger(t.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, PeerOf(conn))
		},
	}
}

func servePeers(server *http.Server, l net.Listener) error {
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// shutdownPeers lets calls that are under way end, for a moment.
func shutdownPeers(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), graceTime)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		// What is still under way is cut; the callers are told that the outcome is unknown.
		_ = server.Close()
	}
}

// servePeer reads a call whole, lets the handler do it, and answers.
func (t *Transport) servePeer(w http.ResponseWriter, r *http.Request) {
	ctx, cancel, err := callContext(r)
	defer cancel()
	if err != nil {
		answer(w, statusNotDone, []byte(err.Error()))
		return
	}
	handler := t.handler.Load()
	if handler == nil {
		answer(w, statusNotDone, []byte("the node does not take calls yet"))
		return
	}
	method := strings.TrimPrefix(r.URL.Path, "/")
	if method == "" || len(method) > methodBytesMax {
		answer(w, statusNotDone, []byte("a call needs a method of at most 128 bytes"))
		return
	}
	body, release, err := t.readCall(ctx, w, r)
	if err != nil {
		answer(w, statusNotDone, []byte(err.Error()))
		return
	}
	defer release()
	peer, _ := r.Context().Value(peerKey{}).(string)
	out, err := (*handler)(ctx, peer, method, body)
	if err == nil && len(out) > PeerBytesMax {
		err = fmt.Errorf("the answer has %d bytes, at most %d are allowed", len(out), PeerBytesMax)
	}
	answerCall(w, out, err)
}

// callContext is the request's context with the caller's deadline.
func callContext(r *http.Request) (context.Context, context.CancelFunc, error) {
	text := r.Header.Get(timeoutHeader)
	if text == "" {
		return r.Context(), func() {}, nil
	}
	us, err := strconv.ParseInt(text, 10, 64)
	if err != nil || us <= 0 || us > int64(time.Duration(1<<63-1)/time.Microsecond) {
		return r.Context(), func() {}, fmt.Errorf("a strange timeout %q", text)
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(us)*time.Microsecond)
	return ctx, cancel, nil
}

// readCall reads the body of a call, once there is room for it, and makes sure that it is whole.
func (t *Transport) readCall(ctx context.Context, w http.ResponseWriter, r *http.Request) ([]byte, func(), error) {
	size := r.ContentLength
	if size < 1 || size > PeerBytesMax+1 {
		return nil, nil, fmt.Errorf("a call of %d bytes, at most %d are allowed", size-1, PeerBytesMax)
	}
	release, err := t.memory.take(ctx, size)
	if err != nil {
		return nil, nil, err
	}
	body, err := readWhole(w, r, size)
	if err != nil {
		release()
		return nil, nil, err
	}
	return body, release, nil
}

func readWhole(w http.ResponseWriter, r *http.Request, size int64) ([]byte, error) {
	control := http.NewResponseController(w)
	if size > frameBytes {
		// Small bodies come with their header; a timer for each would cost more than it guards.
		if err := control.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
			return nil, err
		}
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return nil, err
	}
	if body[size-1] != bodyEnd {
		return nil, errors.New("a call that does not end as it should")
	}
	if size > frameBytes {
		if err := control.SetReadDeadline(time.Time{}); err != nil {
			return nil, err
		}
	}
	return body[:size-1], nil
}

// answerCall sends what a handler returned.
func answerCall(w http.ResponseWriter, out []byte, err error) {
	if err == nil {
		answer(w, statusDone, out)
		return
	}
	var refusal *reason.Error
	if !errors.As(err, &refusal) {
		answer(w, statusFailed, []byte(err.Error()))
		return
	}
	fault, err := proto.Marshal(refusal.Fault())
	if err != nil {
		answer(w, statusFailed, []byte(refusal.Error()))
		return
	}
	answer(w, statusFault, fault)
}

func answer(w http.ResponseWriter, status string, body []byte) {
	header := w.Header()
	header[statusHeader] = []string{status}
	// No date and no guess at the content type: each costs, and nobody reads it.
	header["Date"] = nil
	header["Content-Type"] = nil
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	// If this fails the caller is gone, and will say so itself.
	_, _ = w.Write(body)
}

// budget bounds bytes in memory.
type budget struct{ free *semaphore.Weighted }

func newBudget() budget { return budget{semaphore.NewWeighted(memoryMax)} }

// take waits for room.
func (b budget) take(ctx context.Context, size int64) (release func(), err error) {
	if err := b.free.Acquire(ctx, size); err != nil {
		return nil, fmt.Errorf("no room for a body of %d bytes: %w", size, err)
	}
	return func() { b.free.Release(size) }, nil
}

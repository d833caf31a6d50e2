package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// ErrUnreachable means that a call was surely not done: it did not reach the peer whole, or the peer did not begin it.
var ErrUnreachable = errors.New("not done, the peer was not reached")

// ErrLost means that the outcome of a call is unknown: it was sent, and no answer came.
var ErrLost = errors.New("outcome unknown, the answer was lost")

// CallError is how a call failed on the way. errors.Is finds ErrUnreachable or ErrLost, and the cause.
type CallError struct {
	// Kind is ErrUnreachable or ErrLost.
	Kind         error
	Addr, Method string
	Cause        error
}

// Error tells who was asked for what, and what became of it.
func (e *CallError) Error() string {
	return fmt.Sprintf("transport: %s of %s: %v: %v", e.Method, e.Addr, e.Kind, e.Cause)
}

// Unwrap gives the kind and the cause.
func (e *CallError) Unwrap() []error { return []error{e.Kind, e.Cause} }

// RemoteError is an error of a peer's handler that is no *reason.Error. What the handler did before it is not known
// here.
type RemoteError struct{ Addr, Method, Text string }

// Error tells who failed at what.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("transport: %s of %s: %s", e.Method, e.Addr, e.Text)
}

// How a peer answered, and how long it may take, as header fields.
const (
	statusHeader  = "Sluice-Status"
	timeoutHeader = "Sluice-Timeout-Us"
)

// The values of statusHeader.
const (
	statusDone = "done"
	// statusFault: the body is a Fault, the handler's *reason.Error.
	statusFault = "fault"
	// statusFailed: the body is the text of another error of the handler.
	statusFailed = "failed"
	// statusNotDone: the handler was not called; the body says why.
	statusNotDone = "not-done"
)

// bodyEnd follows every body. A peer begins nothing before it has read it, so that a call whose bodyEnd was never
// handed to the connection is surely not done.
const bodyEnd = 0xE7

// How far the sending of a request came.
const (
	sendOpen int32 = iota
	// sendWhole: all of it was handed to the connection; the peer may do it.
	sendWhole
	// sendRevoked: it will never be whole.
	sendRevoked
)

// requestBody is the body of a request followed by bodyEnd. It is read by one goroutine at a time; revoke may come
// from another.
type requestBody struct {
	body  []byte
	state atomic.Int32
}

// Read hands out the next bytes; bodyEnd only unless revoked.
func (r *requestBody) Read(p []byte) (int, error) {
	n := copy(p, r.body)
	r.body = r.body[n:]
	if n == len(p) {
		return n, nil
	}
	if !r.state.CompareAndSwap(sendOpen, sendWhole) {
		return n, io.EOF
	}
	p[n] = bodyEnd
	return n + 1, io.EOF
}

// Close is called by net/http; there is nothing to free.
func (r *requestBody) Close() error { return nil }

// revoke makes sure that the request never becomes whole, and tells whether that was still possible.
func (r *requestBody) revoke() bool {
	return r.state.CompareAndSwap(sendOpen, sendRevoked) || r.state.Load() == sendRevoked
}

// CallPeer asks the node at addr (HOST:PORT) and waits for its answer. The end of ctx and its deadline travel; there
// is no other timeout than that of a dead peer (about 5 s). Bodies have at most PeerBytesMax bytes; body must not be
// changed until CallPeer has returned and, if it failed, never again.
//
// The error is the handler's *reason.Error, a *RemoteError for another error of the handler, or a *CallError:
// ErrUnreachable if the call was surely not done, ErrLost if that is not known.
func (t *Transport) CallPeer(ctx context.Context, addr, method string, body []byte) ([]byte, error) {
	c := &call{ctx: ctx, addr: addr, method: method}
	if len(body) > PeerBytesMax {
		return nil, c.unreachable(fmt.Errorf("the request has %d bytes, at most %d are allowed", len(body), PeerBytesMax))
	}
	for again := false; ; again = true {
		conn, err := t.peers.get(ctx, addr)
		if err != nil {
			return nil, c.unreachable(err)
		}
		out, err := c.do(conn.http, body)
		if !errors.Is(err, ErrUnreachable) || c.answered || ctx.Err() != nil {
			return out, err
		}
		// A connection that was closed while it stood idle shows only now.
		if !t.peers.drop(conn) || again {
			return out, err
		}
	}
}

// call is one try of CallPeer.
type call struct {
	ctx          context.Context
	addr, method string
	// answered: the peer said something, so nothing is wrong with the connection.
	answered bool
}

func (c *call) unreachable(cause error) error {
	return &CallError{Kind: ErrUnreachable, Addr: c.addr, Method: c.method, Cause: cause}
}

func (c *call) lost(cause error) error {
	return &CallError{Kind: ErrLost, Addr: c.addr, Method: c.method, Cause: cause}
}

func (c *call) do(conn *http.ClientConn, body []byte) ([]byte, error) {
	sent := &requestBody{body: body}
	resp, err := conn.RoundTrip(c.request(sent))
	if err != nil {
		if sent.revoke() {
			return nil, c.unreachable(err)
		}
		return nil, c.lost(err)
	}
	c.answered = true
	out, err := readAnswer(resp)
	if err != nil {
		return nil, c.lost(err)
	}
	return c.judge(resp.Header.Get(statusHeader), out)
}

func (c *call) request(sent *requestBody) *http.Request {
	header := http.Header{}
	if deadline, ok := c.ctx.Deadline(); ok {
		left := max(time.Until(deadline).Microseconds(), 1)
		header[timeoutHeader] = []string{strconv.FormatInt(left, 10)}
	}
	req := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: c.addr, Path: "/" + c.method}, Host: c.addr,
		Header: header, Body: sent, ContentLength: int64(len(sent.body)) + 1,
	}
	return req.WithContext(c.ctx)
}

func readAnswer(resp *http.Response) (out []byte, err error) {
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.ContentLength < 0 || resp.ContentLength > PeerBytesMax {
		return nil, fmt.Errorf("an answer of %d bytes, at most %d are allowed", resp.ContentLength, PeerBytesMax)
	}
	out = make([]byte, resp.ContentLength)
	_, err = io.ReadFull(resp.Body, out)
	return out, err
}

// judge turns an answer into what CallPeer returns.
func (c *call) judge(status string, out []byte) ([]byte, error) {
	switch status {
	case statusDone:
		return out, nil
	case statusNotDone:
		return nil, c.unreachable(errors.New(string(out)))
	case statusFailed:
		return nil, &RemoteError{Addr: c.addr, Method: c.method, Text: string(out)}
	case statusFault:
		fault := &sluicev1.Fault{}
		if err := proto.Unmarshal(out, fault); err != nil {
			return nil, c.lost(err)
		}
		return nil, reason.FromFault(fault)
	}
	return nil, c.lost(fmt.Errorf("a strange answer %q: is it a node of this version?", status))
}

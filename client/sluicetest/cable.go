package sluicetest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// Cable stands between a client and the cluster and can be cut, so that a worker falls silent without a word, as if
// its machine had died. Give its Wrap to client.Config.WrapTransport.
type Cable struct {
	mu    sync.Mutex
	cut   chan struct{} // closed while the cable is cut
	whole chan struct{} // closed while it is not
	calls map[*cabled]bool
}

// errCut ends what was on the way.
var errCut = errors.New("sluicetest: the cable was cut")

// NewCable is a whole cable.
func NewCable() *Cable {
	c := &Cable{cut: make(chan struct{}), whole: make(chan struct{}), calls: map[*cabled]bool{}}
	close(c.whole)
	return c
}

// Wrap leads a transport through the cable.
func (c *Cable) Wrap(next http.RoundTripper) http.RoundTripper { return &plug{cable: c, next: next} }

// Cut breaks off every call that is on its way; later ones get no answer until Mend, or the end of their contexts.
func (c *Cable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.cut:
		return
	default:
	}
	close(c.cut)
	c.whole = make(chan struct{})
	for call := range c.calls {
		go call.abort()
	}
	clear(c.calls)
}

// Mend makes the cable whole again.
func (c *Cable) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.whole:
		return
	default:
	}
	close(c.whole)
	c.cut = make(chan struct{})
}

// enter waits until the cable is whole and notes a call.
func (c *Cable) enter(ctx context.Context, call *cabled) error {
	for {
		c.mu.Lock()
		whole := c.whole
		select {
		case <-whole:
			c.calls[call] = true
			c.mu.Unlock()
			return nil
		default:
			c.mu.Unlock()
		}
		select {
		case <-whole:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *Cable) leave(call *cabled) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, call)
}

// plug is the cable's end at a client.
type plug struct {
	cable *Cable
	next  http.RoundTripper
}

// RoundTrip carries one call, unless or until the cable is cut.
func (p *plug) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	call := &cabled{cancel: cancel}
	if err := p.cable.enter(req.Context(), call); err != nil {
		cancel(err)
		return nil, err
	}
	res, err := p.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		p.cable.leave(call)
		cancel(err)
		return nil, err
	}
	call.answer(res.Body)
	res.Body = &cabledBody{ReadCloser: res.Body, end: func() { p.cable.leave(call); cancel(nil) }}
	return res, nil
}

// cabled is one call on its way.
type cabled struct {
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	body    io.Closer // nil until the answer begins
	aborted bool
}

func (c *cabled) answer(body io.Closer) {
	c.mu.Lock()
	c.body = body
	aborted := c.aborted
	c.mu.Unlock()
	if aborted {
		body.Close()
	}
}

// abort ends the call, also a stream whose request is still open.
func (c *cabled) abort() {
	c.cancel(errCut)
	c.mu.Lock()
	c.aborted = true
	body := c.body
	c.mu.Unlock()
	if body != nil {
		body.Close()
	}
}

type cabledBody struct {
	io.ReadCloser
	end func()
}

func (b *cabledBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

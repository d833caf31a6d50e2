package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"connectrpc.com/connect"
)

// how is the manner of one call.
type how struct {
	// timeout of one attempt, the server's waiting included.
	timeout time.Duration
	// once: the call is not idempotent, and is not repeated when its outcome is unknown.
	once bool
	// uncertain: an attempt by other means may have taken effect.
	uncertain bool
	// node to try first; nil: the leader, if it is known, or else the next in turn.
	node *node
}

// Call calls any unary method of the public contract, with the client's retries; procedure is one of the names in
// package sluicev1connect. It is for what the SDK has no function for. The caller sees to it that the request carries
// the ids that make a repetition safe. Errors are *Error.
func Call[Req, Res any](ctx context.Context, c *Client, procedure string, req *Req) (*Res, error) {
	return call[Req, Res](ctx, c, procedure, req, how{})
}

// call repeats a call until it is answered, refused, or the budget is spent.
func call[Req, Res any](ctx context.Context, c *Client, procedure string, req *Req, h how) (*Res, error) {
	h.timeout = orDefault(h.timeout, c.cfg.CallTimeout)
	tries := newBudget(c.cfg.Retry)
	uncertain := h.uncertain
	for {
		if e := c.usable(ctx); e != nil {
			e.Uncertain = uncertain
			return nil, unknownIf(e)
		}
		n := h.node
		if n == nil {
			n = c.nodes.prefer(time.Now())
		}
		h.node = nil
		res, e := attempt[Req, Res](ctx, c, n, procedure, req, h.timeout)
		if e == nil {
			return res, nil
		}
		uncertain = uncertain || e.Uncertain
		e.Uncertain = uncertain
		stop := !e.Temporary() || ctx.Err() != nil || (h.once && e.Uncertain)
		if e.Reason == ErrUnreachable && tries.tries+1 < len(c.nodes.all) {
			tries.tries++ // another node may be well: no pause
			continue
		}
		if stop || !tries.wait(ctx, c.closed) {
			if e.Temporary() && e.cause == nil {
				e.cause = ctx.Err() // it is not tried again because the context ended, if that is so
			}
			return nil, unknownIf(e)
		}
	}
}

// unknownIf turns "not done" into "unknown" when an earlier attempt may have been done.
func unknownIf(e *Error) *Error {
	if e.Uncertain && (e.Code == "unavailable" || e.Code == "canceled") {
		last := e.Message
		if e.Reason != "" {
			last = "[" + string(e.Reason) + "] " + last
		}
		e.Message = "an earlier attempt may have taken effect; the last: " + last
		e.Code, e.Reason, e.lasting = ErrOutcomeUnknown.Code(), ErrOutcomeUnknown, false
	}
	return e
}

// usable is the refusal of a call by a closed client or under a context that has ended.
func (c *Client) usable(ctx context.Context) *Error {
	if c.isClosed() {
		return &Error{Code: "canceled", Reason: ErrClosed, Message: "the client is closed"}
	}
	if err := ctx.Err(); err != nil {
		return &Error{Code: "canceled", Message: "not tried: " + err.Error(), cause: err}
	}
	return nil
}

func (c *Client) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// leaderHeader names the leader's address, in a node's answer.
const leaderHeader = "Sluice-Leader"

// attempt calls one node once and remembers how the node did, and who leads.
func attempt[Req, Res any](ctx context.Context, c *Client, n *node, procedure string, req *Req, timeout time.Duration) (*Res, *Error) {
	attemptCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	atOnce := timeout <= c.cfg.CallTimeout
	if atOnce {
		c.nodes.ask(n, time.Now())
	}
	res, err := method[Req, Res](c, n, procedure).CallUnary(attemptCtx, connect.NewRequest(req))
	if atOnce {
		c.nodes.heard(n, err == nil || connect.IsWireError(err), time.Now())
	}
	if err == nil {
		c.nodes.note(n, false, time.Now())
		if atOnce { // what comes of a call that waited is old
			c.nodes.lead(n, res.Header().Get(leaderHeader))
		}
		return res.Msg, nil
	}
	if atOnce && connect.IsWireError(err) {
		c.nodes.lead(n, connectMeta(err).Get(leaderHeader))
	}
	e := attemptError(ctx, err, n.address)
	if e.Code == "unimplemented" && e.Reason == "" { // a node gives a reason for all that it refuses
		e = &Error{Code: "unavailable", Reason: ErrUnreachable, Message: noNode(n.address) + ": it does not know the call: " + e.Message, Node: n.address, lasting: true}
	}
	if ctx.Err() == nil {
		c.nodes.judge(n, e, time.Now())
	}
	return nil, e
}

// connectMeta is what came with an error that a node answered.
func connectMeta(err error) http.Header {
	var e *connect.Error
	if errors.As(err, &e) {
		return e.Meta()
	}
	return nil
}

// method is the client of one procedure at one node, made once.
func method[Req, Res any](c *Client, n *node, procedure string) *connect.Client[Req, Res] {
	if v, ok := n.calls.Load(procedure); ok {
		return v.(*connect.Client[Req, Res])
	}
	made := connect.NewClient[Req, Res](c.http, n.url+procedure,
		connect.WithReadMaxBytes(maxResponseBytes), connect.WithAcceptCompression("gzip", nil, nil))
	v, _ := n.calls.LoadOrStore(procedure, made)
	return v.(*connect.Client[Req, Res])
}

// budget counts the attempts of one call and paces them.
type budget struct {
	retry Retry
	end   time.Time
	tries int
	pause time.Duration
}

func newBudget(r Retry) *budget {
	return &budget{retry: r, end: time.Now().Add(r.Total), pause: r.Initial}
}

// wait pauses before the next attempt; false: the budget is spent, or the wait was broken off.
func (b *budget) wait(ctx context.Context, closed <-chan struct{}) bool {
	b.tries++
	pause := jitter(b.pause)
	if b.tries >= b.retry.Attempts || time.Now().Add(pause).After(b.end) {
		return false
	}
	b.pause = min(2*b.pause, b.retry.Max)
	return sleep(ctx, closed, pause)
}

// jitter is a random span between half of d and d.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

// sleep waits; false: a context or channel ended first.
func sleep(ctx context.Context, done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-done:
		return false
	}
}

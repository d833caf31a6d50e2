package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"connectrpc.com/connect"
)

// access stands around every call: it counts and times it, logs what failed, answers a request that could not be
// read, turns panics into errors of that call alone, and gives every error its outward form.
type access struct {
	logger  *slog.Logger
	metrics *callMetrics
}

var _ connect.Interceptor = (*access)(nil)

// WrapUnary stands around calls with one request and one answer.
func (a *access) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		var answer connect.AnyResponse
		err := a.around(ctx, req.Spec(), func() (err error) {
			if err := takeDecodeFault(req.Any()); err != nil {
				return err
			}
			answer, err = next(ctx, req)
			return err
		})
		if err != nil {
			return nil, err
		}
		return answer, nil
	}
}

// WrapStreamingHandler stands around streams.
func (a *access) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return a.around(ctx, conn.Spec(), func() error { return next(ctx, faultConn{conn}) })
	}
}

// WrapStreamingClient leaves clients alone: there are none here.
func (a *access) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// around runs a call and judges how it ended.
func (a *access) around(ctx context.Context, spec connect.Spec, call func() error) error {
	start := time.Now()
	a.metrics.begin()
	err := a.guarded(ctx, spec, call)
	if err == nil {
		a.metrics.end(spec.Procedure, "ok", time.Since(start))
		return nil
	}
	wire := toWire(err)
	a.metrics.end(spec.Procedure, wire.Code().String(), time.Since(start))
	why, text := splitText(wire.Message())
	level := slog.LevelDebug
	if wire.Code() == connect.CodeInternal {
		level = slog.LevelError
	}
	a.logger.LogAttrs(ctx, level, "call failed", slog.String("method", spec.Procedure), slog.String("code", wire.Code().String()),
		slog.String("reason", why), slog.String("error", text), slog.String("actor", actorOf(ctx)), slog.Duration("took", time.Since(start)))
	return wire
}

// guarded runs a call; a panic in it fails the call and leaves the process running.
func (a *access) guarded(ctx context.Context, spec connect.Spec, call func() error) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
			panic(p)
		}
		a.logger.ErrorContext(ctx, "call panicked", "method", spec.Procedure, "actor", actorOf(ctx), "panic", p, "stack", string(debug.Stack()))
		err = fmt.Errorf("the node failed at this call: %v", p)
	}()
	return call()
}

// faultConn makes what was wrong with a received message the error of Receive.
type faultConn struct{ connect.StreamingHandlerConn }

// Receive reads the next message.
func (c faultConn) Receive(message any) error {
	if err := c.StreamingHandlerConn.Receive(message); err != nil {
		return err
	}
	return takeDecodeFault(message)
}

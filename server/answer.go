package server

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

// errOutcomeKind means that a command was answered with the outcome of another one.
var errOutcomeKind = errors.New("the command was answered with an outcome of another kind")

// propose runs a command in the name of the caller and gives the part of its outcome that answers it.
func propose[T comparable](ctx context.Context, node Node, cmd *logv1.Command, answer func(*logv1.Outcome) T) (T, error) {
	var none T
	cmd.Actor = actorOf(ctx)
	outcome, err := node.Propose(ctx, cmd)
	if err != nil {
		return none, err
	}
	if err := reason.FromFault(outcome.GetFault()); err != nil {
		return none, err
	}
	got := answer(outcome)
	if got == none {
		return none, errOutcomeKind
	}
	return got, nil
}

// change is propose for a method whose answer is that part.
func change[T any](ctx context.Context, node Node, cmd *logv1.Command, answer func(*logv1.Outcome) *T) (*connect.Response[T], error) {
	got, err := propose(ctx, node, cmd, answer)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(got), nil
}

// read answers a method from the state as of now.
func read[T any](ctx context.Context, node Node, answer func(View) (*T, error)) (*connect.Response[T], error) {
	view, _, err := node.Read(ctx, false)
	if err != nil {
		return nil, err
	}
	got, err := answer(view)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(got), nil
}

// faultOf is an error as the refusal of one part of a call; nil of nil.
func faultOf(err error) *sluicev1.Fault {
	if err == nil {
		return nil
	}
	wire := toWire(err)
	why, text := splitText(wire.Message())
	return &sluicev1.Fault{Code: wire.Code().String(), Reason: why, Message: text}
}

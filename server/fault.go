package server

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"

	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

// internalReason is the reason of an error that is none of the contract's: trouble of this node's own.
const internalReason = "INTERNAL"

// toWire makes any error of a handler the one that goes out: a Connect code, a text that begins with the reason in
// brackets, and an ErrorDetail. It is the only place where errors become Connect errors.
func toWire(err error) *connect.Error {
	var (
		refusal *reason.Error
		wire    *connect.Error
	)
	switch {
	case errors.As(err, &refusal):
		return wireError(codeOf(refusal.Reason), string(refusal.Reason), refusal.Message)
	case errors.Is(err, context.Canceled):
		return wireError(connect.CodeCanceled, "CANCELED", "the caller gave the call up; a change that it asked for may or may not be done")
	case errors.Is(err, context.DeadlineExceeded):
		return wireError(connect.CodeDeadlineExceeded, "DEADLINE_EXCEEDED",
			"the call's own time limit passed; a change that it asked for may or may not be done: the same call with the same id is safe")
	case errors.As(err, &wire):
		return fromConnect(wire)
	default:
		return wireError(connect.CodeInternal, internalReason, err.Error())
	}
}

// fromConnect gives the errors that Connect itself makes while it reads a request the form of all others.
// One that has it already stays as it is.
func fromConnect(err *connect.Error) *connect.Error {
	if why, _ := splitText(err.Message()); why != "" && len(err.Details()) > 0 {
		return err
	}
	switch err.Code() {
	case connect.CodeInvalidArgument:
		return wireError(err.Code(), string(reason.BadField), err.Message())
	case connect.CodeResourceExhausted:
		return wireError(err.Code(), string(reason.LimitMessageBytes), err.Message())
	default:
		return wireError(err.Code(), strings.ToUpper(err.Code().String()), err.Message())
	}
}

func wireError(code connect.Code, why, text string) *connect.Error {
	err := connect.NewError(code, errors.New("["+why+"] "+text))
	if detail, detailErr := connect.NewErrorDetail(&sluicev1.ErrorDetail{Reason: why, Message: text}); detailErr == nil {
		err.AddDetail(detail)
	}
	return err
}

// codeOf is the Connect code that a reason belongs to.
func codeOf(r reason.Reason) connect.Code {
	var code connect.Code
	if err := code.UnmarshalText([]byte(r.Code())); err != nil {
		return connect.CodeInternal
	}
	return code
}

// splitText parts the text of an error, as toWire and (*reason.Error).Error write it, into the reason and the rest.
// A text without a reason is the rest alone.
func splitText(text string) (why, rest string) {
	bracketed, ok := strings.CutPrefix(text, "[")
	if !ok {
		return "", text
	}
	if why, rest, ok = strings.Cut(bracketed, "] "); !ok {
		return "", text
	}
	return why, rest
}

// notServed refuses a method of the contract that a later version serves, and says what there is instead.
func notServed(method, instead string) error {
	return reason.NotImplemented.Errorf("%s is part of the contract and not served by this version; %s", method, instead)
}

package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	sluicev1 "sluice/api/sluice/v1"
)

// Delivery is one message in the hands of a handler. What the handler sets on it takes effect together with the
// completion of the message, or not at all. It is for one goroutine at a time and of no use after the handler returned.
type Delivery struct {
	Message  Message
	Instance InstanceID
	// Epoch is the fencing token for effects outside Sluice, together with Instance.
	Epoch Epoch
	// Lane and Seq are, with Instance, the idempotency key for effects outside Sluice.
	Lane Lane
	Seq  Seq
	// Attempt counts from 1.
	Attempt int
	// Deferred: the message was held while its instance was not in normal mode.
	Deferred bool
	// InDoubt, in the recovery lane only: the message was with a handler before, whose outcome is unknown.
	InDoubt bool

	wire    *sluicev1.Delivery
	state   []byte
	effects effects
	after   Seq // the message that was ended before it in its lane; guarded by host.mu
}

// effects are what a handler asked for.
type effects struct {
	setState  bool
	state     []byte
	outgoing  []*sluicev1.Message
	hasReply  bool
	reply     []byte
	replyType string
}

func (e *effects) none() bool { return !e.setState && len(e.outgoing) == 0 && !e.hasReply }

func deliveryOf(d *sluicev1.Delivery) *Delivery {
	return &Delivery{
		Message:  messageOf(d.GetMessage()),
		Instance: InstanceID{Application: d.GetApplication(), Key: d.GetInstance()},
		Epoch:    Epoch(d.GetEpoch()), Lane: word(lanes, d.GetLane()), Seq: Seq(d.GetSeq()), Attempt: int(d.GetAttempt()),
		Deferred: d.GetDeferred(), InDoubt: d.GetInDoubt(), wire: d,
	}
}

// State is the instance's state as of the last settlement, or what SetState has set since. It must not be changed in
// place. Nil: none.
func (d *Delivery) State() []byte {
	if d.effects.setState {
		return d.effects.state
	}
	return d.state
}

// SetState replaces the instance's state when the message is completed.
func (d *Delivery) SetState(state []byte) {
	d.effects.setState, d.effects.state = true, state
}

// Send gives out a message to any instance of any application when this message is completed. An empty id is derived
// from the settlement. A refusal at the target does not undo the completion: it becomes a dead letter of this
// instance, in its outgoing lane.
func (d *Delivery) Send(m Message) {
	d.effects.outgoing = append(d.effects.outgoing, m.proto())
}

// Reply is kept for the sender of this message, who gets it by Await, when the message is completed.
func (d *Delivery) Reply(data []byte, contentType string) {
	d.effects.hasReply, d.effects.reply, d.effects.replyType = true, data, contentType
}

// verdict is a handler's error that says more than "try again".
type verdict struct {
	cause      error
	reject     bool
	recover    bool
	retryAfter time.Duration
}

func (v *verdict) Error() string { return v.cause.Error() }
func (v *verdict) Unwrap() error { return v.cause }

// Reject says that the message itself is at fault: it is dead-lettered with err's text, and the next one follows.
func Reject(err error) error { return &verdict{cause: orUnnamed(err), reject: true} }

// RetryAfter is a failure after which the message is delivered again after d, 0 to 24 h, instead of the
// application's backoff.
func RetryAfter(err error, d time.Duration) error {
	return &verdict{cause: orUnnamed(err), retryAfter: min(max(d, time.Millisecond), 24*time.Hour)}
}

// Recover says that the handler left things in a state that needs the recovery handler: the instance enters recovery
// with err's text as its cause, and the message is in doubt.
func Recover(err error) error { return &verdict{cause: orUnnamed(err), recover: true} }

func orUnnamed(err error) error {
	if err == nil {
		return errors.New("no error given")
	}
	return err
}

// settlement is what a handler's return says, with the effects if it completed.
func (d *Delivery) settlement(err error) *sluicev1.Settlement {
	s := &sluicev1.Settlement{
		Application: d.Instance.Application, Instance: d.Instance.Key, Epoch: uint64(d.Epoch), Seq: uint64(d.Seq),
		Lane: d.wire.GetLane(), Attempt: d.wire.GetAttempt(),
	}
	if err == nil {
		s.Outcome = sluicev1.Outcome_OUTCOME_COMPLETED
		s.SetState, s.State, s.Outgoing = d.effects.setState, d.effects.state, d.effects.outgoing
		if d.effects.hasReply {
			s.Reply, s.ReplyContentType = orEmpty(d.effects.reply), d.effects.replyType
		}
		return s
	}
	s.Outcome, s.ErrorText = sluicev1.Outcome_OUTCOME_FAILED, errorText(err)
	var v *verdict
	if errors.As(err, &v) {
		s.RetryAfter = duration(v.retryAfter)
		if v.reject {
			s.Outcome = sluicev1.Outcome_OUTCOME_REJECTED
		}
	}
	return s
}

func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// maxErrorBytes of a handler's error go on record.
const maxErrorBytes = 2048

func errorText(err error) string {
	text := strings.ToValidUTF8(err.Error(), "�")
	if len(text) > maxErrorBytes {
		text = strings.ToValidUTF8(text[:maxErrorBytes], "") + "…"
	}
	return text
}

// guard runs a handler and makes an error of a panic.
func guard(ctx context.Context, f func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: stack()}
		}
	}()
	return f(ctx)
}

// panicError is a handler's panic; its stack goes to the log, not on record.
type panicError struct {
	value any
	stack string
}

func (e *panicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.value) }

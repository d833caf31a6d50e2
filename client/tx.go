package client

import (
	"bytes"
	"context"
)

// Tx is a Delivery whose state is typed. When the handler returns nil, the state, what Send gave out and the reply take
// effect together with the completion of the message, in one log entry; an error or a panic commits none of them. A
// state that was not changed is not written.
type Tx[S any] struct {
	*Delivery
	// State is the instance's state as of the last settlement, to be changed in place; never nil. An instance that has
	// none yet has the zero state.
	State *S
	// Version is the schema version in which the state was stored; 0: there was none, or it had no version.
	Version uint32

	schema Schema[S]
	before []byte // the state as it would be stored, before the handler
}

// SetState replaces the state, as setting *tx.State does.
func (tx *Tx[S]) SetState(state S) { *tx.State = state }

// Typed makes a handler of messages (WorkerConfig.Handler, OnRecoveryMessage) of one whose state is typed.
//
// If the state cannot be read, the handler is not called, and the instance enters recovery with ErrStateNewer or
// ErrStateUnreadable as its cause: no attempt is counted, and nothing is lost. With TypedRecovery its recovery is
// delivered again until a worker that can read the state completes it, such as one of the newer release; another
// recovery handler might complete it, and the message would come again to who cannot read the state.
func Typed[S any](schema Schema[S], handle func(context.Context, *Tx[S]) error) func(context.Context, *Delivery) error {
	schema = schema.withDefaults()
	return func(ctx context.Context, d *Delivery) error {
		tx := &Tx[S]{Delivery: d, schema: schema}
		if err := tx.load(); err != nil {
			return Recover(err)
		}
		if err := handle(ctx, tx); err != nil {
			return err
		}
		return tx.commit()
	}
}

// load reads the state of the delivery.
func (tx *Tx[S]) load() (err error) {
	if tx.State, tx.Version, err = tx.schema.Decode(tx.Delivery.State()); err != nil {
		return err
	}
	tx.before, err = tx.schema.Encode(tx.State)
	return err
}

// commit sets the state on the delivery if it changed.
func (tx *Tx[S]) commit() error {
	after, err := tx.schema.Encode(tx.State)
	if err != nil {
		return err
	}
	if !bytes.Equal(after, tx.before) {
		tx.Delivery.SetState(after)
	}
	return nil
}

// RecoveryTx is a Recovery whose state is typed. The state is one: the transactions that Next gives work on the same,
// and each writes it with its completion; what the recovery handler changed besides is written when the recovery
// completes. A state that was not changed is not written.
type RecoveryTx[S any] struct {
	*Recovery
	// State is the instance's state, to be changed in place; never nil.
	State *S
	// Version is the schema version in which the state was stored; 0: there was none, or it had no version.
	Version uint32

	schema Schema[S]
	before []byte // the state as the recovery has it
	open   *Tx[S] // given by Next and not settled
}

// TypedRecovery makes a recovery handler (WorkerConfig.OnRecovery) of one whose state is typed. If the state cannot be
// read, the handler is not called and the recovery has failed with ErrStateNewer or ErrStateUnreadable: it is
// delivered again after a backoff. A handler that is to mend an unreadable state takes a plain Recovery.
func TypedRecovery[S any](schema Schema[S], handle func(context.Context, *RecoveryTx[S]) error) func(context.Context, *Recovery) error {
	schema = schema.withDefaults()
	return func(ctx context.Context, r *Recovery) error {
		tx := &RecoveryTx[S]{Recovery: r, State: new(S), schema: schema}
		if err := tx.load(); err != nil {
			return err
		}
		if err := handle(ctx, tx); err != nil {
			return err
		}
		if err := tx.Settle(ctx, nil); err != nil {
			return err
		}
		return tx.keep()
	}
}

// SetState replaces the state, as setting *r.State does.
func (r *RecoveryTx[S]) SetState(state S) { *r.State = state }

// Next is Recovery.Next, with the message's transaction.
func (r *RecoveryTx[S]) Next(ctx context.Context) (*Tx[S], error) {
	if err := r.Settle(ctx, nil); err != nil {
		return nil, err
	}
	if err := r.keep(); err != nil {
		return nil, err
	}
	d, err := r.Recovery.Next(ctx)
	if err != nil {
		return nil, err
	}
	r.open = &Tx[S]{Delivery: d, State: r.State, Version: r.Version, schema: r.schema, before: r.before}
	return r.open, nil
}

// Settle is Recovery.Settle. After an error, and after a refused settlement, the state is again what it was when Next
// gave the message.
func (r *RecoveryTx[S]) Settle(ctx context.Context, err error) error {
	tx := r.open
	if tx == nil {
		return nil
	}
	r.open = nil
	if err == nil {
		err = tx.commit()
	}
	if err := r.Recovery.Settle(ctx, err); err != nil {
		return err
	}
	return r.load()
}

// load reads the state of the recovery into State.
func (r *RecoveryTx[S]) load() error {
	state, version, err := r.schema.Decode(r.Recovery.State())
	if err != nil {
		return err
	}
	*r.State, r.Version = *state, version
	r.before, err = r.schema.Encode(r.State)
	return err
}

// keep sets the state on the recovery if it changed.
func (r *RecoveryTx[S]) keep() error {
	after, err := r.schema.Encode(r.State)
	if err != nil || bytes.Equal(after, r.before) {
		return err
	}
	r.Recovery.SetState(after)
	r.before = after
	return nil
}

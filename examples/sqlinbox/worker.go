package main

import (
	"context"
	"database/sql"
	"strconv"

	"sluice/client"
	"sluice/client/inbox"
	"sluice/examples/internal/stage"
)

// worker is the process that hosts accounts.
type worker struct {
	*stage.Role
	db   *sql.DB
	dies bool // it says nothing more once it has committed the second deposit
}

// work is the role of a worker; its arguments are the database's file and its fate.
func work(ctx context.Context, r *stage.Role) error {
	db, err := openBank(ctx, r.Args[0])
	if err != nil {
		return err
	}
	defer db.Close()
	w := &worker{Role: r, db: db, dies: r.Args[1] == "dies"}
	return r.Work(ctx, client.WorkerConfig{
		Application: application, Name: "bank", TTL: lease, Handler: w.handle, OnRecovery: w.recover,
	})
}

// handle pays a deposit in, in one transaction with the record that it did.
func (w *worker) handle(ctx context.Context, d *client.Delivery) error {
	amount, err := strconv.Atoi(string(d.Message.Data))
	if err != nil {
		return client.Reject(err)
	}
	repeated, err := inbox.Do(ctx, w.db, d, func(tx *sql.Tx) error {
		return payIn(ctx, tx, d.Instance.Key, amount)
	})
	if err != nil {
		return err
	}
	if w.dies && d.Seq == 2 {
		w.Cue("stuck", "has committed number %d, a deposit of %d, and …", d.Seq, amount)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	w.Cue("done", "number %d, a deposit of %d; done before: %v", d.Seq, amount, repeated)
	return nil
}

// payIn is the effect, in tables of our own.
func payIn(ctx context.Context, tx *sql.Tx, account string, amount int) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO movement (account, amount) VALUES ($1, $2)`, account, amount); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `
INSERT INTO account (name, balance) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET balance = balance + excluded.balance`, account, amount)
	return err
}

// recover asks the inbox which of the messages in doubt took effect.
func (w *worker) recover(ctx context.Context, r *client.Recovery) error {
	through, err := inbox.Processed(ctx, w.db, r)
	if err != nil {
		return err
	}
	r.ProcessedThrough(through)
	w.Cue("recovers", "%d in doubt; by the inbox they took effect up to number %d; the rest is delivered again", len(r.InDoubt), through)
	return nil
}

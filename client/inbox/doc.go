// Package inbox makes the effects of handlers in an SQL database take place once: in the transaction that holds the
// effects it records which message they are of, and refuses a worker whose epoch is over.
//
// Sluice settles each message once, but cannot see what a handler did elsewhere before its worker died: the message is
// in doubt. With the record in the same transaction as the effects, the database knows.
//
//	Handler: func(ctx context.Context, d *client.Delivery) error {
//		repeated, err := inbox.Do(ctx, db, d, func(tx *sql.Tx) error {
//			_, err := tx.ExecContext(ctx, `UPDATE account SET balance = balance + 1 WHERE id = $1`, d.Instance.Key)
//			return err
//		})
//		…
//	},
//	OnRecovery: func(ctx context.Context, r *client.Recovery) error {
//		through, err := inbox.Processed(ctx, db, r)
//		r.ProcessedThrough(through)
//		return err
//	},
//
// It is written for SQLite and PostgreSQL, over any of their drivers, which it does not import. The tables are made by
// the statements in SQLite and PostgreSQL. There is a record for each message until Prune removes it, as Settled allows
// for what cannot come again, and one with the highest epoch for each instance until Forget does.
package inbox

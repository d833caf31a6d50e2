package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"math"

	"sluice/client"
)

// ErrFenced is wrapped by the refusal of a worker whose epoch is over: the database has seen a higher one of the
// instance. Nothing was done; what the worker returns from its handler has no effect either. It is client.ErrFenced.
const ErrFenced = client.ErrFenced

// DB begins transactions: *sql.DB or *sql.Conn.
type DB interface {
	// BeginTx is that of database/sql.
	BeginTx(ctx context.Context, options *sql.TxOptions) (*sql.Tx, error)
}

// Do runs f in a transaction that records the message, and commits. If the message was recorded before, f is not run:
// its effects took place, and repeated is true, with no error. An error of f, or a panic, rolls the transaction back,
// so that nothing was recorded. An error wraps ErrFenced if a later epoch has been here.
//
// When the commit fails it may have taken place all the same, as when the connection broke: return the error from the
// handler, and the next attempt learns it here.
//
// f must use tx alone, and neither commit nor roll it back. The transaction has the database's default isolation level.
// Those of one instance come one after the other; at a level above PostgreSQL's default, one that had to wait fails.
func Do(ctx context.Context, db DB, d *client.Delivery, f func(tx *sql.Tx) error) (repeated bool, err error) {
	err = within(ctx, db, func(tx *sql.Tx) error {
		if repeated, err = Record(ctx, tx, d); err != nil || repeated {
			return err
		}
		return f(tx)
	})
	return repeated && err == nil, err
}

// Record is Do for a transaction of the caller's own. It must be the transaction's first statement. If repeated is
// true, or an error is returned, the caller does nothing else in it.
func Record(ctx context.Context, tx *sql.Tx, d *client.Delivery) (repeated bool, err error) {
	if err := fence(ctx, tx, d.Instance, d.Epoch); err != nil {
		return false, err
	}
	if d.Seq < 1 || d.Seq > math.MaxInt64 {
		return false, fmt.Errorf("inbox: the message of %s has number %d; allowed are 1 to %d", d.Instance, d.Seq, math.MaxInt64)
	}
	changed, err := rows(tx.ExecContext(ctx, record, d.Instance.Application, d.Instance.Key, string(d.Lane), int64(d.Seq), d.Message.ID, int64(d.Epoch)))
	if err != nil {
		return false, fmt.Errorf("inbox: record message %d of %s: %w", d.Seq, d.Instance, err)
	}
	return changed == 0, nil
}

// Processed says up to which of the messages in doubt the effects took place, for Recovery.ProcessedThrough; 0: none
// of them did. First it fences the epochs before: a worker that was cut off and wakes later cannot commit any more,
// and one that is about to commit is waited for. An error wraps ErrFenced if a later epoch than the recovery's has
// been here.
func Processed(ctx context.Context, db DB, r *client.Recovery) (through client.Seq, err error) {
	err = within(ctx, db, func(tx *sql.Tx) error {
		if err := fence(ctx, tx, r.Instance, r.Epoch); err != nil {
			return err
		}
		through, err = lastRecorded(ctx, tx, r)
		return err
	})
	if err != nil {
		return 0, err
	}
	return through, nil
}

// lastRecorded is the last of the recorded messages at the head of those in doubt.
func lastRecorded(ctx context.Context, tx *sql.Tx, r *client.Recovery) (through client.Seq, err error) {
	var inDoubt []client.InDoubt
	for _, d := range r.InDoubt {
		if d.Lane == client.LaneNormal {
			inDoubt = append(inDoubt, d)
		}
	}
	if len(inDoubt) == 0 {
		return 0, nil
	}
	ids, err := idsBetween(ctx, tx, r.Instance, inDoubt[0].Seq, inDoubt[len(inDoubt)-1].Seq)
	if err != nil {
		return 0, fmt.Errorf("inbox: look up what is in doubt of %s: %w", r.Instance, err)
	}
	for _, d := range inDoubt {
		if id, found := ids[d.Seq]; !found || id != d.Message.ID {
			break
		}
		through = d.Seq
	}
	return through, nil
}

// idsBetween are the ids of the recorded messages of the normal lane from one number through another.
func idsBetween(ctx context.Context, tx *sql.Tx, id client.InstanceID, from, through client.Seq) (map[client.Seq]string, error) {
	found, err := tx.QueryContext(ctx, recorded, id.Application, id.Key, string(client.LaneNormal), int64(from), int64(through))
	if err != nil {
		return nil, err
	}
	defer found.Close()
	ids := map[client.Seq]string{}
	for found.Next() {
		var (
			seq int64
			id  string
		)
		if err := found.Scan(&seq, &id); err != nil {
			return nil, err
		}
		ids[client.Seq(seq)] = id
	}
	return ids, found.Err()
}

// fence raises the highest epoch of an instance to one, and refuses it if it is below.
func fence(ctx context.Context, tx *sql.Tx, id client.InstanceID, epoch client.Epoch) error {
	if epoch < 1 || epoch > math.MaxInt64 {
		return fmt.Errorf("inbox: %s has epoch %d; allowed are 1 to %d", id, epoch, math.MaxInt64)
	}
	changed, err := rows(tx.ExecContext(ctx, raise, id.Application, id.Key, int64(epoch)))
	if err != nil {
		return fmt.Errorf("inbox: fence %s: %w", id, err)
	}
	if changed == 0 {
		return fmt.Errorf("inbox: epoch %d of %s is over, a later one has been here: %w", epoch, id, ErrFenced)
	}
	return nil
}

// rows is how many rows a statement changed.
func rows(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// within runs f in a transaction and commits it if there was no error.
func within(ctx context.Context, db DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("inbox: begin a transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("inbox: commit, which may have taken place: %w", err)
	}
	return nil
}

package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"math"

	"sluice/client"
)

// MaxPrune is how many records one call of Prune or Forget removes at most.
const MaxPrune = 10_000

// Settled is the number below which every message of an instance is settled, so that no record below it is needed.
func Settled(ctx context.Context, c *client.Client, id client.InstanceID) (client.Seq, error) {
	i, err := c.Instances().Get(ctx, id) // before the lists: what is accepted later has a higher number
	if err != nil {
		return 0, err
	}
	settled := i.NextSeq
	for _, lane := range []client.Lane{client.LaneNormal, client.LaneRecovery} {
		for m, err := range c.Instances().ListMessages(ctx, id, client.ListMessages{Lane: lane}) {
			if err != nil {
				return 0, err
			}
			settled = min(settled, m.Seq)
			break // they are in order
		}
	}
	return settled, nil
}

// Prune removes the records of an instance whose numbers are below one, such as Settled tells, the lowest first, and
// no more than limit, 1 to MaxPrune: fewer were removed than limit when none is left. A message whose record is gone
// would be taken for a new one, so below must not be above what Settled tells.
func Prune(ctx context.Context, db DB, id client.InstanceID, below client.Seq, limit int) (removed int64, err error) {
	if limit < 1 || limit > MaxPrune {
		return 0, fmt.Errorf("inbox: at most %d records shall be removed; allowed are 1 to %d", limit, MaxPrune)
	}
	err = within(ctx, db, func(tx *sql.Tx) error {
		removed, err = rows(tx.ExecContext(ctx, prune, id.Application, id.Key, int64(min(below, math.MaxInt64)), limit))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("inbox: prune %s: %w", id, err)
	}
	return removed, nil
}

// Forget removes what is kept of an instance that was terminated: records, at most MaxPrune a call, and with the last
// of them its epoch. done is false while some are left. No worker may have the instance in hand any more, for none
// would be fenced.
func Forget(ctx context.Context, db DB, id client.InstanceID) (done bool, err error) {
	removed, err := Prune(ctx, db, id, math.MaxInt64, MaxPrune)
	if err != nil || removed == MaxPrune {
		return false, err
	}
	err = within(ctx, db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, lower, id.Application, id.Key)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("inbox: forget %s: %w", id, err)
	}
	return true, nil
}

package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"
	"slices"

	"sluice/client"
)

// MaxPrune is how many records one call of Prune or Forget removes at most.
const MaxPrune = 10_000

// Spent are the numbers of the messages of an instance whose records are needed no more: those below Below, but for
// Except. All of them are settled; those of Except are dead letters, which an operator may put back.
type Spent struct {
	Below client.Seq
	// Except are numbers below Below, in order.
	Except []client.Seq
}

// Settled asks the cluster which messages of an instance are settled for good.
func Settled(ctx context.Context, c *client.Client, id client.InstanceID) (Spent, error) {
	i, err := c.Instances().Get(ctx, id) // before the lists: what is accepted later has a higher number
	if err != nil {
		return Spent{}, err
	}
	// Before and after the unsettled: what was put back meanwhile is in the first list, what was dead-lettered in the
	// second.
	before, err := deadLetters(ctx, c, id)
	if err != nil {
		return Spent{}, err
	}
	below, err := firstUnsettled(ctx, c, id, i.NextSeq)
	if err != nil {
		return Spent{}, err
	}
	after, err := deadLetters(ctx, c, id)
	if err != nil {
		return Spent{}, err
	}
	except := append(before, after...)
	slices.Sort(except)
	except = slices.Compact(except)
	end, _ := slices.BinarySearch(except, below)
	return Spent{Below: below, Except: except[:end]}, nil
}

// lanes are those whose messages handlers take.
var lanes = []client.Lane{client.LaneNormal, client.LaneRecovery}

// firstUnsettled is the lowest number that is not settled, or next if all are.
func firstUnsettled(ctx context.Context, c *client.Client, id client.InstanceID, next client.Seq) (client.Seq, error) {
	for _, lane := range lanes {
		for m, err := range c.Instances().ListMessages(ctx, id, client.ListMessages{Lane: lane}) {
			if err != nil {
				return 0, err
			}
			next = min(next, m.Seq)
			break // they are in order
		}
	}
	return next, nil
}

// deadLetters are the numbers of an instance's dead letters.
func deadLetters(ctx context.Context, c *client.Client, id client.InstanceID) (all []client.Seq, err error) {
	for _, lane := range lanes {
		for m, err := range c.Instances().ListMessages(ctx, id, client.ListMessages{Lane: lane, DeadLetters: true}) {
			if err != nil {
				return nil, err
			}
			all = append(all, m.Seq)
		}
	}
	return all, nil
}

// Prune removes the records of an instance that are spent, such as Settled tells, and no more than limit, 1 to
// MaxPrune: fewer were removed than limit when none is left. A message whose record is gone would be taken for a new
// one, so no other numbers must be given than Settled tells.
func Prune(ctx context.Context, db DB, id client.InstanceID, spent Spent, limit int) (removed int64, err error) {
	if limit < 1 || limit > MaxPrune {
		return 0, fmt.Errorf("inbox: at most %d records shall be removed; allowed are 1 to %d", limit, MaxPrune)
	}
	if !slices.IsSorted(spent.Except) {
		return 0, fmt.Errorf("inbox: the numbers %d are not in order", spent.Except)
	}
	err = within(ctx, db, func(tx *sql.Tx) error {
		for from, below := range spent.ranges() {
			for _, lane := range lanes {
				n, err := rows(tx.ExecContext(ctx, prune, id.Application, id.Key, string(lane), int64(from), int64(below), int64(limit)-removed))
				if err != nil {
					return err
				}
				if removed += n; removed == int64(limit) {
					return nil
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("inbox: prune %s: %w", id, err)
	}
	return removed, nil
}

// ranges are the runs of spent numbers: from the first, below the second.
func (s Spent) ranges() iter.Seq2[client.Seq, client.Seq] {
	return func(yield func(from, below client.Seq) bool) {
		end, from := min(s.Below, math.MaxInt64), client.Seq(0)
		for _, except := range s.Except {
			if except >= end {
				break
			}
			if from < except && !yield(from, except) {
				return
			}
			from = except + 1
		}
		if from < end {
			yield(from, end)
		}
	}
}

// Forget removes what is kept of an instance that was terminated: records, at most MaxPrune a call, and with the last
// of them its epoch. done is false while some are left. No worker may have the instance in hand any more, for none
// would be fenced.
func Forget(ctx context.Context, db DB, id client.InstanceID) (done bool, err error) {
	removed, err := Prune(ctx, db, id, Spent{Below: math.MaxInt64}, MaxPrune)
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

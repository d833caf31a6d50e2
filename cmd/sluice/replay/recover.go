package replay

import (
	"context"
	"errors"
	"fmt"

	"sluice/api/reason"
	"sluice/client"
)

// completers is how many completions may be under way at once.
const completers = 16

func (r *run) id(c *plannedCase) client.InstanceID {
	return client.InstanceID{Application: r.cfg.Application, Key: c.key}
}

// enter puts a case into recovery, and returns when it is.
func (s *sender) enter(ctx context.Context, c *plannedCase) error {
	s.ledger.opened(c.key)
	patience := newPatience(s.cfg.Patience)
	request := s.nonce + "-enter"
	for {
		_, err := s.client.Instances().EnterRecovery(ctx, s.id(c), client.EnterRecovery{Cause: cause, RequestID: request})
		if err == nil {
			return nil
		}
		if !waitable(err) {
			return fmt.Errorf("put %s into recovery: %w", c.key, err)
		}
		if err := patience.wait(ctx, err); err != nil {
			return err
		}
	}
}

// completeLater completes a case's recovery while the sender goes on.
func (s *sender) completeLater(ctx context.Context, c *plannedCase) {
	s.slots <- struct{}{}
	s.completions.Go(func() {
		defer func() { <-s.slots }()
		if err := s.complete(ctx, c); err != nil {
			s.completionFailed(fmt.Errorf("complete the recovery of %s: %w", c.key, err))
		}
	})
}

// complete ends a case's recovery. What is in doubt is decided by the ledger: it fences the epochs before this one off,
// so that no handler still at work can write any more, and knows how far the handlers had come.
func (r *run) complete(ctx context.Context, c *plannedCase) error {
	patience := newPatience(r.cfg.Patience)
	for {
		err := r.completeOnce(ctx, c)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, reason.NotInRecovery): // an earlier attempt, or a worker, was first
			r.ledger.over(c.key)
			return nil
		case errors.Is(err, reason.StaleEpoch) || waitable(err):
			if err := patience.wait(ctx, err); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (r *run) completeOnce(ctx context.Context, c *plannedCase) error {
	instances := r.client.Instances()
	now, err := instances.Get(ctx, r.id(c))
	if err != nil {
		return err
	}
	if now.Mode != client.ModeRecovery {
		return reason.NotInRecovery.Errorf("%s is in mode %s", c.key, now.Mode)
	}
	through := r.ledger.through(c.key, now.Epoch)
	_, err = instances.CompleteRecovery(ctx, r.id(c), client.CompleteRecovery{
		Epoch: now.Epoch, ProcessedThrough: through, RequestID: fmt.Sprintf("%s-complete-%d", r.nonce, now.Epoch),
	})
	if err != nil {
		return err
	}
	r.ledger.over(c.key)
	r.ledger.completed()
	return nil
}

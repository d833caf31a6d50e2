package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"sluice/client"
)

// maxCapacity is how many instances one session may own.
const maxCapacity = 65536

// working runs the workers while do works, and stops them in good order afterwards.
func (r *run) working(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The workers end after do has, also when the replay is interrupted, so that they hand their instances back.
	workCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var workers sync.WaitGroup
	for n := range r.cfg.Workers {
		w, err := r.client.NewWorker(r.workerConfig(n + 1))
		if err != nil {
			stop()
			workers.Wait()
			return err
		}
		workers.Go(func() {
			if err := w.Run(workCtx); err != nil && !errors.Is(err, context.Canceled) {
				cancel(fmt.Errorf("worker %d: %w", n+1, err))
			}
		})
	}
	err := do(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	stop()
	workers.Wait()
	return err
}

// workerConfig lets a worker own as many instances as the log has: one in recovery stays owned until it is completed.
func (r *run) workerConfig(n int) client.WorkerConfig {
	most := min(len(r.plan.cases)+1, maxCapacity)
	return client.WorkerConfig{
		Application: r.cfg.Application, Name: fmt.Sprintf("replay-%d", n), TTL: r.cfg.Lease, Capacity: most, Concurrency: most,
		Handler: r.handle, OnRecovery: r.recover, Logger: r.cfg.Logger,
	}
}

// handle is the handler of every message: it writes the call down, which is its effect outside Sluice.
func (r *run) handle(_ context.Context, d *client.Delivery) error {
	return r.ledger.handle(delivery{
		key: d.Instance.Key, id: d.Message.ID, kind: d.Message.Type, data: d.Message.Data, seq: d.Seq, epoch: d.Epoch, deferred: d.Deferred,
	})
}

// recover is the handler of every recovery. One that the replay began is completed by the replay, when its moment has
// come; until then the handler waits. Any other, of an owner that was lost, is completed here.
func (r *run) recover(ctx context.Context, w *client.Recovery) error {
	if over := r.ledger.recovering(w.Instance.Key, w.Epoch); over != nil {
		select {
		case <-over:
			return client.ErrFenced
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	w.ProcessedThrough(r.ledger.through(w.Instance.Key, w.Epoch))
	r.ledger.completed()
	return nil
}

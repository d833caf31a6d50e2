package client

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// TestAPollingWorkerWhoseClientIsClosedEnds though a settlement of its is not answered: it once tried that settlement
// for ever, without a pause, and Run never returned.
func TestAPollingWorkerWhoseClientIsClosedEnds(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	settling := make(chan struct{})
	once := sync.OnceFunc(func() { close(settling) })
	f.before = func(procedure string) error {
		if procedure != sluicev1connect.WorkerServiceSettleProcedure {
			return nil
		}
		once()
		return fail(reason.NoLeader)
	}
	f.put("a", sluicev1.Lane_LANE_NORMAL, "m")
	c := f.client()
	w, err := c.NewWorker(WorkerConfig{
		Application: "app", UsePoll: true, Logger: slog.New(slog.DiscardHandler), Handler: func(context.Context, *Delivery) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	<-settling
	c.Close()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("want ErrClosed, got %v", err)
		}
	case <-limit.C:
		t.Fatal("the worker does not end")
	}
}

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

// TestAWorkerKeepsAwayFromANodeWithoutLeader: whose turn it was depended on how many other calls the client made meanwhile,
// and it could be the turn of the same node for ever.
func TestAWorkerKeepsAwayFromANodeWithoutLeader(t *testing.T) {
	t.Parallel()
	good, bad := newFake(t), newFake(t)
	bad.leaderless = true
	c := good.client(func(cfg *Config) { cfg.Addresses = []string{bad.url, good.url} })
	for range 10 {
		n := c.leaderOrAny(t.Context())
		if n.url != good.url {
			t.Fatalf("the stream is made to %s, which knows of no leader; %s leads", n.url, good.url)
		}
		c.nodes.pick(time.Now()) // what another call does
	}
}

// TestANodeThatLetAStreamStandIsNotWell: it was passed for well because the call had stood for a while.
func TestANodeThatLetAStreamStandIsNotWell(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.leaderless = true
	c := f.client()
	w, err := c.NewWorker(WorkerConfig{Application: "app", Logger: slog.New(slog.DiscardHandler), Handler: func(context.Context, *Delivery) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	s := &tenure{host: newHost(c, w.cfg), id: "s", ttl: leaderlessStands} // of which a third counts as long
	alive, e := s.stream(t.Context())
	if !alive || e.Reason != ErrNoLeader {
		t.Fatalf("want a call that stood and ended with %s, got alive %t and %v", ErrNoLeader, alive, e)
	}
	if n := c.nodes.all[0]; n.failures != 1 {
		t.Errorf("the node counts as well after %v", e)
	}
}

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

func TestCreditGoesWithSettlementsAndTheNodeIsNeverShort(t *testing.T) {
	t.Parallel()
	h := &host{cfg: WorkerConfig{Prefetch: 64}}
	some := &settling{hd: &hosted{}, wire: &sluicev1.Settlement{}}
	for _, c := range []struct {
		name               string
		held, due, pending int
		want               int // credit that is given back
	}{
		{"little is free, and nothing will come of what is held", 63, 1, 0, 1},
		{"less than half of what is free", 40, 11, 0, 0},
		{"half of what is free", 40, 12, 0, 12},
		{"nothing is held", 0, 31, 0, 0},
		{"half of all", 0, 32, 0, 32},
		{"settlements wait for a flight", 63, 1, 1, 0},
		{"half of all, though settlements wait", 30, 32, 1, 32},
	} {
		h.held, h.due, h.out = c.held, c.due, outbox{flights: make([]flight, 1)}
		for range c.pending {
			h.out.put(some)
		}
		if _, batch, credit := h.outgoing(1); credit != c.want || len(batch) > 0 {
			t.Errorf("%s: %d is given back with %d settlements, want %d", c.name, credit, len(batch), c.want)
		}
	}
	h.held, h.due, h.out = 30, 1, outbox{}
	h.out.put(some)
	if _, batch, credit := h.outgoing(1); credit != 1 || len(batch) != 1 {
		t.Errorf("%d is given back with %d settlements, want 1 with 1", credit, len(batch))
	}
}

// What arrives may leave the node without credit, though nothing was given back meanwhile.
func TestCreditIsLookedAtWhenMessagesArrive(t *testing.T) {
	t.Parallel()
	cfg := WorkerConfig{Application: "app", Prefetch: 4, Capacity: 8, Handler: func(context.Context, *Delivery) error { return nil }}
	h := newHost(&Client{}, cfg) // Concurrency is 0: no handler begins
	h.session = "s"
	arrive := func(epoch, seq uint64, instance string) (told int) {
		t.Helper()
		h.arrive("s", []*sluicev1.Delivery{{
			Application: "app", Instance: instance, Epoch: epoch, Kind: sluicev1.DeliveryKind_DELIVERY_MESSAGE, Lane: sluicev1.Lane_LANE_NORMAL, Seq: seq,
			Message: &sluicev1.Message{Id: "m", Type: "t"},
		}})
		select {
		case <-h.changed:
			_, _, told = h.outgoing(streamFlights)
		default:
		}
		return told
	}
	if told := arrive(2, 1, "a"); told != 0 {
		t.Fatalf("%d is given back for a message in hand", told)
	}
	if told := arrive(1, 1, "a"); told != 0 { // of an epoch that is over
		t.Fatalf("%d is given back, which is less than half of what is not in hand", told)
	}
	if told := arrive(1, 1, "b") + arrive(1, 1, "c"); told != 1 {
		t.Errorf("%d is given back with %d of 4 in hand and %d due; want 1", told, h.held, h.due)
	}
}

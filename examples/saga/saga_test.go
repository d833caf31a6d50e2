package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"testing"

	"sluice/client"
	"sluice/examples/internal/stage"
)

// TestMain lets this test's binary be the worker that the story starts and kills.
func TestMain(m *testing.M) {
	roles.Play()
	os.Exit(m.Run())
}

func TestTheSagaIsFinishedThoughItsWorkerWasKilled(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := stage.Play(t.Context(), stage.Config{Out: &out}, func(ctx context.Context, s *stage.Stage) error {
		if err := saga(ctx, s); err != nil {
			return err
		}
		stop, err := workPartners(s)
		if err != nil {
			return err
		}
		defer func() {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}()
		wantPartners(ctx, t, s)
		wantOrders(ctx, t, s)
		return nil
	})
	if err != nil || t.Failed() {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// wantPartners wants each to have done what it had to do, once and in order, and the money to be where it belongs.
func wantPartners(ctx context.Context, t *testing.T, s *stage.Stage) {
	t.Helper()
	balances := map[string]int{"accounts/ada": 700, "accounts/bo": 100}
	for _, id := range partners {
		p, err := stage.Look[partner](ctx, s, id)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.Book, books[id.String()]) || p.Balance != balances[id.String()] {
			t.Errorf("%s: %+v, want %q and %d", id, p, books[id.String()], balances[id.String()])
		}
	}
}

// wantOrders wants nothing unsettled and nothing dead-lettered with the orders, and the history of one recovery, and
// asks them what they went through.
func wantOrders(ctx context.Context, t *testing.T, s *stage.Stage) {
	t.Helper()
	stop, err := s.Work(client.WorkerConfig{Application: orders, Logger: stage.Quiet, Handler: client.Typed(orderSchema, func(_ context.Context, tx *client.Tx[order]) error { return advance(tx) })})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	for id, want := range map[client.InstanceID]order{
		order4711: {Outcome: "refused", Steps: []string{"order.placed", "room.booked", "seat.booked", "payment.refused", "seat.released", "room.released"}},
		order4712: {Outcome: "confirmed", Steps: []string{"order.placed", "room.booked", "seat.booked", "payment.taken"}},
	} {
		got, err := stage.Look[order](ctx, s, id)
		if err != nil {
			t.Fatal(err)
		}
		if got.Outcome != want.Outcome || !slices.Equal(got.Steps, want.Steps) {
			t.Errorf("%s: %+v, want %+v", id, got, want)
		}
		e, err := s.Client.Instances().Explain(ctx, id)
		if err != nil || e.Instance.Mode != client.ModeNormal || e.Instance.NormalMessages != 0 || e.DeadLetters != 0 {
			t.Errorf("%s: %+v, %v", id, e, err)
		}
		history, err := s.Client.Instances().History(ctx, id)
		if recoveries := map[client.InstanceID]int{order4711: 1}[id]; err != nil || len(slices.DeleteFunc(history, func(h client.Transition) bool { return h.To != client.ModeRecovery })) != recoveries {
			t.Errorf("%s: %+v, %v, want %d recoveries", id, history, err, recoveries)
		}
	}
}

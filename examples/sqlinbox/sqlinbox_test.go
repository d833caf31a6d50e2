package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"

	"sluice/client"
	"sluice/examples/internal/stage"
)

// TestMain lets this test's binary be the worker that the story starts and kills.
func TestMain(m *testing.M) {
	roles.Play()
	os.Exit(m.Run())
}

func TestEveryDepositTakesEffectOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := stage.Play(t.Context(), stage.Config{Out: &out}, func(ctx context.Context, s *stage.Stage) error {
		if err := stage.Chapters(declare, death)(ctx, s); err != nil {
			return err
		}
		// The effect is there, its record too, and the message is not settled: that is what the worker died between.
		wantBooks(ctx, t, s, books{Balance: 30, Movements: 2, Records: 2})
		if m, err := s.Client.Get(ctx, ada, "d2"); err != nil || m.Status == client.StatusSettled {
			t.Errorf("%+v, %v", m, err)
		}
		if err := recovery(ctx, s); err != nil {
			return err
		}
		wantBooks(ctx, t, s, books{Balance: 150, Movements: 5, Records: 5})
		for i := range deposits {
			if m, err := s.Client.Get(ctx, ada, fmt.Sprint("d", i+1)); err != nil || m.Settlement != client.SettlementCompleted || m.Attempts != 0 {
				t.Errorf("%+v, %v", m, err)
			}
		}
		if err := proof(ctx, s); err != nil {
			return err
		}
		wantBooks(ctx, t, s, books{Balance: 150, Movements: 5})
		return nil
	})
	if err != nil || t.Failed() {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func wantBooks(ctx context.Context, t *testing.T, s *stage.Stage, want books) {
	t.Helper()
	db, err := openBank(ctx, bank(s))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got, err := readBooks(ctx, db); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

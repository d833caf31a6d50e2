package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"sluice/client"
	"sluice/examples/internal/stage"
)

func TestThePoisonIsMendedAndTheRestFollows(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := stage.Play(t.Context(), stage.Config{Out: &out}, func(ctx context.Context, on *stage.Stage) error {
		if err := poison(ctx, on); err != nil {
			return err
		}
		s := &shop{Stage: on}
		stop, err := s.open()
		if err != nil {
			return err
		}
		for id, want := range map[client.InstanceID][]float64{tea: {4.2, 4.3, 4.4, 4.5}, coffee: {7.1}} {
			if got, err := stage.Look[list](ctx, on, id); err != nil || !slices.Equal(got.Prices, want) {
				t.Errorf("%s: %v, %v, want %v", id, got.Prices, err, want)
			}
		}
		wantMended(ctx, t, s)
		return stop()
	})
	if err != nil || t.Failed() {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// wantMended wants the message to have kept its place and its attempts, and the instance to have been in one recovery.
func wantMended(ctx context.Context, t *testing.T, s *shop) {
	t.Helper()
	m, err := s.Client.Get(ctx, tea, "m2")
	if err != nil || m.Seq != 2 || m.Settlement != client.SettlementCompleted || m.Attempts != attempts || len(m.Edits) != 1 || m.Edits[0].Action != "replaced" {
		t.Errorf("%+v, %v", m, err)
	}
	for m, err := range s.Client.Instances().ListMessages(ctx, tea, client.ListMessages{DeadLetters: true}) {
		t.Errorf("a dead letter: %+v, %v", m, err)
	}
	history, err := s.Client.Instances().History(ctx, tea)
	if err != nil || len(history) != 3 || history[0].To != client.ModeRecovery || history[2].To != client.ModeNormal {
		t.Fatalf("%+v, %v", history, err)
	}
	if cause := history[0].Cause; !strings.Contains(cause, "poison") || !strings.Contains(cause, `parsing "4,30"`) {
		t.Errorf("cause %q", cause)
	}
	if calm, err := s.Client.Instances().History(ctx, coffee); err != nil || len(calm) != 0 {
		t.Errorf("coffee noticed: %+v, %v", calm, err)
	}
}

package main

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"sluice/client"
	"sluice/examples/internal/stage"
)

func TestAnOutageBurnsNoAttempts(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := stage.Play(t.Context(), stage.Config{Out: &out}, func(ctx context.Context, on *stage.Stage) error {
		if err := outage(ctx, on); err != nil {
			return err
		}
		app, err := on.Client.Applications().Get(ctx, application)
		if err != nil || app.Recovery == nil || app.Recovery.Actor != "outage" || app.Recovery.Outage == nil || app.Recovery.Outage.Instances != parcels || app.Counts.Normal != parcels || app.Counts.DeferredMessages != 0 {
			t.Errorf("%+v, %+v, %v", app, app.Recovery, err)
		}
		s := &depot{Stage: on, carrier: newCarrier()}
		defer s.carrier.close()
		stop, err := s.work()
		if err != nil {
			return err
		}
		for _, id := range all() {
			wantDrained(ctx, t, on, id)
		}
		return stop()
	})
	if err != nil || t.Failed() {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// wantDrained wants a parcel to have gone both legs in order, the second having been held, with no attempt but the one
// that failed, and to have been in the application's recovery alone.
func wantDrained(ctx context.Context, t *testing.T, s *stage.Stage, id client.InstanceID) {
	t.Helper()
	if p, err := stage.Look[parcel](ctx, s, id); err != nil || !slices.Equal(p.Legs, []string{"first", "second"}) {
		t.Errorf("%s: %+v, %v", id, p, err)
	}
	if first, err := s.Client.Get(ctx, id, "first"); err != nil || first.Settlement != client.SettlementCompleted || first.Attempts != 1 {
		t.Errorf("%s: %+v, %v", id, first, err)
	}
	if second, err := s.Client.Get(ctx, id, "second"); err != nil || second.Disposition != client.DispositionDeferred || second.Attempts != 0 {
		t.Errorf("%s: %+v, %v", id, second, err)
	}
	e, err := s.Client.Instances().Explain(ctx, id)
	if err != nil || e.Instance.Mode != client.ModeNormal || e.Instance.NormalMessages != 0 || e.DeadLetters != 0 {
		t.Errorf("%s: %+v, %v", id, e, err)
	}
}

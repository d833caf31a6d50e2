package client_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/client"
	"sluice/client/sluicetest"
)

// untilWhole waits until the application has entered recovery as a whole.
func untilWhole(t *testing.T, c *client.Client) client.Application {
	t.Helper()
	for {
		app, err := c.Applications().Get(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		if app.Recovery != nil {
			return app
		}
	}
}

// completeWhole completes the application-wide recovery and waits until that is done.
func completeWhole(t *testing.T, c *client.Client) client.Operation {
	t.Helper()
	op, err := c.Applications().CompleteRecovery(t.Context(), "app", 0, "")
	for err == nil && op.State != client.OperationDone {
		op, err = c.Operations().Get(t.Context(), op.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func TestRealOutageAndBack(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	const instances = 20
	apply(t, c, client.Application{
		Supervision: client.Supervision{OutageInstances: instances, OutageWindow: 10 * time.Minute},
		Delivery:    client.DeliveryPolicy{MaxAttempts: 2, BackoffInitial: time.Hour, BackoffMax: time.Hour, Window: 2},
	})
	var down atomic.Bool
	down.Store(true)
	var mu sync.Mutex
	handled := map[string][]string{}
	for range 2 {
		host(t, c, client.WorkerConfig{Handler: func(_ context.Context, d *client.Delivery) error {
			if down.Load() {
				return fmt.Errorf("order %q: dial tcp 10.0.0.1:5432: connection refused", d.Instance.Key)
			}
			mu.Lock()
			defer mu.Unlock()
			handled[d.Instance.Key] = append(handled[d.Instance.Key], d.Message.ID)
			return nil
		}})
	}
	var keys []string
	for n := range instances {
		keys = append(keys, fmt.Sprint("i", n))
		send(t, c, keys[n], "a")
	}
	app := untilWhole(t, c)
	if r := app.Recovery; r.Actor != "outage" || r.Outage == nil || r.Outage.Instances != instances || r.Outage.Fingerprint == "" || app.Counts.Recovery != instances {
		t.Errorf("%+v, %+v", app, r)
	}
	for _, key := range keys {
		if r := send(t, c, key, "b"); r.Disposition != client.DispositionDeferred {
			t.Errorf("%s: %+v", key, r)
		}
	}
	down.Store(false)
	for _, key := range keys { // the workers have no recovery handler, and have said so
		untilHeld(t, c, key, client.HoldBackoff, client.HoldApplicationRecovery)
	}
	if op := completeWhole(t, c); op.Done != instances || op.PassedOver != 0 {
		t.Errorf("%+v", op)
	}
	for _, key := range keys {
		await(t, c, key, "b")
		mu.Lock()
		if got := handled[key]; !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("%s handled %v", key, got)
		}
		mu.Unlock()
		if s, err := c.Get(t.Context(), client.InstanceID{Application: "app", Key: key}, "a"); err != nil || s.Attempts != 1 || s.Settlement != client.SettlementCompleted {
			t.Errorf("%s: %+v, %v", key, s, err)
		}
	}
}

func TestRealOutageIsCountedAcrossLeaders(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t, sluicetest.Nodes(3))
	c := cluster.Client(t)
	apply(t, c, client.Application{
		Supervision: client.Supervision{OutageInstances: 3, OutageWindow: time.Hour},
		Delivery:    client.DeliveryPolicy{BackoffInitial: time.Hour, BackoffMax: time.Hour},
	})
	host(t, c, client.WorkerConfig{TTL: time.Minute, Handler: func(context.Context, *client.Delivery) error { return fmt.Errorf("no") }})
	for _, key := range []string{"i0", "i1"} {
		send(t, c, key, "a")
		untilHeld(t, c, key, client.HoldBackoff)
	}
	leader, err := cluster.Leader()
	if err == nil {
		err = cluster.Stop(leader)
	}
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, "i2", "a")
	if app := untilWhole(t, c); app.Recovery.Outage == nil || app.Recovery.Outage.Instances != 3 {
		t.Errorf("%+v", app.Recovery)
	}
}

func TestRealPoisonShowsItsAttempts(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{Delivery: client.DeliveryPolicy{MaxAttempts: 2, BackoffInitial: time.Millisecond, BackoffMax: time.Millisecond}})
	recovered := make(chan *client.Recovery, 10)
	host(t, c, client.WorkerConfig{
		Handler: func(_ context.Context, d *client.Delivery) error {
			return fmt.Errorf("no luck at attempt %d", d.Attempt)
		},
		OnRecovery: func(_ context.Context, r *client.Recovery) error {
			recovered <- r
			r.ProcessedThrough(r.InDoubt[0].Seq)
			return nil
		},
	})
	send(t, c, "i", "a")
	r := receive(t, recovered)
	a := r.InDoubt[0].Attempts
	if len(a) != 2 || a[0].Number != 1 || a[1].Number != 2 || a[1].Error != "no luck at attempt 2" || a[1].Session == "" || a[1].Epoch == 0 || a[1].Time.IsZero() {
		t.Errorf("%+v", a)
	}
}

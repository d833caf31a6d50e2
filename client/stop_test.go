package client_test

import (
	"context"
	"testing"
	"time"

	"sluice/client"
	"sluice/client/sluicetest"
)

// A recovery handler that does not return when its worker stops may have taken the effect of the message that it was
// given: whoever is given that message next is told so.
func TestRealRecoveryThatOutlivesItsWorkerLeavesDoubt(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{})
	id := client.InstanceID{Application: "app", Key: "i"}
	if _, err := c.Instances().EnterRecovery(t.Context(), id, client.EnterRecovery{Cause: "test"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(t.Context(), client.Message{Application: "app", Instance: "i", ID: "r", Type: "recovery.t"}); err != nil {
		t.Fatal(err)
	}
	idle := func(context.Context, *client.Delivery) error { return nil }
	given, release := make(chan string), make(chan struct{})
	defer close(release)
	stop := host(t, c, client.WorkerConfig{Grace: time.Millisecond, Handler: idle, OnRecovery: func(ctx context.Context, r *client.Recovery) error {
		d, err := r.Next(ctx)
		if err != nil {
			return err
		}
		given <- d.Message.ID
		<-release
		return nil
	}})
	if got := receive(t, given); got != "r" {
		t.Fatal(got)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	doubts := make(chan []client.InDoubt, 1)
	host(t, c, client.WorkerConfig{Handler: idle, OnRecovery: func(_ context.Context, r *client.Recovery) error {
		select {
		case doubts <- r.InDoubt:
		default:
		}
		return nil
	}})
	if got := receive(t, doubts); len(got) != 1 || got[0].Lane != client.LaneRecovery || got[0].Message.ID != "r" {
		t.Errorf("in doubt %+v, want r of the recovery lane", got)
	}
}

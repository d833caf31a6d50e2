package client_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice/client"
	"sluice/client/sluicetest"
)

// TestRealWatchGoesOnOverTheLossOfNodes follows the events of a cluster of three while its nodes go down one after the
// other, the leader among them, and wants each event once, in order.
func TestRealWatchGoesOnOverTheLossOfNodes(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t, sluicetest.Nodes(3))
	c := cluster.Client(t)
	apply(t, c, client.Application{})
	id := client.InstanceID{Application: "app", Key: "i"}
	if _, err := c.Instances().EnterRecovery(t.Context(), id, client.EnterRecovery{Cause: "test"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := make(chan client.ClusterEvent, 100)
	ended := make(chan error, 1)
	go func() {
		for e, err := range c.Watch(ctx, client.WatchOptions{Application: "app", Types: []client.ClusterEventType{client.TypeMessageDeferred}}) {
			if err != nil {
				ended <- err
				return
			}
			seen <- e
		}
	}()
	next := 1
	hold := func(n int) {
		for range n {
			send(t, c, "i", fmt.Sprint("m", next))
			e := receive(t, seen)
			if want := fmt.Sprint("m", next); e.MessageID != want || e.Seq != client.Seq(next) || e.DeferredMessages != uint64(next) {
				t.Fatalf("got %+v, want %s", e, want)
			}
			next++
		}
	}
	hold(3)
	for place := range 3 {
		if err := cluster.Stop(place); err != nil {
			t.Fatal(err)
		}
		hold(2)
		if err := cluster.Restart(place); err != nil {
			t.Fatal(err)
		}
		hold(2)
	}
	cancel()
	<-ended
}

func TestRealWatchFromAPlace(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t)
	c := cluster.Client(t)
	apply(t, c, client.Application{Supervision: client.Supervision{HeldAfter: time.Second}})
	id := client.InstanceID{Application: "app", Key: "i"}
	if _, err := c.Instances().EnterRecovery(t.Context(), id, client.EnterRecovery{Cause: "test"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var entered client.ClusterEvent
	for e, err := range c.Watch(ctx, client.WatchOptions{Application: "app"}) {
		if err != nil {
			t.Fatal(err)
		}
		entered = e
		break
	}
	if entered.Type != client.TypeRecoveryEntered || entered.Detail != "test" || entered.Instance != "i" {
		t.Fatalf("got %+v", entered)
	}
	for e, err := range c.Watch(ctx, client.WatchOptions{Application: "app", Instance: "i", Since: entered.Cursor}) {
		if err != nil || e.Type != client.TypeHeldTooLong {
			t.Fatalf("got %+v, %v", e, err)
		}
		break
	}
}

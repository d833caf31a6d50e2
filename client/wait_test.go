package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/client"
	"sluice/client/sluicetest"
)

func TestRealWaitUntilAnInstanceIsAsWanted(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{})
	id := client.InstanceID{Application: "app", Key: "i"}
	inRecovery := func(i client.Instance) bool { return i.Mode == client.ModeRecovery }
	if _, err := c.Instances().WaitUntil(t.Context(), id, inRecovery); !errors.Is(err, client.ErrUnknownInstance) {
		t.Errorf("an instance that is not there: %v", err)
	}
	send(t, c, "i", "m")
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if i, err := c.Instances().WaitUntil(short, id, inRecovery); !errors.Is(err, context.DeadlineExceeded) || i.Mode != client.ModeNormal {
		t.Errorf("waited in vain: %+v, %v", i, err)
	}
	looked := make(chan struct{}, 100)
	ended := make(chan client.Instance, 1)
	go func() {
		i, err := c.Instances().WaitUntil(t.Context(), id, func(i client.Instance) bool {
			looked <- struct{}{}
			return inRecovery(i)
		})
		if err != nil {
			t.Error(err)
		}
		ended <- i
	}()
	receive(t, looked) // it was not in recovery yet
	if _, err := c.Instances().EnterRecovery(t.Context(), id, client.EnterRecovery{Cause: "stocktaking"}); err != nil {
		t.Fatal(err)
	}
	if i := receive(t, ended); i.Mode != client.ModeRecovery || i.Cause != "stocktaking" {
		t.Errorf("%+v", i)
	}
}

func TestRealStartedWorkerTellsAtStopWhyItEnded(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	w, err := c.NewWorker(client.WorkerConfig{Application: "nobody", Logger: quiet, Handler: func(context.Context, *client.Delivery) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	running := w.Start()
	receive(t, running.Done())
	for range 2 {
		if err := running.Stop(); !errors.Is(err, client.ErrUnknownApplication) {
			t.Errorf("stopped: %v", err)
		}
	}
}

package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"sluice/client"
	"sluice/client/sluicetest"
)

func holdsOf(e client.Explanation) (kinds []client.HoldKind) {
	for _, h := range e.Holds {
		kinds = append(kinds, h.Kind)
	}
	return kinds
}

func explain(t *testing.T, c *client.Client, key string) client.Explanation {
	t.Helper()
	e, err := c.Instances().Explain(t.Context(), client.InstanceID{Application: "app", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// untilHeld waits until an instance is held by just these.
func untilHeld(t *testing.T, c *client.Client, key string, want ...client.HoldKind) client.Explanation {
	t.Helper()
	for {
		e := explain(t, c, key)
		if slices.Equal(holdsOf(e), want) {
			return e
		}
		if t.Context().Err() != nil {
			t.Fatalf("held by %v, want %v", holdsOf(e), want)
		}
	}
}

// wantHeld wants an instance to be held by just these now.
func wantHeld(t *testing.T, c *client.Client, key string, want ...client.HoldKind) client.Explanation {
	t.Helper()
	e := explain(t, c, key)
	if !slices.Equal(holdsOf(e), want) {
		t.Fatalf("held by %v, want %v: %+v", holdsOf(e), want, e)
	}
	return e
}

// life is one instance, i, on its way through everything that may hold it.
type life struct {
	*testing.T
	c  *client.Client
	id client.InstanceID
}

func (l *life) enter(e client.EnterRecovery) {
	l.Helper()
	if _, err := l.c.Instances().EnterRecovery(l.Context(), l.id, e); err != nil {
		l.Fatal(err)
	}
}

func (l *life) complete(r client.CompleteRecovery) {
	l.Helper()
	if _, err := l.c.Instances().CompleteRecovery(l.Context(), l.id, r); err != nil {
		l.Fatal(err)
	}
}

func TestRealExplanationsOfAnInstancesLife(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{Delivery: client.DeliveryPolicy{BackoffInitial: time.Hour, BackoffMax: time.Hour}})
	l := &life{t, c, client.InstanceID{Application: "app", Key: "i"}}
	stop := l.works()
	l.recovers(stop)
}

// works takes the instance from its birth to a message in flight; stop ends its worker.
func (l *life) works() (stop func() error) {
	t, c, id := l.T, l.c, l.id
	l.enter(client.EnterRecovery{Cause: "stock count"})
	l.complete(client.CompleteRecovery{})
	wantHeld(t, c, "i") // idle

	send(t, c, "i", "a")
	send(t, c, "i", "b")
	wantHeld(t, c, "i", client.HoldNoWorker)

	begun, answers := make(chan struct{}, 10), make(chan error)
	stop = host(t, c, client.WorkerConfig{Name: "w1", Handler: func(ctx context.Context, _ *client.Delivery) error {
		begun <- struct{}{}
		select {
		case err := <-answers:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}})
	receive(t, begun)
	e := wantHeld(t, c, "i", client.HoldInFlight)
	if e.OwnerName != "w1" || e.Sessions != 1 || e.SessionsWithRoom != 1 || e.Head == nil || e.Head.Message.ID != "a" || e.Head.Status != client.StatusInFlight {
		t.Errorf("%+v", e)
	}

	answers <- errors.New("no luck")
	e = untilHeld(t, c, "i", client.HoldBackoff)
	if until := time.Until(e.Holds[0].Until); until <= 0 || until > time.Hour || e.Head.AttemptHistory[0].Error != "no luck" {
		t.Errorf("%v: %+v", until, e)
	}
	if _, err := c.Instances().ResolveMessage(t.Context(), id, client.ResolveMessage{Seq: 1, Lane: client.LaneNormal, Action: client.ActionSkip}); err != nil {
		t.Fatal(err)
	}
	receive(t, begun)

	return stop
}

// recovers takes it through recoveries to its end.
func (l *life) recovers(stop func() error) {
	t, c, id := l.T, l.c, l.id
	l.enter(client.EnterRecovery{Cause: "stock count"})
	untilHeld(t, c, "i", client.HoldInDoubt, client.HoldBackoff, client.HoldRecovery) // its worker has no recovery handler
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	e := wantHeld(t, c, "i", client.HoldNoWorker, client.HoldInDoubt, client.HoldBackoff, client.HoldRecovery)
	if e.InDoubtMessages != 1 || !e.Instance.Quiesced || e.Holds[1].Release == "" {
		t.Errorf("%+v", e)
	}
	if _, err := c.Send(t.Context(), client.Message{Application: "app", Instance: "i", Type: "recovery.t"}); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, c, "i", client.HoldNoWorker, client.HoldInDoubt, client.HoldRecoveryMessages, client.HoldBackoff, client.HoldRecovery)
	l.complete(client.CompleteRecovery{ProcessedThrough: 2, DiscardRecoveryMessages: true})

	l.enter(client.EnterRecovery{Cause: "stock count", Until: time.Now().Add(time.Hour)})
	e = wantHeld(t, c, "i", client.HoldRecovery)
	if until := time.Until(e.Holds[0].Until); until <= 0 || !e.Until.Equal(e.Holds[0].Until) || e.DeadLetters != 1 {
		t.Errorf("%v: %+v", until, e)
	}

	if _, err := c.Applications().EnterRecovery(t.Context(), "app", "the warehouse is down", ""); err != nil {
		t.Fatal(err)
	}
	e = wantHeld(t, c, "i", client.HoldApplicationRecovery)
	if e.Instance.Cause != "the warehouse is down" || !e.Until.IsZero() {
		t.Errorf("%+v", e)
	}

	send(t, c, "i", "c")
	l.complete(client.CompleteRecovery{})
	wantHeld(t, c, "i", client.HoldNoWorker, client.HoldDraining)

	if _, err := c.Instances().Terminate(t.Context(), id, "test data", ""); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, c, "i", client.HoldTerminated)
}

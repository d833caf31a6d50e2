package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/client"
	"sluice/client/sluicetest"
)

// total is the typed state of these tests.
type total struct {
	Sum int `json:"sum"`
}

// add adds 1 and acts as the message's id says.
func add(_ context.Context, tx *client.Tx[total]) error {
	if tx.Message.ID == "look" {
		return tx.ReplyJSON(tx.State)
	}
	tx.State.Sum++
	tx.Send(client.Message{Application: "app", Instance: "copies", Type: "t", Data: tx.Message.Data})
	tx.Reply([]byte("done"), "text/plain")
	switch {
	case tx.Message.ID == "fails" && tx.Attempt == 1:
		return errors.New("once")
	case tx.Message.ID == "panics" && tx.Attempt == 1:
		panic("once")
	}
	return nil
}

// look asks an instance for its state.
func look(t *testing.T, c *client.Client, instance string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := c.Request(ctx, client.Message{Application: "app", Instance: instance, ID: "look", Type: "t"})
	if err != nil {
		t.Fatal(err)
	}
	status, err := p.Await(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(status.Reply)
}

func TestRealTxCommitsAllOrNothing(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{Delivery: client.DeliveryPolicy{BackoffInitial: time.Millisecond}})
	for _, id := range []string{"good", "fails", "panics"} {
		send(t, c, "i", id)
	}
	host(t, c, client.WorkerConfig{Handler: client.Typed(client.Schema[total]{}, func(ctx context.Context, tx *client.Tx[total]) error {
		if tx.Instance.Key == "copies" {
			return nil
		}
		return add(ctx, tx)
	})})
	await(t, c, "i", "panics")
	if got := look(t, c, "i"); got != `{"sum":3}` {
		t.Errorf("three messages, two of which failed once: %s", got)
	}
	copies, err := c.Instances().Get(t.Context(), client.InstanceID{Application: "app", Key: "copies"})
	if err != nil || copies.NextSeq != 4 {
		t.Errorf("outgoing messages: next seq %d, %v", copies.NextSeq, err)
	}
	i, err := c.Instances().Get(t.Context(), client.InstanceID{Application: "app", Key: "i"})
	if want := uint64(len("sluice-state 1\n{\"sum\":3}")); err != nil || i.StateBytes != want {
		t.Errorf("%d bytes of state, want %d, %v", i.StateBytes, want, err)
	}
}

func TestRealTxDoesNotWriteAStateThatDidNotChange(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{})
	host(t, c, client.WorkerConfig{Handler: client.Typed(client.Schema[total]{}, add)})
	look(t, c, "i")
	i, err := c.Instances().Get(t.Context(), client.InstanceID{Application: "app", Key: "i"})
	if err != nil || i.StateBytes != 0 {
		t.Errorf("%d bytes of state, %v", i.StateBytes, err)
	}
}

// A worker of an older release meets a state of a newer one: nothing is burnt or lost, and the newer worker goes on.
func TestRealTxOfAnOlderReleaseWaitsForTheNewer(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{Delivery: client.DeliveryPolicy{BackoffInitial: time.Millisecond, MaxAttempts: 1}})
	newer := client.Schema[total]{Version: 2, Upgrades: map[uint32]func([]byte) ([]byte, error){1: func(b []byte) ([]byte, error) { return b, nil }}}
	complete := func(context.Context, *client.RecoveryTx[total]) error { return nil }
	stop := host(t, c, client.WorkerConfig{Handler: client.Typed(newer, add)})
	send(t, c, "i", "a")
	await(t, c, "i", "a")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 100)
	stop = host(t, c, client.WorkerConfig{
		Handler: client.Typed(client.Schema[total]{}, add), OnRecovery: client.TypedRecovery(client.Schema[total]{}, complete),
		OnEvent: func(e client.Event) {
			if e.Kind == client.EventRecoveryFailed {
				failed <- e.Err
			}
		},
	})
	send(t, c, "i", "b")
	if err := receive(t, failed); !errors.Is(err, client.ErrStateNewer) {
		t.Errorf("the recovery failed with %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	id := client.InstanceID{Application: "app", Key: "i"}
	i, err := c.Instances().Get(t.Context(), id)
	if err != nil || i.Mode != client.ModeRecovery || !strings.Contains(i.Cause, "STATE_NEWER") {
		t.Errorf("%+v, %v", i, err)
	}
	host(t, c, client.WorkerConfig{Handler: client.Typed(newer, add), OnRecovery: client.TypedRecovery(newer, complete)})
	await(t, c, "i", "b")
	if status, err := c.Get(t.Context(), id, "b"); err != nil || status.Attempts != 0 {
		t.Errorf("%+v, %v", status, err)
	}
	if got := look(t, c, "i"); got != `{"sum":2}` {
		t.Error(got)
	}
}

// The recovery handler waits for several recovery messages; its worker dies between them; another takes the recovery
// up, with the state that the first message left, and completes it.
func TestRealRecoveryIsTakenUpByAnotherWorker(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t)
	c := cluster.Client(t)
	apply(t, c, client.Application{Delivery: client.DeliveryPolicy{Window: 3, BackoffInitial: time.Millisecond}})
	for _, id := range []string{"a", "b", "c"} {
		send(t, c, "i", id)
	}
	cable := sluicetest.NewCable()
	doomed := cluster.Client(t, func(cfg *client.Config) { cfg.WrapTransport = cable.Wrap; cfg.CallTimeout = time.Second })
	id := client.InstanceID{Application: "app", Key: "i"}
	stuck := make(chan struct{})
	host(t, doomed, client.WorkerConfig{
		TTL:     time.Second,
		Handler: func(_ context.Context, d *client.Delivery) error { return client.Recover(errors.New("halfway")) },
		OnRecovery: client.TypedRecovery(client.Schema[total]{}, func(ctx context.Context, r *client.RecoveryTx[total]) error {
			first, err := r.Next(ctx)
			if err != nil {
				return err
			}
			first.State.Sum = 10
			if err := r.Settle(ctx, nil); err != nil {
				return err
			}
			if _, err := r.Next(ctx); err != nil {
				return err
			}
			r.State.Sum = 99 // never settled, so never true
			cable.Cut()
			close(stuck)
			<-ctx.Done()
			return context.Cause(ctx)
		}),
	})
	waitMode(t, c, id, client.ModeRecovery)
	for _, kind := range []string{"recovery.one", "recovery.two"} {
		if _, err := c.Send(t.Context(), client.Message{Application: "app", Instance: "i", ID: kind, Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, stuck)

	type seen struct {
		cause    string
		sum      int
		inDoubt  []string
		messages []string
	}
	saw, handled := make(chan seen, 1), make(chan string, 10)
	host(t, c, client.WorkerConfig{
		Handler: func(_ context.Context, d *client.Delivery) error {
			handled <- d.Message.ID
			d.Reply(d.State(), "")
			return nil
		},
		OnRecovery: client.TypedRecovery(client.Schema[total]{}, func(ctx context.Context, r *client.RecoveryTx[total]) error {
			s := seen{cause: r.Cause, sum: r.State.Sum}
			for _, d := range r.InDoubt {
				s.inDoubt = append(s.inDoubt, fmt.Sprint(d.Lane, " ", d.Message.ID))
			}
			for _, more := range []string{"", "recovery.three"} {
				if more != "" {
					if _, err := c.Send(ctx, client.Message{Application: "app", Instance: "i", ID: more, Type: more}); err != nil {
						return err
					}
				}
				tx, err := r.Next(ctx)
				if err != nil {
					return err
				}
				s.messages = append(s.messages, fmt.Sprint(tx.Message.ID, " ", tx.InDoubt))
				tx.State.Sum++
			}
			if err := r.Settle(ctx, errors.New("not this time")); err != nil {
				return err
			}
			if r.State.Sum != 11 {
				return fmt.Errorf("after a failed message the sum is %d", r.State.Sum)
			}
			r.State.Sum += 100
			r.ProcessedThrough(r.InDoubt[0].Seq)
			saw <- s
			return nil
		}),
		OnRecoveryMessage: client.Typed(client.Schema[total]{}, func(_ context.Context, tx *client.Tx[total]) error {
			tx.State.Sum += 1000
			return nil
		}),
	})
	s := receive(t, saw)
	if !strings.Contains(s.cause, "owner lost") || s.sum != 10 {
		t.Errorf("cause %q, sum %d", s.cause, s.sum)
	}
	if fmt.Sprint(s.inDoubt) != "[normal a normal b normal c recovery recovery.two]" || fmt.Sprint(s.messages) != "[recovery.two true recovery.three false]" {
		t.Errorf("in doubt %q, messages %q", s.inDoubt, s.messages)
	}
	if one, two := receive(t, handled), receive(t, handled); one != "b" || two != "c" {
		t.Errorf("handled %s, %s", one, two)
	}
	if got := look(t, c, "i"); got != "sluice-state 1\n{\"sum\":1111}" {
		t.Errorf("the state is %q", got)
	}
}

// waitMode looks at an instance until it is in a mode.
func waitMode(t *testing.T, c *client.Client, id client.InstanceID, mode client.Mode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		i, err := c.Instances().Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if i.Mode == mode {
			return
		}
	}
}

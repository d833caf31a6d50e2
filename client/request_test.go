package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/client"
	"sluice/client/sluicetest"
)

// question is a request to instance i.
func question(id string) client.Message {
	return client.Message{Application: "app", Instance: "i", ID: id, Type: "t", Data: []byte(id)}
}

func echo(_ context.Context, d *client.Delivery) error {
	if d.Message.ID == "bad" {
		return client.Reject(errors.New("no good"))
	}
	d.Reply(append([]byte("re "), d.Message.Data...), "text/plain")
	return nil
}

// The instance is held: the caller knows at once, someone else attaches, and the reply arrives after the leader went.
func TestRealRequestWhileHeldOverAChangeOfLeader(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t, sluicetest.Nodes(3))
	c := cluster.Client(t)
	apply(t, c, client.Application{})
	id := client.InstanceID{Application: "app", Key: "i"}
	held, err := c.Instances().EnterRecovery(t.Context(), id, client.EnterRecovery{Cause: "stocktaking"})
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, "i", "before")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	type answer struct {
		status client.MessageStatus
		err    error
	}
	deferred, answers := make(chan *client.Pending, 1), make(chan answer, 2)
	go func() {
		status, _, err := c.Ask(ctx, question("q"), func(p *client.Pending) { deferred <- p })
		answers <- answer{status, err}
	}()
	p := receive(t, deferred)
	if !p.Deferred() || p.Receipt.Ahead != 1 || p.Receipt.Mode != client.ModeRecovery || p.MessageID != "q" {
		t.Errorf("%+v", p)
	}
	if status, err := p.Status(ctx); err != nil || status.Status != client.StatusDeferred {
		t.Errorf("%+v, %v", status, err)
	}
	other := cluster.Client(t, func(cfg *client.Config) { cfg.Retry = client.Retry{Attempts: 1, Max: 50 * time.Millisecond} })
	go func() {
		status, err := other.Attach(id, "q").Await(ctx)
		answers <- answer{status, err}
	}()
	impatient, give := context.WithTimeout(ctx, 50*time.Millisecond)
	defer give()
	if _, err := p.Await(impatient); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("awaited for a short time: %v", err)
	}
	leader, err := cluster.Leader()
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Stop(leader); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Instances().CompleteRecovery(ctx, id, client.CompleteRecovery{Epoch: held.Epoch}); err != nil {
		t.Fatal(err)
	}
	host(t, c, client.WorkerConfig{Handler: echo})
	for range 2 {
		if a := receive(t, answers); a.err != nil || string(a.status.Reply) != "re q" || a.status.ReplyContentType != "text/plain" {
			t.Errorf("%+v", a)
		}
	}
	again, err := c.Request(ctx, question("q"))
	if err != nil || !again.Receipt.Duplicate || !again.Deferred() {
		t.Errorf("requested again: %+v, %v", again, err)
	}
}

func TestRealRequestsThatAreNotCompleted(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{})
	id := client.InstanceID{Application: "app", Key: "i"}
	expired := question("old")
	expired.ExpireTime = time.Now().Add(-time.Hour)
	if _, _, err := c.Ask(t.Context(), expired, nil); !errors.Is(err, client.ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	skipped, err := c.Request(t.Context(), question("skipped"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Instances().ResolveMessage(t.Context(), id, client.ResolveMessage{Seq: skipped.Receipt.Seq, Lane: client.LaneNormal, Action: client.ActionSkip, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if _, err := skipped.Await(t.Context()); !errors.Is(err, client.ErrSkipped) {
		t.Errorf("skipped: %v", err)
	}
	host(t, c, client.WorkerConfig{Handler: echo})
	var settled *client.SettledError
	if _, p, err := c.Ask(t.Context(), question("bad"), nil); !errors.Is(err, client.ErrDeadLettered) || !errors.As(err, &settled) || settled.Status.DeadLetter.LastError != "no good" || p.Deferred() {
		t.Errorf("dead-lettered: %v", err)
	}
	if _, err := c.Attach(id, "nobody").Await(t.Context()); !errors.Is(err, client.ErrUnknownMessage) {
		t.Errorf("never sent: %v", err)
	}
	if _, _, err := c.Ask(t.Context(), client.Message{Application: "none", Instance: "i", Type: "t"}, nil); !errors.Is(err, client.ErrUnknownApplication) {
		t.Errorf("refused: %v", err)
	}
}

package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/client"
	"sluice/client/inbox"
	"sluice/client/sluicetest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// work runs a worker until the test ends.
func work(t *testing.T, c *client.Client, cfg client.WorkerConfig) {
	t.Helper()
	cfg.Application, cfg.Logger = "app", quiet
	w, err := c.NewWorker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	running := w.Start()
	t.Cleanup(func() { _ = running.Stop() })
}

// cutOff is a worker that dies, as far as the cluster can see, between the commit of one message and its settlement.
type cutOff struct {
	db     inbox.DB
	cable  *sluicetest.Cable
	after  int64 // commits before the cable is cut
	wake   chan struct{}
	woken  chan string // how the attempts of those that woke ended
	count  atomic.Int64
	handed sync.Map // instances that were in hand when the cable was cut
}

func (c *cutOff) handle(ctx context.Context, d *client.Delivery) error {
	if got := do(ctx, c.db, d); got != "done" {
		return fmt.Errorf("%s %d: %s", d.Instance, d.Seq, got)
	}
	if c.count.Add(1) < c.after {
		return nil
	}
	c.handed.Store(d.Instance.Key, true)
	c.cable.Cut()
	<-c.wake
	next := *d // its next effect, with the epoch that it knows
	next.Seq, next.Message.ID = d.Seq+1, "late"
	c.woken <- do(context.Background(), c.db, &next)
	return nil
}

func TestRealWorkerIsLostBetweenCommitAndSettlement(t *testing.T) {
	everywhere(t, func(t *testing.T, db *sql.DB) {
		const instances, each = 4, 6
		cluster := sluicetest.Start(t)
		c := cluster.Client(t)
		if _, err := c.Applications().Apply(t.Context(), client.Application{Name: "app", Delivery: client.DeliveryPolicy{Window: 3}}); err != nil {
			t.Fatal(err)
		}
		for n := range instances * each {
			if _, err := c.Send(t.Context(), client.Message{Application: "app", Instance: fmt.Sprint("i", n%instances), ID: fmt.Sprint("m", n/instances+1), Type: "t"}); err != nil {
				t.Fatal(err)
			}
		}
		dead := &cutOff{db: db, cable: sluicetest.NewCable(), after: 2 * instances, wake: make(chan struct{}), woken: make(chan string, instances)}
		doomed := cluster.Client(t, func(cfg *client.Config) { cfg.WrapTransport = dead.cable.Wrap; cfg.CallTimeout = time.Second })
		work(t, doomed, client.WorkerConfig{Handler: dead.handle, TTL: time.Second, Grace: time.Second})
		t.Cleanup(dead.cable.Mend)

		waitRecovery(t, c)
		var recoveries, repeats atomic.Int64
		work(t, c, client.WorkerConfig{
			Handler: func(ctx context.Context, d *client.Delivery) error {
				repeated, err := inbox.Do(ctx, db, d, effect(ctx, d))
				if repeated {
					repeats.Add(1)
				}
				return err
			},
			OnRecovery: func(ctx context.Context, r *client.Recovery) error {
				recoveries.Add(1)
				through, err := inbox.Processed(ctx, db, r)
				r.ProcessedThrough(through)
				return err
			},
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for i := range instances {
			if _, err := c.Await(ctx, client.InstanceID{Application: "app", Key: fmt.Sprint("i", i)}, fmt.Sprint("m", each)); err != nil {
				t.Fatal(err)
			}
		}
		close(dead.wake)
		dead.handed.Range(func(any, any) bool {
			if got := <-dead.woken; got != "fenced" {
				t.Errorf("a worker that woke: %s", got)
			}
			return true
		})
		if recoveries.Load() == 0 || repeats.Load() != 0 {
			t.Errorf("%d recoveries, and %d messages were delivered again though they were processed", recoveries.Load(), repeats.Load())
		}
		if n, once := count(t, db, `SELECT count(*) FROM effect`), count(t, db, `SELECT count(*) FROM (SELECT DISTINCT instance, what FROM effect) AS once`); n != instances*each || once != n {
			t.Errorf("%d effects, %d of them different, of %d messages", n, once, instances*each)
		}
		pruneAll(t, c, db, instances, each)
	})
}

// waitRecovery waits until the cluster has given a worker up.
func waitRecovery(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		app, err := c.Applications().Get(ctx, "app")
		if err != nil {
			t.Fatal(err)
		}
		if app.Counts.Recovery > 0 {
			return
		}
	}
}

// pruneAll removes all records, for everything is settled.
func pruneAll(t *testing.T, c *client.Client, db *sql.DB, instances, each int) {
	t.Helper()
	for i := range instances {
		id := client.InstanceID{Application: "app", Key: fmt.Sprint("i", i)}
		spent, err := inbox.Settled(t.Context(), c, id)
		if err != nil || spent.Below != client.Seq(each+1) || len(spent.Except) != 0 {
			t.Errorf("settled: %+v, %v, want all below %d", spent, err, each+1)
		}
		if removed, err := inbox.Prune(t.Context(), db, id, spent, inbox.MaxPrune); err != nil || removed != int64(each) {
			t.Errorf("%d records removed, %v, want %d", removed, err, each)
		}
	}
}

func TestRealSettledStopsAtWhatIsUnsettled(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	if _, err := c.Applications().Apply(t.Context(), client.Application{Name: "app"}); err != nil {
		t.Fatal(err)
	}
	id := client.InstanceID{Application: "app", Key: "i"}
	if _, err := c.Instances().EnterRecovery(t.Context(), id, client.EnterRecovery{Cause: "test"}); err != nil {
		t.Fatal(err)
	}
	for i, kind := range []string{"recovery.a", "b", "c"} {
		if spent, err := inbox.Settled(t.Context(), c, id); err != nil || i == 0 && spent.Below != 1 || i > 0 && spent.Below > 2 {
			t.Errorf("before message %d: settled %+v, %v", i+1, spent, err)
		}
		if _, err := c.Send(t.Context(), client.Message{Application: "app", Instance: "i", Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range []client.ResolveMessage{{Seq: 2, Lane: client.LaneNormal}, {Seq: 1, Lane: client.LaneRecovery}} {
		m.Action = client.ActionSkip
		if _, err := c.Instances().ResolveMessage(t.Context(), id, m); err != nil {
			t.Fatal(err)
		}
		if spent, err := inbox.Settled(t.Context(), c, id); err != nil || spent.Below != []client.Seq{1, 3}[i] {
			t.Errorf("after skipping %d: settled %+v, %v", m.Seq, spent, err)
		}
	}
}

// A handler fails after its effects were committed, until its message is dead-lettered. The record must outlast the
// pruning, for the message can be put back.
func TestRealDeadLetterThatIsPutBackTookEffectOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, db *sql.DB) {
		c := sluicetest.Start(t).Client(t)
		app := client.Application{Name: "app", Delivery: client.DeliveryPolicy{MaxAttempts: 1, OnMaxAttempts: client.PolicyDeadLetter}}
		if _, err := c.Applications().Apply(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		var mended atomic.Bool
		work(t, c, client.WorkerConfig{Handler: func(ctx context.Context, d *client.Delivery) error {
			if _, err := inbox.Do(ctx, db, d, effect(ctx, d)); err != nil {
				return err
			}
			if d.Message.ID == "m2" && !mended.Load() {
				return errors.New("no reply can be made of it")
			}
			return nil
		}})
		id := client.InstanceID{Application: "app", Key: "i"}
		for _, message := range []string{"m1", "m2", "m3"} {
			if _, err := c.Send(t.Context(), client.Message{Application: "app", Instance: "i", ID: message, Type: "t"}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Await(t.Context(), id, "m3"); err != nil {
			t.Fatal(err)
		}
		spent, err := inbox.Settled(t.Context(), c, id)
		if err != nil || spent.Below != 4 || !slices.Equal(spent.Except, []client.Seq{2}) {
			t.Errorf("settled: %+v, %v", spent, err)
		}
		if removed, err := inbox.Prune(t.Context(), db, id, spent, inbox.MaxPrune); err != nil || removed != 2 {
			t.Errorf("%d removed, %v", removed, err)
		}
		mended.Store(true)
		if back, err := c.Instances().PutBack(t.Context(), id, client.PutBack{Seqs: []client.Seq{2}}); err != nil || back.Results[0].Err != nil {
			t.Fatalf("%+v, %v", back, err)
		}
		for status, err := c.Await(t.Context(), id, "m2"); err != nil; status, err = c.Await(t.Context(), id, "m2") {
			if !errors.Is(err, client.ErrDeadLettered) || t.Context().Err() != nil { // it waits to be put back
				t.Fatalf("%+v, %v", status, err)
			}
		}
		if n := count(t, db, `SELECT count(*) FROM effect`); n != 3 {
			t.Errorf("%d effects of 3 messages", n)
		}
		if spent, err := inbox.Settled(t.Context(), c, id); err != nil || spent.Below != 4 || len(spent.Except) != 0 {
			t.Errorf("settled: %+v, %v", spent, err)
		}
	})
}

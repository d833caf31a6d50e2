package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
	"sluice/client/sluicetest"
)

// quiet is for workers whose log is of no interest.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// host runs a worker until the test ends, or until the function that it returns is called, which tells how it ended.
func host(t *testing.T, c *client.Client, cfg client.WorkerConfig) (stop func() error) {
	t.Helper()
	cfg.Application, cfg.Logger = "app", quiet
	w, err := c.NewWorker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = w.Start().Stop
	t.Cleanup(func() { _ = stop() })
	return stop
}

func apply(t *testing.T, c *client.Client, app client.Application) {
	t.Helper()
	app.Name = "app"
	if _, err := c.Applications().Apply(t.Context(), app); err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, c *client.Client, instance, id string) client.Receipt {
	t.Helper()
	r, err := c.Send(t.Context(), client.Message{Application: "app", Instance: instance, ID: id, Type: "t", Data: []byte(id)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(time.Minute):
		t.Fatal("waited too long")
		panic("unreachable")
	}
}

// await waits until a message is completed.
func await(t *testing.T, c *client.Client, instance, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if status, err := c.Await(ctx, client.InstanceID{Application: "app", Key: instance}, id); err != nil {
		t.Fatalf("%s %s: %v, %v", instance, id, status, err)
	}
}

func TestRealDuplicatesAndRefusals(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{})
	first, again := send(t, c, "i", "m"), send(t, c, "i", "m")
	if first.Duplicate || !again.Duplicate || again.Seq != first.Seq {
		t.Errorf("first %+v, again %+v", first, again)
	}
	for want, m := range map[client.Reason]client.Message{
		client.ErrIDReused:           {Application: "app", Instance: "i", ID: "m", Type: "other"},
		client.ErrNotSuitable:        {Application: "app", Instance: "i", Type: "recovery.x"},
		client.ErrUnknownApplication: {Application: "none", Instance: "i", Type: "t"},
		client.ErrBadName:            {Application: "A", Instance: "i", Type: "t"},
	} {
		if _, err := c.Send(t.Context(), m); !errors.Is(err, want) {
			t.Errorf("want %v, got %v", want, err)
		}
	}
	id := client.InstanceID{Application: "app", Key: "i"}
	once := client.EnterRecovery{Cause: "test", RequestID: "r"}
	one, err := c.Instances().EnterRecovery(t.Context(), id, once)
	two, err2 := c.Instances().EnterRecovery(t.Context(), id, once)
	if err != nil || err2 != nil || one.Epoch != two.Epoch || !two.Duplicate {
		t.Errorf("%+v, %v; %+v, %v", one, err, two, err2)
	}
	history, err := c.Instances().History(t.Context(), id)
	if err != nil || len(history) == 0 || history[len(history)-1].To != client.ModeRecovery {
		t.Errorf("history %+v, %v", history, err)
	}
	var listed []client.ListedMessage
	for m, err := range c.Instances().ListMessages(t.Context(), id, client.ListMessages{}) {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, m)
	}
	if len(listed) != 1 || listed[0].Message.ID != "m" {
		t.Errorf("listed %+v", listed)
	}
}

func TestRealFencing(t *testing.T) {
	t.Parallel()
	for _, usePoll := range []bool{false, true} {
		t.Run(fmt.Sprint("poll ", usePoll), func(t *testing.T) {
			t.Parallel()
			c := sluicetest.Start(t).Client(t)
			apply(t, c, client.Application{})
			send(t, c, "i", "a")
			send(t, c, "i", "b")
			begun, causes, handled := make(chan struct{}, 1), make(chan error, 1), make(chan string, 10)
			var once sync.Once
			host(t, c, client.WorkerConfig{
				UsePoll: usePoll,
				Handler: func(ctx context.Context, d *client.Delivery) error {
					once.Do(func() {
						begun <- struct{}{}
						<-ctx.Done()
						causes <- context.Cause(ctx)
					})
					handled <- d.Message.ID
					return nil
				},
				OnRecovery: func(_ context.Context, r *client.Recovery) error {
					r.ProcessedThrough(r.InDoubt[0].Seq)
					return nil
				},
			})
			receive(t, begun)
			if _, err := c.Instances().EnterRecovery(t.Context(), client.InstanceID{Application: "app", Key: "i"}, client.EnterRecovery{Cause: "test"}); err != nil {
				t.Fatal(err)
			}
			if err := receive(t, causes); !errors.Is(err, client.ErrFenced) {
				t.Errorf("want FENCED, got %v", err)
			}
			await(t, c, "i", "b")
			if first, second := receive(t, handled), receive(t, handled); first != "a" || second != "b" {
				t.Errorf("handled %s, %s", first, second)
			}
		})
	}
}

func TestRealStopHandsBackWithoutRecovery(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{Delivery: client.DeliveryPolicy{Window: 5}})
	for n := range 20 {
		send(t, c, "i", fmt.Sprint(n))
	}
	var mu sync.Mutex
	var order []string
	half := make(chan struct{})
	handler := func(_ context.Context, d *client.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		if order = append(order, d.Message.ID); len(order) == 10 {
			close(half)
		}
		return nil
	}
	stop := host(t, c, client.WorkerConfig{Handler: handler})
	receive(t, half)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	host(t, c, client.WorkerConfig{Handler: handler})
	await(t, c, "i", "19")
	mu.Lock()
	defer mu.Unlock()
	for n, id := range order {
		if id != fmt.Sprint(n) {
			t.Fatalf("number %d was %s: %v", n, id, order)
		}
	}
	i, err := c.Instances().Get(t.Context(), client.InstanceID{Application: "app", Key: "i"})
	history, err2 := c.Instances().History(t.Context(), i.ID)
	if err != nil || err2 != nil || i.Mode != client.ModeNormal || slices.ContainsFunc(history, func(t client.Transition) bool { return t.To == client.ModeRecovery }) {
		t.Errorf("%+v, %v; %+v, %v", i, err, history, err2)
	}
}

func TestRealWorkerThatFellSilentIsFencedAndComesBack(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t)
	c := cluster.Client(t)
	apply(t, c, client.Application{})
	send(t, c, "i", "a")
	cable := sluicetest.NewCable()
	cut := cluster.Client(t, func(cfg *client.Config) { cfg.WrapTransport = cable.Wrap; cfg.CallTimeout = time.Second })
	begun, causes, sessions := make(chan struct{}, 1), make(chan error, 1), make(chan string, 10)
	recovered := make(chan *client.Recovery, 10)
	var once sync.Once
	host(t, cut, client.WorkerConfig{
		TTL: time.Second,
		Handler: func(ctx context.Context, d *client.Delivery) error {
			once.Do(func() {
				begun <- struct{}{}
				<-ctx.Done()
				causes <- context.Cause(ctx)
			})
			return nil
		},
		OnRecovery: func(_ context.Context, r *client.Recovery) error { recovered <- r; return nil },
		OnEvent: func(e client.Event) {
			if e.Kind == client.EventSessionOpened {
				sessions <- e.Session
			}
		},
	})
	receive(t, begun)
	first := receive(t, sessions)
	cable.Cut()
	if err := receive(t, causes); !errors.Is(err, client.ErrLeaseLost) {
		t.Errorf("want LEASE_LOST, got %v", err)
	}
	for { // until the cluster, too, has given the worker up
		i, err := c.Instances().Get(t.Context(), client.InstanceID{Application: "app", Key: "i"})
		if err != nil {
			t.Fatal(err)
		}
		if i.Mode == client.ModeRecovery {
			break
		}
	}
	cable.Mend()
	if again := receive(t, sessions); again == first {
		t.Errorf("the expired session %s was opened again", again)
	}
	if r := receive(t, recovered); len(r.InDoubt) != 1 {
		t.Errorf("in doubt: %+v", r.InDoubt)
	}
	await(t, c, "i", "a")
}

func TestRealLeaderGoesInTheMiddle(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t, sluicetest.Nodes(3))
	c := cluster.Client(t)
	apply(t, c, client.Application{Delivery: client.DeliveryPolicy{Window: 4}})
	var mu sync.Mutex
	order, count, underWay := map[string][]string{}, 0, make(chan struct{})
	for _, usePoll := range []bool{false, true} {
		host(t, c, client.WorkerConfig{UsePoll: usePoll, TTL: 10 * time.Second, Handler: func(_ context.Context, d *client.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			order[d.Instance.Key] = append(order[d.Instance.Key], d.Message.ID)
			if count++; count == 60 {
				close(underWay)
			}
			return nil
		}})
	}
	sender, err := c.NewSender(client.SenderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	const instances, each = 12, 40
	var sending sync.WaitGroup
	for i := range instances {
		sending.Go(func() {
			for n := range each {
				m := client.Message{Application: "app", Instance: fmt.Sprint("i", i), ID: fmt.Sprint(n), Type: "t"}
				if _, err := sender.Send(t.Context(), m); err != nil {
					t.Errorf("%s: %v", m.Instance, err)
				}
			}
		})
	}
	receive(t, underWay)
	leader, err := cluster.Leader()
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Stop(leader); err != nil {
		t.Fatal(err)
	}
	sending.Wait()
	if err := cluster.Restart(leader); err != nil {
		t.Fatal(err)
	}
	for i := range instances {
		await(t, c, fmt.Sprint("i", i), fmt.Sprint(each-1))
	}
	mu.Lock()
	defer mu.Unlock()
	for key, ids := range order {
		for n, id := range ids {
			if id != fmt.Sprint(n) || len(ids) != each {
				t.Fatalf("%s: number %d of %d was %s: %v", key, n, len(ids), id, ids)
			}
		}
	}
}

// asked counts what a client asks, by something of its requests.
type asked struct {
	next http.RoundTripper
	key  func(*http.Request) string
	mu   sync.Mutex
	by   map[string]int
}

// askedBy gives a client of a cluster, and what counts its requests.
func askedBy(t *testing.T, cluster *sluicetest.Cluster, key func(*http.Request) string) (*client.Client, *asked) {
	t.Helper()
	a := &asked{key: key, by: map[string]int{}}
	return cluster.Client(t, func(cfg *client.Config) {
		cfg.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
			a.next = next
			return a
		}
	}), a
}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.by[a.key(r)]++
	a.mu.Unlock()
	return a.next.RoundTrip(r)
}

// TestRealCallsGoToTheLeader also when another node leads, and to the others when the leader is gone.
func TestRealCallsGoToTheLeader(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t, sluicetest.Nodes(3))
	c, asked := askedBy(t, cluster, func(r *http.Request) string { return r.URL.Host })
	apply(t, c, client.Application{})
	sent := 0
	sendTen := func() map[string]int {
		asked.mu.Lock()
		clear(asked.by)
		asked.mu.Unlock()
		for range 10 {
			sent++
			send(t, c, "i", fmt.Sprint("m", sent))
		}
		asked.mu.Lock()
		defer asked.mu.Unlock()
		return maps.Clone(asked.by)
	}
	var leader int
	onlyLeader := func() bool {
		by := sendTen()
		var err error
		if leader, err = cluster.Leader(); err != nil {
			t.Fatal(err)
		}
		return len(by) == 1 && by[cluster.Addrs()[leader]] > 0
	}
	for _, goes := range []bool{true, false} {
		found := false
		for tries := 0; !found && tries < 20; tries++ { // first it is told who leads; on a busy machine another node may soon
			found = onlyLeader()
		}
		if !found {
			t.Fatal("ten calls never went to the leader alone")
		}
		if !goes {
			return
		}
		if err := cluster.Stop(leader); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRealGatheredSendsGoOverStreams also past the end of the leader that they stood at: each message is there once, those
// of an instance in order.
func TestRealGatheredSendsGoOverStreams(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t, sluicetest.Nodes(3))
	c, asked := askedBy(t, cluster, func(r *http.Request) string { return r.URL.Path })
	apply(t, c, client.Application{})
	const instances, each = 16, 40
	half := make(chan struct{})
	var sent atomic.Int32
	var sending sync.WaitGroup
	for i := range instances {
		sending.Go(func() {
			for n := range each {
				m := client.Message{Application: "app", Instance: fmt.Sprint("i", i), ID: fmt.Sprint(n), Type: "t"}
				if r, err := c.Send(t.Context(), m); err != nil || r.MessageID != m.ID {
					t.Errorf("%s %s: got %+v, %v", m.Instance, m.ID, r, err)
				}
				if sent.Add(1) == instances*each/2 {
					close(half)
				}
			}
		})
	}
	receive(t, half)
	leader, err := cluster.Leader()
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Stop(leader); err != nil {
		t.Fatal(err)
	}
	sending.Wait()
	for i := range instances {
		n := 0
		for m, err := range c.Instances().ListMessages(t.Context(), client.InstanceID{Application: "app", Key: fmt.Sprint("i", i)}, client.ListMessages{}) {
			if err != nil || m.Message.ID != fmt.Sprint(n) {
				t.Fatalf("i%d: number %d is %q, %v", i, n, m.Message.ID, err)
			}
			n++
		}
		if n != each {
			t.Errorf("i%d has %d messages, want %d", i, n, each)
		}
	}
	asked.mu.Lock()
	defer asked.mu.Unlock()
	streams, calls := asked.by[sluicev1connect.MessageServiceIngestProcedure], asked.by[sluicev1connect.MessageServiceSendProcedure]
	if streams == 0 || calls > instances*each/4 {
		t.Errorf("%d messages took %d streams and %d calls", instances*each, streams, calls)
	}
}

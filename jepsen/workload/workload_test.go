package workload

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/client"
	"sluice/client/sluicetest"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// room is a world within the process, in which nothing is hurt.
type room struct {
	t       *testing.T
	cluster *sluicetest.Cluster
	out     bytes.Buffer
	log     *history.Log
	began   time.Time
	stop    context.CancelFunc
	working context.Context
	workers sync.WaitGroup
}

func newRoom(t *testing.T) *room {
	r := &room{t: t, cluster: sluicetest.Start(t), began: time.Now()}
	r.log = history.NewLog(&r.out, r.Now)
	r.working, r.stop = context.WithCancel(context.Background())
	return r
}

func (r *room) Name() string                  { return "room" }
func (r *room) Nodes() []string               { return []string{"n1"} }
func (r *room) Leader(context.Context) string { return "n1" }
func (r *room) Has(kind world.Kind) error     { return &world.Missing{Kind: kind, Why: "nothing is hurt"} }
func (r *room) History() *history.Log         { return r.log }
func (r *room) Close() error                  { return nil }
func (r *room) Now() time.Duration            { return time.Since(r.began) }

func (r *room) Inject(_ context.Context, f world.Fault) (world.Heal, error) {
	return func(context.Context) error { return nil }, r.Has(f.Kind)
}

func (r *room) Client(context.Context, string) (*client.Client, error) {
	return client.New(client.Config{Addresses: r.cluster.Addrs(), Logger: slog.New(slog.DiscardHandler)})
}

func (r *room) StartWorker(ctx context.Context, w world.Worker) error {
	c, err := r.Client(ctx, w.Name)
	if err != nil {
		return err
	}
	r.workers.Go(func() {
		defer c.Close()
		if err := Work(r.working, c, w, r.log); err != nil {
			r.t.Error(err)
		}
	})
	return nil
}

func (r *room) StopWorkers(context.Context) error {
	r.stop()
	r.workers.Wait()
	return nil
}

func (r *room) Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// eventLog has two cases, of three events and of one.
const eventLog = `<log xes.version="1.0">
<trace><string key="concept:name" value="a"/>
<event><string key="concept:name" value="registered"/></event><event><string key="concept:name" value="checked"/></event><event/></trace>
<trace><string key="concept:name" value="b"/><event><string key="concept:name" value="registered"/></event></trace></log>`

// TestTheWorkloadRunsAndComesToRest has everybody at work for two seconds on a cluster that is not hurt.
func TestTheWorkloadRunsAndComesToRest(t *testing.T) {
	t.Parallel()
	r, load := newRoom(t), Load{Instances: 3, Senders: 3, Pause: 5 * time.Millisecond, Seed: 1}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(Declare(ctx, r))
	outside := t.TempDir()
	for _, a := range Applications() {
		must(r.StartWorker(ctx, world.Worker{Name: a.Name + "-worker", Application: a.Name, TTL: 3 * time.Second, Capacity: 8, Seed: 1, Outside: outside}))
	}
	busy, done := context.WithTimeout(ctx, 2*time.Second)
	defer done()
	var all sync.WaitGroup
	start := func(f func() error) {
		all.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	for _, name := range []string{"sender-1", "sender-2", "sender-3"} {
		start(func() error { return Send(busy, r, name, load) })
	}
	start(func() error { return Operate(busy, r, "operator-1", load) })
	start(func() error { return Replay(busy, r, "replay", strings.NewReader(eventLog), load) })
	all.Wait()
	_, err := Probe(ctx, r)
	must(err)
	left, err := Drain(ctx, r)
	if err != nil || len(left) > 0 {
		t.Fatalf("what is left: %v, %v", left, err)
	}
	must(errors.Join(r.StopWorkers(ctx), r.log.Err()))
	h, err := history.Read(&r.out)
	must(err)
	judge(t, h, outside)
}

// judge looks at what the history of a good run holds.
func judge(t *testing.T, h *history.History, outside string) {
	t.Helper()
	asked := map[history.What]int{}
	for _, o := range h.Operations {
		if o.Result == history.OK {
			asked[o.What]++
		}
	}
	replayed := map[string]bool{}
	for _, o := range h.Operations {
		if o.Client == "replay" && o.Result == history.OK {
			replayed[o.Args.MessageID] = true
		}
	}
	if len(replayed) != 4 || !replayed["replay-a-3"] || !replayed["replay-b-1"] {
		t.Errorf("of the event log came %v", replayed)
	}
	deeds := map[history.Deed]int{}
	for _, e := range h.Worker {
		deeds[e.Value.Deed]++
	}
	for _, what := range []history.What{history.Apply, history.Send, history.GetInstance, history.EnterRecovery} {
		if asked[what] == 0 {
			t.Errorf("nobody asked for %s: %v", what, asked)
		}
	}
	for _, deed := range []history.Deed{history.Deliver, history.Effect, history.Settled, history.Failed, history.Recover, history.Recovered, history.SessionClosed} {
		if deeds[deed] == 0 {
			t.Errorf("no worker noted %s: %v", deed, deeds)
		}
	}
	effects, err := Effects(outside)
	if err != nil {
		t.Fatal(err)
	}
	returned := map[string]bool{} // a message that was taken from its handler and put back may leave its effect again
	for _, o := range h.Operations {
		returned[o.Args.Application+"/"+o.Args.Instance] = returned[o.Args.Application+"/"+o.Args.Instance] || o.What == history.PutBack
	}
	for effect, count := range effects {
		instance, _, _ := strings.Cut(effect, " ")
		if count != 1 && !returned[instance] && strings.HasPrefix(instance, "accounts/") { // feeds are delivered again
			t.Errorf("the effect of %s was left %d times, and nothing was hurt", effect, count)
		}
	}
	if len(effects) == 0 || len(effects) > deeds[history.Settled]+deeds[history.Refused]+deeds[history.Fenced] {
		t.Errorf("%d effects, %d settlements", len(effects), deeds[history.Settled])
	}
}

package nemesis

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/client"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// paper is a world that does nothing, and writes down what is asked of it. Its time goes on by what is waited for.
type paper struct {
	out bytes.Buffer
	log *history.Log
	// The run ends after so many injected faults, once each of the kinds has come: no real time passes, and the lanes
	// do not wait for each other.
	until int
	kinds []world.Kind
	end   context.CancelFunc

	mu sync.Mutex // guards all below
	// now is its time; open are faults in force, and injected all there were.
	now      time.Duration
	open     int
	injected []world.Fault
}

func newPaper(until int, kinds ...world.Kind) (*paper, context.Context) {
	p := &paper{until: until, kinds: kinds}
	p.log = history.NewLog(&p.out, p.Now)
	ctx, cancel := context.WithCancel(context.Background())
	p.end = cancel
	return p, ctx
}

func (p *paper) Name() string                  { return "paper" }
func (p *paper) Nodes() []string               { return []string{"n1", "n2", "n3", "n4", "n5"} }
func (p *paper) Leader(context.Context) string { return "n2" }
func (p *paper) History() *history.Log         { return p.log }
func (p *paper) Close() error                  { return nil }

func (p *paper) Has(kind world.Kind) error {
	if kind == world.ClockSkew {
		return &world.Missing{Kind: kind, Why: "paper has no clock"}
	}
	return nil
}

func (p *paper) Inject(_ context.Context, f world.Fault) (world.Heal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.injected = append(p.injected, f)
	missing := slices.ContainsFunc(p.kinds, func(kind world.Kind) bool { return !p.came(kind) })
	if len(p.injected) >= p.until && !missing {
		p.end()
	}
	if f.Kind == world.Restart {
		return func(context.Context) error { return nil }, errors.New("paper does not restart")
	}
	p.open++
	return func(context.Context) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open--
		return nil
	}, nil
}

func (p *paper) came(kind world.Kind) bool {
	return slices.ContainsFunc(p.injected, func(f world.Fault) bool { return f.Kind == kind })
}

func (p *paper) Client(context.Context, string) (*client.Client, error) {
	return nil, errors.ErrUnsupported
}
func (p *paper) StartWorker(context.Context, world.Worker) error { return errors.ErrUnsupported }
func (p *paper) StopWorkers(context.Context) error               { return nil }

func (p *paper) Now() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *paper) Wait(ctx context.Context, d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now += d
	return ctx.Err()
}

func TestEveryKindComesHealsAndIsCounted(t *testing.T) {
	t.Parallel()
	p, ctx := newPaper(200, slices.DeleteFunc(world.Kinds(), func(kind world.Kind) bool { return kind == world.ClockSkew })...)
	if err := Run(ctx, p, Config{Seed: 1, Workers: []string{"w1", "w2"}}); err != nil {
		t.Fatal(err)
	}
	if p.open != 0 {
		t.Errorf("%d faults were not healed", p.open)
	}
	for _, kind := range world.Kinds() {
		if came := p.came(kind); came != (kind != world.ClockSkew) {
			t.Errorf("%s came: %v", kind, came)
		}
	}
	h, err := history.Read(&p.out)
	if err != nil {
		t.Fatal(err)
	}
	stages := map[string]int{}
	for _, f := range h.Faults {
		stages[f.Value.Stage]++
	}
	if stages[history.Skipped] != 1 || stages[history.Failing] == 0 || stages[history.Injected] != stages[history.Healed] || stages[history.Injected]+stages[history.Failing] != stages[history.Injecting] {
		t.Errorf("the history tells of %v", stages)
	}
}

func TestWithoutWorkersTheirFaultsAreSkipped(t *testing.T) {
	t.Parallel()
	p, ctx := newPaper(3)
	if err := Run(ctx, p, Config{Kinds: []world.Kind{world.WorkerKill, world.Kill}}); err != nil {
		t.Fatal(err)
	}
	if p.came(world.WorkerKill) {
		t.Error("a worker was hit, and there are none")
	}
}

func TestASeedMakesTheSameFaults(t *testing.T) {
	t.Parallel()
	faults := func() (all []world.Fault) {
		c := &chooser{random: rand.New(rand.NewPCG(7, 0)), nodes: []string{"n1", "n2", "n3"}, workers: []string{"w"}}
		for _, kind := range world.Kinds() {
			all = append(all, c.fault(kind, "n1"))
		}
		return all
	}
	if a, b := faults(), faults(); !slices.EqualFunc(a, b, func(a, b world.Fault) bool { return a.String() == b.String() && a.Seed == b.Seed }) {
		t.Errorf("%v\n%v", a, b)
	}
}

// hears tells who hears whom after the cuts of a shape.
func hears(nodes []string, cuts []world.Cut) (counts []int) {
	for _, one := range nodes {
		count := 0
		for _, other := range nodes {
			if other != one && !slices.Contains(cuts, world.Cut{From: other, To: one}) {
				count++
			}
		}
		counts = append(counts, count)
	}
	slices.Sort(counts)
	return counts
}

func TestShapesOfPartitions(t *testing.T) {
	t.Parallel()
	c := &chooser{random: rand.New(rand.NewPCG(3, 3)), nodes: []string{"n1", "n2", "n3", "n4", "n5"}}
	for shape, want := range map[string][]int{
		"leader alone": {0, 3, 3, 3, 3}, "majority": {1, 1, 2, 2, 2}, "bridge": {2, 2, 2, 2, 4}, "ring": {2, 2, 2, 2, 2}, "one-way": {3, 3, 3, 3, 4},
	} {
		if got := hears(c.nodes, c.cuts(shape, "n4")); !slices.Equal(got, want) {
			t.Errorf("%s: each hears so many others: %v, want %v", shape, got, want)
		}
	}
}

func TestAShapeThatIsAskedForHolds(t *testing.T) {
	t.Parallel()
	c := &chooser{random: rand.New(rand.NewPCG(3, 3)), nodes: []string{"n1", "n2", "n3"}, shape: "all"}
	for range 20 {
		if f := c.fault(world.PowerLoss, "n1"); len(f.Nodes) != 3 {
			t.Fatalf("%v", f)
		}
		if f := c.fault(world.DiskHang, "n1"); len(f.Nodes) != 1 {
			t.Fatalf("the disks of all were made to hang: %v", f)
		}
	}
}

func TestAFollowerThatIsLeftBehindIsWholeIfOneIs(t *testing.T) {
	t.Parallel()
	c := &chooser{random: rand.New(rand.NewPCG(3, 3)), nodes: []string{"n1", "n2", "n3"}, whole: func(node string) bool { return node != "n2" }}
	for range 20 {
		if f := c.fault(world.Lag, "n1"); !slices.Equal(f.Nodes, []string{"n3"}) {
			t.Fatalf("%v", f)
		}
	}
}

func TestASteadyKindComesBesideAllOthers(t *testing.T) {
	t.Parallel()
	p, ctx := newPaper(60, world.Lag, world.Kill, world.Loss)
	var asked atomic.Int64 // by several lanes
	prefer := func(kinds []world.Kind) (world.Kind, bool) {
		asked.Add(1)
		return world.Loss, slices.Contains(kinds, world.Loss)
	}
	if err := Run(ctx, p, Config{Seed: 1, Kinds: []world.Kind{world.Loss, world.Delay, world.Kill}, Steady: []world.Kind{world.Lag}, Prefer: prefer, Await: true}); err != nil {
		t.Fatal(err)
	}
	counts := map[world.Kind]int{}
	for _, f := range p.injected {
		counts[f.Kind]++
	}
	if counts[world.Delay] > 1 || counts[world.Lag] == 0 || counts[world.Loss] < counts[world.Delay] || asked.Load() == 0 {
		t.Errorf("%v, and %d times a kind was asked for", counts, asked.Load())
	}
}

// TestAFaultWaitsForTheMomentItIsToMeet: a steady fault must have been in force for a while, and then it does not wait.
func TestAFaultWaitsForTheMomentItIsToMeet(t *testing.T) {
	t.Parallel()
	p, ctx := newPaper(1000)
	n := &nemesis{Config: Config{Steady: []world.Kind{world.Lag}, Beside: func(kind world.Kind) (world.Kind, bool) { return world.Lag, kind == world.Kill }}, w: p, since: map[world.Kind]time.Duration{}}
	took := func(kind world.Kind) time.Duration {
		began := p.Now()
		if !n.meet(ctx, kind) {
			t.Fatal("it was broken off")
		}
		return p.Now() - began
	}
	if d := took(world.Loss); d != 0 {
		t.Errorf("one that is to meet nothing waited %v", d)
	}
	if d := took(world.Kill); d != ripeWithin {
		t.Errorf("with nothing to meet it waited %v", d)
	}
	n.setInForce(world.Lag, true)
	if d := took(world.Kill); d != ripeAfter {
		t.Errorf("for the moment it waited %v", d)
	}
	if d := took(world.Kill); d != 0 {
		t.Errorf("at the moment it waited %v", d)
	}
	n.setInForce(world.Lag, false)
	if d := took(world.Kill); d != ripeWithin {
		t.Errorf("after the moment it waited %v", d)
	}
}

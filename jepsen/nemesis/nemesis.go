package nemesis

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// Config says how a world is hurt.
type Config struct {
	// Seed of whatever is left to chance.
	Seed uint64
	// Kinds of faults; those that the world cannot do are skipped. Default all.
	Kinds []world.Kind
	// Steady are kinds that come again and again all the time, beside all others, each for itself: what they bring about
	// is under way then whatever else is hurt. Those that the world cannot do are skipped.
	Steady []world.Kind
	// Prefer, if set, is asked which of some kinds is to come next, once each has come; false: chance decides. It
	// and Beside are called by several goroutines.
	Prefer func(kinds []world.Kind) (kind world.Kind, ok bool)
	// Beside, if set, is asked for each kind, once each has come, which steady kind it is to meet: the fault then waits
	// until one of that kind has been in force for 3 seconds, but for 10 seconds at most; false: it waits for none.
	Beside func(kind world.Kind) (steady world.Kind, ok bool)
	// Await has each gap begin when there is a leader, but after 10 seconds at most.
	Await bool
	// Workers are the names of those that may be hit.
	Workers []string
	// Shape, if set, is whom every fault hits that may hit it: leader, one, quorum or all.
	Shape string
	// Gap is how long the world is left alone between two faults of a lane; default 1 to 4 seconds by chance.
	Gap time.Duration
	// Tell is told of every fault; default: nobody is.
	Tell func(format string, args ...any)
}

// gentle are the kinds that may be in force while a node is stopped or its disk is hurt: they have a lane of their own.
var gentle = []world.Kind{
	world.Partition, world.Loss, world.Delay, world.GossipCut, world.RaftCut, world.Lag, world.Bandwidth, world.FrameCut, world.Garbage,
	world.SlowLoris, world.WorkerCut, world.Transfer, world.ClockSkew, world.WorkerKill, world.WorkerPause,
}

const (
	// injectWithin and healWithin bound one step, so that a world that hangs is told of.
	injectWithin = 3 * time.Minute
	healWithin   = 3 * time.Minute
	// leaderWithin is how long a fault waits for a leader, and leaderLook how often it looks.
	leaderWithin = 10 * time.Second
	leaderLook   = 100 * time.Millisecond
	// ripeAfter is how long a steady fault is in force until what it brings about is near: an owner's lease has run out,
	// and a node that was left behind soon hears again.
	ripeAfter  = 3 * time.Second
	ripeWithin = 10 * time.Second
)

// The lanes by their numbers, on which their chance hangs; each steady kind has one of its own, from steadyLanes on.
const (
	gentleLane = iota
	roughLane
	steadyLanes
)

// nemesis is at work in one world.
type nemesis struct {
	Config
	w world.World

	mu sync.Mutex // guards all below
	// number is that of the last fault.
	number int
	// hurt counts the faults in force at each node.
	hurt map[string]int
	// since tells when the last fault of a kind began that is in force.
	since map[world.Kind]time.Duration
	// healing is the trouble with heals: the world is no longer what the plan takes it for.
	healing error
}

// Run hurts the world until ctx ends; then it heals what is hurt, and returns. Its error tells of faults that could not
// be healed; those that could not be injected are in the history, and told.
func Run(ctx context.Context, w world.World, cfg Config) error {
	if cfg.Kinds == nil {
		cfg.Kinds = world.Kinds()
	}
	if cfg.Tell == nil {
		cfg.Tell = func(string, ...any) {}
	}
	n := &nemesis{Config: cfg, w: w, hurt: map[string]int{}, since: map[world.Kind]time.Duration{}}
	lanes := n.lanes()
	var all sync.WaitGroup
	for number, kinds := range lanes {
		if len(kinds) > 0 {
			all.Go(func() { n.lane(ctx, kinds, number) })
		}
	}
	all.Wait()
	return n.healing
}

// lanes are kinds of which one is in force at a time: the gentle ones, the others, and each steady one by itself.
func (n *nemesis) lanes() [][]world.Kind {
	lanes := make([][]world.Kind, steadyLanes, steadyLanes+len(n.Steady))
	for _, kind := range n.Kinds {
		if !n.can(kind) {
			continue
		}
		number := roughLane
		if slices.Contains(gentle, kind) {
			number = gentleLane
		}
		lanes[number] = append(lanes[number], kind)
	}
	for _, kind := range n.Steady {
		if n.can(kind) {
			lanes = append(lanes, []world.Kind{kind})
		}
	}
	return lanes
}

// can tells whether a kind can be done; if not it is skipped.
func (n *nemesis) can(kind world.Kind) bool {
	switch err := n.w.Has(kind); {
	case err != nil:
		n.skip(kind, err)
		return false
	case (kind == world.WorkerKill || kind == world.WorkerPause || kind == world.WorkerCut) && len(n.Workers) == 0:
		n.skip(kind, errors.New("there are no workers"))
		return false
	}
	return true
}

func (n *nemesis) next() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.number++
	return n.number
}

func (n *nemesis) skip(kind world.Kind, why error) {
	n.Tell("SKIPPED %s: %v", kind, why)
	n.w.History().Fault(history.FaultEvent{Number: n.next(), Kind: string(kind), Text: string(kind), Stage: history.Skipped, Error: why.Error()})
}

// lane has one fault at a time: each kind once, then by chance. Steady kinds leave half of the gap.
func (n *nemesis) lane(ctx context.Context, kinds []world.Kind, lane int) {
	c := &chooser{random: rand.New(rand.NewPCG(n.Seed, uint64(lane))), nodes: n.w.Nodes(), workers: n.Workers, shape: n.Shape, whole: n.whole}
	plan := slices.Clone(kinds)
	c.random.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	for {
		gap := n.Gap
		if gap == 0 {
			gap = time.Second + time.Duration(c.random.Int64N(int64(3*time.Second)))
		}
		if lane >= steadyLanes {
			gap /= 2
		}
		if n.Await && !n.led(ctx) || n.w.Wait(ctx, gap) != nil {
			return
		}
		kind := kinds[c.random.IntN(len(kinds))]
		if len(plan) > 0 {
			kind, plan = plan[0], plan[1:]
		} else if kind = n.preferred(kinds, kind); !n.meet(ctx, kind) {
			return
		}
		n.one(ctx, c, kind)
	}
}

// preferred is the kind that is preferred, or else the one that chance has chosen.
func (n *nemesis) preferred(kinds []world.Kind, chance world.Kind) world.Kind {
	if n.Prefer != nil {
		if kind, ok := n.Prefer(kinds); ok {
			return kind
		}
	}
	return chance
}

// meet waits for the moment that a kind is to meet; false: ctx has ended.
func (n *nemesis) meet(ctx context.Context, kind world.Kind) bool {
	if n.Beside == nil {
		return true
	}
	steady, ok := n.Beside(kind)
	for until := n.w.Now() + ripeWithin; ok && slices.Contains(n.Steady, steady) && !n.ripe(steady) && n.w.Now() < until; {
		if n.w.Wait(ctx, leaderLook) != nil {
			return false
		}
	}
	return ctx.Err() == nil
}

func (n *nemesis) ripe(kind world.Kind) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	since, inForce := n.since[kind]
	return inForce && n.w.Now()-since >= ripeAfter
}

// led waits for a leader, or until it has waited long enough; false: ctx has ended.
func (n *nemesis) led(ctx context.Context) bool {
	for until := n.w.Now() + leaderWithin; n.w.Leader(ctx) == "" && n.w.Now() < until; {
		if n.w.Wait(ctx, leaderLook) != nil {
			return false
		}
	}
	return ctx.Err() == nil
}

// one injects a fault, lets it last, and heals it even if ctx has ended.
func (n *nemesis) one(ctx context.Context, c *chooser, kind world.Kind) {
	f, dwell := c.fault(kind, n.w.Leader(ctx)), c.dwell(kind)
	n.hurts(f, +1)
	defer n.hurts(f, -1)
	e := history.FaultEvent{Number: n.next(), Kind: string(kind), Text: f.String()}
	n.Tell("%3d %s", e.Number, f)
	n.stage(e, history.Injecting, nil)
	detached := context.WithoutCancel(ctx)
	within, cancel := context.WithTimeout(detached, injectWithin)
	heal, err := n.w.Inject(within, f)
	cancel()
	if err != nil {
		n.Tell("%3d FAILED %s: %v", e.Number, f, err)
		n.stage(e, history.Failing, err)
		return
	}
	n.stage(e, history.Injected, nil)
	n.setInForce(kind, true)
	_ = n.w.Wait(ctx, dwell) // it ends early when ctx does
	n.stage(e, history.Healing, nil)
	n.setInForce(kind, false)
	within, cancel = context.WithTimeout(detached, healWithin)
	defer cancel()
	err = heal(within)
	n.stage(e, history.Healed, err)
	if err != nil {
		n.Tell("%3d NOT HEALED %s: %v", e.Number, f, err)
		n.mu.Lock()
		n.healing = errors.Join(n.healing, err)
		n.mu.Unlock()
	}
}

func (n *nemesis) hurts(f world.Fault, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range f.Nodes {
		n.hurt[node] += by
	}
}

// setInForce notes that a fault of a kind is in force, or no more.
func (n *nemesis) setInForce(kind world.Kind, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if on {
		n.since[kind] = n.w.Now()
	} else {
		delete(n.since, kind)
	}
}

// whole tells that no fault is in force at a node by its name.
func (n *nemesis) whole(node string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hurt[node] == 0
}

func (n *nemesis) stage(e history.FaultEvent, stage string, err error) {
	e.Stage = stage
	if err != nil {
		e.Error = err.Error()
	}
	n.w.History().Fault(e)
}

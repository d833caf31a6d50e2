package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sluice/api/reason"
	"sluice/cluster"
	"sluice/cluster/gossip"
	"sluice/cluster/raftlog"
	"sluice/internal/disk"
	"sluice/jepsen/history"
	"sluice/queue"
	"sluice/server"
	"sluice/transport"
)

// place is where a node runs: a machine with an address, a disk and a clock. The node in it may be replaced.
type place struct {
	world *World
	name  string
	ip    string
	disk  *disk.Memory
	// ahead is how far its clock is ahead of the world's, in nanoseconds.
	ahead atomic.Int64

	// damaged: files of its disk were changed, so that any of its lives may end by itself.
	damaged atomic.Bool
	// sick counts the faults in force that keep its node from running.
	sick atomic.Int32
	// lost: its disk is lost, and the id of its node may be a member's still.
	lost atomic.Bool
	// renewing: an operator gives it another node, and nobody else starts one.
	renewing atomic.Bool
	// trap, if set, stops its node at a point.
	trap atomic.Pointer[trap]

	// mu guards what follows.
	mu sync.Mutex
	id string
	// births counts the nodes that were in it.
	births int
	life   *life
}

// life is one run of a node's process.
type life struct {
	place  *place
	number int
	host   *host
	mount  *disk.Mount
	server *server.Server
	stop   context.CancelFunc
	// full says how little of its disk is free: 0 is enough, 1 too little, 2 next to nothing.
	full atomic.Int32
	// hurt: its disk was hurt, so that it may end by itself.
	hurt atomic.Bool
	// over: it was killed. What it does from then on nobody sees.
	over atomic.Bool
	// ready is closed once server and stop are set, or never will be.
	ready chan struct{}
	done  chan struct{}
	// err is why the server ended by itself; it may be read once done is closed.
	err error
}

const port = "7631"

func (p *place) address() string { return p.ip + ":" + port }

// errKilled is why a node ends that was killed.
var errKilled = errors.New("sim: killed")

// errRuns is what start answers when there is nothing to start.
var errRuns = errors.New("sim: the node runs, or is replaced")

// start begins a life on the place's disk, unless an operator is at it.
func (p *place) start() error {
	if p.renewing.Load() {
		return fmt.Errorf("%w: %s", errRuns, p.name)
	}
	return p.boot()
}

// boot begins a life on the place's disk.
func (p *place) boot() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil && !p.life.ended() {
		return fmt.Errorf("%w: %s", errRuns, p.name)
	}
	w := p.world
	l := &life{place: p, number: w.lives(), host: w.network.boot(p.ip), mount: p.disk.Mount(), ready: make(chan struct{}), done: make(chan struct{})}
	defer close(l.ready)
	l.mount.Slow(w.syncTime(l.number))
	l.mount.Watch(func(op disk.Op, name string, made bool) { l.passes(filePoint(op, name), made) })
	w.network.watch(l.host, l.passes)
	l.hurt.Store(p.damaged.Load())
	s, err := server.New(p.config(l))
	if err != nil && l.over.Load() {
		return fmt.Errorf("%w while it started: %s", errKilled, p.name)
	}
	if err != nil {
		w.network.kill(l.host, false)
		w.trace.note("%s: does not start: %v", p.name, err)
		return fmt.Errorf("sim: start %s: %w", p.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.server, l.stop, p.life = s, cancel, l
	w.trace.note("%s: starts as %s", p.name, p.id)
	w.running.Go(func() { l.run(ctx) })
	return nil
}

func (l *life) run(ctx context.Context) {
	defer close(l.done)
	l.err = l.server.Run(ctx)
	if l.over.Load() {
		return
	}
	// A process that ended by itself leaves its disk as it was.
	p := l.place
	p.world.network.kill(l.host, false)
	p.world.trace.note("%s: ended: %v", p.name, l.err)
	if l.err == nil {
		return
	}
	p.world.history.Mark(history.Mark{Name: history.NodeEnded, Text: fmt.Sprintf("%s ended by itself: %v", p.name, l.err)})
	if !l.hurt.Load() && !p.forgot(l.err) {
		p.world.blame(fmt.Errorf("sim: %s ended, and nothing was wrong with its disk: %w", p.name, l.err))
	}
	p.world.later(superviseAfter, func() { p.supervise(l) })
}

// superviseAfter is when a node that ended by itself is started again.
const superviseAfter = time.Second

// supervise starts a node again, as an init system does, unless its disk is hurt still or somebody else has started it.
func (p *place) supervise(l *life) {
	p.mu.Lock()
	last := p.life
	p.mu.Unlock()
	if last != l || p.sick.Load() > 0 {
		return
	}
	if p.damaged.Load() { // it would end again: an operator replaces it
		ctx, cancel := p.world.untilEnd(renewWithin)
		defer cancel()
		if err := p.world.renew(ctx, p); err != nil {
			p.world.trace.note("%s: cannot be replaced: %v", p.name, err)
		}
		return
	}
	if err := p.start(); err != nil && !errors.Is(err, errRuns) {
		p.world.trace.note("%s: %v", p.name, err)
	}
}

// renewWithin bounds the replacement of a node whose disk is damaged.
const renewWithin = 2 * time.Minute

func (l *life) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return l.over.Load()
	}
}

// forgot tells of a node that ended because it was started under the id of one whose disk is lost, as it was to be.
func (p *place) forgot(err error) bool {
	return p.lost.Load() && errors.Is(err, reason.MemberExists)
}

// settle waits for a life that is about to end by itself.
func (l *life) settle(ctx context.Context) error {
	if l.ended() || l.server.Node().Ending() == nil {
		return nil
	}
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// crash ends a life at once. dark: its machine lost power.
func (l *life) crash(dark bool) {
	if l.over.Swap(true) {
		return
	}
	l.place.world.network.kill(l.host, dark)
	l.place.disk.Unmount()
	l.server.Abort(errKilled)
	l.stop()
}

// current is the place's life, if it has one; nil else.
func (p *place) current() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil || p.life.ended() {
		return nil
	}
	return p.life
}

// kill ends the node; what it wrote stays. It is no error if none runs.
func (p *place) kill() {
	if l := p.current(); l != nil {
		p.world.trace.note("%s: killed", p.name)
		l.crash(false)
	}
}

// unplug takes the power away: what was not synced is lost, but for what chance had written already.
func (p *place) unplug(rng *rand.Rand) {
	if l := p.current(); l != nil {
		l.crash(true)
	}
	stay := unsyncedStays(rng)
	p.world.trace.note("%s: loses power, %d %% of what was not synced stays", p.name, stay)
	p.disk.PowerLoss(rng, stay)
}

// unsyncedStays is how many percent of what was not synced a loss of power leaves.
func unsyncedStays(rng *rand.Rand) int { return []int{0, 0, 50, 90}[rng.IntN(4)] }

// halt ends the node in good order.
func (p *place) halt(ctx context.Context) error {
	l := p.current()
	if l == nil {
		return nil
	}
	p.world.trace.note("%s: told to stop", p.name)
	l.stop()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replace gives the place an empty disk and a node of another id, or of the same.
func (p *place) replace(same bool) (old string) {
	p.disk.Wipe()
	p.mu.Lock()
	defer p.mu.Unlock()
	old = p.id
	p.damaged.Store(false)
	p.lost.Store(same)
	p.births++
	p.life = nil
	if !same {
		p.id = fmt.Sprintf("%s-%d", p.name, p.births)
	}
	return old
}

func (p *place) nodeID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id
}

// now is the place's clock.
func (p *place) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

// config is a node's whole configuration: a server as it is, on a simulated machine. p.mu is held.
func (p *place) config(l *life) server.Config {
	w := p.world
	expect := len(w.places)
	if p.births > 0 {
		expect = 0 // it joins
	}
	return server.Config{
		NodeID: p.id, Cluster: "sim", DataDir: "/data", Version: "sim", Logger: w.logger(p.name), Insecure: true,
		Listen: p.address(), Gossip: p.ip + ":7641", BootstrapExpect: expect, DrainTime: time.Second, StartHeld: w.tuning.startHeld,
		SnapshotInterval: w.tuning.snapshotInterval, SnapshotThreshold: w.tuning.snapshotThreshold, TrailingLogs: w.tuning.trailingLogs,
		TuneTransport: func(c *transport.Config) { c.Bind, c.Dial = l.host.listen, l.host.dial },
		Tune:          func(c *cluster.Config) { p.tune(l, c) },
	}
}

func (p *place) tune(l *life, c *cluster.Config) {
	w := p.world
	c.Files, c.Now, c.FreeSpace, c.SnapshotBytes = l.mount, p.now, l.free, w.tuning.snapshotBytes
	c.OpenStore = func(dir string) (queue.Store, error) {
		store, err := queue.OpenPebble(dir, queue.PebbleConfig{FS: l.mount, Logger: c.Logger, MemTableBytes: storeTableBytes, CacheBytes: storeCacheBytes})
		if err != nil {
			return nil, err
		}
		return queue.NewWriteBack(store, storeLayerBytes), nil
	}
	c.OpenLog = func(dir string, cfg raftlog.Config) (cluster.RaftLog, error) {
		cfg.Files, cfg.SegmentBytes = l.mount, w.tuning.segmentBytes
		return raftlog.Open(dir, cfg)
	}
	c.ListenGossip = func(cfg gossip.Config) (cluster.Gossip, error) { return w.mesh.listen(l.host, w.ips(), cfg), nil }
	c.DigestEvery, c.PromoteAfter = w.tuning.digestEvery, 3*time.Second
	c.EntriesInFlight = min(2, max(1, int(c.TrailingLogs/4)))
	c.BatchCommands, c.BucketRecords = w.tuning.batchCommands, w.tuning.bucketRecords
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = w.tuning.heartbeat, w.tuning.heartbeat, w.tuning.heartbeat/2
	c.CommitTimeout = w.tuning.commit
	c.NoLibraryMetrics = true // they cost a twentieth of all, and nobody reads them
	w.audit(p, l, c)
}

const (
	storeTableBytes = 256 << 10
	storeLayerBytes = 64 << 10
	storeCacheBytes = 1 << 20
)

// free is the probe of free space, of a disk of 1 GiB of which 5 % are to be kept free.
func (l *life) free(string) (free, total uint64, err error) {
	total = 1 << 30
	switch l.full.Load() {
	case 1:
		return 20 << 20, total, nil
	case 2:
		return 1 << 20, total, nil
	}
	return total / 2, total, nil
}

// syncTime is how long a sync of a life's disk takes: mostly less than a millisecond, now and then a good deal more.
func (w *World) syncTime(number int) func() time.Duration {
	rng := w.dice.of("disk", strconv.Itoa(number))
	var mu sync.Mutex
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		span := time.Duration(100+rng.IntN(900)) * time.Microsecond
		if rng.IntN(500) == 0 {
			span += time.Duration(rng.IntN(500)) * time.Millisecond
		}
		return span
	}
}

func (w *World) logger(who string) *slog.Logger { return w.log.With("place", who) }

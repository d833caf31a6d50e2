package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"sluice/client"
	"sluice/cluster"
	"sluice/internal/audit"
	"sluice/internal/disk"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// Config says what world to make.
type Config struct {
	// Seed of all that is left to chance in it.
	Seed uint64
	// Nodes is how many there are, 1 to 7.
	Nodes int
	// Run is what workers do.
	Run world.RunWorker
	// History and Trace take what happened, as it happens: rows in JSON, and lines for a person. Nil: nothing is kept.
	History, Trace io.Writer
	// Packets has every packet in the trace, to find where two runs part.
	Packets bool
	// Logger takes what nodes and clients log; nil: nobody does.
	Logger *slog.Logger
}

// World is a cluster in virtual time. It implements world.World, and must be made, used and closed within one synctest
// bubble.
type World struct {
	cfg     Config
	dice    dice
	trace   *trace
	network *network
	mesh    *mesh
	log     *slog.Logger
	rows    *rowWriter
	history *history.Log
	begun   time.Time
	tuning  tuning
	places  []*place

	// running are the lives of nodes and workers, and what is to be done later.
	running sync.WaitGroup
	// ending is closed when the world begins to end.
	ending chan struct{}

	// mu guards what follows.
	mu      sync.Mutex
	workers map[string]*worker
	// born counts lives, guests the hosts of clients.
	born, guests int
	// wrong is what went wrong that no fault explains.
	wrong error
}

var _ world.World = (*World)(nil)

// tuning is what seeds differ in beside their faults: the sizes at which rare things happen often, and how long nodes wait.
type tuning struct {
	snapshotInterval  time.Duration
	snapshotThreshold uint64
	snapshotBytes     uint64
	trailingLogs      uint64
	digestEvery       int
	batchCommands     int
	bucketRecords     int
	// startHeld: whenever the whole cluster starts, every application is in recovery before anything is delivered.
	startHeld    bool
	segmentBytes int
	// heartbeat and commit are raft's timeouts; zero: the node's default. Slower ones let a cluster at rest rest.
	heartbeat, commit time.Duration
}

func tuned(d dice) tuning {
	rng, raft := d.of("shape"), d.of("raft")
	return tuning{
		snapshotInterval:  time.Duration(500+rng.IntN(5000)) * time.Millisecond,
		snapshotThreshold: []uint64{8, 30, 100, 400}[rng.IntN(4)],
		snapshotBytes:     []uint64{8 << 10, 64 << 10, 1 << 20}[d.of("snapshot-bytes").IntN(3)],
		trailingLogs:      []uint64{10, 16, 64, 256}[rng.IntN(4)],
		digestEvery:       []int{4, 16, 64}[rng.IntN(3)],
		batchCommands:     []int{1, 4, 64, 1024}[rng.IntN(4)],
		bucketRecords:     []int{1, 8, 64, 1 << 20}[d.of("bucket-records").IntN(4)],
		startHeld:         rng.IntN(4) == 0,
		segmentBytes:      []int{4 << 10, 8 << 10, 16 << 10, 64 << 10}[raft.IntN(4)],
		heartbeat:         []time.Duration{0, time.Second, time.Second, 2 * time.Second}[raft.IntN(4)],
		commit:            []time.Duration{0, 50 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond}[raft.IntN(4)],
	}
}

// rowWriter takes rows from several logs, one at a time.
type rowWriter struct {
	mu  sync.Mutex
	out io.Writer
}

// Write writes a row.
func (r *rowWriter) Write(row []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(row)
}

// New makes a world and starts its nodes. Close must follow, within the same bubble.
func New(cfg Config) (*World, error) {
	if cfg.Nodes < 1 || cfg.Nodes > 7 {
		return nil, fmt.Errorf("sim: %d nodes; allowed are 1 to 7", cfg.Nodes)
	}
	for _, out := range []*io.Writer{&cfg.History, &cfg.Trace} {
		if *out == nil {
			*out = io.Discard
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := dice{cfg.Seed}
	w := &World{
		cfg: cfg, dice: d, trace: newTrace(cfg.Trace), mesh: newMesh(), log: cfg.Logger, rows: &rowWriter{out: cfg.History},
		begun: time.Now(), tuning: tuned(d), workers: map[string]*worker{}, ending: make(chan struct{}),
	}
	w.trace.every = cfg.Packets
	w.history = history.NewLog(w.rows, w.Now)
	w.network = newNetwork(d, w.trace)
	w.trace.note("seed %d: %d nodes, %+v", cfg.Seed, cfg.Nodes, w.tuning)
	for n := 1; n <= cfg.Nodes; n++ {
		name := "n" + strconv.Itoa(n)
		ip := nodeNet + strconv.Itoa(n)
		w.places = append(w.places, &place{world: w, name: name, id: name, ip: ip, disk: disk.NewMemory()})
	}
	for _, p := range w.places {
		if err := p.start(); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

// Name is "sim".
func (w *World) Name() string { return "sim" }

// Nodes are the places.
func (w *World) Nodes() []string {
	names := make([]string, len(w.places))
	for n, p := range w.places {
		names[n] = p.name
	}
	return names
}

func (w *World) ips() []string {
	all := make([]string, len(w.places))
	for n, p := range w.places {
		all[n] = p.ip
	}
	return all
}

func (w *World) addresses() []string {
	all := make([]string, len(w.places))
	for n, p := range w.places {
		all[n] = p.address()
	}
	return all
}

func (w *World) place(name string) (*place, error) {
	for _, p := range w.places {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("sim: there is no place %q", name)
}

func (w *World) named(names []string) (all []*place, err error) {
	for _, name := range names {
		p, err := w.place(name)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// Leader is the place whose node takes itself for the leader, in the latest term if several do.
func (w *World) Leader(ctx context.Context) string {
	leader, latest := "", uint64(0)
	for _, p := range w.places {
		l := p.current()
		if l == nil || l.server.Node().LeaderAddress() != p.address() {
			continue
		}
		if s, err := l.server.Node().Status(ctx); err == nil && s.Term > latest {
			leader, latest = p.name, s.Term
		}
	}
	return leader
}

// Client makes a client on a machine of its own.
func (w *World) Client(_ context.Context, name string) (*client.Client, error) {
	w.mu.Lock()
	w.guests++
	ip := fmt.Sprintf("10.1.%d.%d", w.guests/250, w.guests%250+1)
	spread := w.guests%2 == 0 // or nothing would enter at followers
	w.mu.Unlock()
	return w.clientAt(w.network.boot(ip), name, spread)
}

func (w *World) clientAt(h *host, name string, spread bool) (*client.Client, error) {
	return client.New(client.Config{Addresses: w.addresses(), Spread: spread, Insecure: true, Dial: h.dial, Logger: w.logger(name)})
}

// Now is the virtual time since the run began.
func (w *World) Now() time.Duration { return time.Since(w.begun) }

// Wait waits in virtual time.
func (w *World) Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// History takes what happens.
func (w *World) History() *history.Log { return w.history }

// lives gives a number to a life.
func (w *World) lives() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.born++
	return w.born
}

// later does something after a while, unless the world ends before.
func (w *World) later(after time.Duration, do func()) {
	w.running.Go(func() {
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
			do()
		case <-w.ending:
		}
	})
}

// untilEnd is a context that ends with the world, or after a while.
func (w *World) untilEnd(within time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	w.running.Go(func() {
		select {
		case <-w.ending:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, cancel
}

// blame notes what went wrong that no fault explains.
func (w *World) blame(err error) {
	w.trace.note("WRONG: %v", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = errors.Join(w.wrong, err)
}

// audit has a life's node tell the history what it applies. p.mu is held.
func (w *World) audit(p *place, l *life, c *cluster.Config) {
	id := p.id
	c.Audit = func(rows ...audit.Row) error {
		if l.over.Load() {
			return errKilled
		}
		for _, row := range rows {
			w.history.Audit(history.FromAudit(id, row))
		}
		return nil
	}
}

// Digests are what the running nodes say of their states: the digest by the index that it is of, and by place.
func (w *World) Digests(ctx context.Context) map[string]Digest {
	all := map[string]Digest{}
	for _, p := range w.places {
		if l := p.current(); l != nil {
			if s, err := l.server.Node().Status(ctx); err == nil {
				all[p.name] = Digest{Index: s.AppliedIndex, Digest: s.Digest}
			}
		}
	}
	return all
}

// Digest is a node's chained hash over all it applied up to an index.
type Digest struct {
	Index  uint64
	Digest string
}

// Sum tells two runs apart: a hash over every packet and event so far, and how many packets there were.
func (w *World) Sum() (sum, packets uint64) { return w.trace.digest() }

// Close ends everything at once, and waits until it has ended. Its error is what went wrong that no fault explains.
func (w *World) Close() error {
	close(w.ending)
	w.mu.Lock()
	workers := w.workers
	w.workers = map[string]*worker{}
	w.mu.Unlock()
	for _, k := range workers {
		k.kill()
	}
	for _, p := range w.places {
		if l := p.current(); l != nil {
			l.crash(false)
		}
	}
	w.network.end()
	w.running.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.wrong, w.history.Err())
}

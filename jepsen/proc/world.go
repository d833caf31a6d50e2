//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/client"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// Config says how the world is made. The zero value of Nodes and Tell means the default.
type Config struct {
	// Dir is a folder of the run, empty or absent: logs, audits and histories stay there, data goes. Required.
	Dir string
	// Bin is the sluice program. Required.
	Bin string
	// Nodes is how many; default 5.
	Nodes int
	// Worker is the command of a worker's process, to which the text of its specification is added as the last
	// argument: a program that calls RunWorker. Required for StartWorker.
	Worker []string
	// TLS has nodes and clients know each other by certificates.
	TLS bool
	// LogStores are the libraries that keep the logs of nodes, by turns; none: the default of the program.
	LogStores []string
	// Plain does without namespaces and disks of one's own even where they can be had.
	Plain bool
	// Tell is told what a person should know, such as what the machine cannot do; default: nobody is.
	Tell func(format string, args ...any)
}

// World is the world of real processes. It implements world.World.
type World struct {
	cfg     Config
	start   time.Time
	log     *history.Log
	file    *os.File
	nodes   []*node
	network *network // nil: 127.0.0.1
	// authorities sign certificates; nil: plain text.
	authorities *authorities
	// web asks nodes what is no call of the SDK.
	web *http.Client
	// missing says why kinds of faults are not to be had.
	missing map[world.Kind]string
	// logger writes what clients log to the file clients.
	logger  *slog.Logger
	clients *os.File
	// closing ends when Close begins.
	closing context.Context
	close   context.CancelFunc

	guests atomic.Int64 // clients that were made

	mu      sync.Mutex // guards all below
	workers map[string]*worker
	// gone are the ids of nodes that were removed from the cluster, or were about to be.
	gone map[string]bool
}

// readyWithin is how long nodes may take until all are ready at the beginning.
const readyWithin = 60 * time.Second

// New makes the world, starts its nodes and waits until all are ready.
func New(ctx context.Context, cfg Config) (*World, error) {
	if cfg.Nodes == 0 {
		cfg.Nodes = 5
	}
	if cfg.Tell == nil {
		cfg.Tell = func(string, ...any) {}
	}
	w := &World{cfg: cfg, start: time.Now(), missing: map[world.Kind]string{}, workers: map[string]*worker{}, gone: map[string]bool{}, web: &http.Client{}}
	w.closing, w.close = context.WithCancel(context.Background())
	sweep(ctx, cfg.Tell)
	if err := w.make(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *World) make(ctx context.Context) error {
	for _, dir := range []string{"log", "audit", "nodes", "workers", "outside", "clock", "tls"} {
		if err := os.MkdirAll(filepath.Join(w.cfg.Dir, dir), 0o750); err != nil {
			return fmt.Errorf("proc: %w", err)
		}
	}
	err := os.WriteFile(filepath.Join(w.cfg.Dir, makerFile), []byte(fmt.Sprintln(os.Getpid())), 0o600)
	if err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	if w.file, err = os.OpenFile(filepath.Join(w.cfg.Dir, "history.jsonl"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640); err != nil {
		return fmt.Errorf("proc: the folder of a run must be fresh: %w", err)
	}
	w.log = history.NewLog(w.file, w.Now)
	if w.clients, err = os.Create(filepath.Join(w.cfg.Dir, "log", "clients.log")); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	w.logger = slog.New(slog.NewTextHandler(w.clients, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var places []string
	for i := range w.cfg.Nodes {
		places = append(places, fmt.Sprintf("n%d", i+1))
	}
	w.connect(ctx, places)
	if err := w.settle(ctx, places); err != nil {
		return err
	}
	if err := w.certifyAll(); err != nil {
		return err
	}
	w.survey()
	for _, n := range w.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	return w.ready(ctx)
}

// connect makes the network, if it can be made.
func (w *World) connect(ctx context.Context, places []string) {
	err := errors.New("it was asked to do without")
	if !w.cfg.Plain {
		w.network, err = newNetwork(ctx, places)
	}
	if err == nil {
		return
	}
	w.cfg.Tell("no network of our own (%v): nodes listen on 127.0.0.1", err)
	for _, kind := range []world.Kind{
		world.Partition, world.Loss, world.Delay, world.GossipCut, world.RaftCut, world.Lag, world.Bandwidth, world.FrameCut, world.WorkerCut,
	} {
		w.missing[kind] = err.Error()
	}
}

// settle gives each place its addresses and its disk, if it can be made.
func (w *World) settle(ctx context.Context, places []string) error {
	noDisk := canMount()
	if w.cfg.Plain {
		noDisk = errors.New("it was asked to do without")
	}
	if noDisk != nil {
		w.cfg.Tell("no disks of our own (%v): nodes keep their data in plain folders", noDisk)
		for _, kind := range []world.Kind{world.PowerLoss, world.DiskFull, world.DiskHang, world.DiskReadOnly} {
			w.missing[kind] = noDisk.Error()
		}
	}
	for i, place := range places {
		n := &node{w: w, place: place, number: i, id: place, generation: 1}
		w.nodes = append(w.nodes, n)
		if err := w.address(n); err != nil {
			return err
		}
		dir := filepath.Join(w.cfg.Dir, "nodes", place)
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("proc: %w", err)
		}
		if noDisk == nil {
			var err error
			if n.disk, err = newDisk(ctx, filepath.Join(w.cfg.Dir, prefix+place+".img"), dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *World) address(n *node) (err error) {
	if w.network != nil {
		n.address, n.gossip = w.network.host(n.number)+":"+nodePort, w.network.host(n.number)+":"+gossipPort
		return nil
	}
	if n.address, err = freePort(); err == nil {
		n.gossip, err = freePort()
	}
	return err
}

// freePort asks the kernel for an address that is free for TCP and UDP.
func freePort() (string, error) {
	for {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", fmt.Errorf("proc: %w", err)
		}
		address := tcp.Addr().String()
		udp, err := net.ListenPacket("udp", address)
		if err == nil {
			err = udp.Close()
		}
		if err = errors.Join(err, tcp.Close()); err == nil {
			return address, nil
		}
	}
}

// ready waits until every node says that it is.
func (w *World) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for _, n := range w.nodes {
		for !n.ready(ctx) {
			if err := w.Wait(ctx, 50*time.Millisecond); err != nil {
				return fmt.Errorf("proc: %s is not ready: see %s: %w", n.place, n.log(), err)
			}
		}
	}
	return nil
}

// ready asks the node once.
func (n *node) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.w.scheme()+n.address+"/readyz", nil)
	if err != nil {
		return false
	}
	answer, err := n.w.web.Do(request)
	if err != nil {
		return false
	}
	return answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
}

// Name is "proc".
func (w *World) Name() string { return "proc" }

// Nodes are n1, n2, ….
func (w *World) Nodes() (places []string) {
	for _, n := range w.nodes {
		places = append(places, n.place)
	}
	return places
}

// Now is the time since New.
func (w *World) Now() time.Duration { return time.Since(w.start) }

// Wait waits.
func (w *World) Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// History takes what happens.
func (w *World) History() *history.Log { return w.log }

// Outside is the folder that stands for the world outside Sluice.
func (w *World) Outside() string { return filepath.Join(w.cfg.Dir, "outside") }

func (w *World) addresses() (all []string) {
	for _, n := range w.nodes {
		all = append(all, n.address)
	}
	return all
}

// Client makes a client that knows all nodes.
func (w *World) Client(_ context.Context, name string) (*client.Client, error) {
	cfg := clientConfig(w.addresses(), w.clientTLS(), w.logger.With("client", name))
	cfg.Spread = w.guests.Add(1)%2 == 0 // or nothing would enter at followers
	return client.New(cfg)
}

// clientConfig is that of every client: it gives a call up before a run is over.
func clientConfig(addresses []string, secured *client.TLS, logger *slog.Logger) client.Config {
	return client.Config{Addresses: addresses, TLS: secured, Insecure: secured == nil, CallTimeout: 4 * time.Second, Retry: client.Retry{Total: 8 * time.Second}, Logger: logger}
}

// Leader asks every node; of those that say that they lead, the one of the latest term does.
func (w *World) Leader(ctx context.Context) string {
	var mu sync.Mutex
	var leader string
	var latest uint64
	var asked sync.WaitGroup
	for _, n := range w.nodes {
		asked.Go(func() {
			s, err := n.status(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && s.State == "leader" && s.Term > latest {
				leader, latest = n.place, s.Term
			}
		})
	}
	asked.Wait()
	return leader
}

// status is what the node itself knows.
func (n *node) status(ctx context.Context) (client.ClusterStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	cfg := clientConfig([]string{n.address}, n.w.clientTLS(), n.w.logger)
	cfg.Retry.Attempts = 1
	c, err := client.New(cfg)
	if err != nil {
		return client.ClusterStatus{}, err
	}
	defer c.Close()
	return c.Cluster().Status(ctx)
}

func (w *World) find(places []string) (found []*node, err error) {
	for _, place := range places {
		i := -1
		for at, n := range w.nodes {
			if n.place == place {
				i = at
			}
		}
		if i < 0 {
			return nil, fmt.Errorf("proc: there is no place %q: the places are %s", place, strings.Join(w.Nodes(), ", "))
		}
		found = append(found, w.nodes[i])
	}
	return found, nil
}

// Package sluicetest starts a Sluice cluster within a test: real nodes in this process, on free loopback ports, with
// their data in a temporary folder that goes with them.
//
//	cluster := sluicetest.Start(t, sluicetest.Nodes(3))
//	c := cluster.Client(t)
package sluicetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sluice/client"
	"sluice/cluster"
	"sluice/server"
)

// MaxNodes is how many nodes a cluster may have.
const MaxNodes = 7

// readyTimeout bounds how long nodes may take to find a leader.
const readyTimeout = time.Minute

// Option changes what is started.
type Option func(*settings)

type settings struct {
	nodes  int
	logger *slog.Logger
}

// Nodes is how many nodes the cluster has, 1 to 7. Default 1.
func Nodes(n int) Option { return func(s *settings) { s.nodes = n } }

// Logger takes what the nodes have to say. Default: nobody does.
func Logger(l *slog.Logger) Option { return func(s *settings) { s.logger = l } }

// Cluster is a cluster in this process. Its methods are for one goroutine at a time, but for Addrs and Client.
type Cluster struct {
	dir   string
	nodes []*node
}

// node is one of the cluster's nodes; run is nil while it is stopped.
type node struct {
	cfg     server.Config
	address string
	run     *run
}

// run is one life of a node.
type run struct {
	cancel context.CancelFunc
	ended  chan error
}

// Start starts a cluster, waits until every node is ready, and ends it with the test.
func Start(t testing.TB, options ...Option) *Cluster {
	t.Helper()
	c, err := New(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// New is Start for where there is no test, such as TestMain and examples. The caller must Close the cluster.
func New(options ...Option) (*Cluster, error) {
	s := settings{nodes: 1, logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, o := range options {
		o(&s)
	}
	if s.nodes < 1 || s.nodes > MaxNodes {
		return nil, fmt.Errorf("sluicetest: %d nodes; allowed are 1 to %d", s.nodes, MaxNodes)
	}
	return begin(s)
}

// begin starts a cluster in a folder of its own; if it does not succeed, nothing is left of it.
func begin(s settings) (*Cluster, error) {
	dir, err := os.MkdirTemp("", "sluicetest-")
	if err != nil {
		return nil, fmt.Errorf("sluicetest: %w", err)
	}
	c := &Cluster{dir: dir}
	if err := c.start(s); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) start(s settings) error {
	var gossip []string // of the nodes so far
	for i := range s.nodes {
		id := fmt.Sprintf("node%d", i+1)
		cfg := server.Config{
			NodeID: id, Cluster: "sluicetest", DataDir: filepath.Join(c.dir, id), Version: "sluicetest", Logger: s.logger,
			Listen: "127.0.0.1:0", BootstrapExpect: s.nodes, Join: slices.Clone(gossip), Tune: quicken, DrainTime: time.Second,
		}
		if s.nodes > 1 {
			cfg.Gossip = "127.0.0.1:0"
		}
		n := &node{cfg: cfg}
		if err := n.start(); err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
		if s.nodes > 1 {
			gossip = append(gossip, n.cfg.Gossip)
		}
	}
	for _, n := range c.nodes { // a later life may begin when only later nodes run
		n.cfg.Join = gossip
	}
	return c.WaitReady()
}

// quicken lets a leader be elected sooner than on a network.
func quicken(c *cluster.Config) {
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 400*time.Millisecond, 400*time.Millisecond, 200*time.Millisecond
}

// start begins a life of a node, on the addresses of its first.
func (n *node) start() error {
	s, err := server.New(n.cfg)
	if err != nil {
		return fmt.Errorf("sluicetest: %s: %w", n.cfg.NodeID, err)
	}
	n.address = s.Addr().String()
	n.cfg.Listen, n.cfg.Gossip = n.address, s.Node().GossipAddress()
	ctx, cancel := context.WithCancel(context.Background())
	n.run = &run{cancel: cancel, ended: make(chan error, 1)}
	go func(ended chan<- error) { ended <- s.Run(ctx) }(n.run.ended)
	return nil
}

// stop ends a life of a node in good order.
func (n *node) stop() error {
	if n.run == nil {
		return nil
	}
	n.run.cancel()
	err := <-n.run.ended
	n.run = nil
	if err != nil {
		return fmt.Errorf("sluicetest: %s: %w", n.cfg.NodeID, err)
	}
	return nil
}

// Addrs are the addresses of all nodes, stopped ones included.
func (c *Cluster) Addrs() []string {
	all := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		all[i] = n.address
	}
	return all
}

// Client is a client of all nodes, which is closed with the test. Each change is made to its configuration.
func (c *Cluster) Client(t testing.TB, change ...func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{Addresses: c.Addrs(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, f := range change {
		f(&cfg)
	}
	made, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(made.Close)
	return made
}

// WaitReady waits until every node that runs answers and knows a leader.
func (c *Cluster) WaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	for _, n := range c.nodes {
		if n.run == nil {
			continue
		}
		if _, err := n.waitLeader(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lookInterval is how often a node is asked whether it knows a leader.
const lookInterval = 10 * time.Millisecond

// waitLeader waits until a node knows a leader, and tells the leader's id.
func (n *node) waitLeader(ctx context.Context) (string, error) {
	asker, err := client.New(client.Config{Addresses: []string{n.address}})
	if err != nil {
		return "", err
	}
	defer asker.Close()
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		status, err := asker.Cluster().Status(ctx)
		if err == nil && status.LeaderID != "" && status.AppliedIndex > 0 {
			return status.LeaderID, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", fmt.Errorf("sluicetest: %s knows no leader: %w", n.cfg.NodeID, errors.Join(ctx.Err(), err))
		}
	}
}

// Leader is the place of the leader, from 0, as a node that runs knows it.
func (c *Cluster) Leader() (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	for _, n := range c.nodes {
		if n.run == nil {
			continue
		}
		id, err := n.waitLeader(ctx)
		if err != nil {
			return 0, err
		}
		for i, n := range c.nodes {
			if n.cfg.NodeID == id {
				return i, nil
			}
		}
	}
	return 0, errors.New("sluicetest: no node runs")
}

// Stop ends a node in good order; it keeps its data and its address. Stopping a stopped node does nothing.
func (c *Cluster) Stop(place int) error { return c.nodes[place].stop() }

// Restart starts a stopped node, or stops and starts a running one, and waits until it is ready.
func (c *Cluster) Restart(place int) error {
	n := c.nodes[place]
	if err := n.stop(); err != nil {
		return err
	}
	if err := n.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	_, err := n.waitLeader(ctx)
	return err
}

// Close ends all nodes and removes their data.
func (c *Cluster) Close() error {
	for _, n := range c.nodes { // all at once, or each waits for a quorum that is gone
		if n.run != nil {
			n.run.cancel()
		}
	}
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.stop())
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

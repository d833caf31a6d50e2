//go:build linux

package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/bench/load"
	"sluice/bench/process"
	"sluice/client"
)

// SendersPerClient is how many senders share a client and its connections.
const SendersPerClient = 64

// quiet drops what clients have to say; what fails is returned.
var quiet = slog.New(slog.DiscardHandler)

// Sluice is this repository's server.
type Sluice struct {
	// Binary is the program.
	Binary string
	// Declaration is that of the applications under load, but for their names.
	Declaration client.Application
	// Profiles has the nodes show /debug/pprof.
	Profiles bool
	// Args are further arguments of each node.
	Args []string
}

// Name is "sluice".
func (Sluice) Name() string { return "sluice" }

// Start starts three nodes.
func (s Sluice) Start(ctx context.Context, dir string) (load.Cluster, error) {
	return s.Launch(ctx, dir)
}

// Launch is Start for those who want more of the cluster than load does.
func (s Sluice) Launch(ctx context.Context, dir string) (*SluiceCluster, error) {
	ports, err := process.FreePorts(6)
	if err != nil {
		return nil, err
	}
	c := &SluiceCluster{peer: s, programs: make(map[*process.Node]process.Program)}
	if c.processes.Dir, err = os.MkdirTemp(dir, "sluice-"); err != nil {
		return nil, err
	}
	for i := range 3 {
		id := fmt.Sprintf("n%d", i+1)
		args := []string{"server", "--node-id", id, "--data-dir", filepath.Join(c.processes.Dir, id), "--listen", ports[i], "--gossip", ports[3+i], "--bootstrap-expect", "3"}
		for _, gossip := range ports[3:] {
			args = append(args, "--join", gossip)
		}
		if s.Profiles {
			args = append(args, "--profiles")
		}
		args = append(args, s.Args...)
		program := process.Program{Name: id, Address: ports[i], Log: filepath.Join(c.processes.Dir, id+".log"), Path: s.Binary, Args: args}
		if err := c.launch(program); err != nil {
			return nil, errors.Join(err, c.Stop())
		}
	}
	return c, c.processes.Up(ctx, serves)
}

func serves(n *process.Node) func(context.Context) error {
	return process.Answers("http://" + n.Address + "/readyz")
}

// SluiceCluster is three nodes of Sluice.
type SluiceCluster struct {
	peer      Sluice
	processes process.Cluster
	programs  map[*process.Node]process.Program
}

func (c *SluiceCluster) launch(program process.Program) error {
	n, err := process.Launch(program)
	if err != nil {
		return err
	}
	c.programs[n] = program
	c.processes.All = append(c.processes.All, n)
	return nil
}

// Processes are the nodes.
func (c *SluiceCluster) Processes() *process.Cluster { return &c.processes }

// Args adds arguments of nodes that are restarted from now on.
func (c *SluiceCluster) Args(more ...string) {
	for n, p := range c.programs {
		p.Args = append(slices.Clone(p.Args), more...)
		c.programs[n] = p
	}
}

// Stop ends the nodes and removes their data.
func (c *SluiceCluster) Stop() error { return c.processes.Stop() }

// Restart starts a node that has ended on its data.
func (c *SluiceCluster) Restart(ctx context.Context, node *process.Node) error {
	return relaunch(ctx, &c.processes, c.programs, node, serves)
}

// Begin is Restart that does not wait: ready does, and tells how long it took.
func (c *SluiceCluster) Begin(node *process.Node) (ready func(context.Context) (time.Duration, error), err error) {
	again, err := replace(&c.processes, c.programs, node)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (time.Duration, error) { return again.Ready(ctx, serves(again)) }, nil
}

// status asks the nodes in turn: one that was killed does not answer.
func (c *SluiceCluster) status(ctx context.Context) (client.ClusterStatus, error) {
	one, err := client.New(client.Config{Addresses: c.processes.Addresses(), Logger: quiet})
	if err != nil {
		return client.ClusterStatus{}, err
	}
	defer one.Close()
	return one.Cluster().Status(ctx)
}

// Elections is raft's term: it grows with each election, also with one that its leader wins again.
func (c *SluiceCluster) Elections(ctx context.Context) (uint64, bool, error) {
	status, err := c.status(ctx)
	return status.Term, true, err
}

// Leader is the node that leads.
func (c *SluiceCluster) Leader(ctx context.Context) (*process.Node, error) {
	status, err := c.status(ctx)
	if err != nil {
		return nil, err
	}
	return named(&c.processes, status.LeaderID)
}

// Open declares an application and starts two workers.
func (c *SluiceCluster) Open(ctx context.Context, job load.Job) (load.Line, error) {
	l := &sluiceLine{job: job, cluster: c}
	for i := range (job.Senders + SendersPerClient - 1) / SendersPerClient {
		if err := l.connect(&l.senders, i); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	declaration := c.peer.Declaration
	declaration.Name = job.Name
	if _, err := l.senders[0].Applications().Apply(ctx, declaration); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	running, end := context.WithCancel(ctx)
	l.end = end
	l.group, running = errgroup.WithContext(running)
	for i := range load.Workers {
		if err := l.connect(&l.workers, i); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		worker, err := l.workers[i].NewWorker(client.WorkerConfig{
			Application: job.Name, Name: fmt.Sprintf("worker-%d", i), Capacity: min(job.Instances, 65_536), Concurrency: 64, Prefetch: 1024,
			Handler: l.handle, OnEvent: l.event,
		})
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.group.Go(func() error { return worker.Run(running) })
	}
	return l, nil
}

// sluiceLine is an application with its senders' clients and its workers.
type sluiceLine struct {
	job              load.Job
	cluster          *SluiceCluster
	senders, workers []*client.Client
	group            *errgroup.Group
	end              context.CancelFunc
	// handled holds the data of a message from its handler on until its settlement is acknowledged.
	handled sync.Map // place → []byte
}

// place is where a message stands.
type place struct {
	instance client.InstanceID
	seq      client.Seq
}

// connect adds a client, which knows all nodes and calls the leader once it is told who that is. Clients begin at the nodes in
// turn.
func (l *sluiceLine) connect(to *[]*client.Client, i int) error {
	nodes := &l.cluster.processes
	addresses := []string{nodes.From(i), nodes.From(i + 1), nodes.From(i + 2)}
	c, err := client.New(client.Config{Addresses: addresses, Logger: quiet})
	if err == nil {
		*to = append(*to, c)
	}
	return err
}

// Send sends one message and returns with its receipt.
func (l *sluiceLine) Send(ctx context.Context, sender, instance int, data []byte) error {
	_, err := l.senders[sender/SendersPerClient].Send(ctx, client.Message{Application: l.job.Name, Instance: strconv.Itoa(instance), Type: "measured", Data: data})
	return err
}

// handle is the job: nothing but a note of whose message it was.
func (l *sluiceLine) handle(_ context.Context, d *client.Delivery) error {
	l.handled.Store(place{d.Instance, d.Seq}, d.Message.Data)
	return nil
}

// event tells of the settlement, once it is acknowledged.
func (l *sluiceLine) event(e client.Event) {
	if e.Kind != client.EventCompleted {
		return
	}
	if data, ok := l.handled.LoadAndDelete(place{e.Instance, e.Seq}); ok {
		l.job.Settled(data.([]byte))
	}
}

// Close ends the workers and the clients.
func (l *sluiceLine) Close() (err error) {
	if l.end != nil {
		l.end()
		if err = l.group.Wait(); errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	for _, c := range append(l.senders, l.workers...) {
		c.Close()
	}
	return err
}

// relaunch puts a new process in the place of one that has ended, and waits until it serves.
func relaunch(ctx context.Context, of *process.Cluster, programs map[*process.Node]process.Program, node *process.Node, probe func(*process.Node) func(context.Context) error) error {
	again, err := replace(of, programs, node)
	if err != nil {
		return err
	}
	_, err = again.Ready(ctx, probe(again))
	return err
}

func replace(of *process.Cluster, programs map[*process.Node]process.Program, node *process.Node) (again *process.Node, err error) {
	program := programs[node]
	if again, err = process.Launch(program); err != nil {
		return nil, err
	}
	programs[again] = program
	for i, one := range of.All {
		if one == node {
			of.All[i] = again
		}
	}
	return again, nil
}

// named finds a node by its name.
func named(of *process.Cluster, name string) (*process.Node, error) {
	for _, one := range of.All {
		if one.Name == name {
			return one, nil
		}
	}
	return nil, fmt.Errorf("no node is called %q", name)
}

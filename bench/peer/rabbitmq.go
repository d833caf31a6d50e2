//go:build linux

package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"sluice/bench/load"
	"sluice/bench/process"
)

// RabbitMQ is RabbitMQ with a quorum queue of three replicas for each worker, as Debian packages it.
//
// Each instance belongs to one queue, so that its messages are delivered in their order. Publishes are confirmed. An
// acknowledgement of AMQP 0.9.1 is not: so, behind what it acknowledges, a worker publishes a marker into the same queue
// on the same channel. The queue takes both into its log in this order, and when it confirms the marker the
// acknowledgements before it are durable: only then is a job done. One marker speaks for all that was acknowledged at
// once. What the peer does not promise: a message that is put back comes before others, but nothing stops the delivery
// of those meanwhile.
type RabbitMQ struct {
	// Scripts is the folder of rabbitmq-server and rabbitmqctl.
	Scripts string
}

const (
	// rabbitSendersPerChannel share a channel, which is a process of its own in the server; channels share a connection
	// to each node.
	rabbitSendersPerChannel = 16
	// rabbitPrefetch is how many messages a worker holds, the most that a quorum queue gives.
	rabbitPrefetch = 2000
	// rabbitBatch is how many messages one acknowledgement is for.
	rabbitBatch = 512
	// rabbitCommands is how many commands a channel may have under way to a quorum queue; 32 by default. Past it a channel
	// holds back acknowledgements, but not publishes: the order of the marker and what it is for would be lost.
	rabbitCommands = 512
	// rabbitBatches are under way at most: three commands each, with the credit, are far from the limit.
	rabbitBatches = 64
	// rabbitClusterWithin bounds the forming of the cluster.
	rabbitClusterWithin = "60"
)

// Name is "rabbitmq".
func (RabbitMQ) Name() string { return "rabbitmq" }

// rabbitCluster is three nodes, and the daemon that tells them each other's ports.
type rabbitCluster struct {
	peer      RabbitMQ
	processes process.Cluster
	mapper    *process.Node
	env       []string
}

// Start starts three nodes that form a cluster.
func (p RabbitMQ) Start(ctx context.Context, dir string) (load.Cluster, error) {
	ports, err := process.FreePorts(7)
	if err != nil {
		return nil, err
	}
	c := &rabbitCluster{peer: p}
	if c.processes.Dir, err = os.MkdirTemp(dir, "rabbitmq-"); err != nil {
		return nil, err
	}
	if err := c.prepare(port(ports[6])); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	if c.mapper, err = process.Launch(process.Program{Name: "epmd", Address: ports[6], Log: filepath.Join(c.processes.Dir, "epmd.log"), Path: "epmd", Args: []string{"-port", port(ports[6]), "-address", "127.0.0.1"}}); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	if _, err := c.mapper.Ready(ctx, listens(c.mapper)); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		own := append([]string{"RABBITMQ_NODENAME=" + name + "@localhost", "RABBITMQ_NODE_PORT=" + port(ports[i]), "RABBITMQ_DIST_PORT=" + port(ports[3+i]), "RABBITMQ_MNESIA_BASE=" + filepath.Join(c.processes.Dir, name)}, c.env...)
		n, err := process.Launch(process.Program{Name: name, Address: ports[i], Log: filepath.Join(c.processes.Dir, name+".log"), Env: own, Path: filepath.Join(p.Scripts, "rabbitmq-server")})
		if err != nil {
			return nil, errors.Join(err, c.Stop())
		}
		c.processes.All = append(c.processes.All, n)
	}
	if err := c.processes.Up(ctx, listens); err != nil {
		return nil, errors.Join(err, c.mapper.Stop())
	}
	if err := c.control(ctx, "await_online_nodes", "3", "--timeout", rabbitClusterWithin); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// prepare writes what the nodes share: configuration, no plugins, the cookie by which they know each other.
func (c *rabbitCluster) prepare(mapper string) error {
	dir := c.processes.Dir
	conf := "loopback_users.guest = true\nlog.console = true\nlog.console.level = warning\nlog.file = false\ncluster_formation.peer_discovery_backend = classic_config\n"
	for i := range 3 {
		conf += fmt.Sprintf("cluster_formation.classic_config.nodes.%d = n%d@localhost\n", i+1, i+1)
	}
	for name, text := range map[string]string{"rabbitmq.conf": conf, "advanced.config": fmt.Sprintf("[{rabbit, [{quorum_commands_soft_limit, %d}]}].\n", rabbitCommands), "enabled_plugins": "[].\n", ".erlang.cookie": "measured", "env.conf": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o400); err != nil {
			return err
		}
	}
	c.env = []string{
		"HOME=" + dir, "ERL_EPMD_PORT=" + mapper, "RABBITMQ_CONFIG_FILE=" + filepath.Join(dir, "rabbitmq"), "RABBITMQ_ADVANCED_CONFIG_FILE=" + filepath.Join(dir, "advanced"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "enabled_plugins"),
		"RABBITMQ_CONF_ENV_FILE=" + filepath.Join(dir, "env.conf"), "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_LOGS=-", "RABBITMQ_USE_LONGNAME=false",
		// The script becomes the node instead of waiting for it.
		"RUNNING_UNDER_SYSTEMD=true",
		// Schedulers that wait do not spin: what RabbitMQ recommends where nodes share processors.
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
	}
	return nil
}

// control runs rabbitmqctl against the first node.
func (c *rabbitCluster) control(ctx context.Context, args ...string) error {
	command := exec.CommandContext(ctx, filepath.Join(c.peer.Scripts, "rabbitmqctl"), append([]string{"-q", "-n", "n1@localhost"}, args...)...)
	command.Env = append(os.Environ(), c.env...)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("rabbitmqctl %s: %w:\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// listens is a probe: the node's port takes connections.
func listens(n *process.Node) func(context.Context) error {
	return func(ctx context.Context) error {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.Address)
		if err != nil {
			return err
		}
		return connection.Close()
	}
}

func (c *rabbitCluster) Processes() *process.Cluster { return &c.processes }

func (c *rabbitCluster) Stop() error {
	err := c.processes.Stop()
	if c.mapper != nil {
		err = errors.Join(err, c.mapper.Stop())
	}
	return err
}

// Elections are not told: the log of the nodes would have to be read.
func (c *rabbitCluster) Elections(context.Context) (uint64, bool, error) { return 0, false, nil }

// Leader is not one node: every quorum queue has its own.
func (c *rabbitCluster) Leader(context.Context) (*process.Node, error) {
	return nil, errors.New("each quorum queue of RabbitMQ has a leader of its own")
}

// rabbitLine is two queues.
type rabbitLine struct {
	job         load.Job
	connections []*amqp.Connection // one to each node, then one for each worker
	channels    []*amqp.Channel    // of the senders
	group       *errgroup.Group
	end         context.CancelFunc
}

// Open declares a queue for each worker, and consumes them.
func (c *rabbitCluster) Open(ctx context.Context, job load.Job) (load.Line, error) {
	l := &rabbitLine{job: job}
	running, end := context.WithCancel(ctx)
	l.end = end
	l.group, running = errgroup.WithContext(running)
	if err := l.open(running, &c.processes); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *rabbitLine) open(ctx context.Context, nodes *process.Cluster) error {
	for i := range len(nodes.All) + load.Workers {
		connection, err := amqp.DialConfig("amqp://guest:guest@"+nodes.From(i)+"/", amqp.Config{Heartbeat: 10 * time.Second})
		if err != nil {
			return err
		}
		l.connections = append(l.connections, connection)
	}
	for i := range load.Workers {
		channel, err := l.channel(len(nodes.All) + i)
		if err != nil {
			return err
		}
		arguments := amqp.Table{"x-queue-type": "quorum", "x-quorum-initial-group-size": 3, "x-queue-leader-locator": "balanced"}
		if _, err := channel.QueueDeclare(l.queue(i), true, false, false, false, arguments); err != nil {
			return err
		}
		if err := channel.Qos(rabbitPrefetch, 0, false); err != nil {
			return err
		}
		deliveries, err := channel.Consume(l.queue(i), "", false, false, false, false, nil)
		if err != nil {
			return err
		}
		w := &rabbitWorker{line: l, queue: l.queue(i), channel: channel, batches: make(chan rabbitSettled, rabbitBatches-1)}
		l.group.Go(func() error { return w.work(ctx, deliveries) })
		l.group.Go(func() error { return w.settle(ctx) })
	}
	for i := range (l.job.Senders + rabbitSendersPerChannel - 1) / rabbitSendersPerChannel {
		channel, err := l.channel(i % len(nodes.All))
		if err != nil {
			return err
		}
		l.channels = append(l.channels, channel)
	}
	return nil
}

// channel opens one whose publishes are confirmed.
func (l *rabbitLine) channel(connection int) (*amqp.Channel, error) {
	channel, err := l.connections[connection].Channel()
	if err != nil {
		return nil, err
	}
	return channel, channel.Confirm(false)
}

func (l *rabbitLine) queue(worker int) string { return fmt.Sprintf("%s.%d", l.job.Name, worker) }

// Send publishes, and waits for the confirmation; other senders publish on the channel meanwhile.
func (l *rabbitLine) Send(ctx context.Context, sender, instance int, data []byte) error {
	return published(ctx, l.channels[sender/rabbitSendersPerChannel], l.queue(instance%load.Workers), data)
}

func published(ctx context.Context, channel *amqp.Channel, queue string, data []byte) error {
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, "", queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: data})
	if err != nil {
		return err
	}
	return confirmed(ctx, confirmation)
}

func confirmed(ctx context.Context, confirmation *amqp.DeferredConfirmation) error {
	ok, err := confirmation.WaitContext(ctx)
	if err == nil && !ok {
		err = errors.New("RabbitMQ did not take a message")
	}
	return err
}

// rabbitWorker takes the messages of a queue.
type rabbitWorker struct {
	line    *rabbitLine
	queue   string
	channel *amqp.Channel
	batches chan rabbitSettled // acknowledged, their marker not confirmed; in order
}

// rabbitSettled is what one acknowledgement was for.
type rabbitSettled struct {
	messages [][]byte
	marker   *amqp.DeferredConfirmation
}

// work acknowledges what was delivered, as much at once as there is, and sends a marker behind it. Markers are empty;
// their acknowledgement needs no marker.
func (w *rabbitWorker) work(ctx context.Context, deliveries <-chan amqp.Delivery) error {
	for {
		batch, err := gather(ctx, deliveries, rabbitBatch)
		if err != nil {
			return err
		}
		var messages [][]byte
		for _, d := range batch {
			if d.Acknowledger == nil {
				return fmt.Errorf("RabbitMQ closed the channel of a worker of %s", w.queue)
			}
			if len(d.Body) > 0 {
				messages = append(messages, d.Body)
			}
		}
		if err := batch[len(batch)-1].Ack(true); err != nil {
			return err
		}
		if len(messages) == 0 {
			continue
		}
		marker, err := w.channel.PublishWithDeferredConfirmWithContext(ctx, "", w.queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent})
		if err != nil {
			return err
		}
		select {
		case w.batches <- rabbitSettled{messages, marker}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settle tells of the jobs whose marker was confirmed.
func (w *rabbitWorker) settle(ctx context.Context) error {
	for {
		var batch rabbitSettled
		select {
		case batch = <-w.batches:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := confirmed(ctx, batch.marker); err != nil {
			return err
		}
		for _, data := range batch.messages {
			w.line.job.Settled(data)
		}
	}
}

// Close ends the workers and the connections.
func (l *rabbitLine) Close() error {
	l.end()
	err := l.group.Wait()
	var closing sync.WaitGroup
	for _, connection := range l.connections {
		closing.Go(func() { _ = connection.Close() }) // what it carried was told
	}
	closing.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

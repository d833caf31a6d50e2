//go:build linux

package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/bench/load"
	"sluice/bench/process"
)

// NATS is NATS JetStream: a stream of three replicas in files, with one durable consumer for each worker.
//
// Messages have a subject per instance, and each instance belongs to one consumer, so that its messages are delivered
// in the order of the stream. What the peer does not promise: a message that was not acknowledged in time comes again
// behind those that follow it, and nothing stops the delivery of an instance's other messages meanwhile.
type NATS struct {
	// Binary is nats-server.
	Binary string
	// Always has every write synced before it is acknowledged (sync_interval: always). Otherwise the server syncs every
	// two minutes, its default: what was acknowledged may be lost with the machine.
	Always bool
	// Queue has a message removed as it is acknowledged (work queue retention), which costs the server more. Otherwise
	// messages stay in the stream, and what every consumer has acknowledged is purged now and then.
	Queue bool
}

const (
	// natsFetch is how many messages a consumer's client asks for ahead.
	natsFetch = 4096
	// natsConnections carry the senders' publishes, each with many under way: one to each node.
	natsConnections = 3
	// natsStored bounds what a node's store takes.
	natsStored = "64GB"
	// natsPurge is how often acknowledged messages are purged.
	natsPurge = time.Second
	// natsPlace is how often a stream is tried to be placed, natsNoPeers what a server says that finds too few others.
	natsPlace   = 100 * time.Millisecond
	natsNoPeers = 10005
)

// Name is "nats", "nats-default" or "nats-queue".
func (p NATS) Name() string {
	switch {
	case !p.Always:
		return "nats-default"
	case p.Queue:
		return "nats-queue"
	}
	return "nats"
}

// Start starts three servers that know each other.
func (p NATS) Start(ctx context.Context, dir string) (load.Cluster, error) {
	ports, err := process.FreePorts(9)
	if err != nil {
		return nil, err
	}
	c := &natsCluster{peer: p, monitors: make(map[*process.Node]string)}
	if c.processes.Dir, err = os.MkdirTemp(dir, p.Name()+"-"); err != nil {
		return nil, err
	}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		file := filepath.Join(c.processes.Dir, name+".conf")
		if err := os.WriteFile(file, []byte(p.configure(name, filepath.Join(c.processes.Dir, name), ports[i], ports[3+i], ports[6+i], ports[6:])), 0o600); err != nil {
			return nil, errors.Join(err, c.Stop())
		}
		n, err := process.Launch(process.Program{Name: name, Address: ports[i], Log: filepath.Join(c.processes.Dir, name+".log"), Path: p.Binary, Args: []string{"-c", file}})
		if err != nil {
			return nil, errors.Join(err, c.Stop())
		}
		c.processes.All = append(c.processes.All, n)
		c.monitors[n] = "http://" + ports[3+i]
	}
	return c, c.processes.Up(ctx, func(n *process.Node) func(context.Context) error { return process.Answers(c.monitors[n] + "/healthz") })
}

func (p NATS) configure(name, dir, listen, monitor, route string, routes []string) string {
	sync := ""
	if p.Always {
		sync = "sync_interval: always"
	}
	return fmt.Sprintf("server_name: %s\nlisten: %q\nhttp: %q\njetstream { store_dir: %q, max_file_store: %s\n%s }\ncluster { name: bench, listen: %q, routes: [nats://%s] }\n",
		name, listen, monitor, dir, natsStored, sync, route, strings.Join(routes, ", nats://"))
}

// natsCluster is three servers.
type natsCluster struct {
	peer      NATS
	processes process.Cluster
	monitors  map[*process.Node]string
}

func (c *natsCluster) Processes() *process.Cluster { return &c.processes }

func (c *natsCluster) Stop() error { return c.processes.Stop() }

// Elections sums the terms of all raft groups of the first server: that of the cluster, in the system's account, and in
// the users' one for each stream and each consumer. Lines are closed without removing theirs.
func (c *natsCluster) Elections(ctx context.Context) (sum uint64, known bool, err error) {
	for _, account := range []string{"", "?acc=$G"} {
		terms, err := natsTerms(ctx, c.monitors[c.processes.All[0]]+"/raftz"+account)
		if err != nil {
			return 0, false, err
		}
		for _, groups := range terms {
			for _, group := range groups {
				sum, known = sum+group.Term, true
			}
		}
	}
	return sum, known, nil
}

// natsGroups are the raft groups by account and name.
type natsGroups map[string]map[string]struct {
	Term uint64 `json:"term"`
}

func natsTerms(ctx context.Context, url string) (groups natsGroups, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return groups, json.NewDecoder(answer.Body).Decode(&groups)
}

// Leader is not one node: every stream and every consumer has its own.
func (c *natsCluster) Leader(context.Context) (*process.Node, error) {
	return nil, errors.New("each stream of NATS has a leader of its own")
}

// Open makes a stream and its consumers, and waits until all have leaders.
func (c *natsCluster) Open(ctx context.Context, job load.Job) (load.Line, error) {
	l := &natsLine{job: job, peer: c.peer}
	l.failed.Store(new(error))
	for i := range natsConnections + load.Workers {
		connection, err := nats.Connect("nats://"+c.processes.From(i), nats.DontRandomize(), nats.RetryOnFailedConnect(false), nats.ErrorHandler(l.trouble))
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.connections = append(l.connections, connection)
		stream, err := jetstream.New(connection, jetstream.WithPublishAsyncMaxPending(1<<20))
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.streams = append(l.streams, stream)
	}
	if err := l.declare(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// natsLine is a stream with two consumers.
type natsLine struct {
	job         load.Job
	peer        NATS
	connections []*nats.Conn          // those of the senders, then those of the workers
	streams     []jetstream.JetStream // one on each connection
	consuming   []jetstream.ConsumeContext
	consumers   []jetstream.Consumer
	purging     sync.WaitGroup
	end         context.CancelFunc
	failed      atomic.Pointer[error]
}

// natsSettle is one worker's acknowledgements under way: its messages by the number in the reply's subject.
type natsSettle struct {
	line       *natsLine
	connection *nats.Conn
	inbox      string
	next       atomic.Uint64
	waiting    sync.Map // number → []byte
}

func (l *natsLine) declare(ctx context.Context) error {
	retention := jetstream.LimitsPolicy
	if l.peer.Queue {
		retention = jetstream.WorkQueuePolicy
	}
	stream, err := placed(ctx, l.streams[0], jetstream.StreamConfig{
		Name: l.job.Name, Subjects: []string{l.job.Name + ".>"}, Storage: jetstream.FileStorage, Replicas: 3, Retention: retention,
	})
	if err != nil {
		return err
	}
	for i := range load.Workers {
		name := fmt.Sprintf("worker-%d", i)
		_, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
			Durable: name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxAckPending: -1, FilterSubject: fmt.Sprintf("%s.%d.>", l.job.Name, i),
		})
		if err != nil {
			return err
		}
		if err := l.consume(ctx, natsConnections+i, name); err != nil {
			return err
		}
	}
	if !l.peer.Queue {
		running, end := context.WithCancel(ctx)
		l.end = end
		l.purging.Go(func() { l.purge(running, stream) })
	}
	return nil
}

// placed makes a stream. Servers that call themselves healthy may not know yet that all the others are.
func placed(ctx context.Context, on jetstream.JetStream, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, process.ReadyWithin)
	defer cancel()
	tick := time.NewTicker(natsPlace)
	defer tick.Stop()
	for {
		stream, err := on.CreateStream(ctx, cfg)
		var refused *jetstream.APIError
		if !errors.As(err, &refused) || refused.ErrorCode != natsNoPeers {
			return stream, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// purge removes, again and again, what all consumers have acknowledged.
func (l *natsLine) purge(ctx context.Context, stream jetstream.Stream) {
	tick := time.NewTicker(natsPurge)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		floor := uint64(math.MaxUint64)
		for _, consumer := range l.consumers {
			info, err := consumer.Info(ctx)
			if err != nil {
				floor = 0
				break
			}
			floor = min(floor, info.AckFloor.Stream)
		}
		if floor == 0 {
			continue // the next tick may know
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSequence(floor+1)); err != nil && ctx.Err() == nil {
			l.trouble(nil, nil, err)
		}
	}
}

// consume has a worker take messages.
func (l *natsLine) consume(ctx context.Context, i int, name string) error {
	consumer, err := l.streams[i].Consumer(ctx, l.job.Name, name)
	if err != nil {
		return err
	}
	s := &natsSettle{line: l, connection: l.connections[i], inbox: nats.NewInbox() + "."}
	if _, err := s.connection.Subscribe(s.inbox+"*", s.settled); err != nil {
		return err
	}
	consuming, err := consumer.Consume(s.handle, jetstream.PullMaxMessages(natsFetch), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { l.trouble(nil, nil, err) }))
	if err != nil {
		return err
	}
	l.consuming, l.consumers = append(l.consuming, consuming), append(l.consumers, consumer)
	return nil
}

// Send publishes asynchronously, many under way on a connection, and waits for its own acknowledgement.
func (l *natsLine) Send(ctx context.Context, sender, instance int, data []byte) error {
	subject := fmt.Sprintf("%s.%d.%d", l.job.Name, instance%load.Workers, instance)
	future, err := l.streams[sender%natsConnections].PublishAsync(subject, data)
	if err != nil {
		return err
	}
	select {
	case <-future.Ok():
		return nil
	case err := <-future.Err():
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// handle acknowledges, and asks for the server's word that the acknowledgement is stored: what DoubleAck does, without
// a goroutine for each message.
func (s *natsSettle) handle(m jetstream.Msg) {
	number := s.next.Add(1)
	reply := fmt.Sprintf("%s%d", s.inbox, number)
	s.waiting.Store(reply, m.Data())
	if err := s.connection.PublishRequest(m.Reply(), reply, natsAck); err != nil {
		s.line.trouble(nil, nil, err)
	}
}

var natsAck = []byte("+ACK")

// settled takes the server's word.
func (s *natsSettle) settled(m *nats.Msg) {
	if len(m.Data) > 0 || m.Header.Get("Status") != "" {
		s.line.trouble(nil, nil, fmt.Errorf("an acknowledgement was answered %q %q", m.Header.Get("Status"), m.Data))
		return
	}
	if data, ok := s.waiting.LoadAndDelete(m.Subject); ok {
		s.line.job.Settled(data.([]byte))
	}
}

// trouble keeps the first error of the background.
func (l *natsLine) trouble(_ *nats.Conn, _ *nats.Subscription, err error) {
	if first := l.failed.Load(); *first == nil {
		l.failed.CompareAndSwap(first, &err)
	}
}

// Close ends the consumers and the connections; the stream stays, as no raft group should go while others are counted.
func (l *natsLine) Close() error {
	if l.end != nil {
		l.end()
		l.purging.Wait()
	}
	for _, consuming := range l.consuming {
		consuming.Stop()
	}
	for _, connection := range l.connections {
		connection.Close()
	}
	return *l.failed.Load()
}

//go:build linux

package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"sluice/bench/load"
	"sluice/bench/process"
)

// Etcd does the job with etcd: a message is a key below its instance, made by a transaction that wants it not to be
// there; the worker to which the instance belongs watches, and deletes in transactions.
//
// The revision at which a key was made is the order, and a watch delivers in this order. What the peer does not
// promise: a worker that died is not replaced, and who watches must list first what is left over.
type Etcd struct {
	// Binary is etcd.
	Binary string
	// Each has every message sent, and settled, in a transaction of its own, as a client does that does not gather.
	Each bool
}

const (
	// etcdClients is how many clients the senders share. Each gathers what is sent while its transactions are under way.
	etcdClients = 3
	// etcdBatch is how many messages go in one transaction, the server's standard maximum.
	etcdBatch = 128
	// etcdCommits is how many transactions a client has under way.
	etcdCommits = 4
	// etcdEach is how many a client has under way that does not gather: enough for 1,024 senders.
	etcdEach = 512
	// etcdWithin bounds a transaction, etcdFailover where leaders are killed: what was with a dead one is given up soon,
	// and tried again. Were it long, the time without a leader would be rounded up to it.
	etcdWithin, etcdFailover = 30 * time.Second, 200 * time.Millisecond
	// etcdQueue is how many delivered messages a worker holds at most before it stops to watch.
	etcdQueue = 1 << 16
	// etcdQuota is the largest that etcd recommends.
	etcdQuota = 8 << 30
)

// Name is "etcd" or "etcd-each".
func (p Etcd) Name() string {
	if p.Each {
		return "etcd-each"
	}
	return "etcd"
}

// gathers is how many messages go in one transaction, and how many transactions a client has under way.
func (p Etcd) gathers() (batch, commits int) {
	if p.Each {
		return 1, etcdEach
	}
	return etcdBatch, etcdCommits
}

// Start starts three members of a new cluster.
func (p Etcd) Start(ctx context.Context, dir string) (load.Cluster, error) {
	ports, err := process.FreePorts(6)
	if err != nil {
		return nil, err
	}
	c := &etcdCluster{peer: p, programs: make(map[*process.Node]process.Program)}
	if c.processes.Dir, err = os.MkdirTemp(dir, p.Name()+"-"); err != nil {
		return nil, err
	}
	var members []string
	for i := range 3 {
		members = append(members, fmt.Sprintf("n%d=http://%s", i+1, ports[3+i]))
	}
	for i := range 3 {
		name, client, peer := fmt.Sprintf("n%d", i+1), "http://"+ports[i], "http://"+ports[3+i]
		program := process.Program{
			Name: name, Address: ports[i], Log: filepath.Join(c.processes.Dir, name+".log"), Path: p.Binary,
			Args: []string{
				"--name", name, "--data-dir", filepath.Join(c.processes.Dir, name), "--log-level", "warn",
				"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
				"--initial-cluster", strings.Join(members, ","), "--initial-cluster-state", "new", "--initial-cluster-token", filepath.Base(c.processes.Dir),
				"--quota-backend-bytes", strconv.Itoa(etcdQuota),
			},
		}
		n, err := process.Launch(program)
		if err != nil {
			return nil, errors.Join(err, c.Stop())
		}
		c.programs[n] = program
		c.processes.All = append(c.processes.All, n)
	}
	return c, c.processes.Up(ctx, etcdServes)
}

func etcdServes(n *process.Node) func(context.Context) error {
	return process.Answers("http://" + n.Address + "/health")
}

// etcdCluster is three members.
type etcdCluster struct {
	peer      Etcd
	processes process.Cluster
	programs  map[*process.Node]process.Program
}

func (c *etcdCluster) Processes() *process.Cluster { return &c.processes }

func (c *etcdCluster) Stop() error { return c.processes.Stop() }

// Restart starts a member that has ended on its data.
func (c *etcdCluster) Restart(ctx context.Context, node *process.Node) error {
	return relaunch(ctx, &c.processes, c.programs, node, etcdServes)
}

// status asks the members in turn: one that was killed does not answer.
func (c *etcdCluster) status(ctx context.Context) (status *clientv3.StatusResponse, err error) {
	one, err := c.client()
	if err != nil {
		return nil, err
	}
	defer one.Close()
	for _, address := range c.processes.Addresses() {
		once, cancel := context.WithTimeout(ctx, time.Second)
		status, err = one.Status(once, "http://"+address)
		cancel()
		if err == nil && status.Leader != 0 {
			return status, nil
		}
	}
	return nil, errors.Join(errors.New("no member of etcd knows a leader"), err)
}

func (c *etcdCluster) client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: c.processes.Addresses(), Logger: zap.NewNop()})
}

// Elections is raft's term.
func (c *etcdCluster) Elections(ctx context.Context) (uint64, bool, error) {
	status, err := c.status(ctx)
	if err != nil {
		return 0, false, err
	}
	return status.RaftTerm, true, nil
}

// Leader is the member that leads.
func (c *etcdCluster) Leader(ctx context.Context) (*process.Node, error) {
	status, err := c.status(ctx)
	if err != nil {
		return nil, err
	}
	one, err := c.client()
	if err != nil {
		return nil, err
	}
	defer one.Close()
	members, err := one.MemberList(ctx)
	if err != nil {
		return nil, err
	}
	for _, member := range members.Members {
		if member.ID == status.Leader {
			return named(&c.processes, member.Name)
		}
	}
	return nil, fmt.Errorf("the leader %x is no member", status.Leader)
}

// Open connects the senders and starts two watchers.
func (c *etcdCluster) Open(ctx context.Context, job load.Job) (load.Line, error) {
	batch, commits := c.peer.gathers()
	l := &etcdLine{job: job, batch: batch, queues: make([]chan etcdMessage, load.Workers), sends: make([]chan *etcdSend, etcdClients)}
	running, end := context.WithCancel(ctx)
	l.end = end
	l.group, running = errgroup.WithContext(running)
	for range etcdClients + load.Workers {
		one, err := c.client()
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.clients = append(l.clients, one)
	}
	for i := range l.sends {
		l.sends[i] = make(chan *etcdSend)
		for range commits {
			l.group.Go(func() error { return l.put(running, l.clients[i], l.sends[i]) })
		}
	}
	for i := range load.Workers {
		l.queues[i] = make(chan etcdMessage, etcdQueue)
		one := l.clients[len(l.clients)-1-i]
		watch := one.Watch(running, fmt.Sprintf("%s/%d/", job.Name, i), clientv3.WithPrefix(), clientv3.WithFilterDelete(), clientv3.WithCreatedNotify())
		if first, ok := <-watch; !ok || first.Err() != nil {
			return nil, errors.Join(errors.New("etcd does not let us watch"), first.Err(), l.Close())
		}
		l.group.Go(func() error { return l.watch(running, watch, l.queues[i]) })
		for range commits {
			l.group.Go(func() error { return l.settle(running, one, l.queues[i]) })
		}
	}
	return l, nil
}

// etcdLine is keys below a prefix, with their senders' clients and two watchers.
type etcdLine struct {
	job     load.Job
	batch   int                // messages of a transaction at most
	clients []*clientv3.Client // those of the senders, then those of the workers
	queues  []chan etcdMessage
	sends   []chan *etcdSend // by client
	group   *errgroup.Group
	end     context.CancelFunc
	unique  atomic.Uint64
}

// etcdMessage is what a watch delivered.
type etcdMessage struct {
	key  string
	data []byte
}

// etcdSend is one message under way.
type etcdSend struct {
	etcdMessage
	done chan error
}

// Send hands the message to a client, and waits until it is stored.
func (l *etcdLine) Send(ctx context.Context, sender, instance int, data []byte) error {
	key := fmt.Sprintf("%s/%d/%d/%d", l.job.Name, instance%load.Workers, instance, l.unique.Add(1))
	s := &etcdSend{etcdMessage{key, data}, make(chan error, 1)}
	select {
	case l.sends[sender%etcdClients] <- s:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-s.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// put stores messages, as many at once as there are, by a transaction that wants none of their keys to be there: so one
// that is sent again is not doubled. What fails is its senders' matter.
func (l *etcdLine) put(ctx context.Context, one *clientv3.Client, sends <-chan *etcdSend) error {
	for {
		batch, err := gather(ctx, sends, l.batch)
		if err != nil {
			return err
		}
		absent, puts := make([]clientv3.Cmp, len(batch)), make([]clientv3.Op, len(batch))
		for i, s := range batch {
			absent[i], puts[i] = clientv3.Compare(clientv3.CreateRevision(s.key), "=", 0), clientv3.OpPut(s.key, string(s.data))
		}
		within, cancel := context.WithTimeout(ctx, l.patience())
		answer, err := one.Txn(within).If(absent...).Then(puts...).Commit()
		cancel()
		if err == nil && !answer.Succeeded {
			err = fmt.Errorf("one of %d keys was there", len(batch))
		}
		for _, s := range batch {
			s.done <- err
		}
	}
}

// watch passes on what is delivered, in its order.
func (l *etcdLine) watch(ctx context.Context, watch clientv3.WatchChan, queue chan<- etcdMessage) error {
	for some := range watch {
		if err := some.Err(); err != nil {
			return err
		}
		for _, event := range some.Events {
			select {
			case queue <- etcdMessage{string(event.Kv.Key), event.Kv.Value}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return ctx.Err()
}

// settle deletes what was delivered, as many at once as there are, in a transaction. Each message must still have been
// there.
func (l *etcdLine) settle(ctx context.Context, one *clientv3.Client, queue <-chan etcdMessage) error {
	for {
		batch, err := gather(ctx, queue, l.batch)
		if err != nil {
			return err
		}
		deletions := make([]clientv3.Op, len(batch))
		for i, m := range batch {
			deletions[i] = clientv3.OpDelete(m.key)
		}
		answer, again, err := l.delete(ctx, one, deletions)
		if err != nil {
			return err
		}
		for i, m := range batch {
			if answer.Responses[i].GetResponseDeleteRange().Deleted != 1 && !again {
				return fmt.Errorf("the message %s was not there any more", m.key)
			}
			l.job.Settled(m.data)
		}
	}
}

// delete commits deletions. Where leaders are killed it tries again until it is answered: then some may have gone before.
func (l *etcdLine) delete(ctx context.Context, one *clientv3.Client, deletions []clientv3.Op) (answer *clientv3.TxnResponse, again bool, err error) {
	for {
		within, cancel := context.WithTimeout(ctx, l.patience())
		answer, err = one.Txn(within).Then(deletions...).Commit()
		cancel()
		if err == nil || !l.job.Failover || ctx.Err() != nil {
			return answer, again, err
		}
		again = true
	}
}

// patience bounds a transaction.
func (l *etcdLine) patience() time.Duration {
	if l.job.Failover {
		return etcdFailover
	}
	return etcdWithin
}

// gather waits for one, and takes what else is there, up to a number.
func gather[T any](ctx context.Context, queue <-chan T, most int) (batch []T, err error) {
	select {
	case one := <-queue:
		batch = append(batch, one)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for len(batch) < most {
		select {
		case one := <-queue:
			batch = append(batch, one)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// Close ends the watchers and the clients.
func (l *etcdLine) Close() error {
	l.end()
	err := l.group.Wait()
	for _, one := range l.clients {
		_ = one.Close() // what its calls met was told by them
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

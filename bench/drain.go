//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/bench/process"
	"sluice/client"
)

// drainWindow is how many messages of an instance may be with its worker at once, so that one instance is not bound by how
// long a round takes.
const drainWindow = 512

// drainWithin bounds one drain.
const drainWithin = 30 * time.Minute

// unbounded is an application that takes any backlog.
var unbounded = client.Application{
	Limits:   client.Limits{MaxInboxMessages: client.NoLimit, MaxInboxBytes: client.NoLimit, MaxDeferredMessages: client.NoLimit, MaxDeferredBytes: client.NoLimit},
	Delivery: client.DeliveryPolicy{Window: drainWindow},
}

// backlog is messages that are held: so many instances with so many each.
type backlog struct{ instances, each int }

// String is the backlog as -drain takes it.
func (b backlog) String() string { return fmt.Sprintf("%dx%d", b.instances, b.each) }

func parseBacklogs(text string) (out []backlog, err error) {
	for _, one := range strings.Split(text, ",") {
		instances, each, ok := strings.Cut(one, "x")
		b := backlog{}
		var err1, err2 error
		b.instances, err1 = strconv.Atoi(instances)
		b.each, err2 = strconv.Atoi(each)
		if !ok || errors.Join(err1, err2) != nil || b.instances < 1 || b.each < 1 {
			return nil, fmt.Errorf("-drain %q: want INSTANCESxMESSAGES, separated by commas, as in 1x1000,1000x1000", text)
		}
		out = append(out, b)
	}
	return out, nil
}

// drains fills and drains each backlog on three nodes, and prints what a message took.
func (s *settings) drains(ctx context.Context) (err error) {
	n, err := s.sluice().Launch(ctx, s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Stop()) }()
	fmt.Print("\n| drained: instances x messages | seconds | per second | time a message | CPU of the nodes a message | foreign CPU |\n| --- | ---: | ---: | ---: | ---: | ---: |\n")
	for _, b := range s.backlogs {
		got, err := s.drain(ctx, n.Processes(), b, drainWindow)
		if err != nil {
			return fmt.Errorf("drain %v: %w", b, err)
		}
		fmt.Printf("| %v | %.1f | %.0f | %v | %v | %.2f |\n", b, got.took.Seconds(), float64(got.messages)/got.took.Seconds(), (got.took / time.Duration(got.messages)).Round(100*time.Nanosecond), got.cpu.Round(100*time.Nanosecond), got.foreign)
	}
	return nil
}

// drained is what a drain took.
type drained struct {
	messages int
	took     time.Duration
	cpu      time.Duration // of the nodes, for one message
	foreign  float64
}

// drain holds a backlog, lets it go, and waits until a worker has settled all of it, each message once and in order.
func (s *settings) drain(ctx context.Context, n *process.Cluster, b backlog, window int) (got drained, err error) {
	c, err := client.New(client.Config{Addresses: n.Addresses(), Logger: quiet})
	if err != nil {
		return got, err
	}
	defer c.Close()
	d := s.newDrainage(c, b, window)
	if err := d.fill(ctx); err != nil {
		return got, err
	}
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	stop, err := d.work(ctx)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	before, err := n.Usage()
	if err != nil {
		return got, err
	}
	began := time.Now()
	if err := d.release(ctx); err != nil {
		return got, err
	}
	select {
	case <-d.done:
	case <-ctx.Done():
		return got, fmt.Errorf("%d messages were settled: %w", d.settled.Load(), context.Cause(ctx))
	}
	got = drained{messages: b.instances * b.each, took: time.Since(began)}
	after, err := n.Usage()
	if err != nil {
		return got, err
	}
	got.cpu = (after.Nodes - before.Nodes) / time.Duration(got.messages)
	got.foreign = after.Foreign(before)
	return got, d.trouble()
}

// drainage is one backlog and the worker that drains it.
type drainage struct {
	s           *settings
	client      *client.Client
	application string
	backlog     backlog
	window      int
	first       int // number of its first instance
	// next holds, by instance, the last sequence number that was handled: it must grow by one.
	next    []atomic.Uint64
	astray  atomic.Int64
	settled atomic.Int64
	done    chan struct{} // closed when all are settled
}

// newDrainage prepares a backlog that is worked off with a window.
func (s *settings) newDrainage(c *client.Client, b backlog, window int) *drainage {
	d := &drainage{s: s, client: c, application: "drain-" + b.String(), backlog: b, window: window, next: make([]atomic.Uint64, b.instances), done: make(chan struct{})}
	if window != drainWindow {
		d.application += fmt.Sprintf("-window-%d", window)
	}
	return d
}

func (d *drainage) id(n int) client.InstanceID {
	return client.InstanceID{Application: d.application, Key: strconv.Itoa(d.first + n)}
}

// fill declares the application, puts its instances into recovery and sends the backlog.
func (d *drainage) fill(ctx context.Context) error {
	declaration := unbounded
	declaration.Name, declaration.Delivery.Window = d.application, d.window
	if _, err := d.client.Applications().Apply(ctx, declaration); err != nil {
		return err
	}
	err := d.s.atOnce(ctx, d.backlog.instances, 1, func(ctx context.Context, n, _ int) error {
		_, err := d.client.Instances().EnterRecovery(ctx, d.id(n), client.EnterRecovery{Cause: "measured"})
		return err
	})
	if err != nil {
		return err
	}
	return d.sendAll(ctx)
}

// sendAll sends the backlog.
func (d *drainage) sendAll(ctx context.Context) error {
	return d.s.atOnce(ctx, d.backlog.instances*d.backlog.each, deferBatch, d.send)
}

// send defers the messages first to end, spread over the instances in turn.
func (d *drainage) send(ctx context.Context, first, end int) error {
	data := make([]byte, d.s.payload)
	if _, err := rand.Read(data); err != nil {
		return err
	}
	binary.BigEndian.PutUint64(data, 0) // no job's
	batch := make([]client.Message, 0, end-first)
	for n := first; n < end; n++ {
		batch = append(batch, client.Message{Application: d.application, Instance: d.id(n % d.backlog.instances).Key, Type: "measured", Data: data})
	}
	results, err := d.client.SendBatch(ctx, batch)
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			return r.Err
		}
		if r.Receipt.Disposition != client.DispositionDeferred {
			return fmt.Errorf("message %s was %s, not deferred", r.Receipt.MessageID, r.Receipt.Disposition)
		}
	}
	return nil
}

// work starts a worker; stop ends it.
func (d *drainage) work(ctx context.Context) (stop func() error, err error) {
	worker, err := d.client.NewWorker(client.WorkerConfig{
		Application: d.application, Capacity: min(d.backlog.instances, 65_536), Concurrency: 64, Prefetch: 1024, Handler: d.handle,
		OnEvent: func(e client.Event) {
			if e.Kind == client.EventCompleted && d.settled.Add(1) == int64(d.backlog.instances*d.backlog.each) {
				close(d.done)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	running, end := context.WithCancel(ctx)
	group, running := errgroup.WithContext(running)
	group.Go(func() error { return worker.Run(running) })
	return func() error { end(); return group.Wait() }, nil
}

// handle checks that the messages of an instance come once and in order.
func (d *drainage) handle(_ context.Context, m *client.Delivery) error {
	n, err := strconv.Atoi(m.Instance.Key)
	if err != nil {
		return err
	}
	if !d.next[n].CompareAndSwap(uint64(m.Seq)-1, uint64(m.Seq)) {
		d.astray.Add(1)
	}
	return nil
}

// release completes the recovery of every instance.
func (d *drainage) release(ctx context.Context) error {
	return d.s.atOnce(ctx, d.backlog.instances, 1, func(ctx context.Context, n, _ int) error {
		_, err := d.client.Instances().CompleteRecovery(ctx, d.id(n), client.CompleteRecovery{})
		return err
	})
}

func (d *drainage) trouble() error {
	if n := d.astray.Load(); n > 0 {
		return fmt.Errorf("%d messages were handled out of order or again", n)
	}
	return nil
}

// held is how much of the backlog is unsettled.
func (d *drainage) held(ctx context.Context) (messages uint64, err error) {
	for n := range d.backlog.instances {
		i, err := d.client.Instances().Get(ctx, d.id(n))
		if err != nil && !errors.Is(err, client.ErrUnknownInstance) && !errors.Is(err, client.ErrUnknownApplication) {
			return 0, err
		}
		messages += i.DeferredMessages
	}
	return messages, nil
}

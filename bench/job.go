//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"sluice/client"
)

const workerCount = 2

// quiet drops what clients have to say; what fails is returned.
var quiet = slog.New(slog.DiscardHandler)

// workers settle the messages of a load and tell its senders.
type workers struct {
	group   *errgroup.Group
	end     context.CancelFunc
	clients []*client.Client
	// handled holds the sender of a message from its handler on until its settlement is acknowledged.
	handled sync.Map // place → int
	settled []chan struct{}
	load    *load
}

// place is where a message stands.
type place struct {
	instance client.InstanceID
	seq      client.Seq
}

func (l *load) startWorkers(ctx context.Context, n *nodes) (*workers, error) {
	w := &workers{load: l, settled: make([]chan struct{}, len(l.latencies))}
	for i := range w.settled {
		w.settled[i] = make(chan struct{}, 1)
	}
	l.waits = w.wait
	running, end := context.WithCancel(ctx)
	w.end = end
	w.group, running = errgroup.WithContext(running)
	for i := range workerCount {
		c, err := client.New(client.Config{Addresses: n.from(i), Logger: quiet})
		if err != nil {
			return nil, errors.Join(err, w.stop(ctx))
		}
		w.clients = append(w.clients, c)
		worker, err := c.NewWorker(client.WorkerConfig{
			Application: l.application, Name: fmt.Sprintf("worker-%d", i), Capacity: l.s.instances, Concurrency: 64, Prefetch: 1024,
			Handler: w.handle, OnEvent: w.event,
		})
		if err != nil {
			return nil, errors.Join(err, w.stop(ctx))
		}
		w.group.Go(func() error { return worker.Run(running) })
	}
	return w, nil
}

// handle is the job: nothing but a note of whose message it was.
func (w *workers) handle(_ context.Context, d *client.Delivery) error {
	if sender := binary.BigEndian.Uint32(d.Message.Data); int(sender) < len(w.settled) {
		w.handled.Store(place{d.Instance, d.Seq}, int(sender))
	}
	return nil
}

// event wakes the sender whose message was settled.
func (w *workers) event(e client.Event) {
	if e.Kind != client.EventCompleted {
		return
	}
	if sender, ok := w.handled.LoadAndDelete(place{e.Instance, e.Seq}); ok {
		w.settled[sender.(int)] <- struct{}{}
	}
}

func (w *workers) wait(ctx context.Context, sender int) error {
	select {
	case <-w.settled[sender]:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends the workers once nothing is left to settle: what was counted was really done.
func (w *workers) stop(ctx context.Context) error {
	defer func() {
		for _, c := range w.clients {
			c.Close()
		}
	}()
	var err error
	if len(w.clients) == workerCount {
		err = w.drained(ctx)
	}
	w.end()
	if failed := w.group.Wait(); failed != nil && !errors.Is(failed, context.Canceled) {
		err = errors.Join(err, failed)
	}
	return err
}

// drained waits until no instance of the load holds a message.
func (w *workers) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		left := uint64(0)
		for instance, err := range w.clients[0].Instances().List(ctx, client.ListInstances{Application: w.load.application}) {
			if err != nil {
				return fmt.Errorf("%d messages are not settled: %w", left, err)
			}
			if n, err := strconv.Atoi(instance.ID.Key); err == nil && n < w.load.s.instances {
				left += instance.NormalMessages
			}
		}
		if left == 0 {
			return nil
		}
		if err := pause(ctx, readyEvery); err != nil {
			return fmt.Errorf("%d messages were not settled in time: %w", left, err)
		}
	}
}

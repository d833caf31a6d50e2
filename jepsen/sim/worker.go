package sim

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"sluice/client"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// worker is one life of a worker, on a machine of its own.
type worker struct {
	world  *World
	spec   world.Worker
	number int
	host   *host
	client *client.Client
	rows   *gate
	stop   context.CancelFunc
	done   chan struct{}
	err    error // may be read once done is closed
}

// gate lets rows through until it is shut: nobody sees what a worker that was killed still does.
type gate struct {
	out  *rowWriter
	shut atomic.Bool
}

// Write writes a row, or drops it.
func (g *gate) Write(row []byte) (int, error) {
	if g.shut.Load() {
		return len(row), nil
	}
	return g.out.Write(row)
}

// StartWorker starts a worker.
func (w *World) StartWorker(_ context.Context, spec world.Worker) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.workers[spec.Name]; old != nil {
		return fmt.Errorf("sim: worker %s is there already", spec.Name)
	}
	w.born++
	w.guests++
	k, err := w.work(spec, w.born, fmt.Sprintf("10.2.%d.%d", w.guests/250, w.guests%250+1))
	if err != nil {
		return err
	}
	w.workers[spec.Name] = k
	return nil
}

// work begins a life of a worker. w.mu is held.
func (w *World) work(spec world.Worker, number int, ip string) (*worker, error) {
	h := w.network.boot(ip)
	c, err := w.clientAt(h, spec.Name, false)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &worker{world: w, spec: spec, number: number, host: h, client: c, rows: &gate{out: w.rows}, stop: cancel, done: make(chan struct{})}
	w.trace.note("worker %s: starts", spec.Name)
	w.running.Go(func() {
		defer close(k.done)
		k.err = w.cfg.Run(ctx, c, spec, history.NewLog(k.rows, w.Now))
		if !k.rows.shut.Load() {
			w.trace.note("worker %s: ended: %v", spec.Name, k.err)
		}
		c.Close()
	})
	return k, nil
}

// kill ends a worker at once.
func (k *worker) kill() {
	if k.rows.shut.Swap(true) {
		return
	}
	k.world.trace.note("worker %s: killed", k.spec.Name)
	k.world.network.kill(k.host, false)
	k.stop()
	k.client.Close()
}

// StopWorkers ends all workers in good order.
func (w *World) StopWorkers(ctx context.Context) error {
	w.mu.Lock()
	workers := w.workers
	w.workers = map[string]*worker{}
	w.mu.Unlock()
	for _, k := range workers {
		k.stop()
	}
	var errs []error
	for _, k := range workers {
		select {
		case <-k.done:
			errs = append(errs, k.err)
		case <-ctx.Done():
			k.kill()
			errs = append(errs, fmt.Errorf("sim: worker %s did not stop: %w", k.spec.Name, ctx.Err()))
		}
	}
	return errors.Join(errs...)
}

// killWorkers kills some workers; the answered function starts them again.
func (w *World) killWorkers(names []string) (world.Heal, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var killed []*worker
	for _, name := range names {
		k := w.workers[name]
		if k == nil {
			return nil, fmt.Errorf("sim: there is no worker %q", name)
		}
		killed = append(killed, k)
	}
	for _, k := range killed {
		k.kill()
	}
	return func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, k := range killed {
			if w.workers[k.spec.Name] != k {
				continue // the workers were stopped meanwhile
			}
			w.born++
			again, err := w.work(k.spec, w.born, k.host.name)
			if err != nil {
				return err
			}
			w.workers[k.spec.Name] = again
		}
		return nil
	}, nil
}

//go:build linux

package proc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"sluice/client"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// specification is what a worker's process is told, as JSON.
type specification struct {
	Worker    world.Worker `json:"worker"`
	Addresses []string     `json:"addresses"`
	TLS       *client.TLS  `json:"tls,omitempty"`
	// History is the file of its own rows, which are told in the time since Start.
	History string    `json:"history"`
	Start   time.Time `json:"start"`
}

// worker is one name, and the process that goes by it.
type worker struct {
	spec    world.Worker
	process *process
	// runs counts the processes that have gone by the name.
	runs int
}

// RunWorker is what a worker's process does, given its specification: it runs a worker until it is told to end.
func RunWorker(ctx context.Context, text string, run world.RunWorker) (err error) {
	var s specification
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("proc: the specification of a worker: %w", err)
	}
	file, err := os.OpenFile(s.History, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	h := history.NewLog(file, func() time.Duration { return time.Since(s.Start) })
	defer func() { err = errors.Join(err, h.Err(), file.Close()) }()
	c, err := client.New(clientConfig(s.Addresses, s.TLS, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))))
	if err != nil {
		return err
	}
	defer c.Close()
	return run(ctx, c, s.Worker, h)
}

// StartWorker starts a worker's process.
func (w *World) StartWorker(_ context.Context, spec world.Worker) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.workers[spec.Name]
	if k == nil {
		k = &worker{spec: spec}
		w.workers[spec.Name] = k
	}
	return w.startWorker(k)
}

// startWorker is called with the lock held.
func (w *World) startWorker(k *worker) (err error) {
	if k.process != nil && k.process.alive() {
		return nil
	}
	k.runs++
	text, err := json.Marshal(specification{
		Worker: k.spec, Addresses: w.addresses(), TLS: w.clientTLS(), Start: w.start,
		History: filepath.Join(w.cfg.Dir, "workers", fmt.Sprintf("%s.%d.jsonl", k.spec.Name, k.runs)),
	})
	if err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	argv := append(append([]string{}, w.cfg.Worker...), string(text))
	if w.network != nil {
		argv = w.network.within(w.network.place(workersPlace), argv)
	}
	k.process, err = launch(filepath.Join(w.cfg.Dir, "log", k.spec.Name+".log"), argv)
	return err
}

// chosen are the workers of some names, and their processes.
func (w *World) chosen(names []string) (found []*worker, running []*process, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		k := w.workers[name]
		if k == nil {
			return nil, nil, fmt.Errorf("there is no worker %q", name)
		}
		found, running = append(found, k), append(running, k.process)
	}
	return found, running, nil
}

func (w *World) killWorkers(_ context.Context, f world.Fault, _ []*node) (world.Heal, error) {
	workers, running, err := w.chosen(f.Workers)
	if err != nil {
		return nothing, err
	}
	for _, p := range running {
		p.kill()
	}
	return func(context.Context) (err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, k := range workers {
			err = errors.Join(err, w.startWorker(k))
		}
		return err
	}, nil
}

func (w *World) pauseWorkers(_ context.Context, f world.Fault, _ []*node) (world.Heal, error) {
	_, running, err := w.chosen(f.Workers)
	if err != nil {
		return nothing, err
	}
	heal := func(context.Context) (err error) {
		for _, p := range running {
			err = errors.Join(err, p.signal(syscall.SIGCONT))
		}
		return err
	}
	for _, p := range running {
		if err := p.signal(syscall.SIGSTOP); err != nil {
			return heal, err
		}
	}
	return heal, nil
}

// StopWorkers ends all workers in good order.
func (w *World) StopWorkers(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var stopping sync.WaitGroup
	for _, k := range w.workers {
		stopping.Go(func() {
			_ = k.process.signal(syscall.SIGCONT) // it may have ended
			k.process.stop()
		})
	}
	stopping.Wait()
	return nil
}

package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"sluice/jepsen/history"
	"sluice/jepsen/nemesis"
	"sluice/jepsen/workload"
	"sluice/jepsen/world"
)

// Quiet is how long the cluster has, once all faults are healed, to take a message again and to settle all it holds.
type Quiet struct{ Write, Drain time.Duration }

// QuietDefault is generous: it is for proof that nothing is stuck, not for figures.
var QuietDefault = Quiet{Write: 30 * time.Second, Drain: 2 * time.Minute}

// Options are of a run, not of a scenario.
type Options struct {
	// Seed of whatever is left to chance.
	Seed uint64
	// Outside is a folder for the effects of handlers.
	Outside string
	// Quiet bounds the quiet phase; default QuietDefault.
	Quiet Quiet
	// EventLog, if set, opens a log in the XES standard whose cases are replayed beside the senders, again from the
	// beginning when it ends.
	EventLog func() (io.ReadCloser, error)
	// Prefer and Beside, if set, say which kind of fault is to come next, and when: see nemesis.Config.
	Prefer func(kinds []world.Kind) (kind world.Kind, ok bool)
	Beside func(kind world.Kind) (steady world.Kind, ok bool)
	// Tell is told what goes on; required.
	Tell func(format string, args ...any)
}

// Run carries a scenario out. Its error tells of trouble with the run itself, or that the cluster did not become quiet;
// whether what happened was right the checkers tell from the history. The world is left open.
func Run(ctx context.Context, w world.World, s Scenario, o Options) error {
	if s.Workers == 0 {
		s.Workers = 3
	}
	s.Load.Seed = o.Seed
	if err := workload.Declare(ctx, w); err != nil {
		return err
	}
	workers, err := startWorkers(ctx, w, s, o)
	if err != nil {
		return err
	}
	err = hurt(ctx, w, s, o, workers)
	w.History().Mark(history.Mark{Name: history.FaultsOver})
	if ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	err = errors.Join(err, calmDown(ctx, w, o))
	w.History().Mark(history.Mark{Name: history.QuietOver, Text: text(err)})
	return errors.Join(err, w.StopWorkers(ctx))
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func startWorkers(ctx context.Context, w world.World, s Scenario, o Options) (names []string, err error) {
	for _, a := range workload.Applications() {
		for i := range s.Workers {
			name := fmt.Sprintf("%s-worker-%d", a.Name, i+1)
			names = append(names, name)
			err := w.StartWorker(ctx, world.Worker{Name: name, Application: a.Name, TTL: 3 * time.Second, Capacity: 6, Seed: o.Seed, Outside: o.Outside})
			if err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

// hurt has senders, operators and the nemesis at work for the scenario's time.
func hurt(ctx context.Context, w world.World, s Scenario, o Options, workers []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	start := func(f func() error) {
		all.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	load := s.Load.Defaults()
	for i := range load.Senders {
		start(func() error { return workload.Send(ctx, w, fmt.Sprintf("sender-%d", i+1), load) })
	}
	if o.EventLog != nil {
		start(func() error { return replay(ctx, w, load, o.EventLog) })
	}
	for i := range load.Operators {
		start(func() error { return workload.Operate(ctx, w, fmt.Sprintf("operator-%d", i+1), load) })
	}
	if len(s.Faults) > 0 {
		start(func() error {
			return nemesis.Run(ctx, w, nemesis.Config{
				Seed: o.Seed, Kinds: s.Faults, Steady: s.Steady, Workers: workers, Shape: s.Shape, Gap: s.Gap, Await: s.Await, Prefer: o.Prefer, Beside: o.Beside, Tell: o.Tell,
			})
		})
	}
	_ = w.Wait(ctx, s.Time) // it ends early when ctx does
	cancel()
	all.Wait()
	return errors.Join(errs...)
}

// replay replays an event log again and again, under another name each time: the same id is the same message.
func replay(ctx context.Context, w world.World, load workload.Load, open func() (io.ReadCloser, error)) error {
	for round := 1; ctx.Err() == nil; round++ {
		log, err := open()
		if err != nil {
			return err
		}
		err = workload.Replay(ctx, w, fmt.Sprintf("replay-%d", round), log, load)
		if err = errors.Join(err, log.Close()); err != nil {
			return err
		}
	}
	return nil
}

// calmDown waits until the cluster takes messages and has settled all that it holds.
func calmDown(ctx context.Context, w world.World, o Options) error {
	if o.Quiet == (Quiet{}) {
		o.Quiet = QuietDefault
	}
	writing, cancel := context.WithTimeout(ctx, o.Quiet.Write)
	defer cancel()
	took, err := workload.Probe(writing, w)
	if err != nil {
		return fmt.Errorf("no message was accepted within %v of quiet: %w", o.Quiet.Write, err)
	}
	o.Tell("quiet: the first message was accepted after %v", took.Round(time.Millisecond))
	draining, cancel := context.WithTimeout(ctx, o.Quiet.Drain)
	defer cancel()
	began := w.Now()
	left, err := workload.Drain(draining, w)
	if err != nil || len(left) > 0 {
		return fmt.Errorf("after %v of quiet something is unsettled: %v (%v)", o.Quiet.Drain, left, err)
	}
	o.Tell("quiet: all was settled after %v", (w.Now() - began).Round(time.Millisecond))
	return nil
}

package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"sluice/jepsen/world"
)

// cutting cuts some of what goes over a fault's cuts.
func (w *World) cutting(of what) attack {
	return func(_ context.Context, f world.Fault, _ []*place) (world.Heal, error) {
		var ways []way
		for _, c := range f.Cuts {
			from, err1 := w.place(c.From)
			to, err2 := w.place(c.To)
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			ways = append(ways, way{from.ip, to.ip})
		}
		return w.cut(ways, of), nil
	}
}

// cut cuts ways, until it is healed.
func (w *World) cut(ways []way, of what) world.Heal {
	for _, c := range ways {
		w.network.cut(c, of)
	}
	return func(context.Context) error {
		for _, c := range ways {
			w.network.heal(c, of)
		}
		return nil
	}
}

// leaveBehind has places hear nothing from the others, and breaks their connections, so that nothing waits for them there.
func (w *World) leaveBehind(_ context.Context, _ world.Fault, at []*place) (world.Heal, error) {
	var ways []way
	for _, p := range at {
		for _, other := range w.places {
			if other != p {
				ways = append(ways, way{other.ip, p.ip})
			}
		}
		w.network.breakAll(p.ip, false)
	}
	return w.cut(ways, what{streams: true, words: true}), nil
}

// cutWorkers cuts all workers off from places.
func (w *World) cutWorkers(_ context.Context, _ world.Fault, at []*place) (world.Heal, error) {
	w.mu.Lock()
	var workers []string
	for _, k := range w.workers {
		workers = append(workers, k.host.name)
	}
	w.mu.Unlock()
	slices.Sort(workers)
	var ways []way
	for _, p := range at {
		for _, worker := range workers {
			ways = append(ways, way{worker, p.ip}, way{p.ip, worker})
		}
	}
	return w.cut(ways, what{streams: true}), nil
}

// frameEvery is how long connections to a place whose frames are cut hold, at most.
const frameEvery = time.Second

// cutFrames breaks what other nodes are saying to places in its midst, again and again.
func (w *World) cutFrames(_ context.Context, f world.Fault, at []*place) (world.Heal, error) {
	rng, over := w.rolls(f), make(chan struct{})
	w.running.Go(func() {
		for {
			timer := time.NewTimer(time.Duration(rng.Int64N(int64(frameEvery))))
			select {
			case <-timer.C:
				for _, p := range at {
					w.network.breakAll(p.ip, true)
				}
				continue
			case <-over:
			case <-w.ending:
			}
			timer.Stop()
			return
		}
	})
	return func(context.Context) error {
		close(over)
		return nil
	}, nil
}

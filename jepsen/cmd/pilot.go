//go:build linux

package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"sluice/jepsen/check"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// lookEvery is how long a pilot waits between two looks at a run.
const lookEvery = 15 * time.Second

// pilot prefers faults during which some phase of a recovery was never under way yet.
type pilot struct {
	before check.Sum

	mu sync.Mutex // guards all below
	// now is before and what the run has brought until the last look.
	now check.Sum
	// tries count how often a kind was preferred.
	tries map[world.Kind]int
}

func newPilot(before check.Sum) *pilot {
	return &pilot{before: before, now: before, tries: map[world.Kind]int{}}
}

// source is where a pilot looks.
type source interface {
	SoFar() (*history.History, error)
	Wait(ctx context.Context, d time.Duration) error
}

// look has the pilot look at a run now and then, until stop. What cannot be judged yet, for nodes are amid writing it
// down, waits for the next look.
func (p *pilot) look(s source) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	looking.Go(func() {
		for s.Wait(ctx, lookEvery) == nil {
			h, err := s.SoFar()
			if err != nil {
				continue
			}
			if c, err := check.New(h); err == nil {
				p.take(c.Coverage())
			}
		}
	})
	return func() { cancel(); looking.Wait() }
}

func (p *pilot) take(coverage map[string]map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.before.Plus(check.Sum{Coverage: coverage})
}

// prefer chooses, among kinds with empty cells, the one that was preferred least, and then the one with most of them.
func (p *pilot) prefer(kinds []world.Kind) (best world.Kind, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	least, most := 0, 0
	for _, kind := range kinds {
		empty, tries := len(p.now.Empty(string(kind))), p.tries[kind]
		if empty > 0 && (!ok || tries < least || tries == least && empty > most) {
			best, ok, least, most = kind, true, tries, empty
		}
	}
	if ok {
		p.tries[best]++
	}
	return best, ok
}

// brings are the steady kinds that bring about what is rare.
var brings = []struct {
	phase string
	kind  world.Kind
}{{check.SnapshotInstall, world.Lag}, {check.OwnerLost, world.WorkerKill}}

// beside tells which steady kind a fault is to meet, for it to be in force while a phase is under way that it has not met.
func (p *pilot) beside(kind world.Kind) (steady world.Kind, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	empty := p.now.Empty(string(kind))
	for _, b := range brings {
		if slices.Contains(empty, b.phase) {
			return b.kind, true
		}
	}
	return "", false
}

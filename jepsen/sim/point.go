package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"time"

	"sluice/internal/disk"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// point is a place at which a node can be stopped: what it does to one of its files, or says to somebody.
type point string

// points are those at which seeds stop nodes; often tells that a node passes it many times a second.
var points = []struct {
	point
	often bool
}{
	{"log segment: create", false}, {"log segment: write", true}, {"log segment: sync", true}, {"log segment: remove", false},
	{"log list: create", false}, {"log list: write", false}, {"log list: sync", false}, {"log list: rename", false}, {"log folder: sync", false},
	{"snapshot: create", false}, {"snapshot: write", false}, {"snapshot: sync", false}, {"snapshot: link", false}, {"snapshot: rename", false}, {"snapshot: remove", false},
	{"state manifest: create", false}, {"state manifest: write", false}, {"state manifest: sync", false},
	{"state table: create", false}, {"state table: write", false}, {"state table: sync", false}, {"state table: remove", false},
	{"state: create", false}, {"state: rename", false}, {"state: sync", false},
	{"state install: make folder", false}, {"state install: create", false}, {"state install: link", false}, {"state install: rename", false}, {"state install: remove", false},
	{"identity: create", false}, {"identity: rename", false},
	{"append: asked", true}, {"append: answered", true}, {"vote: asked", false}, {"vote: answered", false},
	{"snapshot: asked", false}, {"snapshot: answered", false}, {"hand-over: asked", false}, {"hand-over: answered", false},
	{"call: asked", true}, {"call: answered", true}, {"client: answered", true},
}

// Points are the places in the code of a node at which seeds stop it.
func Points() (all []string) {
	for _, p := range points {
		all = append(all, string(p.point))
	}
	return all
}

// filePoint is where a node is that changes a file.
func filePoint(op disk.Op, name string) point {
	file, area := path.Base(name), "state"
	switch {
	case strings.HasSuffix(file, ".wal"):
		area = "log segment"
	case strings.Contains(name, "/raft/wal/"):
		area = "log list"
	case strings.Contains(name, "/raft"):
		area = "log folder"
	case strings.Contains(name, "/snapshots"):
		area = "snapshot"
	case strings.HasPrefix(file, "node.json"):
		area = "identity"
	case strings.Contains(name, "/state."):
		area = "state install"
	case strings.HasPrefix(file, "MANIFEST"):
		area = "state manifest"
	case strings.HasSuffix(file, ".sst"):
		area = "state table"
	}
	return point(area + ": " + string(op))
}

// trap stops a node each time it has come to a point for a number of times: before or after what it does there, by a kill
// or a loss of power. It stands until it is taken away or has stopped the node for so often.
type trap struct {
	point
	after, dark, often bool

	// mu guards all below.
	mu  sync.Mutex
	rng *rand.Rand
	// left is how many times more the node passes until it is stopped, stops how many times it will be.
	left, stops int
	// taken: the fault is over.
	taken bool
}

// stopsMost is how often a trap stops a node.
const stopsMost = 3

func newTrap(rng *rand.Rand) *trap {
	p := points[rng.IntN(len(points))]
	t := &trap{point: p.point, often: p.often, after: rng.IntN(2) == 0, dark: rng.IntN(2) == 0, rng: rng, stops: stopsMost}
	t.wind()
	return t
}

// wind says how many times the node passes before it is stopped. mu is held, but by newTrap.
func (t *trap) wind() {
	t.left = 1 + t.rng.IntN(3)
	if t.often {
		t.left = 1 + t.rng.IntN(1<<t.rng.IntN(7))
	}
}

// springs tells that the node is to be stopped here and now.
func (t *trap) springs(at point, made bool) bool {
	if t.point != at || t.after != made {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken || t.stops == 0 {
		return false
	}
	if t.left--; t.left > 0 {
		return false
	}
	t.stops--
	t.wind()
	return true
}

func (t *trap) takeAway() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = true
}

func (t *trap) stands() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.taken
}

// String is for a person.
func (t *trap) String() string {
	text := map[bool]string{false: "before ", true: "after "}[t.after] + string(t.point)
	if t.dark {
		text += ", power lost"
	}
	return text
}

// passes is told of each point that a life comes to.
func (l *life) passes(at point, made bool) {
	t := l.place.trap.Load()
	if t == nil || l.over.Load() || !t.springs(at, made) {
		return
	}
	l.stopAt(t)
}

// stopAt ends a life where it is: whoever calls is in the midst of what it does, and holds what it holds. So nothing here
// waits.
func (l *life) stopAt(t *trap) {
	if l.over.Swap(true) {
		return
	}
	p, w := l.place, l.place.world
	w.network.kill(l.host, t.dark)
	if t.dark {
		t.mu.Lock()
		p.disk.PowerLoss(t.rng, unsyncedStays(t.rng))
		t.mu.Unlock()
	} else {
		p.disk.Unmount()
	}
	w.trace.note("%s: stopped %s", p.name, t)
	w.history.Mark(history.Mark{Name: history.StoppedAt, Text: string(t.point)})
	w.running.Go(func() {
		<-l.ready
		if l.server != nil {
			l.server.Abort(errKilled)
			l.stop()
		}
	})
	t.mu.Lock()
	again := 100*time.Millisecond + time.Duration(t.rng.IntN(2000))*time.Millisecond
	t.mu.Unlock()
	w.later(again, func() { p.comeBack(t) })
}

// comeBack starts a node that was stopped at a point, while the trap stands: it may be stopped again on the way.
func (p *place) comeBack(t *trap) {
	if !t.stands() {
		return
	}
	if err := p.start(); err != nil && !errors.Is(err, errRuns) && !errors.Is(err, errKilled) {
		p.world.blame(err)
	}
}

// crashAt sets traps at nodes, all of the same kind. Heal takes them away, and starts the nodes that they stopped last.
func (w *World) crashAt(_ context.Context, f world.Fault, at []*place) (world.Heal, error) {
	var traps []*trap
	for _, p := range at {
		t := newTrap(w.rolls(f))
		w.trace.note("%s: a trap %s", p.name, t)
		p.trap.Store(t)
		traps = append(traps, t)
	}
	return func(ctx context.Context) error {
		for n, p := range at {
			traps[n].takeAway()
			p.trap.Store(nil)
		}
		return revive(at)(ctx)
	}, nil
}

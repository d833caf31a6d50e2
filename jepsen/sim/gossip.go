package sim

import (
	"context"
	"sync"
	"time"

	"sluice/cluster/gossip"
)

const (
	// hearsayEvery is how often a node tells all others about itself, hearsayLost after how long of silence it is taken
	// for dead.
	hearsayEvery = time.Second
	hearsayLost  = 4 * time.Second
)

// hearsay is gossip over the simulated network: memberlist wants sockets. Like memberlist it knows late, may be wrong, and
// decides nothing.
type hearsay struct {
	host *host
	to   []string
	mesh *mesh
	cfg  gossip.Config
	// events are told by Run, in order.
	events chan gossip.Event

	// mu guards what follows.
	mu    sync.Mutex
	meta  gossip.Meta
	heard map[string]heard
}

type heard struct {
	member gossip.Member
	at     time.Time
	alive  bool
}

// mesh knows who listens at which host.
type mesh struct {
	mu   sync.Mutex
	ears map[string]*hearsay
}

func newMesh() *mesh { return &mesh{ears: map[string]*hearsay{}} }

// eventsMost bounds what waits to be told; what is more is told by the next word of the same node.
const eventsMost = 256

// listen opens gossip at a host; to are the hosts that it talks to.
func (m *mesh) listen(h *host, to []string, cfg gossip.Config) *hearsay {
	e := &hearsay{host: h, to: to, mesh: m, cfg: cfg, meta: cfg.Meta, heard: map[string]heard{}, events: make(chan gossip.Event, eventsMost)}
	m.mu.Lock()
	m.ears[h.name] = e
	m.mu.Unlock()
	return e
}

func (m *mesh) at(name string) *hearsay {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ears[name]
}

// Run tells the others, hears them, and says good-bye when ctx ends.
func (e *hearsay) Run(ctx context.Context) error {
	tick := time.NewTicker(hearsayEvery)
	defer tick.Stop()
	e.speak(false)
	for {
		select {
		case <-tick.C:
			e.speak(false)
			e.miss()
		case event := <-e.events:
			e.cfg.OnEvent(event)
		case <-ctx.Done():
			e.speak(true)
			return e.Close()
		}
	}
}

// Close ends it without a word.
func (e *hearsay) Close() error {
	e.mesh.mu.Lock()
	defer e.mesh.mu.Unlock()
	if e.mesh.ears[e.host.name] == e {
		delete(e.mesh.ears, e.host.name)
	}
	return nil
}

// Addr is where it listens.
func (e *hearsay) Addr() string { return e.cfg.Bind }

// UpdateMeta changes what this node tells of itself.
func (e *hearsay) UpdateMeta(m gossip.Meta) error {
	e.mu.Lock()
	e.meta = m
	e.mu.Unlock()
	e.speak(false)
	return nil
}

func (e *hearsay) speak(leaving bool) {
	e.mu.Lock()
	m := e.meta
	e.mu.Unlock()
	m.Leaving = leaving
	for _, to := range e.to {
		if to == e.host.name {
			continue
		}
		e.host.datagram(to, func() {
			if ear := e.mesh.at(to); ear != nil {
				ear.hear(gossip.Member{Meta: m, GossipAddress: e.cfg.Bind, Alive: !leaving})
			}
		})
	}
}

// hear takes a word of another node.
func (e *hearsay) hear(m gossip.Member) {
	if m.Cluster != e.cfg.Cluster {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	was, known := e.heard[m.NodeID]
	kind := gossip.Updated
	switch {
	case !m.Alive && (!known || !was.alive):
		return
	case !m.Alive:
		kind = gossip.Left
	case !known || !was.alive:
		kind = gossip.Joined
	case was.member == m:
		e.heard[m.NodeID] = heard{member: m, at: time.Now(), alive: true}
		return
	}
	e.tell(gossip.Event{Kind: kind, Member: m}, heard{member: m, at: time.Now(), alive: m.Alive})
}

// miss takes for dead who has been silent for long.
func (e *hearsay) miss() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.heard {
		if h.alive && time.Since(h.at) > hearsayLost {
			h.alive, h.member.Alive = false, false
			e.tell(gossip.Event{Kind: gossip.Failed, Member: h.member}, h)
		}
	}
}

// tell remembers what it could tell of.
func (e *hearsay) tell(event gossip.Event, h heard) {
	select {
	case e.events <- event:
		e.heard[event.Member.NodeID] = h
	default:
	}
}

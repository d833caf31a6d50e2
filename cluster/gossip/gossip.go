// Package gossip finds the other nodes and hints at their health. It never decides anything: who votes is raft's.
//
// It is memberlist (SWIM) under the cluster's name as label, so that nodes of another cluster are not heard.
package gossip

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"sluice/internal/obs"
)

// Meta is what a node tells the others about itself: at most 512 bytes in its JSON form.
type Meta struct {
	NodeID          string `json:"i"`
	Address         string `json:"a"`
	Cluster         string `json:"c"`
	ClusterID       string `json:"u,omitempty"`
	BootstrapExpect int    `json:"b,omitempty"`
	HasState        bool   `json:"s,omitempty"`
	Version         string `json:"v,omitempty"`
	// Leaving is said by a node before its good-bye, for memberlist tells a node that left and one that died alike.
	Leaving bool `json:"l,omitempty"`
}

// Member is a node as gossip knows it.
type Member struct {
	Meta
	GossipAddress string
	Alive         bool
}

// EventKind says what happened to a member.
type EventKind int

// The kinds of event.
const (
	Joined EventKind = iota + 1
	Updated
	Left
	Failed
	// Asked comes once, when all addresses of Config.Join were tried, behind what came of it. It is of no member.
	Asked
)

// Event is one change.
type Event struct {
	Kind   EventKind
	Member Member
}

// Timings is a set of memberlist timings.
type Timings int

// The sets to choose from: LAN is the default; Local is quicker, for nodes on one machine.
const (
	LAN Timings = iota
	Local
)

// Config says how to gossip. The zero value of a field means its default.
type Config struct {
	// NodeID names this node among the others.
	NodeID string
	// Cluster is the label: nodes with another one are not heard.
	Cluster string
	// Bind is the HOST:PORT to listen on, TCP and UDP; port 0: the kernel's choice.
	Bind string
	// Advertise is the HOST:PORT for others; default: what was bound.
	Advertise string
	// Join holds seeds, HOST:PORT, looked up anew at each try. This node's own address among them does no harm.
	Join []string
	// Meta is what this node tells of itself at first.
	Meta Meta
	// Logger takes what is odd; default slog.Default.
	Logger *slog.Logger
	// JoinRetryMin and JoinRetryMax bound the wait between tries while no other node is known; default 200 ms and 5 s.
	JoinRetryMin, JoinRetryMax time.Duration
	// Rejoin is how often the seeds are asked once others are known, so that a cut that heals is noticed; default 30 s.
	Rejoin time.Duration
	// LeaveTimeout bounds the good-bye; default 1 s.
	LeaveTimeout time.Duration
	// Timings is LAN by default.
	Timings Timings
	// OnEvent is called by Run, one event at a time, in order; it may take its time.
	OnEvent func(Event)
}

func (c Config) withDefaults() Config {
	c.JoinRetryMin = cmp.Or(c.JoinRetryMin, 200*time.Millisecond)
	c.JoinRetryMax = cmp.Or(c.JoinRetryMax, 5*time.Second)
	c.Rejoin = cmp.Or(c.Rejoin, 30*time.Second)
	c.LeaveTimeout = cmp.Or(c.LeaveTimeout, time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
	return c
}

// Gossip is one node's part. Its methods are safe for use by several goroutines.
type Gossip struct {
	cfg  Config
	log  *slog.Logger
	list *memberlist.Memberlist
	meta atomic.Pointer[[]byte]
	// leaving is set before the good-bye.
	leaving atomic.Bool
	// bell is rung when pending holds something.
	bell chan struct{}
	// mu guards pending, the events that memberlist told of and OnEvent has not seen, and table, who is alive. They
	// are copies: memberlist's own records may be read only while it tells of them.
	mu      sync.Mutex
	pending []Event
	table   map[string]Member
}

// Listen opens the sockets and begins to answer others. Run or Close must follow.
func Listen(cfg Config) (*Gossip, error) {
	cfg = cfg.withDefaults()
	g := &Gossip{cfg: cfg, log: cfg.Logger.With("component", "gossip"), bell: make(chan struct{}, 1), table: map[string]Member{}}
	if err := g.setMeta(cfg.Meta); err != nil {
		return nil, err
	}
	conf, err := g.memberlistConfig()
	if err != nil {
		return nil, err
	}
	if g.list, err = memberlist.Create(conf); err != nil {
		return nil, fmt.Errorf("gossip: listen on %s: %w", cfg.Bind, cmp.Or(bindTrouble(cfg.Bind), err))
	}
	return g, nil
}

// bindTrouble is why an address cannot be bound, as the system says it: memberlist makes a text of it. Nil: it can.
func bindTrouble(bind string) error {
	l, err := net.Listen("tcp", bind)
	if err != nil {
		return err
	}
	u, err := net.ListenPacket("udp", bind)
	if err == nil {
		err = u.Close()
	}
	return cmp.Or(err, l.Close())
}

func (g *Gossip) memberlistConfig() (*memberlist.Config, error) {
	conf := memberlist.DefaultLANConfig()
	if g.cfg.Timings == Local {
		conf = memberlist.DefaultLocalConfig()
	}
	var err error
	if conf.BindAddr, conf.BindPort, err = address("bind", g.cfg.Bind); err != nil {
		return nil, err
	}
	conf.AdvertisePort = conf.BindPort
	if g.cfg.Advertise != "" {
		if conf.AdvertiseAddr, conf.AdvertisePort, err = address("advertise", g.cfg.Advertise); err != nil {
			return nil, err
		}
	}
	conf.Name, conf.Label = g.cfg.NodeID, g.cfg.Cluster
	conf.Delegate, conf.Events = (*delegate)(g), (*events)(g)
	conf.Logger = log.New(obs.LineWriter(obs.Lower(g.cfg.Logger, g.level), "memberlist"), "", 0)
	return conf, nil
}

// level is the level of a line of memberlist. What its sockets say while they are closed is no news, nor is it that a
// node which comes back is still taken for dead at first.
func (g *Gossip) level(r slog.Record) slog.Level {
	switch {
	case g.leaving.Load():
		return slog.LevelDebug
	case strings.HasPrefix(r.Message, "Refuting a dead message"):
		return slog.LevelInfo
	}
	return r.Level
}

func address(what, s string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(s)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("gossip: %s address %q is not HOST:PORT", what, s)
	}
	return host, port, nil
}

func (g *Gossip) setMeta(m Meta) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	if len(b) > memberlist.MetaMaxSize {
		return fmt.Errorf("gossip: what the node tells of itself has %d bytes; at most %d fit: shorten the node id, the cluster name or the address", len(b), memberlist.MetaMaxSize)
	}
	g.meta.Store(&b)
	return nil
}

// Run joins the seeds, tries for ever, hands out events, and leaves when ctx ends.
func (g *Gossip) Run(ctx context.Context) error {
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		g.join(ctx)
	}()
	for {
		select {
		case <-g.bell:
			for _, e := range g.take() {
				g.cfg.OnEvent(e)
			}
		case <-ctx.Done():
			g.leaving.Store(true)
			<-joined
			return g.leave()
		}
	}
}

// leave says good-bye. That nobody hears it is no error: the others may be gone.
func (g *Gossip) leave() error {
	m := g.cfg.Meta
	if err := json.Unmarshal(*g.meta.Load(), &m); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	m.Leaving = true
	if err := errors.Join(g.UpdateMeta(m), g.list.Leave(g.cfg.LeaveTimeout)); err != nil {
		g.log.Debug("the good-bye was not heard by all", "error", err)
	}
	return g.Close()
}

// join asks the seeds until another node is known, and from then on once in a while.
func (g *Gossip) join(ctx context.Context) {
	if len(g.cfg.Join) == 0 {
		return
	}
	wait := g.cfg.JoinRetryMin
	var alone loneliness
	asked := false
	for {
		reached, err := g.list.Join(g.cfg.Join)
		if !asked {
			asked = true
			g.queue(Event{Kind: Asked})
		}
		pause := wait
		if g.list.NumMembers() > 1 {
			wait, pause = g.cfg.JoinRetryMin, g.cfg.Rejoin
			alone = loneliness{}
		} else {
			wait = min(2*wait, g.cfg.JoinRetryMax)
			if reached < len(g.cfg.Join) && alone.tell(time.Now()) {
				g.tellAlone(err)
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

const (
	// aloneTries is how many tries to find another node come to nothing before that is said.
	aloneTries = 6
	// aloneEvery is how often it is said again.
	aloneEvery = time.Minute
)

// loneliness counts the tries since another node was last known.
type loneliness struct {
	tries int
	told  time.Time
}

// tell counts one more and says whether it is to be told of.
func (l *loneliness) tell(now time.Time) bool {
	l.tries++
	if l.tries < aloneTries || now.Sub(l.told) < aloneEvery {
		return false
	}
	l.told = now
	return true
}

// tellAlone says that the seeds lead nowhere, and what may be wrong. A node of another cluster hangs up without a word:
// only its own log says why.
func (g *Gossip) tellAlone(err error) {
	text, next := "", "is --join the --gossip address of another node, does that node run, and is the way there open for TCP and UDP?"
	if err != nil {
		text = strings.Join(strings.Fields(err.Error()), " ")
	}
	if strings.Contains(text, "EOF") || strings.Contains(text, "reset by peer") {
		next = "a seed takes the connection and hangs up: it may belong to a cluster of another --cluster-name, or not be a --gossip address"
	}
	g.log.Warn("no other node has been found yet; trying on", "seeds", g.cfg.Join, "cluster", g.cfg.Cluster, "error", text, "next", next)
}

// Close stops without a good-bye.
func (g *Gossip) Close() error {
	g.leaving.Store(true)
	return g.list.Shutdown()
}

// Addr is the HOST:PORT that others are told.
func (g *Gossip) Addr() string { return g.list.LocalNode().Address() }

// Members lists all that are alive, this node included, by id.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := slices.Collect(maps.Values(g.table))
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.NodeID, b.NodeID) })
	return out
}

// UpdateMeta changes what this node tells of itself.
func (g *Gossip) UpdateMeta(m Meta) error {
	if err := g.setMeta(m); err != nil {
		return err
	}
	return g.list.UpdateNode(g.cfg.LeaveTimeout)
}

// take takes the events that wait.
func (g *Gossip) take() []Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.pending
	g.pending = nil
	return out
}

func member(n *memberlist.Node) (Member, error) {
	m := Member{GossipAddress: n.Address()}
	if err := json.Unmarshal(n.Meta, &m.Meta); err != nil {
		return m, fmt.Errorf("gossip: node %q tells of itself what this version cannot read: %w", n.Name, err)
	}
	if m.NodeID != n.Name {
		return m, fmt.Errorf("gossip: node %q says that it is %q", n.Name, m.NodeID)
	}
	return m, nil
}

// delegate is what memberlist asks; it must not wait.
type delegate Gossip

// NodeMeta tells the others about this node.
func (d *delegate) NodeMeta(int) []byte { return *d.meta.Load() }

// NotifyMsg takes messages of users, of which there are none.
func (d *delegate) NotifyMsg([]byte) {}

// GetBroadcasts has nothing to spread.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState has nothing to exchange.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState has nothing to take.
func (d *delegate) MergeRemoteState([]byte, bool) {}

// events takes what memberlist tells, as values, for Run to hand out.
type events Gossip

// NotifyJoin tells of a node that came, or came back.
func (e *events) NotifyJoin(n *memberlist.Node) { (*Gossip)(e).note(Joined, n) }

// NotifyUpdate tells of a node that changed what it says of itself.
func (e *events) NotifyUpdate(n *memberlist.Node) { (*Gossip)(e).note(Updated, n) }

// NotifyLeave tells of a node that said good-bye, or is taken for dead.
func (e *events) NotifyLeave(n *memberlist.Node) {
	kind := Failed
	if m, err := member(n); err == nil && m.Leaving {
		kind = Left
	}
	(*Gossip)(e).note(kind, n)
}

func (g *Gossip) note(kind EventKind, n *memberlist.Node) {
	m, err := member(n)
	if err != nil {
		g.log.Warn("a node is passed over", "error", err)
		return
	}
	m.Alive = kind == Joined || kind == Updated
	g.mu.Lock()
	if m.Alive {
		g.table[m.NodeID] = m
	} else {
		delete(g.table, m.NodeID)
	}
	g.mu.Unlock()
	g.queue(Event{kind, m})
}

// queue has Run hand an event out, behind those before.
func (g *Gossip) queue(e Event) {
	g.mu.Lock()
	g.pending = append(g.pending, e)
	g.mu.Unlock()
	select {
	case g.bell <- struct{}{}:
	default:
	}
}

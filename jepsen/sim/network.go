package sim

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// network carries streams and datagrams between hosts. What is random about a link is drawn from the seed, the link and a
// counter of what went over it, so that it does not hang on what other links do.
type network struct {
	dice  dice
	trace *trace

	// mu guards what follows, and the state of every link. Nothing waits under it.
	mu    sync.Mutex
	hosts map[string]*host
	links map[way]*link
	// qualities are of the hosts that were ever treated badly.
	qualities map[string]*quality
	// conns counts the connections that were made.
	conns uint64
}

// quality is how the network treats a host.
type quality struct {
	// loss is how many percent of the packets that arrive are lost.
	loss int
	// slow is added to the way of what it sends to nodes.
	slow time.Duration
}

// way is a direction between two hosts.
type way struct{ from, to string }

func newNetwork(d dice, t *trace) *network {
	return &network{dice: d, trace: t, hosts: map[string]*host{}, links: map[way]*link{}, qualities: map[string]*quality{}}
}

// link is one direction between two hosts. Its fields are guarded by the network's mu.
type link struct {
	way
	// sent counts what went over it.
	sent uint64
	// cuts counts who cut it: nothing that streams carry arrives while anybody does. since is when the first did.
	cuts  int
	since time.Time
	// mutes counts who keeps datagrams from it.
	mutes int
	// streams are those that go over it.
	streams map[*stream]struct{}
}

func (n *network) link(w way) *link {
	l := n.links[w]
	if l == nil {
		l = &link{way: w, streams: map[*stream]struct{}{}}
		n.links[w] = l
	}
	return l
}

const (
	// usual is how long a packet is under way at least, and jitter how much longer it may well be.
	usual  = 200 * time.Microsecond
	jitter = 800 * time.Microsecond
	// tail is the chance, one in so many, that a packet takes its time: up to tailMost, mostly far less.
	tail     = 200
	tailMost = 400 * time.Millisecond
	// resend is how long a sender waits before it sends a lost packet again; the wait doubles, up to resendMost.
	resend     = 200 * time.Millisecond
	resendMost = 3 * time.Second
)

// delay is how long the next packet takes over a link. A packet of a stream that is lost is sent again, so it only takes longer.
func (n *network) delay(l *link) time.Duration {
	l.sent++
	d := n.dice.of("packet", l.from, l.to, strconv.FormatUint(l.sent, 10))
	span := usual + time.Duration(d.Int64N(int64(jitter)))
	if q := n.qualities[l.from]; q != nil && q.slow > 0 && !isGuest(l.to) {
		span += q.slow
		if d.IntN(10) == 0 {
			span += time.Duration(d.Int64N(int64(4 * q.slow)))
		}
	}
	if d.IntN(tail) == 0 {
		span += tailMost / time.Duration(1+d.IntN(40))
	}
	loss := n.loss(l.to)
	for wait := resend; loss > 0 && d.IntN(100) < loss; wait = min(2*wait, resendMost) {
		span += wait
	}
	return span
}

// loss is how many percent of the packets to a host are lost.
func (n *network) loss(to string) int {
	if q := n.qualities[to]; q != nil {
		return q.loss
	}
	return 0
}

// host is a machine with an address, from its start to its end. A machine that comes back is another host.
type host struct {
	network   *network
	name      string
	listeners map[string]*listener
	conns     map[*conn]struct{}
	// gone: the process was killed, and its machine says so to whoever asks. dark: the machine itself is off.
	gone, dark bool
	// orphans are the far ends of streams that a dark machine left.
	orphans []*stream
	// watched, if set, is told of each point that a node comes to by what it says. It is set before anything is said.
	watched func(at point, made bool)
}

// watch has a function told of the points that a host comes to.
func (n *network) watch(h *host, f func(at point, made bool)) { h.watched = f }

// boot brings a host up under a name, which is its IP address, and tells the far ends of what the one before left.
func (n *network) boot(name string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.hosts[name]; old != nil {
		n.drop(old, false)
		for _, s := range old.orphans {
			n.reset(s)
		}
	}
	h := &host{network: n, name: name, listeners: map[string]*listener{}, conns: map[*conn]struct{}{}}
	n.hosts[name] = h
	return h
}

// kill ends a host: its connections are gone at once. If only its process was killed the other ends are told; if its
// machine lost power they hear nothing.
func (n *network) kill(h *host, dark bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop(h, dark)
}

// end ends all hosts.
func (n *network) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.hosts {
		n.drop(h, false)
	}
}

func (n *network) drop(h *host, dark bool) {
	if h.gone {
		return
	}
	h.gone, h.dark = true, dark
	for _, l := range h.listeners {
		l.stop()
	}
	for _, c := range h.inOrder() {
		c.in.leave()
		c.out.stop()
		delete(c.in.link.streams, c.in)
		if far := c.out; dark {
			h.orphans = append(h.orphans, far)
		} else {
			n.reset(far)
		}
	}
	clear(h.conns)
}

// inOrder are a host's connections in the order in which they were made.
func (h *host) inOrder() []*conn {
	return slices.SortedFunc(maps.Keys(h.conns), func(a, b *conn) int { return cmp.Compare(a.number, b.number) })
}

// reset ends a stream with a reset, after the time a packet takes.
func (n *network) reset(s *stream) { s.finish(time.Now().Add(n.delay(s.link)), syscall.ECONNRESET) }

// what says which traffic a cut keeps back.
type what struct{ streams, words bool }

// cut adds a cut to a direction; heal takes one away. What was held then arrives, some time later.
func (n *network) cut(w way, of what) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(w)
	if of.words {
		l.mutes++
	}
	if !of.streams {
		return
	}
	if l.cuts++; l.cuts == 1 {
		l.since = time.Now()
	}
}

func (n *network) heal(w way, of what) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(w)
	if of.words {
		l.mutes--
	}
	if !of.streams {
		return
	}
	if l.cuts--; l.cuts > 0 {
		return
	}
	// Senders that waited longer wait longer before they try again.
	most := min(time.Since(l.since)/2+time.Millisecond, resendMost)
	l.sent++
	again := time.Now().Add(time.Duration(n.dice.of("heal", l.from, l.to, strconv.FormatUint(l.sent, 10)).Int64N(int64(most))))
	inOrder := slices.SortedFunc(maps.Keys(l.streams), func(a, b *stream) int { return cmp.Compare(a.number, b.number) })
	for _, s := range inOrder {
		s.postpone(again)
	}
}

// breakAll breaks the connections between a host and other nodes: both ends are told. torn: the last that is under way
// arrives by half.
func (n *network) breakAll(name string, torn bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[name]
	if h == nil || h.gone {
		return
	}
	for _, c := range h.inOrder() {
		if isGuest(c.remoteName()) {
			continue
		}
		for _, s := range []*stream{c.in, c.out} {
			if torn {
				s.tear()
			}
			n.reset(s)
		}
	}
}

// worsen changes how the network treats a host.
func (n *network) worsen(name string, change func(*quality)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n.quality(name))
}

func (n *network) quality(name string) *quality {
	q := n.qualities[name]
	if q == nil {
		q = &quality{}
		n.qualities[name] = q
	}
	return q
}

func (n *network) held(l *link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return l.cuts > 0
}

// datagram carries a message that may be lost; arrive is called at the other end, if it gets there.
func (h *host) datagram(to string, arrive func()) {
	n := h.network
	n.mu.Lock()
	l := n.link(way{h.name, to})
	l.sent++
	lost := h.gone || l.mutes > 0 || n.dice.of("loss", l.from, l.to, strconv.FormatUint(l.sent, 10)).IntN(100) < n.loss(to)
	span := n.delay(l)
	n.mu.Unlock()
	if lost {
		return
	}
	time.AfterFunc(span, func() {
		n.mu.Lock()
		there := n.hosts[to]
		ok := there != nil && !there.gone && l.mutes == 0
		n.mu.Unlock()
		if ok {
			arrive()
		}
	})
}

package client

import (
	"net/url"
	"sync"
	"time"
)

// node is one address, and what is remembered of its health.
type node struct {
	address string // host:port
	url     string
	calls   sync.Map // procedure → *connect.Client of its types

	// failures in a row and the time until which other nodes are preferred; guarded by nodes.mu.
	failures int
	until    time.Time
	// misfit: the last attempt failed in a way that will last. Guarded by nodes.mu.
	misfit bool
	// unheard is since when the node has answered none of the calls that were made to it, also if they were given up; zero: it
	// has answered. asked counts those under way. Both are of calls that a node answers at once, and guarded by nodes.mu.
	unheard time.Time
	asked   int
}

// A node that failed is passed over for this long, doubling with each failure in a row, while another one is well.
const (
	penaltyInitial = 100 * time.Millisecond
	penaltyMax     = 10 * time.Second
)

// silence is how long a leader may answer nothing that it is asked before other nodes are called: it may hang, or be cut off,
// and another one may lead by now.
const silence = time.Second

// nodes picks a node for each attempt: the leader, if a node has told who it is, or else in turn, the well before those that
// failed lately.
type nodes struct {
	mu     sync.Mutex
	all    []*node
	next   int
	spread bool  // the leader is a node like the others
	leader *node // nil: nobody has told, or it is none of all
}

func newNodes(cfg Config) (*nodes, error) {
	ns := &nodes{spread: cfg.Spread}
	seen := map[string]bool{}
	for _, address := range cfg.Addresses {
		u, err := cfg.baseURL(address)
		if err != nil {
			return nil, err
		}
		if !seen[u.String()] {
			seen[u.String()] = true
			ns.all = append(ns.all, newNode(u))
		}
	}
	return ns, nil
}

func newNode(u *url.URL) *node { return &node{address: u.Host, url: u.String()} }

// pick is the next node that is well, else the one whose penalty ends first.
func (ns *nodes) pick(now time.Time) *node {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	var best *node
	for range ns.all {
		n := ns.all[ns.next%len(ns.all)]
		ns.next++
		if !now.Before(n.until) {
			return n
		}
		if best == nil || n.until.Before(best.until) {
			best = n
		}
	}
	return best
}

// prefer is the leader, while it is well and answers, or else the next node in turn.
func (ns *nodes) prefer(now time.Time) *node {
	ns.mu.Lock()
	leader := ns.leading(now)
	ns.mu.Unlock()
	if leader != nil {
		return leader
	}
	return ns.pick(now)
}

// leading is the leader, if it is known, well, and answers; else nil. Under mu.
func (ns *nodes) leading(now time.Time) *node {
	l := ns.leader
	if l == nil || now.Before(l.until) || !l.unheard.IsZero() && now.Sub(l.unheard) > silence {
		return nil
	}
	return l
}

// keeps says that a stream to a node need not move: it leads, or is well and nobody else is known to lead.
func (ns *nodes) keeps(n *node, now time.Time) bool {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if leader := ns.leading(now); leader != nil {
		return leader == n
	}
	return !now.Before(n.until)
}

// ask notes that a node is asked something that it answers at once.
func (ns *nodes) ask(n *node, now time.Time) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if n.unheard.IsZero() {
		n.unheard = now
	}
	n.asked++
}

// heard notes that such a call has ended, and whether by an answer.
func (ns *nodes) heard(n *node, answered bool, now time.Time) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	n.asked--
	switch {
	case answered && n.asked > 0:
		n.unheard = now
	case answered:
		n.unheard = time.Time{}
	}
}

// lead remembers the leader that a node names by its address, in its answer. An empty one names none.
func (ns *nodes) lead(n *node, address string) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	switch {
	case ns.spread || len(ns.all) == 1:
	case address != "":
		ns.leader = nil
		for _, one := range ns.all {
			if one.address == address {
				ns.leader = one
			}
		}
	case ns.leader == n: // it does not lead any more
		ns.leader = nil
	}
}

// find is the node of an address, if it is one of those configured and well.
func (ns *nodes) find(address string, now time.Time) *node {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for _, n := range ns.all {
		if n.address == address && !now.Before(n.until) {
			return n
		}
	}
	return nil
}

// judge remembers an attempt at a node that came to an error. A failure lasts only if it does so at every node: one of
// several may be set up wrongly while the others start.
func (ns *nodes) judge(n *node, e *Error, now time.Time) {
	ns.note(n, e.unsettled(), now)
	ns.mu.Lock()
	defer ns.mu.Unlock()
	n.misfit = e.lasting
	for _, other := range ns.all {
		e.lasting = e.lasting && other.misfit
	}
}

// note remembers how an attempt at a node went. A refusal is an answer: the node is well.
func (ns *nodes) note(n *node, failed bool, now time.Time) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	n.misfit = false
	if !failed {
		n.failures, n.until = 0, time.Time{}
		return
	}
	penalty := penaltyMax
	if n.failures < 7 {
		penalty = penaltyInitial << n.failures
	}
	n.failures++
	n.until = now.Add(min(penalty, penaltyMax))
}

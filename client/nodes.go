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
}

// A node that failed is passed over for this long, doubling with each failure in a row, while another one is well.
const (
	penaltyInitial = 100 * time.Millisecond
	penaltyMax     = 10 * time.Second
)

// nodes picks a node for each attempt: in turn, the well before those that failed lately.
type nodes struct {
	mu   sync.Mutex
	all  []*node
	next int
}

func newNodes(cfg Config) (*nodes, error) {
	ns := &nodes{}
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

package main

import (
	"fmt"
	"io"
	"slices"
)

// hot is what one instance with a load of its own does to its group and to the node that leads it.
type hot struct {
	// settled is what it gets done, waiting what stays behind each second.
	settled, waiting float64
	// group is how busy the goroutine is that applies the group's entries; wait is how long an entry waits for it.
	group, wait float64
	// node is how many processors the leader's node is busy with.
	node float64
}

// halfApply: to take a message costs as much as to settle it, about.
const halfApply = 0.5

// hot adds an instance with so many messages a second to a group that has jobs of its own.
func (m *model) hot(rate, jobs, node float64) hot {
	h := hot{settled: min(rate, m.instanceRate)}
	h.waiting = rate - h.settled
	apply := m.applyCPU.Seconds()
	h.group = apply * (jobs + halfApply*(rate+h.settled))
	if h.group < 1 {
		h.wait = h.group * apply / (2 * (1 - h.group))
	}
	h.node = node + (m.leaderCPU.Seconds())*halfApply*(rate+h.settled)
	return h
}

// printHot makes one instance of a usual group hot.
func printHot(out io.Writer, m *model) error {
	t := newTable("A hot instance in a group with the median load", "its messages/s", "settled/s", "held back/s", "groups", "group busy", "its neighbours wait", "leader's node busy")
	for _, groups := range []int{m.groups[0], m.chosen} {
		l, place := m.load(groups), m.byLoad(groups)
		order := heaviestFirst(l.share)
		g := order[len(order)/2]
		node := m.cpu(m.fleet, place, l.share)[place[g][0]]
		for _, rate := range []float64{0, 1000, 5000, 10000, 20000, 40000} {
			h := m.hot(rate, m.rate*l.share[g], node)
			wait := "without end"
			if h.group < 1 {
				wait = length(h.wait)
			}
			t.row(count(rate), count(h.settled), count(h.waiting), count(float64(groups)), percent(h.group), wait, fmt.Sprintf("%.2f of %.0f", h.node, m.cores))
		}
	}
	l := m.load(m.chosen)
	t.note("Of the skewed load itself the busiest group of %s is busy to %s at the demand.", count(float64(m.chosen)), percent(m.applyCPU.Seconds()*m.rate*slices.Max(l.share)))
	return t.print(out)
}

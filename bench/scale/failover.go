package main

import (
	"fmt"
	"io"
	"slices"
)

// failed are the elections after some nodes are gone, and the placement that they lead to.
func (m *model) failed(place placement, after fleet, s style, use uint64) (elections []*election, next placement, err error) {
	next = slices.Clone(place)
	for g, nodes := range place {
		if !after.dead[nodes[0]] {
			continue
		}
		e := &election{group: g, quorum: replicas/2 + 1}
		for _, n := range nodes[1:] {
			if !after.dead[n] {
				e.voters = append(e.voters, &voter{node: n})
			}
		}
		elections = append(elections, e)
	}
	m.newBallot(m.nodes, s, use).hold(elections, func(e *election) int { return place[e.group][0] })
	for _, e := range elections {
		at := slices.Index(next[e.group][:], e.leader)
		if e.led == 0 || at < 0 {
			return nil, nil, fmt.Errorf("group %d has no leader any more", e.group)
		}
		next[e.group][0], next[e.group][at] = next[e.group][at], next[e.group][0]
	}
	return elections, next, nil
}

// lasts are how long the groups had no leader, one for each.
func lasts(elections []*election) (seconds []float64, tries float64) {
	for _, e := range elections {
		seconds = append(seconds, e.led)
		tries += float64(e.tries)
	}
	return seconds, tries / float64(max(1, len(elections)))
}

// oneGroupOfFive is what was measured with five nodes and one group: many times the same failure, each by itself.
func (m *model) oneGroupOfFive(times int) []float64 {
	var elections []*election
	for t := range times {
		e := &election{group: t, quorum: 3}
		for n := range 4 {
			e.voters = append(e.voters, &voter{node: 5*t + n})
		}
		elections = append(elections, e)
	}
	m.newBallot(5*times, styles[0], 5).hold(elections, func(e *election) int { return 5*e.group + 4 })
	seconds, _ := lasts(elections)
	return seconds
}

// loss is what fails.
type loss struct {
	name string
	gone func(node int) bool
}

func (m *model) losses() []loss {
	return []loss{
		{"a node", func(n int) bool { return n == 0 }},
		{"a zone", func(n int) bool { return m.fleet.zone[n] == 0 }},
	}
}

// printFailover kills one node and one zone, by each style.
func printFailover(out io.Writer, m *model) error {
	t := newTable("Failover: how long the groups that were led there take nothing", "lost", "groups", "noticed by, votes kept in", "groups without a leader", "p50", "p99", "longest", "candidacies a group", "of all instances, mean of a minute")
	for _, lost := range m.losses() {
		for _, groups := range []int{m.groups[1], m.chosen, m.groups[len(m.groups)-1]} {
			for i, s := range styles {
				elections, _, err := m.failed(m.byLoad(groups), m.fleet.without(lost.gone), s, uint64(100+i))
				if err != nil {
					return err
				}
				seconds, tries := lasts(elections)
				var missed float64
				for _, e := range elections {
					missed += e.led * m.load(groups).instances[e.group]
				}
				t.row(lost.name, count(float64(groups)), s.name, count(float64(len(elections))), length(quantile(seconds, 0.5)), length(quantile(seconds, 0.99)), length(quantile(seconds, 1)), fmt.Sprintf("%.1f", tries), fmt.Sprintf("%.4f %%", 100*missed/m.instances/60))
			}
		}
	}
	check := m.oneGroupOfFive(4000)
	t.note("The same model, of one group of five nodes as it is today: p50 %s, p99 %s. Measured (0022): p50 0.66 s, p99 1.08 s. The last column is the share of instances that take nothing, averaged over the minute after the failure.", length(quantile(check, 0.5)), length(quantile(check, 0.99)))
	if err := t.print(out); err != nil {
		return err
	}
	return m.printAfter(out)
}

// printAfter tells what the nodes that are left have to do.
func (m *model) printAfter(out io.Writer) error {
	t := newTable(fmt.Sprintf("Load after it: %s groups, processors busy of a node's %.0f", count(float64(m.chosen)), m.cores), "", "mean", "fullest", "leaders on the fullest", "leads handed over")
	place, l := m.byLoad(m.chosen), m.load(m.chosen)
	row := func(name string, f fleet, place placement, moved int) {
		most, mean := imbalance(f, m.cpu(f, place, l.share))
		_, leads, _ := m.held(place, l)
		mostLeads, _ := imbalance(f, leads)
		t.row(name, fmt.Sprintf("%.2f", mean), fmt.Sprintf("%.2f", most), fmt.Sprintf("%.0f", mostLeads), count(float64(moved)))
	}
	row("before", m.fleet, place, 0)
	for _, lost := range m.losses() {
		after := m.fleet.without(lost.gone)
		_, next, err := m.failed(place, after, styles[len(styles)-1], 102)
		if err != nil {
			return err
		}
		row(lost.name+" lost", after, next, 0)
		balanced, moved := balanceLeaders(after, next, l.share, m.costs())
		row(lost.name+" lost, leads balanced", after, balanced, moved)
	}
	return t.print(out)
}

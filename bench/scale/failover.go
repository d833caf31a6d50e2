package main

import (
	"fmt"
	"io"
)

// failed are the elections after some nodes are gone, and the placement that they lead to.
func (m *model) failed(place placement, after fleet, s style, use uint64) (elections []*election, next placement) {
	next = append(placement(nil), place...)
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
		for i, n := range next[e.group] {
			if n == e.leader {
				next[e.group][0], next[e.group][i] = next[e.group][i], next[e.group][0]
			}
		}
	}
	return elections, next
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

// printFailover kills one node and one zone, by each style.
func printFailover(out io.Writer, m *model) error {
	t := newTable("Failover: how long the groups that were led there take nothing", "lost", "groups", "noticed by", "groups without a leader", "p50", "p99", "longest", "candidacies a group", "instance-seconds lost")
	for _, lost := range []struct {
		name string
		gone func(node int) bool
	}{
		{"a node", func(n int) bool { return n == 0 }},
		{"a zone", func(n int) bool { return m.fleet.zone[n] == 0 }},
	} {
		for _, groups := range []int{m.groups[1], m.chosen, m.groups[len(m.groups)-1]} {
			place, l := m.byLoad(groups), m.load(groups)
			for i, s := range styles {
				elections, _ := m.failed(place, m.fleet.without(lost.gone), s, uint64(100+i))
				seconds, tries := lasts(elections)
				var missed float64
				for _, e := range elections {
					missed += e.led * l.instances[e.group]
				}
				t.row(lost.name, count(float64(groups)), s.name, fmt.Sprintf("%d", len(elections)), length(quantile(seconds, 0.5)), length(quantile(seconds, 0.99)), length(quantile(seconds, 1)), fmt.Sprintf("%.1f", tries), scaled(missed, 1000, "", "k", "M", "G"))
			}
		}
	}
	check := m.oneGroupOfFive(4000)
	t.note("The same model, of one group of five nodes as it is today: p50 %s, p99 %s. Measured (0022): p50 0.66 s, p99 1.08 s.", length(quantile(check, 0.5)), length(quantile(check, 0.99)))
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
		leads := make([]float64, m.nodes)
		for _, nodes := range place {
			leads[nodes[0]]++
		}
		mostLeads, _ := imbalance(f, leads)
		t.row(name, fmt.Sprintf("%.2f", mean), fmt.Sprintf("%.2f", most), fmt.Sprintf("%.0f", mostLeads), count(float64(moved)))
	}
	row("before", m.fleet, place, 0)
	for _, lost := range []struct {
		name string
		gone func(node int) bool
	}{
		{"a node lost", func(n int) bool { return n == 0 }},
		{"a zone lost", func(n int) bool { return m.fleet.zone[n] == 0 }},
	} {
		after := m.fleet.without(lost.gone)
		_, next := m.failed(place, after, styles[2], 102)
		row(lost.name, after, next, 0)
		balanced, moved := balanceLeaders(after, next, l.share, m.costs())
		row(lost.name+", leads balanced", after, balanced, moved)
	}
	return t.print(out)
}

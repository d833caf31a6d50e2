package main

import (
	"fmt"
	"io"
	"slices"
)

// repairs gives each group that lost a replica a new one: from the node with less to send, to the node with least to
// take in a zone in which the group has none.
func (m *model) repairs(place placement, l load, after fleet) (transfers []*transfer, next placement) {
	next = slices.Clone(place)
	sends, takes := make([]float64, m.nodes), make([]float64, m.nodes)
	for _, g := range heaviestFirst(l.instances) {
		lost, from := -1, -1
		inZone := make([]bool, after.zones)
		for i, n := range place[g] {
			if after.dead[n] {
				lost = i
				continue
			}
			inZone[after.zone[n]] = true
			if from < 0 || sends[n] < sends[from] {
				from = n
			}
		}
		if lost < 0 || from < 0 {
			continue
		}
		to := after.emptiest(takes, func(n int) bool { return !inZone[after.zone[n]] })
		t := &transfer{group: g, from: from, to: to, bytes: l.instances[g] * m.instanceBytes}
		sends[from] += t.bytes
		takes[to] += t.bytes
		next[g][lost] = to
		transfers = append(transfers, t)
	}
	return transfers, next
}

// burden tells what transfers are to the nodes: who takes part, what all of it is, and what the busiest does.
func (m *model) burden(transfers []*transfer) (sources int, total, longest float64) {
	from := map[int]bool{}
	for _, t := range transfers {
		from[t.from] = true
		total += t.bytes
		longest = max(longest, t.ended-t.began)
	}
	return len(from), total, longest
}

// written is how many entries the busiest of the moved groups makes while it is on its way.
func (m *model) written(transfers []*transfer, l load) (most float64) {
	for _, t := range transfers {
		most = max(most, (t.ended-t.began)*min(m.entryRate, m.rate*m.entriesOfJob*l.share[t.group]))
	}
	return most
}

// printRepair brings back three replicas of each group.
func printRepair(out io.Writer, m *model) error {
	t := newTable(fmt.Sprintf("Repair: at most %s/s out of and into a node", bytes(m.copyRate)), "lost", "groups", "replicas", "bytes", "nodes that send", "done after", "longest transfer", "entries behind it", "fullest node then / mean")
	for _, lost := range m.losses() {
		for _, groups := range m.groups {
			place, l, after := m.byLoad(groups), m.load(groups), m.fleet.without(lost.gone)
			transfers, next := m.repairs(place, l, after)
			next, _ = balanceLeaders(after, next, l.share, m.costs())
			if err := after.check(next); err != nil {
				return err
			}
			took := carry(m.nodes, transfers, m.copyRate, m.copySlots)
			sources, total, longest := m.burden(transfers)
			most, mean := imbalance(after, m.cpu(after, next, l.share))
			t.row(lost.name, count(float64(groups)), count(float64(len(transfers))), bytes(total), fmt.Sprint(sources), length(took), length(longest), count(m.written(transfers, l)), fmt.Sprintf("%.2f", most/mean))
		}
	}
	cpu := m.copyRate * m.copyCPU.Seconds()
	t.note("A node that sends at the full rate gives %s of its network, %.1f of its %.0f processors, and one that takes %s of its disk.", percent(m.copyRate/m.network), cpu, m.cores, percent(m.copyRate/m.diskBytes))
	return t.print(out)
}

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// addedNodes are how many nodes are added, as many to each zone.
const addedNodes = 10

// grown moves replicas to new nodes of the same zone, from the fullest, until these have their share of the load; the new
// node that lacks most is next. Few move, because the busiest do.
func (m *model) grown(place placement, l load, bigger fleet) (transfers []*transfer, next placement) {
	next = slices.Clone(place)
	full, at := make([]float64, len(bigger.zone)), make([][]int, len(bigger.zone))
	for g, nodes := range place {
		for _, n := range nodes {
			full[n] += l.share[g]
			at[n] = append(at[n], g)
		}
	}
	for n := range at {
		slices.SortStableFunc(at[n], func(a, b int) int { return cmp.Compare(l.share[a], l.share[b]) })
	}
	target := sum(full) / float64(len(full))
	done := make([]bool, len(full))
	for {
		to := bigger.emptiest(full, func(n int) bool { return n >= m.nodes && !done[n] })
		if to < 0 {
			return transfers, next
		}
		from := m.fullestOfZone(bigger, full, at, bigger.zone[to])
		g, ok := take(at, from, full[from]-target, target-full[to], l.share)
		if !ok {
			done[to] = true
			continue
		}
		full[from] -= l.share[g]
		full[to] += l.share[g]
		next[g][slices.Index(next[g][:], from)] = to
		transfers = append(transfers, &transfer{group: g, from: from, to: to, bytes: l.instances[g] * m.instanceBytes})
	}
}

// fullestOfZone is the node of before, in a zone, that has most and something to give.
func (m *model) fullestOfZone(bigger fleet, full []float64, at [][]int, zone int) int {
	from := -1
	for n := range m.nodes {
		if bigger.zone[n] == zone && (from < 0 || len(at[n]) > 0 && full[n] > full[from]) {
			from = n
		}
	}
	return from
}

// take takes the heaviest group from a node that is not more than it has too much, and not more than the other lacks.
func take(at [][]int, from int, excess, lack float64, share []float64) (group int, ok bool) {
	for i := len(at[from]) - 1; i >= 0; i-- {
		g := at[from][i]
		if share[g] <= min(excess, lack)*1.0001 {
			at[from] = slices.Delete(at[from], i, i+1)
			return g, true
		}
	}
	return 0, false
}

// printGrowth adds nodes.
func printGrowth(out io.Writer, m *model) error {
	t := newTable(fmt.Sprintf("Growth: %d nodes become %d", m.nodes, m.nodes+addedNodes), "groups", "placed by", "replicas moved", "of all", "bytes", "at 25 MB/s", "at 100 MB/s", "fullest / mean, before", "after", "busiest new node / mean")
	bigger := newFleet(m.nodes+addedNodes, m.zones)
	for _, groups := range m.groups {
		l := m.load(groups)
		place := m.byLoad(groups)
		transfers, next := m.grown(place, l, bigger)
		if err := m.growthRow(t, "directory", bigger, l, place, next, transfers); err != nil {
			return err
		}
		place, next = byHash(m.fleet, groups), byHash(bigger, groups)
		transfers = nil
		for g := range place {
			for i, n := range next[g] {
				if n != place[g][i] {
					transfers = append(transfers, &transfer{group: g, from: place[g][i], to: n, bytes: l.instances[g] * m.instanceBytes})
				}
			}
		}
		if err := m.growthRow(t, "hash", bigger, l, place, next, transfers); err != nil {
			return err
		}
	}
	t.note("%d of %d nodes are %s of all.", addedNodes, m.nodes+addedNodes, percent(addedNodes/float64(m.nodes+addedNodes)))
	return t.print(out)
}

func (m *model) growthRow(t *table, way string, bigger fleet, l load, place, next placement, transfers []*transfer) error {
	if err := bigger.check(next); err != nil {
		return err
	}
	if way == "directory" {
		next, _ = balanceLeaders(bigger, next, l.share, m.costs())
	}
	slow := carry(len(bigger.zone), transfers, 25e6, m.copySlots)
	fast := carry(len(bigger.zone), transfers, 100e6, m.copySlots)
	_, total, _ := m.burden(transfers)
	most, mean := imbalance(m.fleet, m.cpu(m.fleet, place, l.share))
	cpu := m.cpu(bigger, next, l.share)
	mostAfter, meanAfter := imbalance(bigger, cpu)
	t.row(count(float64(len(place))), way, count(float64(len(transfers))), percent(float64(len(transfers))/float64(replicas*len(place))), bytes(total), length(slow), length(fast),
		fmt.Sprintf("%.2f", most/mean), fmt.Sprintf("%.2f", mostAfter/meanAfter), fmt.Sprintf("%.2f", slices.Max(cpu[m.nodes:])/meanAfter))
	return nil
}

package main

import (
	"slices"
	"testing"
)

func TestEveryPlacementHasThreeZones(t *testing.T) {
	t.Parallel()
	m := small()
	l := m.load(m.chosen)
	for name, place := range map[string]placement{
		"hash":    byHash(m.fleet, m.chosen),
		"numbers": byDirectory(m.fleet, slices.Repeat([]float64{1}, m.chosen), m.costs()),
		"load":    m.byLoad(m.chosen),
	} {
		if err := m.fleet.check(place); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, lost := range m.losses() {
			after := m.fleet.without(lost.gone)
			_, next := m.repairs(place, l, after)
			if err := after.check(next); err != nil {
				t.Errorf("%s, %s lost and repaired: %v", name, lost.name, err)
			}
		}
	}
}

func TestACheckOfAPlacementCanFail(t *testing.T) {
	t.Parallel()
	f := newFleet(10, 5)
	for name, bad := range map[string]placement{
		"one zone twice": {{0, 5, 1}},
		"no such node":   {{0, 1, 10}},
	} {
		if f.check(bad) == nil {
			t.Errorf("%s is fine", name)
		}
	}
	if f.without(func(n int) bool { return n == 2 }).check(placement{{0, 1, 2}}) == nil {
		t.Error("a dead node is fine")
	}
}

func TestADirectoryPlacesAnEvenLoadEvenly(t *testing.T) {
	t.Parallel()
	f := newFleet(20, 5)
	even := slices.Repeat([]float64{1}, 2000)
	full := make([]float64, 20)
	for _, nodes := range byDirectory(f, even, costs{2, 1}) {
		for i, n := range nodes {
			full[n] += costs{2, 1}.of(i)
		}
	}
	most, mean := imbalance(f, full)
	near(t, "the fullest node", most, mean, 0.02)
}

// A hash that names the highest of all nodes moves to a new node what that gets, and nothing else.
func TestAHashMovesToNewNodesOnly(t *testing.T) {
	t.Parallel()
	before, after := byHash(newFleet(20, 5), 3000), byHash(newFleet(25, 5), 3000)
	moved := 0
	for g := range before {
		for i, n := range after[g] {
			if n == before[g][i] {
				continue
			}
			moved++
			if n < 20 {
				t.Fatalf("group %d moved from node %d to node %d, which was there before", g, before[g][i], n)
			}
		}
	}
	near(t, "moved replicas", float64(moved), 3000*replicas*5.0/25, 0.1)
}

func TestLeadsAreBalancedWithoutMovingReplicas(t *testing.T) {
	t.Parallel()
	m := small()
	l, after := m.load(256), m.fleet.without(func(n int) bool { return n == 0 })
	place := m.byLoad(256)
	before := m.cpu(after, place, l.share)
	balanced, moved := balanceLeaders(after, place, l.share, m.costs())
	for g := range place {
		a, b := place[g], balanced[g]
		slices.Sort(a[:])
		slices.Sort(b[:])
		if a != b {
			t.Fatalf("group %d has other replicas", g)
		}
		if after.dead[balanced[g][0]] {
			t.Fatalf("group %d is led by a dead node", g)
		}
	}
	was, _ := imbalance(after, before)
	is, mean := imbalance(after, m.cpu(after, balanced, l.share))
	if moved == 0 && is > 1.01*mean {
		t.Errorf("nothing was handed over, and the fullest node has %.3f of the mean (%.3f before)", is/mean, was/mean)
	}
}

func TestGrowthMovesToNewNodesWithinTheirZone(t *testing.T) {
	t.Parallel()
	m := small()
	l, place, bigger := m.load(256), m.byLoad(256), newFleet(25, 5)
	transfers, next := m.grown(place, l, bigger)
	if err := bigger.check(next); err != nil {
		t.Fatal(err)
	}
	if len(transfers) == 0 {
		t.Fatal("nothing moved")
	}
	changed := 0
	for g := range place {
		for i := range place[g] {
			if place[g][i] != next[g][i] {
				changed++
			}
		}
	}
	if changed != len(transfers) {
		t.Errorf("%d replicas changed their node, in %d transfers", changed, len(transfers))
	}
	for _, tr := range transfers {
		if tr.to < 20 || tr.from >= 20 || bigger.zone[tr.from] != bigger.zone[tr.to] {
			t.Errorf("group %d moved from node %d to node %d", tr.group, tr.from, tr.to)
		}
	}
	was, mean := imbalance(m.fleet, m.cpu(m.fleet, place, l.share))
	is, _ := imbalance(bigger, m.cpu(bigger, next, l.share))
	if is >= was {
		t.Errorf("the fullest node has %.2f processors busy, and had %.2f of a mean of %.2f", is, was, mean)
	}
}

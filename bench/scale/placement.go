package main

import (
	"cmp"
	"fmt"
	"slices"
)

// replicas of each group, in as many zones.
const replicas = 3

// fleet are the nodes there are. Those of a zone fail together.
type fleet struct {
	zones int
	zone  []int
	dead  []bool
}

func newFleet(nodes, zones int) fleet {
	f := fleet{zones: zones, zone: make([]int, nodes), dead: make([]bool, nodes)}
	for n := range f.zone {
		f.zone[n] = n % zones
	}
	return f
}

func (f fleet) alive() (nodes int) {
	for _, d := range f.dead {
		if !d {
			nodes++
		}
	}
	return nodes
}

// without is the fleet with some nodes dead.
func (f fleet) without(gone func(node int) bool) fleet {
	f.dead = slices.Clone(f.dead)
	for n := range f.dead {
		f.dead[n] = f.dead[n] || gone(n)
	}
	return f
}

// placement says where the replicas of each group are; the first one leads.
type placement [][replicas]int

// check tells what is wrong with a placement.
func (f fleet) check(place placement) error {
	for g, nodes := range place {
		for i, a := range nodes {
			if a < 0 || a >= len(f.zone) || f.dead[a] {
				return fmt.Errorf("group %d has a replica on node %d, which is not there", g, a)
			}
			for _, b := range nodes[:i] {
				if f.zone[a] == f.zone[b] {
					return fmt.Errorf("group %d has two replicas in zone %d", g, f.zone[a])
				}
			}
		}
	}
	return nil
}

// byHash places each group where a hash of its number and of the node is highest: nobody has to know where it is.
// A node that is added takes from others only what it gets.
func byHash(f fleet, groups int) placement {
	place := make(placement, groups)
	type candidate struct {
		node  int
		score uint64
	}
	for g := range place {
		best := make([]candidate, f.zones)
		for z := range best {
			best[z].node = -1
		}
		for n, z := range f.zone {
			if score := mix(uint64(g), uint64(n)); !f.dead[n] && (best[z].node < 0 || score > best[z].score) {
				best[z] = candidate{n, score}
			}
		}
		// The zones are ranked by a hash of their own: the highest score would favour zones with more nodes.
		slices.SortFunc(best, func(a, b candidate) int {
			return cmp.Compare(mix(uint64(g), uint64(1e9+f.zone[b.node])), mix(uint64(g), uint64(1e9+f.zone[a.node])))
		})
		for i := range place[g] {
			place[g][i] = best[i].node
		}
	}
	return place
}

// mix is a hash of two numbers.
func mix(a, b uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 ^ (b+1)*0xd1b54a32d192ed03
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// byDirectory places the heaviest group first, each where there is least: what a directory that knows the weights does.
func byDirectory(f fleet, weight []float64, cost costs) placement {
	place := make(placement, len(weight))
	full := make([]float64, len(f.zone))
	for _, g := range heaviestFirst(weight) {
		best := make([]int, 0, f.zones)
		for z := range f.zones {
			if n := f.emptiest(full, func(n int) bool { return f.zone[n] == z }); n >= 0 {
				best = append(best, n)
			}
		}
		slices.SortStableFunc(best, func(a, b int) int { return cmp.Compare(full[a], full[b]) })
		for i := range place[g] {
			place[g][i] = best[i]
			full[best[i]] += weight[g] * cost.of(i)
		}
	}
	return place
}

// emptiest is the node with least among those that are there and fit; -1: none.
func (f fleet) emptiest(full []float64, fits func(node int) bool) int {
	best := -1
	for n := range f.zone {
		if !f.dead[n] && fits(n) && (best < 0 || full[n] < full[best]) {
			best = n
		}
	}
	return best
}

func heaviestFirst(weight []float64) []int {
	order := make([]int, len(weight))
	for g := range order {
		order[g] = g
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(weight[b], weight[a]) })
	return order
}

// costs are what a group's jobs cost its leader and its followers, in the same unit.
type costs struct{ leader, follower float64 }

func (c costs) of(place int) float64 {
	if place == 0 {
		return c.leader
	}
	return c.follower
}

// balanceLeaders hands leads over from nodes with more than the mean, to replicas on nodes with less, until that gains
// nothing; replicas stay where they are. It tells how many leads were handed over by one that could.
func balanceLeaders(f fleet, place placement, weight []float64, cost costs) (balanced placement, moved int) {
	balanced = slices.Clone(place)
	full := make([]float64, len(f.zone))
	for g, nodes := range balanced {
		if at := f.emptiestOf(full, nodes); f.dead[nodes[0]] && at >= 0 {
			balanced[g][0], balanced[g][at] = nodes[at], nodes[0]
		}
		for i, n := range balanced[g] {
			if !f.dead[n] {
				full[n] += weight[g] * cost.of(i)
			}
		}
	}
	_, mean := imbalance(f, full)
	order := heaviestFirst(weight)
	for again := true; again; {
		again = false
		for _, g := range order {
			from, at, much := balanced[g][0], f.emptiestOf(full, balanced[g]), weight[g]*(cost.leader-cost.follower)
			if f.dead[from] || at <= 0 || much == 0 || full[from] < mean*1.005 || full[from]-full[balanced[g][at]] <= 2*much {
				continue
			}
			to := balanced[g][at]
			full[from] -= much
			full[to] += much
			balanced[g][0], balanced[g][at] = to, from
			moved++
			again = true
		}
	}
	return balanced, moved
}

// emptiestOf is the place in a group of the node with least, among those that are there; -1: none is.
func (f fleet) emptiestOf(full []float64, nodes [replicas]int) int {
	best := -1
	for i, n := range nodes {
		if !f.dead[n] && (best < 0 || full[n] < full[nodes[best]]) {
			best = i
		}
	}
	return best
}

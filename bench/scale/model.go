package main

import (
	"math/rand/v2"
	"slices"
)

// model is the parameters, and what is computed of them once.
type model struct {
	parameters
	seed  uint64
	fleet fleet
	loads map[int]load
}

func newModel(p parameters, seed uint64) *model {
	return &model{parameters: p, seed: seed, fleet: newFleet(p.nodes, p.zones), loads: map[int]load{}}
}

// chance is a source of its own for each use, so that what one section draws does not change another.
func (m *model) chance(use uint64) *rand.Rand { return rand.New(rand.NewPCG(m.seed, use)) }

// load is that of so many groups.
func (m *model) load(groups int) load {
	l, ok := m.loads[groups]
	if !ok {
		l = spread(m.parameters, groups, headInstances, m.chance(uint64(groups)))
		m.loads[groups] = l
	}
	return l
}

func (m *model) costs() costs {
	return costs{leader: m.leaderCPU.Seconds(), follower: m.followerCPU.Seconds()}
}

// byLoad is the placement that is decided for.
func (m *model) byLoad(groups int) placement {
	return byDirectory(m.fleet, m.load(groups).share, m.costs())
}

// cpu is how many processors each node is busy with. What takes calls is spread over all.
func (m *model) cpu(f fleet, place placement, share []float64) []float64 {
	busy := make([]float64, len(f.zone))
	front := m.rate * m.frontCPU.Seconds() / float64(f.alive())
	for n := range busy {
		if !f.dead[n] {
			busy[n] = front
		}
	}
	for g, nodes := range place {
		for i, n := range nodes {
			if !f.dead[n] {
				busy[n] += m.rate * share[g] * m.costs().of(i)
			}
		}
	}
	return busy
}

// imbalance is how much the fullest has more than the mean of those that are there.
func imbalance(f fleet, of []float64) (most, mean float64) {
	return slices.Max(of), sum(of) / float64(f.alive())
}

// held is how many replicas, leaders and bytes of state each node has.
func (m *model) held(place placement, l load) (have, leads, state []float64) {
	have, leads, state = make([]float64, m.nodes), make([]float64, m.nodes), make([]float64, m.nodes)
	for g, nodes := range place {
		leads[nodes[0]]++
		for _, n := range nodes {
			have[n]++
			state[n] += l.instances[g] * m.instanceBytes
		}
	}
	return have, leads, state
}

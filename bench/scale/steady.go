package main

import (
	"fmt"
	"io"
	"slices"
)

// limits are the rates, jobs a second, at which something is full.
type limits struct{ node, group, instance, disk float64 }

func (m *model) limits(place placement, l load) limits {
	// Everything grows with the rate, so what is used now tells where it ends.
	most, _ := imbalance(m.fleet, m.cpu(m.fleet, place, l.share))
	written := make([]float64, m.nodes)
	for g, nodes := range place {
		for _, n := range nodes {
			written[n] += l.share[g] * m.jobBytes
		}
	}
	return limits{
		node:     m.rate * m.cores / most,
		group:    1 / (m.applyCPU.Seconds() * slices.Max(l.share)),
		instance: m.instanceRate / l.top,
		disk:     m.diskBytes / slices.Max(written),
	}
}

func (l limits) first() string {
	switch min(l.node, l.group, l.disk) {
	case l.group:
		return "group"
	case l.disk:
		return "disk"
	default:
		return "node"
	}
}

// printBalance compares numbers of groups and ways to place them.
func printBalance(out io.Writer, m *model) error {
	t := newTable(fmt.Sprintf("Balance: %s jobs/s, exponent %.2f", count(m.rate), m.exponent),
		"groups", "placed by", "replicas a node", "fullest node / mean", "fullest group / mean", "rate at which a node is full", "a group is full", "first")
	for _, groups := range append([]int{1}, m.groups...) {
		l := m.load(groups)
		even := slices.Repeat([]float64{1}, groups)
		for _, way := range []struct {
			name  string
			place placement
		}{
			{"hash", byHash(m.fleet, groups)},
			{"directory, numbers", byDirectory(m.fleet, even, m.costs())},
			{"directory, load", m.byLoad(groups)},
		} {
			if err := m.fleet.check(way.place); err != nil {
				return err
			}
			most, mean := imbalance(m.fleet, m.cpu(m.fleet, way.place, l.share))
			lim := m.limits(way.place, l)
			t.row(count(float64(groups)), way.name, fmt.Sprintf("%.1f", float64(replicas*groups)/float64(m.nodes)), fmt.Sprintf("%.2f", most/mean),
				fmt.Sprintf("%.1f", slices.Max(l.share)*float64(groups)), count(lim.node), count(lim.group), lim.first())
		}
	}
	l := m.load(m.chosen)
	t.note("If all nodes were equally full, they would be at %s jobs/s. The busiest instance has %s of all jobs, and is full at %s jobs/s whatever the number of groups: then its own messages wait, and nobody else's.",
		count(float64(m.nodes)*m.cores/(m.frontCPU+m.leaderCPU+2*m.followerCPU).Seconds()), percent(l.top), count(m.limits(m.byLoad(m.chosen), l).instance))
	return t.print(out)
}

// printSkew varies how skewed the load is.
func printSkew(out io.Writer, m *model) error {
	t := newTable(fmt.Sprintf("Skew: %s groups, placed by load", count(float64(m.chosen))),
		"exponent", "busiest instance", "fullest group / mean", "fullest node / mean, by hash", "by load", "by load of half an hour before", "rate at which a node is full", "a group", "an instance")
	for _, exponent := range []float64{0, 0.6, 0.8, 0.9, 0.99} {
		p := m.parameters
		p.exponent = exponent
		other := newModel(p, m.seed)
		l := other.load(m.chosen)
		place := other.byLoad(m.chosen)
		ratio := func(place placement, share []float64) string {
			most, mean := imbalance(m.fleet, other.cpu(m.fleet, place, share))
			return fmt.Sprintf("%.2f", most/mean)
		}
		lim := other.limits(place, l)
		t.row(exponent, percent(l.top), fmt.Sprintf("%.1f", slices.Max(l.share)*float64(m.chosen)),
			ratio(byHash(m.fleet, m.chosen), l.share), ratio(place, l.share), ratio(place, other.drifted(l)), count(lim.node), count(lim.group), count(lim.instance))
	}
	t.note("Half an hour before: each group's load is now half to one and a half of what the directory knew.")
	return t.print(out)
}

// drifted is the load some time later: each group's is half to one and a half of what it was.
func (m *model) drifted(l load) []float64 {
	chance := m.chance(77)
	share := slices.Clone(l.share)
	for g := range share {
		share[g] *= 0.5 + chance.Float64()
	}
	total := sum(share)
	for g := range share {
		share[g] /= total
	}
	return share
}

package main

import (
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// small is the model at a size at which every section is quick.
func small() *model {
	p := defaults()
	p.nodes, p.instances, p.rate = 20, 2e5, 2e5
	p.groups, p.chosen = []int{16, 64, 256}, 64
	return newModel(p, 7)
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.Abs(got-want) > within*math.Abs(want) || math.IsNaN(got) {
		t.Errorf("%s is %v; want %v, within %.2g %%", what, got, want, 100*within)
	}
}

func names() (all []string) {
	for _, s := range sections {
		all = append(all, s.name)
	}
	return all
}

func printed(t *testing.T, seed uint64) string {
	t.Helper()
	var b strings.Builder
	if err := show(&b, newModel(small().parameters, seed), names()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTheSameSeedGivesTheSameOutput(t *testing.T) {
	t.Parallel()
	first := printed(t, 1)
	if again := printed(t, 1); again != first {
		t.Error("two runs with one seed differ")
	}
	if other := printed(t, 2); other == first {
		t.Error("another seed changes nothing: is there any chance in it?")
	}
}

func TestEverySectionIsATable(t *testing.T) {
	t.Parallel()
	for _, name := range names() {
		var b strings.Builder
		if err := show(&b, small(), []string{name}); err != nil {
			t.Fatal(err)
		}
		columns := 0
		for line := range strings.Lines(b.String()) {
			if !strings.HasPrefix(line, "|") {
				columns = 0
				continue
			}
			if n := strings.Count(line, "|"); columns == 0 {
				columns = n
			} else if n != columns {
				t.Errorf("%s: a row has %d cells, the first %d: %s", name, n-1, columns-1, line)
			}
		}
	}
}

func TestTheCommandLineIsChecked(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-only", "weather"}, {"balance"}, {"-seed", "none"}} {
		if err := run(args, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	if err := run([]string{"-only", "parameters,hot"}, io.Discard); err != nil {
		t.Error(err)
	}
}

func TestPowersAddUpToWhatIsKnown(t *testing.T) {
	t.Parallel()
	near(t, "a million ones", powers(1, 1e6, 0), 1e6, 1e-12)
	near(t, "the harmonic number of a million", powers(1, 1e6, 1), 14.392726722865724, 1e-9)
	near(t, "the sum of all 1/i²", powers(1, 1e8, 2), math.Pi*math.Pi/6, 1e-7)
	near(t, "a part and the rest", powers(1, 50_000, 0.8)+powers(50_001, 1e6, 0.8), powers(1, 1e6, 0.8), 1e-9)
}

func TestNoLoadIsLost(t *testing.T) {
	t.Parallel()
	for _, exponent := range []float64{0, 0.6, 0.8, 0.99, 1, 1.2} {
		for _, groups := range []int{1, 64, 4096} {
			p := small().parameters
			p.exponent, p.instances = exponent, 2e6 // more than are placed one by one
			l := newModel(p, 3).load(groups)
			near(t, "all shares", sum(l.share), 1, 1e-9)
			near(t, "all instances", sum(l.instances), p.instances, 1e-9)
			if slices.Min(l.share) < 0 || slices.Min(l.instances) < 0 {
				t.Errorf("exponent %v, %d groups: a group has less than nothing", exponent, groups)
			}
		}
	}
}

// The instances that are not placed one by one must spread over the groups as if they had been.
func TestTheTailSpreadsAsIfPlacedOneByOne(t *testing.T) {
	t.Parallel()
	p := small().parameters
	p.instances, p.exponent = 400_000, 0.8
	const groups, head = 400, 2000
	m := newModel(p, 5)
	exact, quick := spread(p, groups, int(p.instances), m.chance(1)), spread(p, groups, head, m.chance(2))
	near(t, "the busiest instance", quick.top, exact.top, 1e-12)
	// The head is the same chance in both; the middle half of the groups is what the tail makes.
	wide := func(v []float64) float64 { return quantile(v, 0.75) - quantile(v, 0.25) }
	near(t, "the spread of shares", wide(quick.share), wide(exact.share), 0.25)
	near(t, "the spread of instances", wide(quick.instances), wide(exact.instances), 0.25)
	near(t, "the median share", quantile(quick.share, 0.5), quantile(exact.share, 0.5), 0.03)
}

func TestProcessorsAddUp(t *testing.T) {
	t.Parallel()
	m := small()
	want := m.rate * (m.frontCPU + m.leaderCPU + 2*m.followerCPU).Seconds()
	l := m.load(m.chosen)
	near(t, "all processors", sum(m.cpu(m.fleet, m.byLoad(m.chosen), l.share)), want, 1e-9)
	have, leads, state := m.held(m.byLoad(m.chosen), l)
	near(t, "replicas", sum(have), replicas*float64(m.chosen), 1e-12)
	near(t, "leaders", sum(leads), float64(m.chosen), 1e-12)
	near(t, "state", sum(state), replicas*m.instances*m.instanceBytes, 1e-9)
}

func TestLimitsOfAnEvenLoad(t *testing.T) {
	t.Parallel()
	m := small()
	groups := m.nodes * 10
	even := load{share: slices.Repeat([]float64{1 / float64(groups)}, groups), top: 1 / m.instances}
	lim := m.limits(byDirectory(m.fleet, even.share, m.costs()), even)
	near(t, "the rate at which a group is full", lim.group, float64(groups)/m.applyCPU.Seconds(), 1e-9)
	near(t, "the rate at which a node is full", lim.node, float64(m.nodes)*m.cores/(m.frontCPU+m.leaderCPU+2*m.followerCPU).Seconds(), 0.02)
	near(t, "the rate at which an instance is full", lim.instance, m.instanceRate*m.instances, 1e-9)
	if lim.first() != "node" {
		t.Errorf("first full is the %s", lim.first())
	}
}

func TestAHotInstanceHoldsItselfUpFirst(t *testing.T) {
	t.Parallel()
	m := small()
	calm, hot := m.hot(0, 1000, 3), m.hot(2*m.instanceRate, 1000, 3)
	near(t, "a group at rest", calm.group, 1000*m.applyCPU.Seconds(), 1e-9)
	near(t, "what is held back", hot.waiting, m.instanceRate, 1e-9)
	near(t, "a group with it", hot.group, calm.group+1.5*m.instanceRate*m.applyCPU.Seconds(), 1e-9)
	// M/D/1: at half of its capacity an entry waits half of what one takes.
	near(t, "the wait at half load", m.hot(0, 0.5/m.applyCPU.Seconds(), 0).wait, m.applyCPU.Seconds()/2, 1e-9)
}

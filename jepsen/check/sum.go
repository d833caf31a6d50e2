package check

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// Count is how often a kind of fault was done, could not be done though it was tried, and was skipped because the world
// cannot do it.
type Count struct{ Injected, Failed, Skipped int }

// Sum is what came of one or many runs. The zero value is that of none.
type Sum struct {
	Runs int
	// Operations by their result.
	Operations map[history.Result]int
	// Messages that were committed; Drains that a new leader interrupted; Blackouts: all nodes lost their power at once.
	Messages, Drains, Blackouts int
	// Leaders began their terms; Installs of snapshots were done.
	Leaders, Installs int
	// Points are where nodes were stopped in the midst of something, and how often.
	Points map[string]int
	Faults map[string]Count
	// Violations by checker.
	Violations map[string]int
	// Elected and Accepted are as Case.Failovers tells.
	Elected, Accepted []time.Duration
	// Coverage is as Case.Coverage tells.
	Coverage map[string]map[string]int
}

// Sum is that of one run.
func (v *Verdict) Sum() Sum {
	c := v.Case
	s := Sum{
		Runs: 1, Operations: map[history.Result]int{}, Messages: len(c.Model.Lives), Drains: c.InterruptedDrains(), Blackouts: c.blackouts(),
		Leaders: len(c.leaders), Installs: len(c.phaseSpans()[SnapshotInstall]), Points: c.points(),
		Faults: c.countFaults(), Violations: map[string]int{}, Coverage: c.Coverage(),
	}
	for _, o := range c.Operations {
		s.Operations[o.Result]++
	}
	for name, found := range v.Violations {
		s.Violations[name] = len(found)
	}
	s.Elected, s.Accepted = c.Failovers()
	return s
}

func (c *Case) points() map[string]int {
	counts := map[string]int{}
	for _, m := range c.Marks {
		if m.Value.Name == history.StoppedAt {
			counts[m.Value.Text]++
		}
	}
	return counts
}

func (c *Case) countFaults() map[string]Count {
	counts := map[string]Count{}
	for _, f := range c.Faults {
		count := counts[f.Value.Kind]
		switch f.Value.Stage {
		case history.Injected:
			count.Injected++
		case history.Failing:
			count.Failed++
		case history.Skipped:
			count.Skipped++
		}
		counts[f.Value.Kind] = count
	}
	return counts
}

// blackouts counts how often all nodes lost their power at once.
func (c *Case) blackouts() (count int) {
	for _, f := range c.Faults {
		if f.Value.Stage == history.Injected && f.Value.Kind == string(world.PowerLoss) && strings.Contains(f.Value.Text, "(all)") {
			count++
		}
	}
	return count
}

// Plus is the sum of both.
func (s Sum) Plus(o Sum) Sum {
	sum := Sum{
		Runs: s.Runs + o.Runs, Messages: s.Messages + o.Messages, Drains: s.Drains + o.Drains, Blackouts: s.Blackouts + o.Blackouts,
		Leaders: s.Leaders + o.Leaders, Installs: s.Installs + o.Installs, Points: plus(s.Points, o.Points),
		Operations: plus(s.Operations, o.Operations), Violations: plus(s.Violations, o.Violations), Faults: map[string]Count{}, Coverage: map[string]map[string]int{},
		Elected: slices.Concat(s.Elected, o.Elected), Accepted: slices.Concat(s.Accepted, o.Accepted),
	}
	slices.Sort(sum.Elected)
	slices.Sort(sum.Accepted)
	for _, one := range []Sum{s, o} {
		for kind, c := range one.Faults {
			all := sum.Faults[kind]
			sum.Faults[kind] = Count{all.Injected + c.Injected, all.Failed + c.Failed, all.Skipped + c.Skipped}
		}
		for kind, row := range one.Coverage {
			sum.Coverage[kind] = plus(sum.Coverage[kind], row)
		}
	}
	return sum
}

func plus[K cmp.Ordered](a, b map[K]int) map[K]int {
	sum := maps.Clone(a)
	if sum == nil {
		sum = map[K]int{}
	}
	for key, n := range b {
		sum[key] += n
	}
	return sum
}

// Count is how many violations there are.
func (s Sum) Count() (count int) {
	for _, n := range s.Violations {
		count += n
	}
	return count
}

// Empty are the phases that were never under way while a kind of fault was in force.
func (s Sum) Empty(kind string) (phases []string) {
	for _, phase := range Phases() {
		if s.Coverage[kind][phase] == 0 {
			phases = append(phases, phase)
		}
	}
	return phases
}

// Print writes the sum of all runs for a person.
func (s Sum) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%d runs: %d operations (%d ok, %d refused, %d unknown), %d committed messages\n", s.Runs,
		s.Operations[history.OK]+s.Operations[history.Fail]+s.Operations[history.Unknown], s.Operations[history.OK], s.Operations[history.Fail], s.Operations[history.Unknown], s.Messages)
	s.printNotable(w)
	s.printFaults(w)
	s.printCoverage(w)
	fmt.Fprintln(w, "\nINVARIANT\tVIOLATIONS\t")
	for _, c := range Checkers() {
		fmt.Fprintf(w, "%s\t%d\t%s\n", c.Name, s.Violations[c.Name], c.About)
	}
	fmt.Fprintf(w, "%d violations\n", s.Count())
	return w.Flush()
}

// printNotable tells what a reader looks for first.
func (s Sum) printNotable(w io.Writer) {
	fmt.Fprintf(w, "leaders: %d, drains interrupted by a new leader: %d, installs of snapshots: %d\n", s.Leaders, s.Drains, s.Installs)
	fmt.Fprintf(w, "whole-cluster power losses: %d, acknowledged messages lost: %d\n", s.Blackouts, s.Violations["I1"])
	if len(s.Accepted) > 0 {
		fmt.Fprintf(w, "from the death of a leader, whatever else was hurt, to the first entry of the next: p50 %v, p99 %v; to the first message accepted: p50 %v, p99 %v; of %d\n",
			rounded(s.Elected, 50), rounded(s.Elected, 99), rounded(s.Accepted, 50), rounded(s.Accepted, 99), len(s.Accepted))
	}
}

func (s Sum) printFaults(w io.Writer) {
	fmt.Fprintln(w, "\nFAULT\tINJECTED\tFAILED\tSKIPPED")
	var all Count
	var skipped []string
	for _, kind := range slices.Sorted(maps.Keys(s.Faults)) {
		c := s.Faults[kind]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", kind, c.Injected, c.Failed, c.Skipped)
		all.Injected, all.Failed, all.Skipped = all.Injected+c.Injected, all.Failed+c.Failed, all.Skipped+c.Skipped
		if c.Skipped > 0 {
			skipped = append(skipped, kind)
		}
	}
	fmt.Fprintf(w, "all\t%d\t%d\t%d\n", all.Injected, all.Failed, all.Skipped)
	if len(skipped) > 0 {
		fmt.Fprintf(w, "SKIPPED, for they cannot be done here: %s\n", strings.Join(skipped, ", "))
	}
}

func (s Sum) printCoverage(w io.Writer) {
	if len(s.Coverage) == 0 {
		return
	}
	fmt.Fprintf(w, "\nWHILE HURT BY\t%s\n", strings.ToUpper(strings.Join(Phases(), "\t")))
	var empty []string
	for _, kind := range slices.Sorted(maps.Keys(s.Coverage)) {
		fmt.Fprint(w, kind)
		for _, phase := range Phases() {
			fmt.Fprintf(w, "\t%d", s.Coverage[kind][phase])
		}
		fmt.Fprintln(w)
		for _, phase := range s.Empty(kind) {
			empty = append(empty, kind+" × "+phase)
		}
	}
	fmt.Fprintf(w, "%d of %d cells were not hit", len(empty), len(s.Coverage)*len(Phases()))
	if len(empty) > 0 {
		fmt.Fprintf(w, ": %s", strings.Join(empty, ", "))
	}
	fmt.Fprintln(w)
}

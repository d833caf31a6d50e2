package check

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"sluice/jepsen/history"
)

// Verdict is what came of a case.
type Verdict struct {
	Case *Case
	// Violations by checker.
	Violations map[string][]Violation
}

// Judge runs every checker.
func Judge(c *Case) *Verdict {
	v := &Verdict{Case: c, Violations: map[string][]Violation{}}
	for _, checker := range Checkers() {
		if found := checker.Check(c); len(found) > 0 {
			v.Violations[checker.Name] = found
		}
	}
	return v
}

// Count is how many violations there are.
func (v *Verdict) Count() (count int) {
	for _, found := range v.Violations {
		count += len(found)
	}
	return count
}

// shownMost is how many violations of one invariant are shown.
const shownMost = 10

// Print writes the verdict for a person.
func (v *Verdict) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	v.printOperations(w)
	v.printFaults(w)
	v.printCoverage(w)
	v.printVerdicts(w)
	return w.Flush()
}

func (v *Verdict) printOperations(w io.Writer) {
	counts := map[history.What]map[history.Result]int{}
	for _, o := range v.Case.Operations {
		if counts[o.What] == nil {
			counts[o.What] = map[history.Result]int{}
		}
		counts[o.What][o.Result]++
	}
	fmt.Fprintln(w, "OPERATION\tOK\tREFUSED\tUNKNOWN")
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		c := counts[what]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", what, c[history.OK], c[history.Fail], c[history.Unknown])
	}
	deeds := map[history.Deed]int{}
	for _, e := range v.Case.Worker {
		deeds[e.Value.Deed]++
	}
	fmt.Fprintf(w, "\nworkers: %d deliveries, %d settled, %d recoveries begun, %d completed, %d times fenced off\n",
		deeds[history.Deliver], deeds[history.Settled], deeds[history.Recover], deeds[history.Recovered], deeds[history.Fenced])
	fmt.Fprintf(w, "committed: %d entries, %d messages, %d changes of mode, %d leaders, %d drains interrupted by a new leader\n",
		len(v.Case.Committed), len(v.Case.Model.Lives), len(v.Case.Model.Transitions), len(v.Case.leaders), v.Case.InterruptedDrains())
	if elected, accepted := v.Case.Failovers(); len(accepted) > 0 {
		fmt.Fprintf(w, "from the death of a leader to the first entry of the next: p50 %v, p99 %v; to the first message accepted: p50 %v, p99 %v; of %d\n",
			rounded(elected, 50), rounded(elected, 99), rounded(accepted, 50), rounded(accepted, 99), len(accepted))
	}
	for _, m := range v.Case.Marks {
		if m.Value.Name == history.NodeEnded {
			fmt.Fprintf(w, "at %.1fs: %s\n", m.At.Seconds(), m.Value.Text)
		}
	}
}

func (v *Verdict) printFaults(w io.Writer) {
	counts := map[string]map[string]int{}
	unhealed := 0
	for _, f := range v.Case.Faults {
		if counts[f.Value.Kind] == nil {
			counts[f.Value.Kind] = map[string]int{}
		}
		counts[f.Value.Kind][f.Value.Stage]++
		if f.Value.Stage == history.Healed && f.Value.Error != "" {
			unhealed++
		}
	}
	fmt.Fprintln(w, "\nFAULT\tINJECTED\tFAILED\tSKIPPED")
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		c := counts[kind]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", kind, c[history.Injected], c[history.Failing], c[history.Skipped])
	}
	if unhealed > 0 {
		fmt.Fprintf(w, "%d faults could not be healed\n", unhealed)
	}
}

func (v *Verdict) printCoverage(w io.Writer) {
	table := v.Case.Coverage()
	if len(table) == 0 {
		return
	}
	fmt.Fprintf(w, "\nWHILE HURT BY\t%s\n", strings.ToUpper(strings.Join(Phases(), "\t")))
	missed := 0
	for _, kind := range slices.Sorted(maps.Keys(table)) {
		fmt.Fprint(w, kind)
		for _, phase := range Phases() {
			fmt.Fprintf(w, "\t%d", table[kind][phase])
			if table[kind][phase] == 0 {
				missed++
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d of %d cells were not hit\n", missed, len(table)*len(Phases()))
}

func (v *Verdict) printVerdicts(w io.Writer) {
	fmt.Fprintln(w, "\nINVARIANT\tVIOLATIONS\t")
	for _, c := range Checkers() {
		fmt.Fprintf(w, "%s\t%d\t%s\n", c.Name, len(v.Violations[c.Name]), c.About)
	}
	if all := v.Case.Mismatches; len(all) > 0 { // what follows may follow from it
		fmt.Fprintf(w, "first, at entry %v: %s: %s\n", all[0].At, all[0].Invariant, all[0].Text)
	}
	for _, c := range Checkers() {
		found := v.Violations[c.Name]
		for _, one := range found[:min(len(found), shownMost)] {
			fmt.Fprintf(w, "%s: %s\n", one.Invariant, one.Text)
		}
		if len(found) > shownMost {
			fmt.Fprintf(w, "%s: and %d more\n", c.Name, len(found)-shownMost)
		}
	}
}

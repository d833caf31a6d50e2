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
	s := v.Sum()
	v.printOperations(w)
	s.printNotable(w)
	v.printEnds(w)
	s.printFaults(w)
	s.printCoverage(w)
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
	fmt.Fprintf(w, "committed: %d entries, %d messages, %d changes of mode, %d leaders\n",
		len(v.Case.Committed), len(v.Case.Model.Lives), len(v.Case.Model.Transitions), len(v.Case.leaders))
	var happened []string
	for _, what := range slices.Sorted(maps.Keys(v.Case.Model.Happened)) {
		happened = append(happened, fmt.Sprintf("%d times %s", v.Case.Model.Happened[what], what))
	}
	fmt.Fprintln(w, strings.Join(happened, ", "))
}

// printEnds tells of nodes that ended by themselves, and of faults that stayed.
func (v *Verdict) printEnds(w io.Writer) {
	for _, m := range v.Case.Marks {
		if m.Value.Name == history.NodeEnded {
			fmt.Fprintf(w, "at %.1fs: %s\n", m.At.Seconds(), m.Value.Text)
		}
	}
	unhealed := 0
	for _, f := range v.Case.Faults {
		if f.Value.Stage == history.Healed && f.Value.Error != "" {
			unhealed++
		}
	}
	if unhealed > 0 {
		fmt.Fprintf(w, "%d faults could not be healed\n", unhealed)
	}
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

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/jepsen/check"
	"sluice/jepsen/mutant"
)

// bench builds a mutant and plays seeds with it.
type bench interface {
	// build makes what play needs.
	build(ctx context.Context, m *mutant.Mutant) error
	// play plays a seed. Its error is trouble with the run itself, which may be the mutant's doing.
	play(ctx context.Context, m *mutant.Mutant, t *mutant.Try, seed uint64) (verdict, error)
	// clear removes what is left of a mutant of which all went as it should.
	clear(m *mutant.Mutant) error
}

// verdict is what the checkers said of a run.
type verdict struct {
	// found are how many violations each found, those with none left out.
	found map[string]int
	// first is the invariant that the earliest wrong outcome spoke against; empty: none did.
	first string
}

// result is what came of a mutant.
type result struct {
	*mutant.Mutant
	verdict
	seeds         int
	seed          uint64 // the last
	built, played time.Duration
	err           error // of the build, or of the last run
}

// control tells that nothing may be caught.
func (r *result) control() bool { return len(r.Caught) == 0 }

// named are those who were to catch it, and did.
func (r *result) named() (names []string) {
	for _, name := range r.Caught {
		if r.found[name] > 0 {
			names = append(names, name)
		}
	}
	return names
}

func (r *result) good() bool {
	if r.control() {
		return r.err == nil && r.seeds > 0 && len(r.found) == 0
	}
	return len(r.named()) > 0
}

// outcome is one word or two.
func (r *result) outcome() string {
	switch {
	case r.seeds == 0:
		return "NOT TRIED"
	case r.control() && r.good():
		return "clean"
	case r.control():
		return "NOT CLEAN"
	case r.good():
		return "caught"
	case len(r.found) > 0:
		return "CAUGHT BY OTHERS"
	case r.err != nil:
		return "FAILED"
	}
	return "ESCAPED"
}

// others are the checkers that spoke, too.
func (r *result) others() string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(r.found)) {
		if !slices.Contains(r.Caught, name) {
			names = append(names, name)
		}
	}
	return orNone(strings.Join(names, " "))
}

func orNone(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// String is a line for a person who waits.
func (r *result) String() string {
	line := fmt.Sprintf("%-26s %s: by %s, first %s, others %s; seed %d, the %d. tried; built in %.1fs, played in %.1fs", r.Name, r.outcome(),
		orNone(strings.Join(r.named(), " ")), orNone(r.first), r.others(), r.seed, r.seeds, r.built.Seconds(), r.played.Seconds())
	if r.err != nil && !r.good() {
		line += fmt.Sprintf("\n    %v", r.err)
	}
	return line
}

// try builds a mutant and plays seeds until it is caught by name.
func try(ctx context.Context, w mutant.World, b bench, m *mutant.Mutant) *result {
	r := &result{Mutant: m}
	t := m.Try(w)
	began := time.Now()
	r.err = b.build(ctx, m)
	r.built = time.Since(began)
	if r.err != nil {
		return r
	}
	began = time.Now()
	for seed := t.From; seed < t.From+uint64(t.Most) && ctx.Err() == nil; seed++ {
		r.seeds++
		r.seed = seed
		r.verdict, r.err = b.play(ctx, m, t, seed)
		if r.good() && !r.control() {
			break
		}
	}
	r.played = time.Since(began)
	if r.good() {
		r.err = b.clear(m)
	}
	return r
}

// printAll prints the table of all results, and a line that sums it up.
func printAll(out io.Writer, world mutant.World, all []*result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	bad := 0
	var built, played time.Duration
	fmt.Fprintln(w, "\nMUTANT\tNAMED\tOUTCOME\tBY\tFIRST\tALSO BY\tSEEDS\tSECONDS")
	for _, r := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%.1f\n", r.Name, orNone(strings.Join(r.Caught, " ")), r.outcome(),
			orNone(strings.Join(r.named(), " ")), orNone(r.first), r.others(), r.seeds, r.played.Seconds())
		built, played = built+r.built, played+r.played
		if !r.good() {
			bad++
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%d tried in the world %s, %d of them not as they should; %.0fs of building and %.0fs of playing\n", len(all), world, bad, built.Seconds(), played.Seconds())
	return err
}

// list names all mutants, where they are tried, and what each of them breaks.
func list(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MUTANT\tNAMED\tSIM\tPROC\tWHAT IS BROKEN")
	for _, m := range mutant.All() {
		in := func(world mutant.World) string {
			if m.Try(world) == nil {
				return "no: " + m.Why
			}
			return "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Name, strings.Join(m.Caught, " "), in(mutant.Sim), in(mutant.Proc), m.Breaks)
	}
	return w.Flush()
}

// row is a checker's in the table of check.Verdict, first the line below it.
var (
	row   = regexp.MustCompile(`(?m)^(` + strings.Join(checkers(), "|") + `) +(\d+) `)
	first = regexp.MustCompile(`(?m)^first, at entry [\d.]+: (\w+): `)
)

func checkers() (names []string) {
	for _, c := range check.Checkers() {
		names = append(names, c.Name)
	}
	return names
}

// readVerdict reads what check.Verdict prints.
func readVerdict(text string) (v verdict) {
	v.found = map[string]int{}
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		if n, err := strconv.Atoi(m[2]); err == nil && n > 0 {
			v.found[m[1]] = n
		}
	}
	if m := first.FindStringSubmatch(text); m != nil {
		v.first = m[1]
	}
	return v
}

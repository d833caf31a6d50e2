package mutant

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"sluice/jepsen/world"
)

// Edit is one change of a source file.
type Edit struct {
	// File is its path within the module.
	File string
	// Old stands in it exactly once; New takes its place.
	Old, New string
}

// Try is what reveals a mutant in a world: a run of the usual workload under some faults.
type Try struct {
	// Faults there are; none: a calm run.
	Faults []world.Kind
	// Shape is whom they hit, as in scenario.Scenario.
	Shape string
	// Time is how long there is work, and faults.
	Time time.Duration
	// From is the first seed, Most how many are tried one after the other; the zero values are 1 and the standard.
	From uint64
	Most int
}

// The standards of a Try: a seed may miss what a fault must hit at the right moment.
const (
	mostSim  = 40
	mostProc = 6
)

// Mutant is one way to break Sluice.
type Mutant struct {
	Name string
	// Breaks says in a sentence what is wrong.
	Breaks string
	Edits  []Edit
	// Caught are the names of checkers (check.Checkers) of which one must speak.
	Caught []string
	// Sim and Proc reveal it in virtual time and in real processes; nil: not there, for the reason Why.
	Sim, Proc *Try
	Why       string
}

// World names a world of jepsen.
type World string

// The worlds.
const (
	Sim  World = "sim"
	Proc World = "proc"
)

// Try is how the mutant is tried in a world, with all fields set; nil: it is not.
func (m *Mutant) Try(w World) *Try {
	t, most := m.Sim, mostSim
	if w == Proc {
		t, most = m.Proc, mostProc
	}
	if t == nil {
		return nil
	}
	full := *t
	if full.From == 0 {
		full.From = 1
	}
	if full.Most == 0 {
		full.Most = most
	}
	return &full
}

// Control is no mutant: Sluice as it is, built and tried as mutants are. Nothing may be caught.
func Control() *Mutant {
	return &Mutant{
		Name: "control", Breaks: "nothing: this is Sluice as it is, and nobody may complain",
		Sim:  &Try{Faults: usual, Time: 20 * time.Second, Most: 1},
		Proc: &Try{Faults: usual, Time: 20 * time.Second, Most: 1},
	}
}

// usual are the faults among which most mutants show.
var usual = []world.Kind{world.Kill, world.WorkerKill, world.Transfer}

// All are the mutants, spread so that any few of them in a row come from different parts.
func All() []*Mutant {
	var all []*Mutant
	tables := [][]*Mutant{gateTable(), settleTable(), ownerTable(), memoryTable(), clusterTable(), edgeTable()}
	for n, left := 0, true; left; n++ {
		left = false
		for _, table := range tables {
			if n < len(table) {
				all, left = append(all, table[n]), true
			}
		}
	}
	return all
}

// In are the mutants that are tried in a world and whose names fit a regular expression as a whole; empty: all.
func In(w World, names string) (chosen []*Mutant, err error) {
	fits, err := regexp.Compile("^(" + names + ")$")
	if err != nil {
		return nil, fmt.Errorf("mutant: names: %w", err)
	}
	var known []string
	for _, m := range All() {
		if m.Try(w) == nil {
			continue
		}
		known = append(known, m.Name)
		if names == "" || fits.MatchString(m.Name) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("mutant: none is named %q in the world %s; there are: %s", names, w, strings.Join(known, ", "))
	}
	return chosen, nil
}

// Sample are some of the mutants: others for each turn, and all of them in as many turns as it takes.
func Sample(all []*Mutant, count, turn int) []*Mutant {
	if count <= 0 || count >= len(all) {
		return all
	}
	begin := turn % ((len(all) + count - 1) / count) * count
	some := make([]*Mutant, 0, count)
	for n := range count {
		some = append(some, all[(begin+n)%len(all)])
	}
	return some
}

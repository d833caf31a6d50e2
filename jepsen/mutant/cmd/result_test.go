//go:build linux

package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"sluice/jepsen/check"
	"sluice/jepsen/history"
	"sluice/jepsen/model"
	"sluice/jepsen/mutant"
)

const printed = `OPERATION  OK  REFUSED  UNKNOWN
send       10  0        0

INVARIANT  VIOLATIONS  
I1         0           no loss
I4         12          gate
I10        3           idempotence
liveness   1           quiet after the faults
first, at entry 77.1: I10: something
I4: I4         99          is the text of a violation
`

func TestAVerdictIsRead(t *testing.T) {
	t.Parallel()
	v := readVerdict(printed)
	if len(v.found) != 3 || v.found["I4"] != 12 || v.found["I10"] != 3 || v.found["liveness"] != 1 || v.first != "I10" {
		t.Errorf("%+v", v)
	}
}

// TestEveryCheckerIsRead: one that is not read catches nothing, and never soils the control.
func TestEveryCheckerIsRead(t *testing.T) {
	t.Parallel()
	v := &check.Verdict{Case: &check.Case{History: &history.History{}, Model: model.New()}, Violations: map[string][]check.Violation{}}
	for _, c := range check.Checkers() {
		v.Violations[c.Name] = []check.Violation{{Invariant: c.Name, Text: "something"}}
	}
	var out strings.Builder
	if err := v.Print(&out); err != nil {
		t.Fatal(err)
	}
	if found := readVerdict(out.String()).found; len(found) != len(v.Violations) {
		t.Errorf("of %d checkers only these are read: %v", len(v.Violations), found)
	}
}

// fakeBench finds something with one seed.
type fakeBench struct {
	seed  uint64
	found string
	err   error
}

func (f *fakeBench) build(context.Context, *mutant.Mutant) error { return f.err }

func (f *fakeBench) clear(*mutant.Mutant) error { return nil }

func (f *fakeBench) play(_ context.Context, _ *mutant.Mutant, _ *mutant.Try, seed uint64) (verdict, error) {
	if seed != f.seed {
		return verdict{}, nil
	}
	return verdict{found: map[string]int{f.found: 1}}, errors.New("it failed")
}

func TestOnlyTheNamedInvariantCounts(t *testing.T) {
	t.Parallel()
	m := &mutant.Mutant{Name: "m", Caught: []string{"I4"}, Sim: &mutant.Try{Most: 3}}
	for _, c := range []struct {
		bench   *fakeBench
		outcome string
		good    bool
		seeds   int
	}{
		{&fakeBench{seed: 2, found: "I4"}, "caught", true, 2},
		{&fakeBench{seed: 3, found: "I9"}, "CAUGHT BY OTHERS", false, 3},
		{&fakeBench{seed: 9, found: "I4"}, "ESCAPED", false, 3},
		{&fakeBench{err: mutant.ErrStale}, "NOT TRIED", false, 0},
	} {
		r := try(t.Context(), mutant.Sim, c.bench, m)
		if r.outcome() != c.outcome || r.good() != c.good || r.seeds != c.seeds {
			t.Errorf("%+v: %s", c, r)
		}
	}
}

func TestTheControlMustBeClean(t *testing.T) {
	t.Parallel()
	if r := try(t.Context(), mutant.Sim, &fakeBench{seed: 2}, mutant.Control()); !r.good() || r.outcome() != "clean" {
		t.Error(r)
	}
	if r := try(t.Context(), mutant.Sim, &fakeBench{seed: 1, found: "I1"}, mutant.Control()); r.good() || r.outcome() != "NOT CLEAN" {
		t.Error(r)
	}
}

func TestTheTableTellsWhatIsBad(t *testing.T) {
	t.Parallel()
	m := &mutant.Mutant{Name: "m", Caught: []string{"I4"}, Sim: &mutant.Try{Most: 1}}
	var out strings.Builder
	all := []*result{try(t.Context(), mutant.Sim, &fakeBench{seed: 1, found: "I4"}, m), try(t.Context(), mutant.Sim, &fakeBench{seed: 7}, m)}
	if err := printAll(&out, mutant.Sim, all); err != nil || !strings.Contains(out.String(), "1 of them not as they should") || !strings.Contains(out.String(), "ESCAPED") {
		t.Errorf("%v\n%s", err, &out)
	}
}

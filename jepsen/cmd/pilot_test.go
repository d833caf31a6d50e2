//go:build linux

package main

import (
	"testing"

	"sluice/jepsen/check"
	"sluice/jepsen/world"
)

// row is a row of the coverage table with so many cells that were hit.
func row(hit int) map[string]int {
	cells := map[string]int{}
	for _, phase := range check.Phases()[:hit] {
		cells[phase] = 1
	}
	return cells
}

func TestAPilotPrefersWhatIsEmpty(t *testing.T) {
	t.Parallel()
	all := len(check.Phases())
	kinds := []world.Kind{world.Kill, world.Pause, world.Loss}
	p := newPilot(check.Sum{Coverage: map[string]map[string]int{"kill": row(all)}})
	p.take(map[string]map[string]int{"pause": row(all - 1), "loss": row(1)})
	for _, want := range []world.Kind{world.Loss, world.Pause, world.Loss} {
		if got, ok := p.prefer(kinds); !ok || got != want {
			t.Errorf("it prefers %s (%v), not %s", got, ok, want)
		}
	}
	p.take(map[string]map[string]int{"pause": row(all), "loss": row(all)})
	if got, ok := p.prefer(kinds); ok {
		t.Errorf("it prefers %s though no cell is empty", got)
	}
}

func TestAPilotHasFaultsMeetWhatIsRare(t *testing.T) {
	t.Parallel()
	p := newPilot(check.Sum{})
	for kind, hit := range map[string]int{"pause": 5, "loss": 6, "kill": 7} {
		p.now.Coverage = map[string]map[string]int{kind: row(hit)}
		want := map[string]world.Kind{"pause": world.Lag, "loss": world.Lag, "kill": ""}[kind]
		if got, ok := p.beside(world.Kind(kind)); got != want || ok != (want != "") {
			t.Errorf("%s is to meet %q", kind, got)
		}
	}
	p.now.Coverage = map[string]map[string]int{"pause": {check.SnapshotInstall: 1}}
	if got, ok := p.beside(world.Pause); !ok || got != world.WorkerKill {
		t.Errorf("a pause that met a snapshot is to meet %q", got)
	}
}

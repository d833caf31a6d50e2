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

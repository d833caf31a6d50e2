package scenario

import (
	"slices"
	"strings"
	"testing"

	"sluice/jepsen/world"
)

func TestScenariosAreWhole(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range All() {
		if s.Name == "" || seen[s.Name] || s.About == "" || s.Time <= 0 {
			t.Errorf("%+v", s)
		}
		seen[s.Name] = true
		for _, kind := range append(slices.Clone(s.Faults), s.Steady...) {
			if !slices.Contains(world.Kinds(), kind) {
				t.Errorf("%s: there is no fault %q", s.Name, kind)
			}
		}
	}
}

func TestEverythingHasEveryKind(t *testing.T) {
	t.Parallel()
	s, err := Find("everything")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range world.Kinds() {
		if !slices.Contains(s.Faults, kind) && !slices.Contains(s.Steady, kind) {
			t.Errorf("%s is missing", kind)
		}
	}
}

func TestAnUnknownScenarioIsToldWithThoseThatAre(t *testing.T) {
	t.Parallel()
	if _, err := Find("nonsense"); err == nil || !strings.Contains(err.Error(), "blackouts") {
		t.Errorf("%v", err)
	}
}

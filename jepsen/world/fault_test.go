package world

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAFaultSaysWhoIsHitAndHow(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]Fault{
		"kill (leader) n2":               {Kind: Kill, Shape: "leader", Nodes: []string{"n2"}},
		"loss n1 n2 20 %":                {Kind: Loss, Nodes: []string{"n1", "n2"}, Percent: 20},
		"partition (one-way) n1>n2":      {Kind: Partition, Shape: "one-way", Cuts: []Cut{{"n1", "n2"}}},
		"delay n3 30ms":                  {Kind: Delay, Nodes: []string{"n3"}, Span: 30 * time.Millisecond},
		"bandwidth n3 4096 B/s":          {Kind: Bandwidth, Nodes: []string{"n3"}, Rate: 4096},
		"worker-pause accounts-worker-1": {Kind: WorkerPause, Workers: []string{"accounts-worker-1"}},
	} {
		if f.String() != want {
			t.Errorf("%q, want %q", f.String(), want)
		}
	}
}

func TestKindsAreReadByTheirNames(t *testing.T) {
	t.Parallel()
	if kinds, err := ParseKinds("kill,power-loss"); err != nil || len(kinds) != 2 || kinds[1] != PowerLoss {
		t.Errorf("%v %v", kinds, err)
	}
	if kinds, err := ParseKinds("none"); err != nil || len(kinds) != 0 {
		t.Errorf("%v %v", kinds, err)
	}
	for _, text := range []string{"none", "kill,power-loss", FormatKinds(Kinds())} {
		if kinds, err := ParseKinds(text); err != nil || FormatKinds(kinds) != text {
			t.Errorf("%s is written as %s (%v)", text, FormatKinds(kinds), err)
		}
	}
	if _, err := ParseKinds("kill,flood"); err == nil || !strings.Contains(err.Error(), `"flood"; there are: none, partition, loss`) {
		t.Errorf("%v", err)
	}
}

func TestAShapeThatIsNoneIsToldWithThoseThatAre(t *testing.T) {
	t.Parallel()
	if err := CheckShape("everybody"); err == nil || !strings.Contains(err.Error(), "leader, one, quorum, all") {
		t.Errorf("%v", err)
	}
	if err := errors.Join(CheckShape(""), CheckShape("quorum")); err != nil {
		t.Error(err)
	}
}

func TestKindsAreNamedOnce(t *testing.T) {
	t.Parallel()
	seen := map[Kind]bool{}
	for _, kind := range Kinds() {
		if seen[kind] {
			t.Errorf("%s twice", kind)
		}
		seen[kind] = true
	}
}

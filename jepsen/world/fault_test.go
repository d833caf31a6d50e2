package world

import (
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

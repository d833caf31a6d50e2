package world

import (
	"slices"
	"testing"
)

func TestTheSegmentThatIsAppendedToIsNotDamaged(t *testing.T) {
	t.Parallel()
	files := []string{"node.json", "raft/wal/001-1.wal", "raft/wal/110-2.wal", "state/000004.sst"}
	if got, want := Damageable(files), []string{"node.json", "raft/wal/001-1.wal", "state/000004.sst"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Damageable([]string{"node.json"}); !slices.Equal(got, []string{"node.json"}) {
		t.Errorf("without a raft log: %v", got)
	}
}

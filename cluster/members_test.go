package cluster

import (
	"errors"
	"sync/atomic"
	"testing"

	"sluice/api/reason"
)

// TestARemovalWhoseAnswerIsLostIsNotToldAsNotDone loses the leader's answer to a removal that took effect.
func TestARemovalWhoseAnswerIsLostIsNotToldAsNotDone(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	lead := w.leader("a", "b", "c")
	var others []string
	for _, id := range []string{"a", "b", "c"} {
		if id != lead.cfg.NodeID {
			others = append(others, id)
		}
	}
	asked, gone := w.nodes[others[0]], others[1]
	var lost atomic.Bool
	w.fabric.lose(func(method string, _ []byte) bool { return method == methodRemove && lost.CompareAndSwap(false, true) })
	if err := asked.Remove(w.context(), gone); !errors.Is(err, reason.OutcomeUnknown) {
		t.Fatalf("the answer was lost, and the removal is told as %v", err)
	}
	if err := asked.Remove(w.context(), gone); !errors.Is(err, reason.UnknownMember) {
		t.Fatalf("the removal was done, and its repetition is told as %v", err)
	}
}

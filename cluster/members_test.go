package cluster

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

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

// A member that was given the vote while it was cut off, and has not heard of it yet, is needed for the next election.
func TestAMemberThatHasNotHeardThatItVotesLetsOthersLead(t *testing.T) {
	w, lead, heir := givesTheVote(t, func(string) string { return "c" })
	w.send(w.nodes[heir], "app", "i", "m")
	w.kill(lead.cfg.NodeID)
	w.fabric.isolate(w.nodes["c"].port.addr, false)
	w.leader("c", heir)
	w.send(w.nodes[heir], "app", "i", "m2")
	w.sameDigest("c", heir)
}

// givesTheVote founds a cluster of two, whose leader gives a third member, c, the vote while one is cut off: c, or the other,
// as away chooses.
func givesTheVote(t *testing.T, away func(other string) string) (w *world, lead *member, other string) {
	t.Helper()
	w = newWorld(t, func(c *Config) { c.PromoteAfter = time.Hour })
	w.founded("a", "b")
	w.must(w.nodes["a"], declare("app"))
	w.start("c", 0)
	w.ready("c")
	lead = w.leader("a", "b")
	other = map[string]string{"a": "b", "b": "a"}[lead.cfg.NodeID]
	w.fabric.isolate(w.nodes[away(other)].port.addr, true)
	if err := lead.settled(lead.raft().AddVoter("c", raft.ServerAddress(w.nodes["c"].port.addr), 0, patience)); err != nil {
		t.Fatal(err)
	}
	return w, lead, other
}

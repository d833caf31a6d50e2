package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/api/reason"
)

// A node that is down is not handed the lead, however often that is asked for, and the leader goes on meanwhile.
func TestTheLeadIsNotHandedToANodeThatIsDown(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	lead := w.leader("a", "b", "c")
	down := others(lead.cfg.NodeID)[0]
	w.kill(down)
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := lead.transfer(ctx, down)
		cancel()
		if !errors.Is(err, reason.NoLeader) || !strings.Contains(err.Error(), "no voter that could take it answers") {
			t.Fatalf("the lead for %s: %v", down, err)
		}
		w.send(lead, "app", "i", time.Now().String())
	}
	if _, err := lead.transfer(w.context(), "d"); !errors.Is(err, reason.BadField) || !strings.Contains(err.Error(), down) {
		t.Fatalf("the lead for somebody unknown: %v", err)
	}
	heir, err := lead.transfer(w.context(), "")
	if err != nil || heir == down || heir == lead.cfg.NodeID {
		t.Fatalf("the lead for anybody went to %q: %v", heir, err)
	}
}

package cluster

import (
	"context"
	"errors"
	"testing"

	"sluice/api/reason"
)

// What still waits to be proposed when its node stops was not done, and may be tried elsewhere at once. What its caller gave up
// was not proposed in time.
func TestWhatWaitsToBeProposedIsToldWhy(t *testing.T) {
	given, cancel := context.WithCancel(context.Background())
	cancel()
	for want, c := range map[reason.Reason]struct {
		ctx   context.Context
		stops bool
	}{
		reason.NoLeader:   {context.Background(), true},
		reason.Overloaded: {given, false},
	} {
		n := &Node{cfg: Config{Transport: newFabric().listen()}.Defaults(), metrics: newMetrics(), stopped: make(chan struct{})}
		if c.stops {
			close(n.stopped)
		}
		// Nobody runs the proposer: nothing is taken from its queue.
		if _, err := newProposer(n).submit(c.ctx, newProposal(nil, 1)); !errors.Is(err, want) {
			t.Errorf("want %v, got %v", want, err)
		}
	}
}

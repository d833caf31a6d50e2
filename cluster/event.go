package cluster

import (
	"context"
	"errors"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
)

// EventNews is closed when this node next applies an event, whichever node leads, or when its state was replaced.
// Take it before reading the events of a View, so that none is missed.
func (n *Node) EventNews() <-chan struct{} { return n.events.next() }

// announce puts on record that this node leads now. It is a duty like the others, so that a full disk, at which
// nothing can be written, keeps no leader from leading; it tries until that is done or the lead is over. When the
// outcome is unknown the lead is as good as over, and nothing is said twice.
func (l *leadership) announce(ctx context.Context) {
	cmd := &logv1.Command{Actor: dutyActor, Kind: &logv1.Command_LeaderElected{LeaderElected: &logv1.LeaderElected{NodeId: l.node.cfg.NodeID}}}
	for {
		_, err := l.propose(ctx, cmd)
		if err == nil || errors.Is(err, reason.OutcomeUnknown) {
			return
		}
		l.dutyFailed("announce", err)
		if !pause(ctx, dutyPause) {
			return
		}
	}
}

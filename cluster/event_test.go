package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// eventReader reads events, and goes on where it was at whichever node.
type eventReader struct {
	w    *world
	at   fsm.EventPlace
	seen []*sluicev1.Event
}

// until reads at a node until it has seen an event, waiting for news.
func (r *eventReader) until(m *member, wanted func(*sluicev1.Event) bool) *sluicev1.Event {
	r.w.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		news := m.EventNews()
		v, _, err := m.View(r.w.context(), true)
		if err != nil {
			r.w.t.Fatal(err)
		}
		page, err := v.Events(r.at, 1, fsm.EventFilter{})
		if err != nil {
			r.w.t.Fatal(err)
		}
		r.at = page.At
		for _, e := range page.Events {
			r.seen = append(r.seen, e)
			if wanted(e) {
				return e
			}
		}
		if !page.Whole {
			continue
		}
		select {
		case <-news:
		case <-timer.C:
			r.w.t.Fatalf("waited in vain; seen %s", r.names())
		}
	}
}

// names are the events of applications that were seen.
func (r *eventReader) names() string {
	var all []string
	for _, e := range r.seen {
		if e.Application != "" {
			all = append(all, fmt.Sprint(strings.ToLower(strings.TrimPrefix(e.Type.String(), "EVENT_")), ":", e.Instance, e.MessageId))
		}
	}
	return strings.Join(all, " ")
}

func deferredMessage(id string) func(*sluicev1.Event) bool {
	return func(e *sluicev1.Event) bool {
		return e.Type == sluicev1.EventType_EVENT_MESSAGE_DEFERRED && e.MessageId == id
	}
}

func entering(app, instance string) *logv1.Command {
	return &logv1.Command{Actor: "test", Kind: &logv1.Command_EnterRecovery{EnterRecovery: &sluicev1.EnterRecoveryRequest{Application: app, Instance: instance, Cause: "test"}}}
}

// TestEventsGoOnAtAnotherNode reads at a follower, then, after the leader is gone, at another one, then at a node that
// was taken up again from the leader's snapshot: nothing is missed, nothing comes twice.
func TestEventsGoOnAtAnotherNode(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 10, 20, 20*time.Millisecond
	})
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	old := w.leader("a", "b", "c")
	rest := others(old.cfg.NodeID)
	r := &eventReader{w: w}
	first := w.nodes[rest[0]]
	w.must(first, entering("app", "i"))
	w.send(first, "app", "i", "m1", "m2")
	r.until(first, deferredMessage("m1"))

	w.kill(old.cfg.NodeID)
	lead := w.leader(rest...)
	w.send(lead, "app", "i", "m3")
	second := w.nodes[rest[1]]
	r.until(second, deferredMessage("m3"))

	for i := range 100 {
		w.send(lead, "app", "other", fmt.Sprint("m", i))
	}
	w.until("the leader's log is cut", lead.Node, func() bool {
		first, err := w.logs[lead.cfg.NodeID].FirstIndex()
		return err == nil && first > 40
	})
	back := w.start(old.cfg.NodeID, 3)
	w.send(lead, "app", "i", "m4")
	r.until(back, deferredMessage("m4"))
	if got := r.names(); got != "recovery_entered:i message_deferred:im1 message_deferred:im2 message_deferred:im3 message_deferred:im4" {
		t.Errorf("seen: %s", got)
	}
	if !slices.ContainsFunc(r.seen, func(e *sluicev1.Event) bool {
		return e.Type == sluicev1.EventType_EVENT_LEADER_CHANGED && e.NodeId == lead.cfg.NodeID && e.Term >= 2
	}) {
		t.Errorf("nothing tells that %s leads: %v", lead.cfg.NodeID, r.seen)
	}
	// All nodes hold the same from the beginning.
	for _, id := range append(rest, old.cfg.NodeID) {
		again := &eventReader{w: w}
		again.until(w.nodes[id], deferredMessage("m4"))
		if again.names() != r.names() {
			t.Errorf("%s holds %s", id, again.names())
		}
	}
}

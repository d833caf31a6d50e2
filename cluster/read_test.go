package cluster

import (
	"fmt"
	"testing"
	"time"
)

// A node that was cut off hears the leader's heartbeats again long before it is sent what it missed. What it shows until
// then is as old as what it lacks.
func TestAStaleReadIsAsOldAsWhatItLacks(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	lead := w.leader("a", "b", "c")
	behind := w.nodes[others(lead.cfg.NodeID)[0]]
	w.fabric.isolate(behind.port.addr, true)
	w.send(lead, "app", "i", "missed")
	missed, since := lead.group.applied.index(), time.Now()
	for n := 0; time.Since(since) < 2*time.Second; n++ {
		w.send(lead, "app", "i", fmt.Sprint("m", n))
	}
	w.fabric.isolate(behind.port.addr, false)
	w.until("it catches up", behind.Node, func() bool {
		now := time.Now()
		_, info, err := behind.View(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		if at := now.Add(-info.Age); info.Index < missed && at.After(since) {
			t.Fatalf("a view without an entry of %v ago says that it is %v old", now.Sub(since), info.Age)
		}
		return info.Index >= missed
	})
}

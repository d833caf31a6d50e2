package cluster

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"sluice/api/reason"
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

// A leader that is cut off may still get answers that were under way. They say that it led when it sent what they answer,
// and not that it leads when it is read from.
func TestAnAnswerThatWasUnderWayConfirmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.LeaderWait, c.NoLibraryMetrics = 0, true })
		w.founded("a", "b", "c")
		old := w.leader("a", "b", "c")
		// Every follower answers a heartbeat, and is on its way.
		release := w.fabric.hold(old.port.addr)
		<-time.After(old.cfg.HeartbeatTimeout / 4)
		synctest.Wait()
		w.fabric.cutOff(old.port.addr)
		read := make(chan error, 1)
		go func() {
			_, _, err := old.View(t.Context(), false)
			read <- err
		}()
		synctest.Wait()
		release()
		if err := <-read; !errors.Is(err, reason.NoLeader) {
			t.Fatalf("a linearizable read after which nothing came through: want NO_LEADER, got %v", err)
		}
	})
}

// A node that lost the lead and was elected anew may not have noticed yet: it is confirmed by a majority, and what it has
// applied may lack what another leader answered between.
func TestALeadershipOfAFormerTermConfirmsNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	n := w.leader("a", "b", "c").Node
	w.until("it leads", n, func() bool { return n.lead.Load() != nil })
	if _, err := n.confirmedIndex(); err != nil {
		t.Fatal(err)
	}
	now := n.lead.Load()
	former := newLeadership(t.Context(), n)
	former.term = now.term - 1
	n.lead.Store(former)
	_, err := n.confirmedIndex()
	n.lead.Store(now)
	if !errors.Is(err, reason.NoLeader) {
		t.Errorf("want NO_LEADER, got %v", err)
	}
}

func TestAMajorityOfTheVotersBacksALeader(t *testing.T) {
	now := time.Now()
	servers := []raft.Server{
		{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d", Suffrage: raft.Nonvoter}, {ID: "e", Suffrage: raft.Nonvoter},
	}
	for _, c := range []struct {
		name string
		acks []string
		term uint64
		sent time.Time
		want bool
	}{
		{"itself alone", nil, 7, now, false},
		{"one of the others", []string{"c"}, 7, now, true},
		{"who does not vote", []string{"d", "e"}, 7, now, false},
		{"what was sent before", []string{"b", "c"}, 7, now.Add(-1), false},
		{"another term", []string{"b", "c"}, 6, now.Add(time.Second), false},
	} {
		var b backing
		for _, id := range c.acks {
			b.acknowledged(raft.ServerID(id), c.term, c.sent)
			b.acknowledged(raft.ServerID(id), c.term-1, c.sent.Add(time.Minute))
		}
		if got := b.byQuorum(servers, "a", 7, now); got != c.want {
			t.Errorf("%s: want %v, got %v", c.name, c.want, got)
		}
	}
}

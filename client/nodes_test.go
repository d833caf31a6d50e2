package client

import (
	"testing"
	"time"
)

// A client calls the leader that nodes have told of, while it is well and answers.
func TestCallsGoToTheLeader(t *testing.T) {
	t.Parallel()
	ns, err := newNodes(Config{Addresses: []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	first, second := ns.all[0], ns.all[1]
	inTurn := func(why string) {
		t.Helper()
		seen := map[*node]bool{}
		for range 3 * len(ns.all) {
			seen[ns.prefer(now)] = true
		}
		if len(seen) < 2 {
			t.Errorf("%s: one node is called, not all in turn", why)
		}
	}
	always := func(want *node, why string) {
		t.Helper()
		for range 3 {
			if n := ns.prefer(now); n != want {
				t.Fatalf("%s: %s is called, want %s", why, n.address, want.address)
			}
		}
	}
	inTurn("nobody has told who leads")
	ns.lead(first, second.address)
	always(second, "a node named it")
	ns.lead(first, "")
	always(second, "another node knows of none")
	ns.lead(second, "")
	inTurn("the leader says that it is none")
	ns.lead(second, "127.0.0.1:9")
	inTurn("the leader is none of those that the client was given")

	ns.lead(first, second.address)
	ns.note(second, true, now)
	inTurn("the leader failed")
	now = now.Add(time.Second)
	always(second, "its penalty is over")
	ns.note(second, false, now)

	ns.ask(second, now)
	always(second, "it was asked just now")
	now = now.Add(silence + 1)
	inTurn("the leader leaves a call without an answer")
	ns.ask(second, now)
	ns.heard(second, true, now)
	always(second, "it has answered another one since")
	now = now.Add(silence + 1)
	ns.heard(second, false, now)
	inTurn("the one without an answer was given up")
	ns.ask(second, now)
	ns.heard(second, true, now)
	now = now.Add(time.Hour)
	always(second, "it has answered all that it was asked")
}

func TestCallsGoToAllNodesWhereThatIsWanted(t *testing.T) {
	t.Parallel()
	ns, err := newNodes(Config{Addresses: []string{"127.0.0.1:1", "127.0.0.1:2"}, Spread: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.lead(ns.all[0], ns.all[0].address)
	now := time.Unix(1000, 0)
	if one, other := ns.prefer(now), ns.prefer(now); one == other {
		t.Error("the leader alone is called")
	}
}

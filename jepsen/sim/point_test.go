package sim

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"sluice/internal/disk"
	"sluice/jepsen/workload"
)

func TestWhatIsSaidIsAPoint(t *testing.T) {
	t.Parallel()
	raft, call := &talk{}, &talk{}
	for _, step := range []struct {
		talk *talk
		asks bool
		say  string
		want point
	}{
		{raft, true, "\x01the hello", ""}, {raft, false, "\x00", ""},
		{raft, true, "\x00entries", "append: asked"}, {raft, false, "\xa0", "append: answered"},
		{raft, true, "\x04prevote", "vote: asked"}, {raft, false, "\xa0", "vote: answered"},
		{raft, true, "\x02its size", "snapshot: asked"}, {raft, true, strings.Repeat("\x00", pieceLeast), "snapshot: asked"}, {raft, false, "\xa0", "snapshot: answered"},
		{raft, true, "\x03", "hand-over: asked"},
		{call, true, "\x02the hello", ""}, {call, false, "\x00", ""}, {call, true, "\x00\x00", "call: asked"}, {call, false, "\x00", "call: answered"},
	} {
		if got := step.talk.says(step.asks, []byte(step.say)); got != step.want {
			t.Errorf("%q (asks: %v) is %q, want %q", step.say[:1], step.asks, got, step.want)
		}
	}
}

func TestWhatIsDoneToAFileIsAPoint(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]point{
		"/data/groups/0001/raft/wal/00000000000000000001-0000000000000000.wal": "log segment: sync",
		"/data/groups/0001/raft/wal/meta.json.new":                             "log list: sync",
		"/data/groups/0001/raft":                                               "log folder: sync",
		"/data/groups/0001/state/MANIFEST-000001":                              "state manifest: sync",
		"/data/groups/0001/state/000007.sst":                                   "state table: sync",
		"/data/groups/0001/state":                                              "state: sync",
		"/data/groups/0001/state.incoming/000007.sst":                          "state install: sync",
		"/data/groups/0001/snapshots/2-30-1/meta.json":                         "snapshot: sync",
		"/data/node.json.new":                                                  "identity: sync",
	} {
		if got := filePoint(disk.OpSync, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// stopped has a trap stop the only node of a world, and tells what the world's trace says of it. The node is up again then.
func stopped(t *testing.T, trapped *trap) (text string) {
	cryptotest.SetGlobalRandom(t, 1)
	bubble(t, func(t *testing.T) {
		var trace bytes.Buffer
		w, err := New(Config{Seed: 1, Nodes: 1, Run: workload.Work, Trace: &trace})
		if err != nil {
			t.Fatal(err)
		}
		if err := workload.Declare(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		trapped.rng, trapped.left, trapped.stops = rand.New(rand.NewPCG(1, 1)), 1, 1
		w.places[0].trap.Store(trapped)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range 2 { // what stops it, and what is taken by the node that came back
			if _, err := workload.Probe(ctx, w); err != nil {
				t.Errorf("%s: %v", trapped, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		text = trace.String()
	})
	return text
}

func TestATrapStopsANodeInTheMidstOfSomething(t *testing.T) {
	for _, at := range []point{"log segment: write", "log segment: sync", "client: answered"} {
		for _, after := range []bool{false, true} {
			for _, dark := range []bool{false, true} {
				trapped := &trap{point: at, after: after, dark: dark, often: true}
				if text := stopped(t, trapped); strings.Count(text, "n1: stopped "+trapped.String()) != 1 || strings.Count(text, "n1: starts") != 2 {
					t.Errorf("%s:\n%s", trapped, text)
				}
			}
		}
	}
}

func TestATrapThatIsTakenAwayStopsNobody(t *testing.T) {
	t.Parallel()
	w := &trap{point: "vote: asked", rng: rand.New(rand.NewPCG(1, 1)), left: 1, stops: 1}
	w.takeAway()
	if w.springs("vote: asked", false) || w.stands() {
		t.Error("it stands")
	}
}

func TestATornFrameArrivesByHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := quietNetwork()
		_, _, near, far := pair(t, n)
		send(t, near, "whole")
		read(t, far, "whole")
		send(t, near, "torn")
		n.breakAll("10.0.0.2", true)
		read(t, far, "to")
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after the half: %v", err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the other end: %v", err)
		}
	})
}

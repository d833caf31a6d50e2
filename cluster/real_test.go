package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"sluice/cluster/raftlog"
	"sluice/transport"
)

// realNode is a node over real sockets and disks.
type realNode struct {
	*Node
	carrier *transport.Transport
	end     context.CancelFunc
	done    chan error
}

func startReal(t *testing.T, id, dir string, backend raftlog.Backend, join ...string) *realNode {
	t.Helper()
	carrier, err := transport.Listen(transport.Config{NodeID: id, Listen: "127.0.0.1:0", Logger: testLogger()})
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(Config{
		NodeID: id, Cluster: "real", DataDir: filepath.Join(dir, id), Transport: carrier, GossipBind: "127.0.0.1:0", Join: join,
		BootstrapExpect: 3, Logger: testLogger(), RaftLog: backend, LeaderWait: patience,
	})
	if err != nil {
		t.Fatal(errors.Join(err, carrier.Close()))
	}
	carrying, stopCarrying := context.WithCancel(context.Background())
	running, stop := context.WithCancel(context.Background())
	r := &realNode{Node: n, carrier: carrier, end: stop, done: make(chan error, 1)}
	carried := make(chan error, 1)
	go func() { carried <- carrier.Run(carrying) }()
	go func() {
		err := n.Run(running)
		stopCarrying()
		r.done <- errors.Join(err, <-carried)
	}()
	return r
}

func (r *realNode) stop(t *testing.T) {
	t.Helper()
	r.end()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

func TestThreeNodesOnRealSocketsAndDisks(t *testing.T) {
	for _, backend := range []raftlog.Backend{raftlog.WAL, raftlog.Bolt} {
		t.Run(string(backend), func(t *testing.T) {
			w := &world{t: t, dir: t.TempDir()}
			nodes := map[string]*realNode{"a": startReal(t, "a", w.dir, backend)}
			seed := nodes["a"].GossipAddress()
			nodes["b"] = startReal(t, "b", w.dir, backend, seed)
			nodes["c"] = startReal(t, "c", w.dir, backend, seed)
			member := func(id string) *member { return &member{Node: nodes[id].Node} }
			w.must(member("c"), declare("app"))
			for i := range 9 {
				w.send(member([]string{"a", "b", "c"}[i%3]), "app", "i", fmt.Sprint("m", i))
			}
			for _, id := range []string{"c", "b"} { // on other ports then
				nodes[id].stop(t)
				nodes[id] = startReal(t, id, w.dir, backend, seed)
				w.send(member(id), "app", "i", "after-"+id)
			}
			view, _, err := nodes["a"].View(w.context(), false)
			if err != nil {
				t.Fatal(err)
			}
			if i, err := view.Instance(inst("i")); err != nil || i.NextSeq != 12 {
				t.Fatalf("want 11 messages, got %v %v", i, err)
			}
			for _, n := range nodes {
				n.stop(t)
			}
		})
	}
}

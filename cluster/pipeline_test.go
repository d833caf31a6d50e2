package cluster

import (
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestAPipelineTakesMoreThanIsAskedFor: a leader that asks for no more answers can still send (hashicorp/raft #612: it
// waits for ever, and the follower gets no entries any more).
func TestAPipelineTakesMoreThanIsAskedFor(t *testing.T) {
	listen := func() *raft.NetworkTransport {
		n, err := raft.NewTCPTransport("127.0.0.1:0", nil, 2, patience, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		return n
	}
	near, far := listen(), listen()
	go func() {
		for {
			select {
			case rpc := <-far.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{Success: false}, nil)
			case <-t.Context().Done():
				return
			}
		}
	}()
	p, err := (&raftTransport{NetworkTransport: near, node: &Node{}}).AppendEntriesPipeline("far", far.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	const sends = 8
	sent := make(chan error, sends)
	go func() {
		for term := range uint64(sends) {
			_, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: term}, &raft.AppendEntriesResponse{})
			sent <- err
		}
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	for range sends {
		select {
		case err := <-sent:
			if err != nil {
				t.Fatal(err)
			}
		case <-late.C:
			t.Fatal("a send waits for an answer to be asked for")
		}
	}
	for term := range uint64(sends) {
		if f := <-p.Consumer(); f.Request().Term != term || f.Response().Success {
			t.Fatalf("answer %d is to %v: %v", term, f.Request(), f.Response())
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

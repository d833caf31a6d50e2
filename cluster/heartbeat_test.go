package cluster

import (
	"io"
	"testing"

	"github.com/hashicorp/raft"
)

// A heartbeat that is handled beside raft's main loop can change the term under a leader (hashicorp/raft #695): even if
// raft asks for such a way, heartbeats come to the main loop like everything else.
func TestHeartbeatsTakeTheMainLoop(t *testing.T) {
	t.Parallel()
	tcp := func() *raft.NetworkTransport {
		carrier, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, patience, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			carrier.CloseStreams() // which Close leaves open
			if err := carrier.Close(); err != nil {
				t.Error(err)
			}
		})
		return carrier
	}
	node := newRaftTransport(tcp(), &Node{halted: make(chan struct{}), abandoned: make(chan struct{})})
	defer close(node.node.halted)
	go node.relay()
	node.SetHeartbeatHandler(func(rpc raft.RPC) {
		t.Error("a heartbeat was handled beside the main loop")
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	})
	go func() {
		rpc := <-node.Consumer() // the main loop
		rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
	}()
	leader := tcp()
	heartbeat := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("a"), Addr: leader.EncodePeer("a", leader.LocalAddr())},
		Term:      1,
	}
	var answer raft.AppendEntriesResponse
	if err := leader.AppendEntries("b", node.LocalAddr(), heartbeat, &answer); err != nil || !answer.Success {
		t.Fatalf("the heartbeat was answered %+v, %v", answer, err)
	}
}

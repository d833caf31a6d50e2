package cluster

import (
	"crypto/rand"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	dto "github.com/prometheus/client_model/go"

	logv1 "sluice/api/log/v1"
	"sluice/fsm"
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
	node := newRaftTransport(tcp(), &Node{halted: make(chan struct{}), abandoned: make(chan struct{}), cfg: Config{HeartbeatTimeout: patience}})
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

// heldUp is a cluster of three with a leader that knows one follower by heartbeats alone; the third node is gone.
func heldUp(t *testing.T) (w *world, lead, follower *member) {
	w = newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	lead = w.leader("a", "b", "c")
	rest := others(lead.cfg.NodeID)
	w.send(lead, "app", "i", "before")
	w.ready(rest...)
	w.kill(rest[0])
	return w, lead, w.nodes[rest[1]]
}

// beats waits until a node answered so many more heartbeats beside raft, in several times its leader's lease.
func (w *world) beats(m *member, many float64) {
	w.t.Helper()
	count := func() float64 {
		var count dto.Metric
		if err := m.metrics.beatsBeside.Write(&count); err != nil {
			w.t.Fatal(err)
		}
		return count.GetCounter().GetValue()
	}
	before := count()
	w.until("heartbeats are answered beside raft", m.Node, func() bool { return count() >= before+many })
}

// A follower whose disk is slow is there all the same: its leader goes on leading. One whose disk hangs is not.
func TestASlowDiskDoesNotCostTheLead(t *testing.T) {
	w, lead, follower := heldUp(t)
	term := lead.raft().CurrentTerm()
	release := w.logs[follower.cfg.NodeID].hold()
	defer release()
	sent := make(chan error, 1)
	go func() {
		_, err := lead.Propose(w.context(), sending("app", "i", "meanwhile"))
		sent <- err
	}()
	w.beats(follower, 10)
	if lead.raft().State() != raft.Leader || lead.raft().CurrentTerm() != term {
		t.Fatalf("the leader of term %d is a %v in term %d", term, lead.raft().State(), lead.raft().CurrentTerm())
	}
	vouches(t, follower, header(lead), term)
	if err := lead.verify(); err != nil {
		t.Fatalf("who leads cannot show it while a follower writes: %v", err)
	}
	w.until("the leader gives up on a disk that hangs", lead.Node, func() bool { return lead.raft().State() != raft.Leader })
	release()
	if err := <-sent; err != nil {
		t.Logf("what was under way: %v", err) // another may lead now, or nobody has for a moment
	}
	w.send(w.leader(lead.cfg.NodeID, follower.cfg.NodeID), "app", "i", "after")
	w.sameDigest(lead.cfg.NodeID, follower.cfg.NodeID)
}

// vouches shows for which heartbeats a follower whose raft is held up answers: those that raft would thank for.
func vouches(t *testing.T, follower *member, leader raft.RPCHeader, term uint64) {
	t.Helper()
	other := leader
	other.ID = []byte("other")
	node := newRaftTransport(nil, follower.Node)
	for _, c := range []struct {
		what string
		req  raft.AppendEntriesRequest
		want bool
	}{
		{"of its leader", raft.AppendEntriesRequest{RPCHeader: leader, Term: term}, true},
		{"of a term that is over", raft.AppendEntriesRequest{RPCHeader: leader, Term: term - 1}, false},
		{"of a term that it has not heard of", raft.AppendEntriesRequest{RPCHeader: leader, Term: term + 1}, false},
		{"of another leader", raft.AppendEntriesRequest{RPCHeader: other, Term: term}, false},
	} {
		if got := node.vouches(&c.req); got != c.want {
			t.Errorf("a heartbeat %s: vouches %v", c.what, got)
		}
	}
}

// A heartbeat that could not be answered at first, because raft had no message just then, is once raft has one.
func TestAHeartbeatIsAskedAboutAgain(t *testing.T) {
	w, lead, follower := heldUp(t)
	node := newRaftTransport(nil, follower.Node) // whose messages no raft takes
	node.node = &Node{cfg: follower.cfg, metrics: follower.metrics, halted: make(chan struct{}), abandoned: make(chan struct{})}
	node.node.consensus.Store(follower.raft())
	req := &raft.AppendEntriesRequest{RPCHeader: header(lead), Term: lead.raft().CurrentTerm()}
	answers := make(chan raft.RPCResponse, 1)
	go node.beat(raft.RPC{Command: req, RespChan: answers}, req)
	select {
	case <-answers:
		t.Fatal("raft was at no message, and a heartbeat was answered for it")
	case <-time.After(follower.cfg.HeartbeatTimeout / 4): // more than two looks
	}
	node.node.engaged.begins()
	select {
	case a := <-answers:
		if got := a.Response.(*raft.AppendEntriesResponse); a.Error != nil || !got.Success || got.Term != req.Term {
			t.Fatalf("answered %+v, %v", got, a.Error)
		}
	case <-w.context().Done():
		t.Fatal("the heartbeat waits for raft without end")
	}
}

// A follower that is being sent a snapshot is there all the same. Two that are left of three could not go on else, until all
// of it is there.
func TestASnapshotUnderWayDoesNotCostTheLead(t *testing.T) {
	w, lead, follower := heldUp(t)
	w.must(lead, bulky("app", "i"))
	if err := lead.raft().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	meta, archive := newest(t, lead)
	term := lead.raft().CurrentTerm()
	content, writer := io.Pipe()
	installed := make(chan error, 1)
	go func() {
		// An index that the follower is far from, or it would not take the snapshot.
		installed <- lead.carrier.InstallSnapshot(raft.ServerID(follower.cfg.NodeID), to(t, lead, follower), &raft.InstallSnapshotRequest{
			RPCHeader: header(lead), SnapshotVersion: 1, Term: term, LastLogIndex: 1 << 20, LastLogTerm: term,
			Configuration: raft.EncodeConfiguration(raft.Configuration{Servers: lead.servers()}), ConfigurationIndex: 1, Size: meta.Size,
		}, &raft.InstallSnapshotResponse{}, content)
	}()
	if _, err := io.CopyN(writer, archive, meta.Size/2); err != nil {
		t.Fatal(err)
	}
	w.beats(follower, 10)
	if lead.raft().State() != raft.Leader || lead.raft().CurrentTerm() != term {
		t.Errorf("the leader of term %d is a %v in term %d", term, lead.raft().State(), lead.raft().CurrentTerm())
	}
	if err := writer.CloseWithError(io.ErrUnexpectedEOF); err != nil {
		t.Fatal(err)
	}
	if err := <-installed; err == nil {
		t.Fatal("half a snapshot was taken")
	}
	w.send(lead, "app", "i", "after")
}

// bulky sends messages that make a snapshot larger than what lies in buffers on its way.
func bulky(app, instance string) *logv1.Command {
	cmd := sending(app, instance, names("bulky", 16)...)
	for _, m := range cmd.GetSend().Messages {
		m.Data = make([]byte, 128<<10)
		_, _ = rand.Read(m.Data) // which never fails
	}
	return cmd
}

// newest opens the newest snapshot of a node.
func newest(t *testing.T, m *member) (*raft.SnapshotMeta, io.ReadCloser) {
	t.Helper()
	all, err := m.snaps.List()
	if err != nil || len(all) == 0 {
		t.Fatalf("snapshots: %v, %v", all, err)
	}
	meta, archive, err := m.snaps.Open(all[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := archive.Close(); err != nil {
			t.Error(err)
		}
	})
	return meta, archive
}

// A state that is taken over tells how it goes on: that is the longer part of a snapshot that is installed.
func TestAStateThatIsTakenOverGoesOn(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	w.must(m, bulky("app", "i"))
	if err := m.raft().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	_, archive := newest(t, m)
	g, err := openGroup(m.cfg, t.TempDir(), newMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.close(nil); err != nil {
			t.Error(err)
		}
	}()
	steps := 0
	g.onEffects, g.onRestore, g.onFatal = func(*fsm.Effects) {}, func(uint64) error { return nil }, func(err error) { t.Error(err) }
	g.onProgress = func() { steps++ }
	if err := g.Restore(io.NopCloser(archive)); err != nil {
		t.Fatal(err)
	}
	if steps < 16 {
		t.Errorf("it went on %d times only", steps)
	}
	w.send(m, "app", "i", "after")
}

func TestEngagement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e engagement
		if e.lately(time.Hour) {
			t.Error("raft is at a message before there was one")
		}
		e.goesOn()
		if e.lately(time.Hour) {
			t.Error("what goes on of a message that was answered is another one")
		}
		e.begins()
		if !e.lately(time.Second) {
			t.Error("raft is not at the message that it was given")
		}
		<-time.After(time.Second)
		if e.lately(time.Second) {
			t.Error("raft goes on though nothing of it was seen for long")
		}
		r := &progressReader{strings.NewReader("x"), e.goesOn}
		if _, err := r.Read(make([]byte, 1)); err != nil || !e.lately(time.Second) {
			t.Errorf("raft reads and does not go on: %v", err)
		}
		e.ends()
		if e.lately(time.Hour) {
			t.Error("raft is at a message that it has answered")
		}
	})
}

package cluster

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"sluice/cluster/raftlog"
	"sluice/internal/disk"
)

// onDisks is a world of nodes with raft logs on disks that can be held up.
func onDisks(t *testing.T, change func(*Config)) (*world, map[string]*disk.Mount) {
	disks := map[string]*disk.Mount{}
	for _, id := range []string{"a", "b", "c"} {
		disks[id] = disk.NewMemory().Mount()
	}
	return newWorld(t, func(c *Config) {
		c.OpenLog = logOn(disks[c.NodeID])
		if change != nil {
			change(c)
		}
	}), disks
}

// logOn opens raft logs on a disk.
func logOn(files disk.FS) func(string, raftlog.Config) (RaftLog, error) {
	return func(dir string, cfg raftlog.Config) (RaftLog, error) {
		cfg.Files = files
		return raftlog.Open(dir, cfg)
	}
}

// heldBehind has an entry under way that the others hold and that the leader's disk does not take, and answers its index and
// what became of its proposal.
func heldBehind(t *testing.T, w *world, lead *member, peers []string) (index uint64, proposed <-chan error) {
	t.Helper()
	before := lead.raft().LastIndex()
	answer := make(chan error, 1)
	ctx := w.context()
	go func() {
		_, err := lead.Propose(ctx, sending("app", "i", "held"))
		answer <- err
	}()
	for _, id := range peers {
		m := w.nodes[id]
		w.until("the followers have the entry", m.Node, func() bool {
			return m.raft().LastIndex() > before && m.raftLog.(laterLog).Unwritten(before+1) == nil
		})
	}
	return before + 1, answer
}

// stalled is a cluster of three whose leader's disk takes nothing since an entry was proposed that the followers have.
type stalled struct {
	*world
	lead  *member
	peers []string
	disk  *disk.Mount
	// index is the entry's, proposed tells what became of it.
	index    uint64
	proposed <-chan error
}

func stall(t *testing.T, change func(*Config)) *stalled {
	t.Helper()
	w, disks := onDisks(t, change)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	lead := w.leader("a", "b", "c")
	s := &stalled{world: w, lead: lead, peers: others(lead.cfg.NodeID), disk: disks[lead.cfg.NodeID]}
	w.send(lead, "app", "i", "before")
	s.disk.Hang()
	t.Cleanup(s.disk.Resume)
	s.index, s.proposed = heldBehind(t, w, lead, s.peers)
	return s
}

// While the leader's disk takes its time the followers write: but nobody takes for committed what the leader has not on its
// disk, whoever else has.
func TestALeaderIsTheFirstToCountOnItsDisk(t *testing.T) {
	w := stall(t, nil)
	lead, index, proposed := w.lead, w.index, w.proposed
	for range 3 { // what the followers said of the entry before has come in by then
		if err := lead.verify(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range w.nodes {
		if committed, applied := m.raft().CommitIndex(), m.group.applied.index(); committed >= index || applied >= index {
			t.Errorf("node %s: committed %d, applied %d, and the leader's disk has no entry %d", m.cfg.NodeID, committed, applied, index)
		}
	}
	select {
	case err := <-proposed:
		t.Fatalf("answered before it was on the leader's disk: %v", err)
	default:
	}
	w.disk.Resume()
	if err := <-proposed; err != nil {
		t.Fatal(err)
	}
	w.send(lead, "app", "i", "after")
	w.sameDigest("a", "b", "c")
}

// A node that led a moment ago tells a new leader only of what it has on its disk.
func TestALeaderThatIsGoneAnswersForItsDisk(t *testing.T) {
	w := stall(t, nil)
	old, index, proposed := w.lead, w.index, w.proposed
	next, term := w.nodes[w.peers[0]], old.raft().CurrentTerm()
	var released atomic.Bool
	type answer struct {
		raft.AppendEntriesResponse
		err   error
		early bool
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		a.err = next.carrier.AppendEntries(raft.ServerID(old.cfg.NodeID), to(t, next, old), &raft.AppendEntriesRequest{
			RPCHeader: header(next), Term: term + 1, PrevLogEntry: index, PrevLogTerm: term, LeaderCommitIndex: index,
		}, &a.AppendEntriesResponse)
		a.early = !released.Load()
		answered <- a
	}()
	w.until("the call has come", old.Node, func() bool {
		old.fresh.mu.Lock()
		defer old.fresh.mu.Unlock()
		return !old.fresh.told.IsZero()
	})
	looks := 0
	w.until("it was looked at often enough", old.Node, func() bool {
		if now := old.raft().CurrentTerm(); now != term {
			t.Fatalf("raft has taken the call of term %d", now)
		}
		looks++
		return looks > 20
	})
	released.Store(true)
	w.disk.Resume()
	if a := <-answered; a.err != nil || a.early || !a.Success {
		t.Fatalf("before the entry was on its disk: %v; %+v %v", a.early, a.AppendEntriesResponse, a.err)
	}
	<-proposed // it led until then: the outcome is unknown, or known by now
}

// A disk that fails under what is on its way ends the node, and nothing of it was acknowledged by the leader.
func TestALeaderWhoseDiskFailsBesideItsFollowersEnds(t *testing.T) {
	w, disks := onDisks(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	a := w.leader("a", "b", "c")
	peers := others(a.cfg.NodeID)
	w.send(a, "app", "i", "before")
	disks[a.cfg.NodeID].Refuse(unix.EIO)
	if _, err := a.Propose(w.context(), sending("app", "i", "refused")); err == nil {
		t.Fatal("acknowledged, and the leader's disk refused it")
	}
	<-a.done
	if !errors.Is(a.err, unix.EIO) {
		t.Fatalf("want the disk's error, got %v", a.err)
	}
	for n := range 3 { // the others go on, with or without it
		w.send(w.leader(peers...), "app", "i", fmt.Sprint("after", n))
	}
	w.sameDigest(peers...)
}

// While an entry is under way the next one fills, and goes when it is full.
func TestASecondEntryGoesWhenItIsFull(t *testing.T) {
	const full = 8
	w := stall(t, func(c *Config) { c.BatchCommands = full })
	lead, index, proposed := w.lead, w.index, w.proposed
	results := make(chan error, 2*full)
	ctx := w.context()
	propose := func(count int) {
		for range count {
			go func() {
				_, err := lead.Propose(ctx, sending("app", "i", "next"))
				results <- err
			}()
		}
	}
	propose(full / 2)
	w.until("half an entry waits", lead.Node, func() bool { return lead.proposer.queuedCommands.Load() >= full/2-1 })
	if last := lead.raft().LastIndex(); last != index {
		t.Fatalf("entry %d is under way beside %d, and not full", last, index)
	}
	propose(full + 1)
	w.until("a full entry is under way", lead.Node, func() bool { return lead.raft().LastIndex() == index+1 })
	w.disk.Resume()
	for range full/2 + full + 1 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	if err := <-proposed; err != nil {
		t.Fatal(err)
	}
}

// A leader whose disk takes its time is not to blame its heir for that.
func TestALeaderHandsOverWhatIsOnItsDisk(t *testing.T) {
	w := stall(t, nil)
	old, peers, proposed := w.lead, w.peers, w.proposed
	if err := old.handLead(w.context(), peers[0]); err == nil || !strings.Contains(err.Error(), "the disk of node "+old.cfg.NodeID) {
		t.Fatalf("handed over before the disk had it: %v", err)
	}
	w.disk.Resume()
	if err := <-proposed; err != nil {
		t.Fatal(err)
	}
	if id, err := old.TransferLeadership(w.context(), peers[0]); err != nil || id == old.cfg.NodeID {
		t.Fatalf("%s leads: %v", id, err)
	}
}

package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"sluice/cluster/raftlog"
)

// A leader that got no answer sends entries once more, also those right behind a snapshot. A follower that refused them
// would be sent the snapshot again, and throw away what it had acknowledged.
func TestEntriesBehindASnapshotAreTakenTwice(t *testing.T) {
	late, lead, entries, s := behindASnapshot(t, nil)
	again := &raft.AppendEntriesRequest{
		RPCHeader: header(lead), Term: lead.raft().CurrentTerm(), PrevLogEntry: s.Index, PrevLogTerm: s.Term, Entries: entries,
	}
	resp := &raft.AppendEntriesResponse{}
	if err := lead.carrier.AppendEntries(raft.ServerID(late.cfg.NodeID), to(t, lead, late), again, resp); err != nil || !resp.Success {
		t.Fatalf("%d entries behind snapshot %d, sent twice: %+v %v", len(entries), s.Index, resp, err)
	}
}

// A leader that went back behind a follower's snapshot sends what the follower no longer has in its log. A follower that
// refused it would wait for the leader's next snapshot.
func TestEntriesWithinASnapshotArePassedOver(t *testing.T) {
	late, lead, entries, s := behindASnapshot(t, nil)
	within := func(n uint64) (all []*raft.Log) {
		for index := s.Index - n; index <= s.Index; index++ {
			all = append(all, &raft.Log{Index: index, Term: s.Term})
		}
		return all
	}
	for name, all := range map[string][]*raft.Log{"within alone": within(3), "and behind": append(within(3), entries...), "from the first on": append(within(s.Index-1), entries...)} {
		again := &raft.AppendEntriesRequest{RPCHeader: header(lead), Term: lead.raft().CurrentTerm(), PrevLogEntry: all[0].Index - 1, PrevLogTerm: s.Term, Entries: all}
		resp := &raft.AppendEntriesResponse{}
		if err := lead.carrier.AppendEntries(raft.ServerID(late.cfg.NodeID), to(t, lead, late), again, resp); err != nil || !resp.Success {
			t.Errorf("%s: entries from %d to %d of a node with snapshot %d: %+v %v", name, all[0].Index, all[len(all)-1].Index, s.Index, resp, err)
		}
	}
	for _, e := range entries {
		if err := late.raftLog.GetLog(e.Index, &raft.Log{}); err != nil {
			t.Fatalf("entry %d behind snapshot %d is gone: %v", e.Index, s.Index, err)
		}
	}
}

// What lies behind the snapshot may be the tail of a leader that is gone: a call that shows nothing of it, or a part, must not
// have it committed. Raft takes the leader's word as far as its own log reaches.
func TestACallThatIsCutShortCommitsWhatItShows(t *testing.T) {
	late, lead, _, s := behindASnapshot(t, nil)
	at := func(indexes ...uint64) (all []*raft.Log) {
		for _, index := range indexes {
			all = append(all, &raft.Log{Index: index, Term: s.Term})
		}
		return all
	}
	for name, c := range map[string]struct {
		entries        []*raft.Log
		left           int
		commits, tells uint64
	}{
		"within alone":  {at(s.Index-1, s.Index), 0, s.Index + 9, s.Index},
		"and one":       {at(s.Index, s.Index+1), 1, s.Index + 9, s.Index + 1},
		"not that much": {at(s.Index, s.Index+1), 1, s.Index - 1, s.Index - 1},
	} {
		req := &raft.AppendEntriesRequest{RPCHeader: header(lead), PrevLogEntry: c.entries[0].Index - 1, Entries: c.entries, LeaderCommitIndex: c.commits}
		short := (&raftTransport{node: late.Node}).trimmed(raft.RPC{Command: req}).Command.(*raft.AppendEntriesRequest)
		if short.PrevLogEntry != s.Index || len(short.Entries) != c.left || short.LeaderCommitIndex != c.tells {
			t.Errorf("%s: cut to %d entries behind %d, committed up to %d; want %d behind %d, up to %d", name, len(short.Entries), short.PrevLogEntry, short.LeaderCommitIndex, c.left, s.Index, c.tells)
		}
	}
}

// A snapshot of what a node has is not taken again: raft would throw away what the node acknowledged behind it.
func TestASnapshotOfWhatIsThereIsNotTaken(t *testing.T) {
	late, lead, entries, s := behindASnapshot(t, nil)
	content := make([]byte, 1<<20)
	again := &raft.InstallSnapshotRequest{
		RPCHeader: header(lead), SnapshotVersion: 1, Term: lead.raft().CurrentTerm(), LastLogIndex: s.Index, LastLogTerm: s.Term,
		Configuration: raft.EncodeConfiguration(s.Configuration), ConfigurationIndex: s.ConfigurationIndex, Size: int64(len(content)),
	}
	for range 2 { // the stream goes on behind it
		resp := &raft.InstallSnapshotResponse{}
		if err := lead.carrier.InstallSnapshot(raft.ServerID(late.cfg.NodeID), to(t, lead, late), again, resp, bytes.NewReader(content)); err != nil || !resp.Success {
			t.Fatalf("snapshot %d, sent again: %+v %v", s.Index, resp, err)
		}
	}
	for _, e := range entries {
		if err := late.raftLog.GetLog(e.Index, &raft.Log{}); err != nil {
			t.Fatalf("entry %d behind snapshot %d is gone: %v", e.Index, s.Index, err)
		}
	}
}

// A node whose disk is full tells its leader of an error, not that the entries do not fit: it would be sent a snapshot.
func TestAFullDiskIsNoMismatch(t *testing.T) {
	var full atomic.Value
	late, lead, entries, s := behindASnapshot(t, func(c *Config) {
		id := c.NodeID
		c.FreeSpace = func(string) (free, total uint64, err error) {
			if full.Load() == id {
				return 0, 1 << 30, nil
			}
			return 1 << 30, 1 << 30, nil
		}
	})
	full.Store(late.cfg.NodeID)
	again := &raft.AppendEntriesRequest{
		RPCHeader: header(lead), Term: lead.raft().CurrentTerm(), PrevLogEntry: s.Index, PrevLogTerm: s.Term, Entries: entries,
	}
	var err error
	for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); {
		err = lead.carrier.AppendEntries(raft.ServerID(late.cfg.NodeID), to(t, lead, late), again, &raft.AppendEntriesResponse{})
	}
	if err == nil || !strings.Contains(err.Error(), "takes no more entries") {
		t.Fatalf("entries for a node whose disk is full: %v", err)
	}
}

// Entries that were sent before a snapshot may come in after it was taken over, and the node may still hold the snapshot
// that they follow on. They once began the log anew, which could not go on with what follows on the newer snapshot.
func TestALogBeginsBehindTheNewestSnapshot(t *testing.T) {
	late, lead, _, _ := behindASnapshot(t, nil)
	w := lead.world
	for i := range 60 {
		w.send(lead, "app", fmt.Sprint("i", i%7), fmt.Sprint("again", i))
	}
	w.until("the follower has applied all", late.Node, func() bool { return late.raft().AppliedIndex() == lead.raft().LastIndex() })
	if err := late.raft().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	snapshots, err := late.snaps.List()
	if err != nil || len(snapshots) < 2 || snapshots[0].Index <= snapshots[1].Index {
		t.Fatalf("want a snapshot of its own and the leader's, got %v, %v", snapshots, err)
	}
	newest, older := snapshots[0], snapshots[1]
	log := &watchedLog{RaftLog: &memoryLog{InmemStore: raft.NewInmemStore()}, node: late.Node}
	if err := log.GetLog(older.Index, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("entry %d, which ends an older snapshot: %v", older.Index, err)
	}
	if err := log.StoreLogs([]*raft.Log{{Index: older.Index + 1, Term: older.Term}}); err == nil {
		t.Errorf("a log was begun with entry %d before snapshot %d", older.Index+1, newest.Index)
	}
	l := &raft.Log{}
	if err := log.GetLog(newest.Index, l); err != nil || l.Term != newest.Term {
		t.Errorf("entry %d, which ends the newest snapshot: term %d, %v", newest.Index, l.Term, err)
	}
	if !late.has(older.Index, older.Term) || !late.has(older.Index-1, older.Term) {
		t.Errorf("a snapshot of %d, older than that of %d, would be taken: its entries would never follow on the newer", older.Index, newest.Index)
	}
	if err := log.StoreLogs([]*raft.Log{{Index: newest.Index + 1, Term: newest.Term}}); err != nil {
		t.Errorf("entry %d behind snapshot %d: %v", newest.Index+1, newest.Index, err)
	}
}

// behindASnapshot gives a follower that was sent a snapshot and entries behind it, and its leader. The follower makes none of
// its own any more: that would cut off what this is about.
func behindASnapshot(t *testing.T, change func(*Config)) (late, lead *member, entries []*raft.Log, s *raft.SnapshotMeta) {
	t.Helper()
	started := map[string]bool{}
	w := newWorld(t, func(c *Config) {
		c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 10, 20, 20*time.Millisecond
		if started[c.NodeID] { // it comes back
			c.SnapshotThreshold = 1 << 20
		}
		started[c.NodeID] = true
		c.OpenLog, c.RaftLog = nil, raftlog.Bolt // raft-wal still reads what was cut off its head
		if change != nil {
			change(c)
		}
	})
	id, lead := w.catchesUp()
	late = w.nodes[id]
	first, err1 := late.raftLog.FirstIndex()
	last, err2 := late.raftLog.LastIndex()
	snapshots, err3 := late.snaps.List()
	if err := errors.Join(err1, err2, err3); err != nil || len(snapshots) == 0 {
		t.Fatalf("the log from %d to %d, snapshots %v: %v", first, last, snapshots, err)
	}
	if snapshots[0].Index != first-1 {
		t.Fatalf("the log from %d to %d behind a snapshot of %d", first, last, snapshots[0].Index)
	}
	for index := first; index <= last; index++ {
		l := &raft.Log{}
		if err := late.raftLog.GetLog(index, l); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, l)
	}
	return late, lead, entries, snapshots[0]
}

func header(m *member) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(m.cfg.NodeID), Addr: []byte(m.port.addr)}
}

func to(t *testing.T, from, to *member) raft.ServerAddress {
	t.Helper()
	addr, err := from.ServerAddr(raft.ServerID(to.cfg.NodeID))
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"sluice/cluster/raftlog"
)

// A leader that got no answer sends entries once more, also those right behind a snapshot. A follower that refused them
// would be sent the snapshot again, and throw away what it had acknowledged.
func TestEntriesBehindASnapshotAreTakenTwice(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 10, 20, 20*time.Millisecond
		c.OpenLog, c.RaftLog = nil, raftlog.Bolt // raft-wal still reads what was cut off its head
	})
	id, lead := w.catchesUp()
	late := w.nodes[id]
	first, err1 := late.raftLog.FirstIndex()
	last, err2 := late.raftLog.LastIndex()
	snapshots, err3 := late.snaps.List()
	if err := errors.Join(err1, err2, err3); err != nil || len(snapshots) == 0 || snapshots[0].Index != first-1 {
		t.Fatalf("the log from %d to %d, snapshots %v: %v", first, last, snapshots, err)
	}
	again := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(lead.cfg.NodeID), Addr: []byte(lead.port.addr)},
		Term:      lead.raft().CurrentTerm(), PrevLogEntry: snapshots[0].Index, PrevLogTerm: snapshots[0].Term,
	}
	for index := first; index <= last; index++ {
		l := &raft.Log{}
		if err := late.raftLog.GetLog(index, l); err != nil {
			t.Fatal(err)
		}
		again.Entries = append(again.Entries, l)
	}
	to, err := lead.ServerAddr(raft.ServerID(id))
	if err != nil {
		t.Fatal(err)
	}
	resp := &raft.AppendEntriesResponse{}
	if err := lead.carrier.AppendEntries(raft.ServerID(id), to, again, resp); err != nil || !resp.Success {
		t.Fatalf("entries %d to %d behind snapshot %d, sent twice: %+v %v", first, last, snapshots[0].Index, resp, err)
	}
}

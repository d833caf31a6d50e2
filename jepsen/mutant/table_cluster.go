package mutant

import "sluice/jepsen/world"

// clusterTable breaks what lies between the state machine and the disks: commitment, durability, snapshots, reads, leases.
func clusterTable() []*Mutant {
	return []*Mutant{
		{
			Name: "gossip-removes-members", Breaks: "a leader removes a node from the cluster when gossip says that it is dead",
			Edits:  []Edit{{"cluster/start.go", "	case gossip.Failed:\n		n.unseen(e.Member, \"dead\")\n", "	case gossip.Failed:\n		n.unseen(e.Member, \"dead\")\n		go func() { _ = n.dismiss(n.ended, id) }()\n"}},
			Caught: []string{"members"}, Proc: under(30, world.GossipCut), Why: "the simulation does not look for it",
		},
		{
			Name: "log-not-synced", Breaks: "the raft log acknowledges entries that are not on the disk",
			Edits: []Edit{
				{"cluster/raftlog/segment_files.go", "		return f.SyncData()\n", "		return nil\n"},
				{"cluster/raftlog/claim.go", "if last < c.index {", "if last < c.index && claimFile == \"\" {"}, // it would tell
			},
			Caught: []string{"I1"}, Sim: shaped("all", under(20, world.PowerLoss)),
			Why: "liveness alone speaks: after such a loss of power no node starts, for its log ends before what it says of it",
		},
		{
			Name: "reads-without-leader", Breaks: "a node answers a linearizable read from what it has applied, without asking the leader",
			Edits:  []Edit{{"cluster/read.go", "	if r.node.isLeader() {\n		return r.node.confirmedIndex()\n	}\n", "	if r.node != nil {\n		return r.node.group.applied.index(), nil\n	}\n"}},
			Caught: []string{"I9"}, Sim: under(20, world.Partition, world.Delay), Proc: under(15, world.Partition, world.Delay),
		},
		{
			Name: "commit-without-quorum", Breaks: "the leader takes a follower that does not answer for one that has its entries",
			Edits: []Edit{
				{"cluster/raftnet.go", "t.NetworkTransport.AppendEntries(id,", "t.assent(id,"},
				{"cluster/pipeline.go", "import (\n	\"sync\"\n", "import (\n	\"sync\"\n	\"time\"\n"},
				{"cluster/pipeline.go", "	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)\n", "	if t != nil {\n		return nil, raft.ErrPipelineReplicationNotSupported\n	}\n	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)\n"},
				{"cluster/pipeline.go", "// drainedPipeline is a pipeline whose", `// assent takes silence for it.
func (t *raftTransport) assent(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	var got raft.AppendEntriesResponse
	answered := make(chan error, 1)
	go func() { answered <- t.NetworkTransport.AppendEntries(id, target, args, &got) }()
	timer := time.NewTimer(300 * time.Millisecond)
	defer timer.Stop()
	select {
	case err := <-answered:
		if err == nil {
			*resp = got
			return nil
		}
	case <-timer.C:
	}
	*resp = raft.AppendEntriesResponse{RPCHeader: args.RPCHeader, Term: args.Term, Success: true, LastLog: args.PrevLogEntry + uint64(len(args.Entries))}
	return nil
}

// drainedPipeline is a pipeline whose`},
			},
			Caught: []string{"I1", "I9", "I12"}, Sim: under(20, world.Partition), Proc: under(20, world.Partition),
		},
		{
			Name: "snapshot-without-sessions", Breaks: "a snapshot that a follower takes over leaves the table of sessions out",
			Edits: []Edit{{"cluster/group.go", "	index, _ := trial.machine.Applied()\n	if err := trial.store.Close(); err != nil {\n", `	index, _ := trial.machine.Applied()
	b := trial.store.NewBatch()
	if err := errors.Join(b.DeleteRange([]byte{'s'}, []byte{'t'}), b.Commit(), b.Close(), trial.store.Flush()); err != nil {
		return err
	}
	if err := trial.store.Close(); err != nil {
`}},
			Caught: []string{"I12"}, Sim: under(30, world.DiskLoss, world.Partition),
			Why: "a node that lost its disk is sent the log there, which raft-wal still reads where its head was cut off",
		},
		{
			Name: "leases-cut-short", Breaks: "a new leader takes all leases for over",
			Edits:  []Edit{{"cluster/lead.go", "		l.dispatch.open(rec, time.Now())\n", "		l.dispatch.open(rec, time.Now().Add(-time.Hour))\n"}},
			Caught: []string{"lease"}, Sim: under(20, world.Transfer, world.Kill), Proc: under(15, world.Transfer, world.Kill),
		},
	}
}

// shaped is a try whose faults have a shape.
func shaped(shape string, t *Try) *Try {
	t.Shape = shape
	return t
}

package main

import (
	"fmt"
	"io"
	"time"
)

// parameters are what the model is given. Each is measured, or assumed, and printParameters says which.
type parameters struct {
	nodes, zones int
	instances    float64
	// exponent of Zipf's law: the i-th busiest instance has a load of 1/i^exponent.
	exponent float64
	// rate is the demand, jobs a second: a message sent, delivered and settled.
	rate float64

	cores              float64
	diskBytes, network float64 // a second

	// What one job costs the processors: of the node that takes its calls, of the leader, and of each follower.
	frontCPU, leaderCPU, followerCPU time.Duration
	// applyCPU is what it costs the one goroutine that applies a group's entries.
	applyCPU time.Duration
	// instanceRate is what one instance, whose messages go one after the other, settles a second.
	instanceRate float64
	// entriesOfJob are the commands of a job, each an entry if nothing else came at the time; entryRate is how many
	// entries a group makes a second at most, the others join them.
	entriesOfJob, entryRate float64
	// jobBytes are what a job makes one replica write, log and state.
	jobBytes float64
	// instanceBytes are the state of one instance at rest, its remembered ids included.
	instanceBytes float64

	// One append costs syncBase, and syncEntry for each entry in it. syncParallel is how many appends to logs of their
	// own the disk does in the time of one.
	syncBase, syncEntry time.Duration
	syncParallel        float64
	// stableSync is one of raft's stable values in raft-boltdb; a vote writes stableWrites of them one after the other.
	stableSync   time.Duration
	stableWrites int

	// timeout is heartbeat and election timeout; a leader sends a heartbeat after one to two tenths of it.
	timeout time.Duration
	// roundTrip is between zones. voteCPU is what a call of an election costs a processor.
	roundTrip, voteCPU time.Duration
	// behind is the chance that the follower which stands first lacks an entry that the other has.
	behind float64

	// idleTCP and idleMemory are what a replica at rest costs a processor each second, with connections of its own and
	// without any.
	idleTCP, idleMemory time.Duration
	// replicaBytes, connectionBytes and storeBytes are the memory of a replica, of its own connections, and of one state
	// store; processBytes that of a node at rest.
	replicaBytes, connectionBytes, storeBytes, processBytes float64
	// trailing entries stay in a log behind its snapshot; indexBytes is what a log shared by many groups keeps in memory
	// of each entry.
	trailing, indexBytes float64

	// copyRate is how many bytes a second a node sends at most, and takes at most, to repair or to move; copySlots is by
	// how many transfers at once; copyCPU is what a byte costs a processor, at either end.
	copyRate  float64
	copySlots int
	copyCPU   time.Duration
	// groups are the numbers of groups that are compared; chosen is the one of the later sections.
	groups []int
	chosen int
}

func defaults() parameters {
	return parameters{
		nodes: 100, zones: 5, instances: 100e6, exponent: 0.8, rate: 1e6,
		cores: 8, diskBytes: 500e6, network: 1.25e9,
		frontCPU: 76 * time.Microsecond, leaderCPU: 106 * time.Microsecond, followerCPU: 60500 * time.Nanosecond,
		applyCPU: 54 * time.Microsecond, instanceRate: 9480,
		entriesOfJob: 2, entryRate: 1000, jobBytes: 621, instanceBytes: 2000,
		syncBase: 480 * time.Microsecond, syncEntry: 3830 * time.Nanosecond, syncParallel: 2.3,
		stableSync: 860 * time.Microsecond, stableWrites: 3,
		timeout: 300 * time.Millisecond, roundTrip: time.Millisecond, voteCPU: 100 * time.Microsecond, behind: 0.25,
		idleTCP: 2200 * time.Microsecond, idleMemory: 1000 * time.Microsecond,
		replicaBytes: 29e3, connectionBytes: 850e3, storeBytes: 18e6, processBytes: 31e6, trailing: 10240, indexBytes: 16,
		copyRate: 100e6, copySlots: 2, copyCPU: 5 * time.Nanosecond,
		groups: []int{128, 1024, 4096, 16384, 65536}, chosen: 4096,
	}
}

// printParameters prints what goes in, and where it is from.
func printParameters(out io.Writer, m *model) error {
	p := m.parameters
	t := newTable("Parameters", "what", "value", "from")
	t.row("nodes, zones, replicas of a group", fmt.Sprintf("%d, %d, %d", p.nodes, p.zones, replicas), "the question")
	t.row("instances, Zipf exponent", fmt.Sprintf("%s, %.2f", count(p.instances), p.exponent), "the question; exponents of 0.64 to 0.83 are usual (Breslau et al. 1999)")
	t.row("demand", count(p.rate)+" jobs/s", "assumed: 38 % of the processors")
	t.row("a node: processors, disk, network", fmt.Sprintf("%.0f, %s/s, %s/s", p.cores, bytes(p.diskBytes), bytes(p.network)), "assumed")
	t.row("CPU of a job: node that takes it, leader, each follower", times(p.frontCPU, p.leaderCPU, p.followerCPU), "303 µs in sum (performance.md); split as all load at the leader, and at a follower, showed: 1/4, 0.35, 2 × 1/5")
	t.row("of it in the goroutine that applies", times(p.applyCPU), "0004")
	t.row("settled of one instance", count(p.instanceRate)+"/s", "drain of 1 × 1,000,000 (performance.md)")
	t.row("entries of a job, of a group a second at most", fmt.Sprintf("%.0f, %s", p.entriesOfJob, count(p.entryRate)), "send and settle; two in flight of 2 ms each (0010)")
	t.row("written by a job, each replica", bytes(p.jobBytes), "1,864 bytes in sum (performance.md)")
	t.row("state of an instance", bytes(p.instanceBytes), "assumed: header, state, remembered ids")
	t.row("an append: base, each entry", times(p.syncBase, p.syncEntry), "0003: 0.48 ms with 1, 1.46 ms with 256")
	t.row("appends to different logs at once", fmt.Sprintf("%.1f × one", p.syncParallel), "BenchmarkManyLogs, 64 logs: median of six, 1.0 to 5.4")
	t.row("a stable value, of a vote", fmt.Sprintf("%s, %d", times(p.stableSync), p.stableWrites), "0003; raft 1.7.3 persistVote, setCurrentTerm")
	t.row("timeouts", times(p.timeout), "0022")
	t.row("round trip, call of an election", times(p.roundTrip, p.voteCPU), "assumed")
	t.row("follower that stands first is behind", p.behind, "assumed")
	t.row("CPU of a replica at rest: own connections, none", times(p.idleTCP, p.idleMemory)+" a second", "BenchmarkIdleGroups")
	t.row("memory: replica, own connections, store, node", fmt.Sprintf("%s, %s, %s, %s", bytes(p.replicaBytes), bytes(p.connectionBytes), bytes(p.storeBytes), bytes(p.processBytes)), "BenchmarkIdleGroups, 0004, performance.md")
	t.row("entries behind a snapshot, index of one", fmt.Sprintf("%s, %s", count(p.trailing), bytes(p.indexBytes)), "Config.TrailingLogs; assumed")
	t.row("copying: a node at most, at once, CPU of a byte", fmt.Sprintf("%s/s, %d, %s", bytes(p.copyRate), p.copySlots, times(p.copyCPU)), "assumed")
	return t.print(out)
}

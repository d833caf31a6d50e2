// Package scenario is what is done to a world, in words: who works, which faults there are, for how long. The same
// scenarios run in both worlds.
package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/jepsen/workload"
	"sluice/jepsen/world"
)

// Scenario is one of them.
type Scenario struct {
	Name string
	// About says in a sentence what it doubts.
	About string
	// Faults there are; each comes at least once if the time is long enough.
	Faults []world.Kind
	// Steady are kinds that come again and again beside all others.
	Steady []world.Kind
	// Gap is how long the world is left alone between two faults; 0: 1 to 4 seconds by chance. Await has the gap
	// begin when there is a leader.
	Gap   time.Duration
	Await bool
	// Shape, if set, is whom the faults hit, where they can.
	Shape string
	// Time is how long there are faults. The quiet phase comes on top.
	Time time.Duration
	// LogStores are the libraries that keep the logs of nodes, by turns, where the world has a choice; default that of
	// the program.
	LogStores []string
	// Workers of each application; default 3.
	Workers int
	// Load on the cluster.
	Load workload.Load
}

// NeedsCertificates tells that a scenario has faults of certificates, which need nodes that speak TLS.
func (s Scenario) NeedsCertificates() bool {
	return slices.ContainsFunc(s.Faults, func(kind world.Kind) bool {
		return kind == world.CertRotation || kind == world.CertExpiry || kind == world.CertWrong
	})
}

// steady are kinds that bring about what is rare: owners that are lost, and nodes that are sent a snapshot.
var steady = []world.Kind{world.WorkerKill, world.Lag}

// mixed are log stores of which the first takes entries away one by one: the other still sends a node that was left
// behind what it has cut off, for as long as the segment is there.
var mixed = []string{"bolt", "wal"}

// everything is every kind but those that go on all the time.
func everything() []world.Kind {
	return slices.DeleteFunc(world.Kinds(), func(kind world.Kind) bool { return slices.Contains(steady, kind) })
}

// All are the scenarios, by what they doubt.
func All() []Scenario {
	return []Scenario{
		{Name: "calm", About: "nothing is hurt: what fails here fails always", Time: 20 * time.Second},
		{Name: "everything", About: "every kind of fault at least once", Time: 5 * time.Minute, Faults: everything(), Steady: steady, LogStores: mixed},
		{Name: "crashes", About: "what was acknowledged survives nodes that die", Time: time.Minute, Faults: []world.Kind{world.Kill, world.Restart}},
		{Name: "power", About: "what was acknowledged survives that nothing unsynced does", Time: time.Minute, Faults: []world.Kind{world.PowerLoss}},
		{Name: "blackouts", About: "what was acknowledged survives that all nodes lose power at once", Time: 5 * time.Minute,
			Faults: []world.Kind{world.PowerLoss}, Shape: "all", Gap: time.Second, Await: true},
		{Name: "failover", About: "how long nothing is accepted when the leader dies", Time: 5 * time.Minute, Faults: []world.Kind{world.Kill}, Shape: "leader"},
		{Name: "partitions", About: "a minority refuses, and the rest goes on", Time: time.Minute,
			Faults: []world.Kind{world.Partition, world.Loss, world.Delay, world.GossipCut, world.RaftCut, world.WorkerCut}},
		{Name: "bad lines", About: "nonsense, broken frames and narrow lines cost time, and nothing else", Time: time.Minute,
			Faults: []world.Kind{world.Delay, world.Bandwidth, world.FrameCut, world.Garbage, world.SlowLoris, world.Lag}, LogStores: mixed},
		{Name: "stale leaders", About: "a leader that was asleep neither reads nor settles", Time: time.Minute, Faults: []world.Kind{world.Pause, world.Transfer, world.Partition}},
		{Name: "disks", About: "a node with a bad disk steps back, and never serves what it misread", Time: 2 * time.Minute, Faults: []world.Kind{
			world.DiskError, world.DiskFull, world.DiskHang, world.DiskSlow, world.DiskReadOnly, world.BitFlip, world.Truncation, world.DiskLoss}},
		{Name: "owners lost", About: "no handler is run again blindly", Time: time.Minute, Faults: []world.Kind{world.WorkerKill, world.WorkerPause, world.WorkerCut}},
		{Name: "owners and leaders lost", About: "recoveries and drains that are interrupted go on", Time: time.Minute, Faults: []world.Kind{world.WorkerKill, world.Kill, world.Transfer}},
		{Name: "drains", About: "drains that new leaders interrupt, a hundred a minute, go on where they were", Time: time.Minute,
			Faults: []world.Kind{world.Transfer}, Gap: 500 * time.Millisecond, Await: true, Load: workload.Load{Instances: 30, Operators: 8}},
		{Name: "members", About: "nodes are removed, lost and replaced, and the rest goes on", Time: 2 * time.Minute,
			Faults: []world.Kind{world.Removal, world.DiskLoss, world.Transfer, world.Kill, world.Lag}, LogStores: mixed},
		{Name: "certificates", About: "who must not be believed is not, and replacing certificates loses no request", Time: time.Minute,
			Faults: []world.Kind{world.CertRotation, world.CertExpiry, world.CertWrong}},
		{Name: "clocks", About: "a wrong clock costs time, and nothing else", Time: time.Minute, Faults: []world.Kind{world.ClockSkew, world.WorkerPause, world.Kill}},
		{Name: "smoke", About: "a little of what breaks most, fit for every change", Time: 50 * time.Second, Faults: []world.Kind{world.Kill, world.PowerLoss, world.Partition, world.Pause, world.WorkerKill}},
	}
}

// Find finds one by its name.
func Find(name string) (Scenario, error) {
	var names []string
	for _, s := range All() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("there is no scenario %q; there are: %s", name, strings.Join(names, ", "))
}

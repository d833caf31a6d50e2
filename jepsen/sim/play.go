package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"sluice/jepsen/scenario"
	"sluice/jepsen/workload"
	"sluice/jepsen/world"
)

// Play is one run of a scenario in virtual time.
type Play struct {
	Seed     uint64
	Scenario scenario.Scenario
	Nodes    int
	// Quiet is as in scenario.Options.
	Quiet scenario.Quiet
	// Outside is a folder for the effects of handlers.
	Outside string
	// History, Trace, Packets and Logger are as in Config.
	History, Trace io.Writer
	Packets        bool
	Logger         *slog.Logger
}

// Outcome is what came of a run.
type Outcome struct {
	// Virtual is how long it took in virtual time.
	Virtual time.Duration
	// Sum and Packets tell runs apart, as World.Sum says.
	Sum, Packets uint64
}

// plays are the scenarios that seeds choose from: faults of all kinds that virtual time knows, mixed differently.
func plays(load workload.Load) []scenario.Scenario {
	mixed := func(name string, faults ...world.Kind) scenario.Scenario {
		return scenario.Scenario{Name: name, Time: 40 * time.Second, Faults: faults, Workers: 2, Load: load}
	}
	blackouts := mixed("blackouts", world.PowerLoss)
	blackouts.Shape, blackouts.Gap, blackouts.Await = "all", time.Second, true
	points := mixed("points", world.CrashAt, world.WorkerKill)
	points.Gap = 500 * time.Millisecond
	lags := mixed("lags", world.PowerLoss, world.CrashAt, world.Transfer, world.Partition)
	lags.Steady = []world.Kind{world.Lag, world.WorkerKill}
	return []scenario.Scenario{
		mixed("everything", world.Kinds()...),
		mixed("crashes", world.Kill, world.PowerLoss, world.Restart, world.WorkerKill),
		mixed("network", world.Partition, world.Loss, world.Delay, world.Transfer, world.GossipCut, world.RaftCut, world.FrameCut, world.WorkerCut),
		mixed("mixed", world.Kill, world.PowerLoss, world.Partition, world.WorkerKill, world.Transfer, world.ClockSkew, world.CrashAt),
		mixed("disks", world.DiskError, world.DiskFull, world.DiskHang, world.DiskSlow, world.DiskReadOnly, world.DiskLoss, world.PowerLoss),
		mixed("members", world.DiskLoss, world.Removal, world.Transfer, world.Kill, world.Partition, world.Lag),
		blackouts, points, lags,
	}
}

// ByChance is the run that a seed stands for.
func ByChance(seed uint64) Play {
	rng := dice{seed}.of("play")
	load := workload.Load{Instances: 6, Senders: 2 + rng.IntN(3), Operators: 2, Pause: []time.Duration{100, 200, 400, 800}[rng.IntN(4)] * time.Millisecond}
	all := plays(load)
	chosen := all[rng.IntN(len(all))]
	if chosen.Steady == nil { // owners that are lost and nodes that are sent snapshots are rare else
		chosen.Steady = [][]world.Kind{nil, {world.WorkerKill}, {world.WorkerKill, world.Lag}}[rng.IntN(3)]
	}
	return Play{Seed: seed, Scenario: chosen, Nodes: []int{3, 3, 5}[rng.IntN(3)]}
}

// playMost bounds a run in virtual time.
const playMost = 30 * time.Minute

// Run plays it, within a synctest bubble. The error is trouble with the run, a cluster that did not become quiet, or
// nodes whose states differ; whether what happened was right the checkers tell from the history.
func (p Play) Run() (out Outcome, err error) {
	w, err := New(Config{Seed: p.Seed, Nodes: p.Nodes, Run: workload.Work, History: p.History, Trace: p.Trace, Packets: p.Packets, Logger: p.Logger})
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), playMost)
	defer cancel()
	err = scenario.Run(ctx, w, p.Scenario, scenario.Options{Seed: p.Seed, Outside: p.Outside, Quiet: p.Quiet, Tell: w.trace.note})
	if err == nil {
		err = w.agree(ctx)
	}
	out.Virtual = w.Now()
	out.Sum, out.Packets = w.Sum()
	return out, errors.Join(err, w.Close())
}

const (
	// agreeWithin is how long nodes may take to apply all when nothing more is sent.
	agreeWithin = time.Minute
	agreeLook   = 200 * time.Millisecond
)

// agree waits until all nodes run and have applied the same, and compares their digests.
func (w *World) agree(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, agreeWithin)
	defer cancel()
	for {
		all := w.Digests(ctx)
		byIndex, last := map[uint64]string{}, ""
		for name, d := range all {
			if other, ok := byIndex[d.Index]; ok && other != d.Digest {
				return fmt.Errorf("sim: nodes differ at index %d: %v", d.Index, all)
			}
			byIndex[d.Index], last = d.Digest, name
		}
		if len(all) == len(w.places) && len(byIndex) == 1 && last != "" {
			return nil
		}
		if err := w.Wait(ctx, agreeLook); err != nil {
			return fmt.Errorf("sim: after %v of rest not all nodes have applied the same: %v", agreeWithin, all)
		}
	}
}

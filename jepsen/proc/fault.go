//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"sluice/client"
	"sluice/jepsen/world"
)

// survey finds out what else the machine cannot do.
func (w *World) survey() {
	w.missing[world.CrashAt] = "a process cannot be stopped between two lines of its code from outside; jepsen/sim does it"
	if w.authorities == nil {
		for _, kind := range []world.Kind{world.CertRotation, world.CertExpiry, world.CertWrong} {
			w.missing[kind] = "nodes speak plain text in this run"
		}
	}
	if err := canSkew(w.cfg.Bin); err != nil {
		w.missing[world.ClockSkew] = err.Error()
	}
	if _, err := exec.LookPath("strace"); err != nil {
		for _, kind := range []world.Kind{world.DiskError, world.DiskSlow} {
			w.missing[kind] = "there is no program strace"
		}
	}
}

// Has says why the machine cannot do a kind of fault.
func (w *World) Has(kind world.Kind) error {
	if why, ok := w.missing[kind]; ok {
		return &world.Missing{Kind: kind, Why: why}
	}
	return nil
}

// injector begins a fault at some nodes, and gives what ends it.
type injector func(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error)

func (w *World) injectors() map[world.Kind]injector {
	return map[world.Kind]injector{
		world.Partition: w.cutting(cutAll), world.GossipCut: w.cutGossip, world.RaftCut: w.cutting(cutRaft),
		world.Lag: w.leaveBehind, world.WorkerCut: w.cutWorkers, world.Loss: w.lose,
		world.Delay: w.delay, world.Bandwidth: w.narrow, world.FrameCut: w.cutFrames, world.Garbage: w.garble, world.SlowLoris: w.slowLoris,
		world.Kill: w.kill, world.Pause: w.pause, world.PowerLoss: w.losePower, world.Restart: w.restart, world.Transfer: w.transfer,
		world.DiskError: w.failSyncs, world.DiskSlow: w.slowSyncs, world.DiskFull: w.fillDisks, world.DiskHang: w.freezeDisks,
		world.DiskReadOnly: w.refuseWrites, world.BitFlip: w.flipBit, world.Truncation: w.truncate, world.DiskLoss: w.loseDisk,
		world.Removal: w.removeMembers, world.CertRotation: w.rotateCertificates, world.CertExpiry: w.expireCertificates, world.CertWrong: w.wrongCertificates,
		world.ClockSkew: w.skew, world.WorkerKill: w.killWorkers, world.WorkerPause: w.pauseWorkers,
	}
}

// Inject begins a fault.
func (w *World) Inject(ctx context.Context, f world.Fault) (world.Heal, error) {
	inject, known := w.injectors()[f.Kind]
	nodes, err := w.find(f.Nodes)
	switch {
	case err != nil:
		return nothing, err
	case w.Has(f.Kind) != nil:
		return nothing, w.Has(f.Kind)
	case !known:
		return nothing, fmt.Errorf("proc: there is no fault %q", f.Kind)
	}
	heal, err := inject(ctx, f, nodes)
	if err != nil {
		if heal != nil {
			err = errors.Join(err, heal(context.WithoutCancel(ctx)))
		}
		return nothing, fmt.Errorf("proc: %s: %w", f, err)
	}
	return heal, nil
}

func nothing(context.Context) error { return nil }

// startAll starts nodes, whatever fails on the way.
func startAll(nodes []*node) (err error) {
	for _, n := range nodes {
		err = errors.Join(err, n.start())
	}
	return err
}

func startLater(nodes []*node) world.Heal {
	return func(context.Context) error { return startAll(nodes) }
}

// cutting makes the cuts of a fault by a set.
func (w *World) cutting(set string) injector {
	return func(ctx context.Context, f world.Fault, _ []*node) (world.Heal, error) {
		heal := func(ctx context.Context) error { return w.network.cut(ctx, set, f.Cuts, -1) }
		return heal, w.network.cut(ctx, set, f.Cuts, +1)
	}
}

// leaveBehind has nodes not hear the others, and breaks their connections: what waited in one would spare the node the
// snapshot that it is to be sent. Others that call the node get no answer.
func (w *World) leaveBehind(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	f.Cuts = nil
	for _, n := range nodes {
		for _, other := range w.nodes {
			if !slices.Contains(nodes, other) {
				f.Cuts = append(f.Cuts, world.Cut{From: other.place, To: n.place})
			}
		}
	}
	return w.cutting(cutLag)(ctx, f, nodes)
}

// cutWorkers cuts all workers off from nodes.
func (w *World) cutWorkers(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	f.Cuts = nil
	for _, n := range nodes {
		f.Cuts = append(f.Cuts, world.Cut{From: workersPlace, To: n.place}, world.Cut{From: n.place, To: workersPlace})
	}
	return w.cutting(cutAll)(ctx, f, nodes)
}

func (w *World) lose(ctx context.Context, f world.Fault, _ []*node) (world.Heal, error) {
	heal := func(ctx context.Context) error { return w.network.lose(ctx, f.Nodes, f.Percent, false) }
	return heal, w.network.lose(ctx, f.Nodes, f.Percent, true)
}

func (w *World) kill(_ context.Context, _ world.Fault, nodes []*node) (world.Heal, error) {
	for _, n := range nodes {
		_ = n.hold().cmd.Process.Kill() // all at once; it may have ended by itself
	}
	for _, n := range nodes {
		<-n.running().gone
	}
	return startLater(nodes), nil
}

func (w *World) pause(_ context.Context, _ world.Fault, nodes []*node) (world.Heal, error) {
	heal := func(context.Context) (err error) {
		for _, n := range nodes {
			err = errors.Join(err, n.running().signal(syscall.SIGCONT))
		}
		return err
	}
	for _, n := range nodes {
		if err := n.running().signal(syscall.SIGSTOP); err != nil {
			return heal, err
		}
	}
	return heal, nil
}

// losePower stops all the disks first, so that nothing is synced any more, then ends the nodes.
func (w *World) losePower(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	heal := func(ctx context.Context) (err error) {
		for _, n := range nodes {
			err = errors.Join(err, n.disk.powerUp(ctx))
		}
		return errors.Join(err, startAll(nodes))
	}
	for _, n := range nodes {
		n.hold()
	}
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.disk.losePower())
	}
	_, err := w.kill(ctx, f, nodes)
	return heal, errors.Join(append(errs, err)...)
}

// restart ends nodes in good order and starts each before the next, once it is ready again or has had its time.
func (w *World) restart(ctx context.Context, _ world.Fault, nodes []*node) (world.Heal, error) {
	for _, n := range nodes {
		n.hold().stop()
		if err := n.start(); err != nil {
			return startLater(nodes), err
		}
		waiting, cancel := context.WithTimeout(ctx, 20*time.Second)
		for !n.ready(waiting) && w.Wait(waiting, 100*time.Millisecond) == nil {
		}
		cancel()
	}
	return nothing, ctx.Err()
}

func (w *World) transfer(ctx context.Context, _ world.Fault, nodes []*node) (world.Heal, error) {
	if len(nodes) == 0 {
		return nothing, errors.New("a transfer names the node that is to lead")
	}
	return nothing, w.operate(ctx, func(ctx context.Context, c client.Cluster) error {
		_, err := c.TransferLeadership(ctx, nodes[0].name())
		return err
	})
}

// operate makes one call to the cluster.
func (w *World) operate(ctx context.Context, call func(context.Context, client.Cluster) error) error {
	c, err := w.Client(ctx, "world")
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return call(ctx, c.Cluster())
}

// traced has strace hurt the syncs of nodes until Heal.
func (w *World) traced(nodes []*node, inject string) (world.Heal, error) {
	var tracers []*process
	heal := func(context.Context) error {
		for _, t := range tracers {
			_ = t.cmd.Process.Signal(os.Interrupt) // it lets the node go, which may have ended
			<-t.gone
		}
		return startAll(nodes)
	}
	for _, n := range nodes {
		pid := n.running().cmd.Process.Pid
		t, err := launch(n.log()+".strace", []string{"strace", "-f", "-qq", "-o", "/dev/null", "-p", fmt.Sprint(pid), "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:" + inject})
		if err != nil {
			return heal, err
		}
		tracers = append(tracers, t)
	}
	return heal, nil
}

// failSyncs has one sync fail; the node ends by itself, and is not to be started before Heal.
func (w *World) failSyncs(_ context.Context, _ world.Fault, nodes []*node) (world.Heal, error) {
	for _, n := range nodes {
		n.hold()
	}
	return w.traced(nodes, "error=EIO")
}

func (w *World) slowSyncs(_ context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	return w.traced(nodes, fmt.Sprintf("delay_enter=%d", f.Span.Microseconds()))
}

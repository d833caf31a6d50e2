//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/bench/load"
	"sluice/bench/process"
	"sluice/bench/report"
)

const (
	// failoverAttempt bounds one send; then it is tried again.
	failoverAttempt = time.Second
	// failoverWithin is how long after a kill successes are awaited.
	failoverWithin = 8 * time.Second
)

// failover is what the command line of "bench failover" said.
type failover struct {
	comparison
	kills, senders int
	signal         syscall.Signal
}

func parseFailover(args []string) (*failover, error) {
	f := &failover{}
	f.plan = load.Plan{Instances: 1000, Payload: 256, Warm: 2 * time.Second}
	flags := flag.NewFlagSet("bench failover", flag.ContinueOnError)
	flags.StringVar(&f.bin, "bin", "bin/sluice", "the sluice binary")
	flags.StringVar(&f.tools, "tools", "bin/tools", "folder with the peers' binaries")
	flags.StringVar(&f.dir, "dir", "", "folder for all data, on a real disk (default: beside the binary)")
	flags.StringVar(&f.out, "out", "", "file for the results, JSON")
	flags.IntVar(&f.kills, "kills", 20, "how often each system's leader is killed, by turns")
	flags.IntVar(&f.senders, "senders", 64, "how many send meanwhile")
	graceful := flags.Bool("graceful", false, "stop the leader in good order (SIGTERM) in place of kill -9")
	peers := flags.String("peers", "etcd", "whose leader is killed beside: etcd, or nobody's")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if f.kills < 1 || f.senders < 1 {
		return nil, errors.New("-kills and -senders must be above zero")
	}
	switch *peers {
	case "":
	case "etcd":
		f.peers = []string{"etcd"}
	default:
		return nil, fmt.Errorf("-peers %q: it can be etcd, or empty", *peers)
	}
	f.plan.Senders, f.signal = f.senders, syscall.SIGKILL
	if *graceful {
		f.signal = syscall.SIGTERM
	}
	return f, nil
}

// compareFailover is "bench failover": the leader is killed with kill -9, or stopped, under load, in Sluice and etcd by turns.
func compareFailover(ctx context.Context, args []string) error {
	f, err := parseFailover(args)
	if err != nil {
		return err
	}
	private, done, err := process.EnterNamespace(ctx)
	if done || err != nil {
		return err
	}
	if err := f.prepare(private); err != nil {
		return err
	}
	err = errors.Join(f.measure(ctx), os.RemoveAll(f.dir))
	fmt.Printf("%s, %s, revision %s; private network namespace: %v; %d senders\n", f.run.Machine, runtime.Version(), f.run.Revision, private, f.senders)
	report.PrintFailovers(os.Stdout, f.run.Failovers, f.signal == syscall.SIGTERM)
	fmt.Printf("\nSkipped: %d. %s\n", len(f.run.Skipped), strings.Join(f.run.Skipped, "; "))
	if f.out != "" {
		err = errors.Join(err, f.run.Write(f.out))
	}
	return err
}

// mortal is a cluster whose nodes can be killed, and the name of whose it is.
type mortal struct {
	who string
	load.Cluster
	load.Restarter
}

func (f *failover) measure(ctx context.Context) (err error) {
	var all []mortal
	for _, one := range f.systems() {
		cluster, err := one.Start(ctx, f.dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cluster.Stop()) }()
		restarter, ok := cluster.(load.Restarter)
		if !ok {
			return fmt.Errorf("the nodes of %s cannot be started again", one.Name())
		}
		all = append(all, mortal{one.Name(), cluster, restarter})
	}
	for kill := range f.kills {
		for _, m := range slices.Clone(all) {
			gap, err := f.kill(ctx, m, kill)
			if err != nil && m != all[0] && ctx.Err() == nil { // a peer that does not come back does not end the run
				why := fmt.Sprintf("%s from kill %d on: %v", m.who, kill+1, err)
				f.run.Skipped = append(f.run.Skipped, why)
				all = slices.DeleteFunc(all, func(one mortal) bool { return one == m })
				continue
			}
			if err != nil {
				return fmt.Errorf("%s, kill %d: %w", m.who, kill+1, err)
			}
			fmt.Fprintf(os.Stderr, "%-6s kill %2d: %v without a success\n", m.who, kill+1, gap.Round(time.Millisecond))
			f.run.Failovers = append(f.run.Failovers, report.Failover{Who: m.who, Repetition: kill + 1, Gap: gap})
		}
	}
	return nil
}

// kill kills the leader under load, and finds the longest time without a success. The other system is idle meanwhile.
func (f *failover) kill(ctx context.Context, m mortal, number int) (gap time.Duration, err error) {
	line, err := m.Open(ctx, load.Job{Name: fmt.Sprintf("kill-%d", number), Senders: f.senders, Instances: f.plan.Instances, Settled: func([]byte) {}, Failover: true})
	if err != nil {
		return 0, err
	}
	leader, err := m.Leader(ctx)
	if err != nil {
		return 0, errors.Join(err, line.Close())
	}
	watch := newGapWatch(time.Now())
	sending, stop := context.WithCancel(ctx)
	senders, sending := errgroup.WithContext(sending)
	for i := range f.senders {
		senders.Go(func() error { return f.send(sending, line, i, watch) })
	}
	err = load.Pause(sending, f.plan.Warm)
	watch.reset(time.Now())
	if err == nil {
		err = errors.Join(leader.End(f.signal), load.Pause(sending, failoverWithin))
	}
	gap = watch.end(time.Now())
	stop()
	err = errors.Join(err, senders.Wait())
	_ = line.Close() // its workers lost their node: that is no news
	if err != nil {
		return 0, err
	}
	return gap, m.Restart(ctx, leader)
}

// send sends one message after the other, and each again until it succeeds.
func (f *failover) send(ctx context.Context, line load.Line, sender int, watch *gapWatch) error {
	data := make([]byte, f.plan.Payload)
	for n := sender; ctx.Err() == nil; n += f.senders {
		attempt, cancel := context.WithTimeout(ctx, failoverAttempt)
		err := line.Send(attempt, sender, n%f.plan.Instances, data)
		cancel()
		if err == nil {
			watch.success(time.Now())
			continue
		}
		if load.Pause(ctx, retryAfter) != nil {
			return nil
		}
	}
	return nil
}

// retryAfter is how long a sender waits after an attempt that failed.
const retryAfter = 5 * time.Millisecond

// gapWatch finds the longest time between two successes. Times are nanoseconds since its start.
type gapWatch struct {
	start       time.Time
	last, worst atomic.Int64
}

func newGapWatch(now time.Time) *gapWatch { return &gapWatch{start: now} }

// reset forgets what was, and begins to watch.
func (w *gapWatch) reset(now time.Time) {
	w.last.Store(int64(now.Sub(w.start)))
	w.worst.Store(0)
}

// success notes one, from any goroutine.
func (w *gapWatch) success(now time.Time) {
	at := int64(now.Sub(w.start))
	gap := at - w.last.Swap(at)
	for worst := w.worst.Load(); gap > worst; worst = w.worst.Load() {
		if w.worst.CompareAndSwap(worst, gap) {
			return
		}
	}
}

// end is the longest time, that up to now among them.
func (w *gapWatch) end(now time.Time) time.Duration {
	w.success(now)
	return time.Duration(w.worst.Load())
}

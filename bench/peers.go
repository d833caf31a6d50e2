//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"sluice/bench/load"
	"sluice/bench/peer"
	"sluice/bench/process"
	"sluice/bench/report"
)

// evenPeer is the system half of whose capacity is the rate of the open loop in which all have the same.
const evenPeer = "nats"

// comparison is what the command line of "bench peers" said.
type comparison struct {
	bin, dir, tools, out, profiles string
	peers                          []string
	senders                        []int
	repeat, openSenders            int
	plan                           load.Plan
	open                           bool
	run                            report.Run
}

// peerNames are the systems that -peers may name, Sluice apart; all but the last two are built from Go modules.
var peerNames = []string{"nats", "nats-default", "nats-queue", "etcd", "etcd-each", "rabbitmq", "restate"}

func parseComparison(args []string) (*comparison, error) {
	c := &comparison{}
	flags := flag.NewFlagSet("bench peers", flag.ContinueOnError)
	flags.StringVar(&c.bin, "bin", "bin/sluice", "the sluice binary")
	flags.StringVar(&c.tools, "tools", "bin/tools", "folder with the peers' binaries that are built from Go modules")
	flags.StringVar(&c.dir, "dir", "", "folder for all data, on a real disk (default: beside the binary); a folder of its own is made within and removed")
	flags.StringVar(&c.out, "out", "", "file for the results, JSON, for bench plot")
	flags.StringVar(&c.profiles, "profiles", "", "folder for CPU profiles of Sluice's nodes (.pprof) and of its load (.load), taken during each measurement; they cost a few percent")
	peers := flags.String("peers", "nats,nats-default,etcd", "what to compare with, of "+strings.Join(peerNames, ", "))
	senders := flags.String("senders", "1,16,64,256,1024", "how many senders, one measurement each")
	flags.IntVar(&c.repeat, "repeat", 5, "how often everything is measured; medians are printed")
	seconds := flags.Float64("seconds", 8, "length of one measurement")
	warm := flags.Float64("warm", 2, "seconds of load before each measurement")
	flags.IntVar(&c.plan.Instances, "instances", 1000, "instances that messages are spread over")
	flags.IntVar(&c.plan.Payload, "payload", 256, "bytes of a message's data")
	flags.BoolVar(&c.open, "open", true, "measure open loops, too, at half of what the closed loop with the most senders up to 256 did")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	c.plan.Length, c.plan.Warm = time.Duration(*seconds*float64(time.Second)), time.Duration(*warm*float64(time.Second))
	if *peers != "" {
		c.peers = strings.Split(*peers, ",")
	}
	for _, name := range c.peers {
		if !slices.Contains(peerNames, name) {
			return nil, fmt.Errorf("-peers %q: they are %s", name, strings.Join(peerNames, ", "))
		}
	}
	var err error
	if c.senders, err = parseNumbers("-senders", *senders); err != nil {
		return nil, err
	}
	for _, n := range c.senders {
		if n <= 256 {
			c.openSenders = max(c.openSenders, n)
		}
	}
	if c.openSenders == 0 {
		c.openSenders = slices.Min(c.senders)
	}
	if c.repeat < 1 || c.plan.Length <= 0 || c.plan.Warm < 0 || c.plan.Instances < 1 || c.plan.Payload < load.TokenBytes {
		return nil, fmt.Errorf("-repeat, -seconds and -instances must be above zero, -warm not below, -payload at least %d", load.TokenBytes)
	}
	return c, nil
}

// comparePeers is "bench peers".
func comparePeers(ctx context.Context, args []string) error {
	c, err := parseComparison(args)
	if err != nil {
		return err
	}
	private, done, err := process.EnterNamespace(ctx)
	if done || err != nil {
		return err
	}
	if err := c.prepare(private); err != nil {
		return err
	}
	err = errors.Join(c.measure(ctx), os.RemoveAll(c.dir))
	c.print(os.Stdout)
	if c.out != "" {
		err = errors.Join(err, c.run.Write(c.out))
	}
	return err
}

// prepare finds the binaries and a place for the data.
func (c *comparison) prepare(private bool) (err error) {
	if c.tools, err = filepath.Abs(c.tools); err != nil {
		return err
	}
	if c.profiles != "" {
		if err := os.MkdirAll(c.profiles, 0o777); err != nil {
			return err
		}
	}
	if c.bin, c.dir, err = prepare(c.bin, c.dir); err != nil {
		return err
	}
	c.run = report.Run{
		Machine: fmt.Sprintf("%s, %d CPUs", process.CPUModel(), runtime.NumCPU()), Go: runtime.Version(), Revision: version,
		Began: time.Now().UTC().Truncate(time.Second), Private: private, Seconds: c.plan.Length.Seconds(),
	}
	return nil
}

// systems are Sluice and the wanted peers; one that is not installed is skipped, and that is said.
func (c *comparison) systems() (all []load.Peer) {
	all = append(all, peer.Sluice{Binary: c.bin, Profiles: c.profiles != ""})
	for _, name := range c.peers {
		one, err := peer.Named(name, c.tools)
		if err != nil {
			c.skip("%s: %v", name, err)
			continue
		}
		all = append(all, one)
	}
	return all
}

func (c *comparison) skip(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, "skipped:", what)
	c.run.Skipped = append(c.run.Skipped, what)
}

// measure measures all systems in each repetition, another one first each time, so that what else the machine does
// falls on all alike. Only one cluster runs at a time.
func (c *comparison) measure(ctx context.Context) error {
	systems := c.systems()
	if len(systems) == 1 && len(c.peers) > 0 {
		return errors.New("none of the peers is installed")
	}
	for repetition := range c.repeat {
		if err := c.turn(ctx, systems, repetition, "", c.measureOne); err != nil {
			return err
		}
		if !c.open {
			continue
		}
		if err := c.turn(ctx, systems, repetition, ", open loop", c.measureOpen); err != nil {
			return err
		}
	}
	return nil
}

// turn measures each system once. What a peer fails in is missing, and that is said; if Sluice fails, all does.
func (c *comparison) turn(ctx context.Context, systems []load.Peer, repetition int, what string, measure func(context.Context, load.Peer, int) error) error {
	for i := range systems {
		one := systems[(i+repetition)%len(systems)]
		err := measure(ctx, one, repetition+1)
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s, repetition %d%s: %w", one.Name(), repetition+1, what, err)
		if _, ours := one.(peer.Sluice); ours || ctx.Err() != nil {
			return err
		}
		c.skip("%v", err)
	}
	return nil
}

// measureOne starts a cluster, measures the closed loop with each number of senders, and stops it.
func (c *comparison) measureOne(ctx context.Context, one load.Peer, repetition int) (err error) {
	cluster, err := one.Start(ctx, c.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	for _, senders := range c.senders {
		plan := c.plan
		plan.Senders = senders
		if err := c.sample(ctx, one, cluster, fmt.Sprintf("closed-%d", senders), report.Closed, repetition, plan); err != nil {
			return err
		}
	}
	return nil
}

// measureOpen measures the open loops: at half of the system's own capacity, and at half of that of one peer if it is
// less than this system can do.
func (c *comparison) measureOpen(ctx context.Context, one load.Peer, repetition int) (err error) {
	rates := c.openRates(one.Name(), repetition)
	cluster, err := one.Start(ctx, c.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	for i, mode := range []string{report.OpenOwn, report.OpenEven} {
		if rates[mode] == 0 {
			continue
		}
		plan := c.plan
		plan.Senders, plan.Rate = c.openSenders, rates[mode]
		if err := c.sample(ctx, one, cluster, fmt.Sprintf("open-%d", i), mode, repetition, plan); err != nil {
			return err
		}
	}
	return nil
}

// openRates are the rates of the open loops by their mode, from what was done in the closed loop of this repetition.
func (c *comparison) openRates(who string, repetition int) map[string]float64 {
	capacity := func(who string) float64 {
		for _, s := range c.run.Samples {
			if s.Who == who && s.Mode == report.Closed && s.Repetition == repetition && s.Senders == c.openSenders {
				return s.Rate
			}
		}
		return 0
	}
	rates := map[string]float64{report.OpenOwn: capacity(who) / 2}
	if even := capacity(evenPeer) / 2; even < capacity(who) {
		rates[report.OpenEven] = even
	}
	return rates
}

// sample measures once, with profiles if they are wanted.
func (c *comparison) sample(ctx context.Context, one load.Peer, cluster load.Cluster, name, mode string, repetition int, plan load.Plan) error {
	profiled := func() error { return nil }
	if c.profiles != "" && one.Name() == "sluice" {
		profiled = profile(ctx, cluster.Processes(), filepath.Join(c.profiles, fmt.Sprintf("%s-%d", name, repetition)), plan)
	}
	res, err := load.Measure(ctx, cluster, name, plan)
	if err := errors.Join(err, profiled()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	got := report.NewSample(one.Name(), mode, repetition, plan, res)
	fmt.Fprintln(os.Stderr, got)
	c.run.Samples = append(c.run.Samples, got)
	return nil
}

func (c *comparison) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, revision %s; private network namespace: %v; %d-byte messages, %d instances, %v a measurement after %v, %d repetitions\n",
		c.run.Machine, c.run.Go, c.run.Revision, c.run.Private, c.plan.Payload, c.plan.Instances, c.plan.Length, c.plan.Warm, c.repeat)
	report.PrintSamples(w, c.run.Samples)
	if len(c.run.Samples) > 0 {
		report.PrintVerdicts(w, report.Judge(report.Goals(c.plan.Payload), c.run.Samples))
	}
	fmt.Fprintf(w, "\nSkipped: %d. %s\n", len(c.run.Skipped), strings.Join(c.run.Skipped, "; "))
}

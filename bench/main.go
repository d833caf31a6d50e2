//go:build linux

// Command bench measures what Sluice does on this machine: three local processes with durable writes, beside bare
// hashicorp/raft on the same three processes, and the figures of a single node. "bench peers" measures it beside other
// systems, "bench failover" what the death of a leader costs, "bench plot" and "bench flame" draw what was found.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/bench/load"
	"sluice/bench/peer"
	"sluice/bench/process"
	"sluice/bench/report"
	"sluice/client"
)

// settings are what the command line said.
type settings struct {
	bin, dir, logStore string
	only               []string
	senders            []int
	repeat             int
	seconds, warm      time.Duration
	instances, payload int
	deferred, held     int
	state              int // MiB
	rows               int // of the table of snapshots
	backlogs           []backlog
	// declaration is that of the applications under load, but for their names.
	declaration client.Application
}

// parts are what can be measured.
var parts = []string{"send", "held", "job", "bare", "figures", "drain", "order", "snapshot", "isolation", "recovery"}

// version is the revision that is measured; the Makefile sets it.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if os.Getenv(bareNode) != "" {
		return bareMain(ctx)
	}
	if len(args) > 0 {
		if command, ok := commands[args[0]]; ok {
			return command(ctx, args[1:])
		}
		if !strings.HasPrefix(args[0], "-") {
			return fmt.Errorf("%q is no command: they are %s; without one Sluice is measured alone", args[0], strings.Join(slices.Sorted(maps.Keys(commands)), ", "))
		}
	}
	return alone(ctx, args)
}

// commands are what the first argument may be.
var commands = map[string]func(ctx context.Context, args []string) error{"peers": comparePeers, "failover": compareFailover, "plot": plotResults, "flame": drawFlame}

// alone measures Sluice beside bare raft.
func alone(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	private, done, err := process.EnterNamespace(ctx)
	if done || err != nil {
		return err
	}
	if s.bin, s.dir, err = prepare(s.bin, s.dir); err != nil {
		return err
	}
	return errors.Join(s.measure(ctx, private), os.RemoveAll(s.dir))
}

func parse(args []string) (*settings, error) {
	s := &settings{warm: time.Second}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&s.bin, "bin", "bin/sluice", "the sluice binary")
	flags.StringVar(&s.dir, "dir", "", "folder for the nodes' data, on a real disk (default: beside the binary); a folder of its own is made within and removed")
	flags.StringVar(&s.logStore, "log-store", "", "log store of the bare nodes, wal or bolt (default: that of Sluice)")
	only := flags.String("only", strings.Join(parts, ","), "what to measure")
	senders := flags.String("senders", "64,256", "how many senders, one measurement each")
	flags.IntVar(&s.repeat, "repeat", 3, "how often everything is measured; medians are printed")
	seconds := flags.Float64("seconds", 8, "length of one measurement")
	flags.IntVar(&s.instances, "instances", 1000, "instances that messages are spread over")
	flags.IntVar(&s.payload, "payload", 256, "bytes of a message's data")
	flags.IntVar(&s.deferred, "deferred", 1_000_000, "messages to defer for the figures")
	drain := flags.String("drain", "1x1000,1x10000,1x100000,1x1000000,1000x1000", "what to hold and drain, INSTANCESxMESSAGES each")
	flags.IntVar(&s.held, "held", 1_000_000, "instances of the application that enters recovery as a whole")
	flags.IntVar(&s.state, "state", 1024, "MiB of state that snapshots are made of")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if s.backlogs, err = parseBacklogs(*drain); err != nil {
		return nil, err
	}
	s.seconds = time.Duration(*seconds * float64(time.Second))
	s.only = strings.Split(*only, ",")
	for _, part := range s.only {
		if !slices.Contains(parts, part) {
			return nil, fmt.Errorf("-only %q: the parts are %s", part, strings.Join(parts, ", "))
		}
	}
	if s.senders, err = parseNumbers("-senders", *senders); err != nil {
		return nil, err
	}
	if s.repeat < 1 || s.seconds <= 0 || s.instances < 1 || s.payload < load.TokenBytes || s.deferred < 1 || s.held < 1 || s.state < 1 {
		return nil, fmt.Errorf("-repeat, -seconds, -instances, -deferred, -held and -state must be above zero, -payload at least %d", load.TokenBytes)
	}
	return s, nil
}

// parseNumbers reads numbers above zero, separated by commas.
func parseNumbers(flag, text string) (all []int, err error) {
	for _, one := range strings.Split(text, ",") {
		n, err := strconv.Atoi(one)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%s %q: want numbers above zero, separated by commas", flag, text)
		}
		all = append(all, n)
	}
	return all, nil
}

// prepare makes a data folder and sees to it that it lies on a disk.
func prepare(binary, under string) (bin, dir string, err error) {
	if bin, err = filepath.Abs(binary); err != nil {
		return "", "", err
	}
	if _, err := os.Stat(bin); err != nil {
		return "", "", fmt.Errorf("there is no binary to measure: %w", err)
	}
	if under == "" {
		under = filepath.Dir(bin)
	}
	if under, err = filepath.Abs(under); err != nil {
		return "", "", err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(under, &fs); err != nil {
		return "", "", err
	}
	const tmpfs = 0x01021994
	if fs.Type == tmpfs {
		return "", "", fmt.Errorf("%s lies in memory: name a folder on a disk with -dir", under)
	}
	dir, err = os.MkdirTemp(under, "bench-data-")
	return bin, dir, err
}

func (s *settings) wants(part string) bool { return slices.Contains(s.only, part) }

// measure measures in turns, so that what else the machine does falls on all alike.
func (s *settings) measure(ctx context.Context, private bool) error {
	fmt.Printf("%s, %d CPUs, %s; private network namespace: %v; %d-byte messages, %d instances, %v a measurement, median of %d\n\n",
		process.CPUModel(), runtime.NumCPU(), runtime.Version(), private, s.payload, s.instances, s.seconds, s.repeat)
	var samples []report.Sample
	for repetition := range s.repeat {
		for _, of := range []struct {
			parts   []string
			measure func(context.Context, int) ([]report.Sample, error)
		}{{[]string{"send", "held", "job"}, s.measureSluice}, {[]string{"bare"}, s.measureBare}} {
			if !slices.ContainsFunc(of.parts, s.wants) {
				continue
			}
			got, err := of.measure(ctx, repetition+1)
			if err != nil {
				return fmt.Errorf("repetition %d: %w", repetition+1, err)
			}
			samples = append(samples, got...)
		}
	}
	report.PrintSamples(os.Stdout, samples)
	fmt.Println()
	report.PrintAgainst(os.Stdout, samples, names["bare"])
	report.PrintAgainst(os.Stdout, slices.DeleteFunc(slices.Clone(samples), func(one report.Sample) bool {
		return one.Who != names["send"] && one.Who != names["held"]
	}), names["send"])
	fmt.Println()
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{{"figures", s.figures}, {"drain", s.drains}, {"order", s.order}, {"snapshot", s.snapshots}, {"isolation", s.isolation}, {"recovery", s.recovery}} {
		if !s.wants(part.name) {
			continue
		}
		if err := part.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// names say in the table what was measured.
var names = map[string]string{"send": "send", "held": "send, held", "job": "whole job", "bare": "bare raft"}

// sluice is the server under measurement.
func (s *settings) sluice() peer.Sluice {
	return peer.Sluice{Binary: s.bin, Declaration: s.declaration}
}

// launch starts three nodes and a client of them; end ends both.
func (s *settings) launch(ctx context.Context) (n *peer.SluiceCluster, c *client.Client, end func() error, err error) {
	if n, err = s.sluice().Launch(ctx, s.dir); err != nil {
		return nil, nil, nil, err
	}
	if c, err = client.New(client.Config{Addresses: n.Processes().Addresses(), Logger: quiet}); err != nil {
		return nil, nil, nil, errors.Join(err, n.Stop())
	}
	return n, c, func() error {
		c.Close()
		return n.Stop()
	}, nil
}

// measureSluice starts three nodes, measures each wanted part with each number of senders, and stops them.
func (s *settings) measureSluice(ctx context.Context, repetition int) (got []report.Sample, err error) {
	c, err := s.sluice().Launch(ctx, s.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	modes := []struct {
		part string
		mode client.Mode
	}{{"send", client.ModeNormal}, {"held", client.ModeRecovery}}
	if repetition%2 == 0 { // the second finds what the first has left for the store to merge
		slices.Reverse(modes)
	}
	for _, of := range modes {
		sent, err := s.measurePart(repetition, of.part, func(senders int) (load.Result, error) {
			return s.measureSends(ctx, c.Processes(), &sends{Cluster: c, mode: of.mode}, senders)
		})
		if err != nil {
			return nil, err
		}
		got = append(got, sent...)
	}
	jobs, err := s.measurePart(repetition, "job", func(senders int) (load.Result, error) {
		return load.Measure(ctx, c, fmt.Sprintf("job-%d", senders), s.plan(senders))
	})
	return append(got, jobs...), err
}

// measureBare does the same with three nodes of bare raft.
func (s *settings) measureBare(ctx context.Context, repetition int) (got []report.Sample, err error) {
	c, err := s.startBare(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	return s.measurePart(repetition, "bare", func(senders int) (load.Result, error) { return s.measureSends(ctx, c, &sends{}, senders) })
}

func (s *settings) plan(senders int) load.Plan {
	return load.Plan{Senders: senders, Instances: s.instances, Payload: s.payload, Warm: s.warm, Length: s.seconds}
}

// measurePart measures a part, if it is wanted, with each number of senders.
func (s *settings) measurePart(repetition int, part string, measure func(senders int) (load.Result, error)) (got []report.Sample, err error) {
	if !s.wants(part) {
		return nil, nil
	}
	for _, senders := range s.senders {
		res, err := measure(senders)
		if err != nil {
			return nil, fmt.Errorf("%s with %d senders: %w", part, senders, err)
		}
		one := report.NewSample(names[part], report.Closed, repetition, s.plan(senders), res)
		fmt.Fprintln(os.Stderr, one)
		got = append(got, one)
	}
	return got, nil
}

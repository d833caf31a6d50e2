//go:build linux

// Command bench measures what Sluice does on this machine: three local processes with durable writes, beside bare
// hashicorp/raft on the same three processes, and the figures of a single node. It prints tables in Markdown.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/bench/bare"
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
	backlogs           []backlog
	// declaration is that of the applications under load, but for their names.
	declaration client.Application
}

// parts are what can be measured.
var parts = []string{"send", "job", "bare", "figures", "drain", "isolation", "recovery"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if os.Getenv(bareNode) != "" {
		return bareMain(ctx)
	}
	s, err := parse(os.Args[1:])
	if err != nil {
		return err
	}
	private, done, err := enterNamespace(ctx)
	if done || err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
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
	for _, text := range strings.Split(*senders, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-senders %q: want numbers above zero", *senders)
		}
		s.senders = append(s.senders, n)
	}
	if s.repeat < 1 || s.seconds <= 0 || s.instances < 1 || s.payload < slotBytes || s.deferred < 1 || s.held < 1 {
		return nil, fmt.Errorf("-repeat, -seconds, -instances, -deferred and -held must be above zero, -payload at least %d", slotBytes)
	}
	return s, nil
}

// prepare makes the data folder and sees to it that it lies on a disk.
func (s *settings) prepare() (err error) {
	if s.bin, err = filepath.Abs(s.bin); err != nil {
		return err
	}
	if _, err := os.Stat(s.bin); err != nil {
		return fmt.Errorf("there is no binary to measure: %w", err)
	}
	if s.dir == "" {
		s.dir = filepath.Dir(s.bin)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &fs); err != nil {
		return err
	}
	const tmpfs = 0x01021994
	if fs.Type == tmpfs {
		return fmt.Errorf("%s lies in memory: name a folder on a disk with -dir", s.dir)
	}
	s.dir, err = os.MkdirTemp(s.dir, "bench-data-")
	return err
}

func (s *settings) wants(part string) bool { return slices.Contains(s.only, part) }

// measure measures in turns, so that what else the machine does falls on all alike.
func (s *settings) measure(ctx context.Context, private bool) error {
	fmt.Printf("%s, %d CPUs, %s; private network namespace: %v; %d-byte messages, %d instances, %v a measurement, median of %d\n\n",
		cpuModel(), runtime.NumCPU(), runtime.Version(), private, s.payload, s.instances, s.seconds, s.repeat)
	var samples []sample
	for repetition := range s.repeat {
		for _, of := range []struct {
			parts []string
			start func(context.Context) (*nodes, error)
		}{{[]string{"send", "job"}, s.startSluice}, {[]string{"bare"}, s.startBare}} {
			if !slices.ContainsFunc(of.parts, s.wants) {
				continue
			}
			got, err := s.measureNodes(ctx, of.start, of.parts)
			if err != nil {
				return fmt.Errorf("repetition %d: %w", repetition+1, err)
			}
			samples = append(samples, got...)
		}
	}
	printSamples(samples)
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{{"figures", s.figures}, {"drain", s.drains}, {"isolation", s.isolation}, {"recovery", s.recovery}} {
		if !s.wants(part.name) {
			continue
		}
		if err := part.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// measureNodes starts three nodes, measures each wanted part with each number of senders, and stops them.
func (s *settings) measureNodes(ctx context.Context, start func(context.Context) (*nodes, error), of []string) (got []sample, err error) {
	n, err := start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	for _, part := range of {
		for _, senders := range s.senders {
			if !s.wants(part) {
				continue
			}
			one, err := s.measureLoad(ctx, n, part, senders)
			if err != nil {
				return nil, fmt.Errorf("%s with %d senders: %w", part, senders, err)
			}
			fmt.Fprintln(os.Stderr, one)
			got = append(got, one)
		}
	}
	return got, nil
}

// bareNode is set, to "ID DIR LOGSTORE ID=ADDRESS…", in the processes that are nodes of bare raft.
const bareNode = "SLUICE_BENCH_BARE_NODE"

func bareMain(ctx context.Context) error {
	fields := strings.Split(os.Getenv(bareNode), "\n")
	cfg := bare.Config{ID: fields[0], Dir: fields[1], LogStore: fields[2], Peers: map[string]string{}}
	for _, peer := range fields[3:] {
		id, address, _ := strings.Cut(peer, "=")
		cfg.Peers[id] = address
	}
	return bare.Run(ctx, cfg)
}

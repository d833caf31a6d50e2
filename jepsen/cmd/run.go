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
	"strings"
	"time"

	"sluice/jepsen/check"
	"sluice/jepsen/proc"
	"sluice/jepsen/scenario"
	"sluice/jepsen/world"
)

// settings are the flags of a run.
type settings struct {
	bin, dir, scenario, log string
	only                    string
	seed                    uint64
	time                    time.Duration
	hours                   float64
	plain, tls              bool
	// faults, if set, take the place of the scenario's, and shape of whom they hit.
	faults, shape string
	quiet         time.Duration
}

func readSettings(args []string) (*settings, error) {
	s := &settings{}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.StringVar(&s.bin, "bin", "", "the sluice program (required)")
	flags.StringVar(&s.dir, "dir", "", "folder for what is left of the run; default: a temporary one, which is told")
	flags.StringVar(&s.scenario, "scenario", "everything", "which scenario: see list")
	flags.StringVar(&s.log, "log", "", "an event log, .xes or .xes.gz, that is replayed beside the senders")
	flags.Uint64Var(&s.seed, "seed", 0, "seed of whatever is left to chance; 0: the time of day")
	flags.DurationVar(&s.time, "time", 0, "how long there are faults; 0: what the scenario says")
	flags.Float64Var(&s.hours, "hours", 0, "run all scenarios by turns for so many hours, each on a fresh cluster with a seed of its own")
	flags.StringVar(&s.only, "only", "", "with -hours: which scenarios take turns, separated by commas; default: all")
	flags.BoolVar(&s.plain, "plain", false, "do without namespaces and disks of our own")
	flags.BoolVar(&s.tls, "tls", false, "have nodes and clients know each other by certificates, as they do anyhow where certificates are hurt, and every fourth seed")
	flags.StringVar(&s.faults, "faults", "", "kinds of faults in place of the scenario's, with commas between; none: nothing is hurt")
	flags.StringVar(&s.shape, "shape", "", "with -faults: whom they hit: leader, one, quorum or all")
	flags.DurationVar(&s.quiet, "quiet", 0, "how long the cluster has to take a message and to settle all once the faults are over; 0: the standard")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if err := s.check(flags.Args()); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, usage)
	}
	if s.seed == 0 {
		s.seed = uint64(time.Now().UnixNano())
	}
	var err error
	if s.bin, err = filepath.Abs(s.bin); err != nil {
		return nil, err
	}
	if s.dir == "" {
		s.dir, err = os.MkdirTemp("", "jepsen-")
	}
	return s, err
}

// check says what is wrong with the flags, and what is allowed.
func (s *settings) check(left []string) error {
	switch {
	case s.bin == "":
		return errors.New("run: -bin says which sluice program is to be hurt, and is required")
	case len(left) > 0:
		return fmt.Errorf("run takes flags alone, and no %q", left)
	case s.hours < 0 || s.time < 0 || s.quiet < 0:
		return fmt.Errorf("run: -hours is %v, -time %v and -quiet %v; none may be below 0", s.hours, s.time, s.quiet)
	case s.only != "" && s.hours == 0:
		return errors.New("run: -only chooses which scenarios take turns, and goes with -hours")
	case s.faults != "" && s.hours > 0:
		return errors.New("run: -faults takes the place of one scenario's, and does not go with -hours")
	case s.shape != "" && s.faults == "":
		return errors.New("run: -shape says whom -faults hit, and goes with it")
	}
	return world.CheckShape(s.shape)
}

func run(ctx context.Context, args []string) error {
	s, err := readSettings(args)
	if err != nil {
		return err
	}
	if s.hours > 0 {
		return s.campaign(ctx)
	}
	plan, err := scenario.Find(s.scenario)
	if err != nil {
		return err
	}
	if s.faults != "" {
		if plan.Faults, err = world.ParseKinds(s.faults); err != nil {
			return err
		}
		plan.Shape, plan.Steady = s.shape, nil
	}
	_, err = s.one(ctx, plan, s.dir, s.seed, check.Sum{})
	return err
}

// one runs a scenario once and judges what came of it. A history is judged even if the run itself went wrong, unless it
// was broken off. Faults whose cells of the coverage table are empty, before included, are preferred.
func (s *settings) one(ctx context.Context, plan scenario.Scenario, dir string, seed uint64, before check.Sum) (sum check.Sum, err error) {
	if s.time > 0 {
		plan.Time = s.time
	}
	self, err := os.Executable()
	if err != nil {
		return sum, err
	}
	began := time.Now()
	tell := func(format string, args ...any) {
		fmt.Printf("%7.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	tell("scenario %q: %s; %v of faults, seed %d, left in %s", plan.Name, plan.About, plan.Time, seed, dir)
	w, err := proc.New(ctx, proc.Config{
		Dir: dir, Bin: s.bin, Worker: []string{self, "worker"}, Plain: s.plain, TLS: s.tls || plan.NeedsCertificates() || seed%4 == 0,
		LogStores: plan.LogStores, Tell: tell,
	})
	if err != nil {
		return sum, err
	}
	p := newPilot(before)
	stop := p.look(w)
	o := scenario.Options{Seed: seed, Outside: w.Outside(), Prefer: p.prefer, Beside: p.beside, Tell: tell}
	if s.quiet > 0 {
		o.Quiet = scenario.Quiet{Write: s.quiet, Drain: s.quiet}
	}
	if s.log != "" {
		o.EventLog = func() (io.ReadCloser, error) { return os.Open(s.log) }
	}
	err = scenario.Run(ctx, w, plan, o)
	stop()
	err = errors.Join(err, w.Close())
	if ctx.Err() != nil {
		return sum, err
	}
	fmt.Println()
	sum, judged := judge(dir)
	return sum, errors.Join(err, judged)
}

// turns are the scenarios that a campaign runs by turns.
func (s *settings) turns() ([]scenario.Scenario, error) {
	if s.only == "" {
		return scenario.All(), nil
	}
	var all []scenario.Scenario
	for name := range strings.SplitSeq(s.only, ",") {
		plan, err := scenario.Find(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		all = append(all, plan)
	}
	return all, nil
}

// campaign runs scenarios by turns, and prints the sum of them. What is left of runs without violations is removed, but
// for their verdicts.
func (s *settings) campaign(ctx context.Context) error {
	all, err := s.turns()
	if err != nil {
		return err
	}
	until := time.Now().Add(time.Duration(s.hours * float64(time.Hour)))
	var bad []error
	var sum check.Sum
	for runs := 0; time.Now().Before(until) && ctx.Err() == nil; runs++ {
		plan, seed := all[runs%len(all)], s.seed+uint64(runs)
		dir := filepath.Join(s.dir, fmt.Sprintf("%04d", runs+1))
		one, err := s.one(ctx, plan, dir, seed, sum)
		sum = sum.Plus(one)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			fmt.Printf("BAD: scenario %q, seed %d: %v\n", plan.Name, seed, err)
			bad = append(bad, fmt.Errorf("scenario %q, seed %d, left in %s: %w", plan.Name, seed, dir, err))
		default:
			err = errors.Join(os.Rename(filepath.Join(dir, "verdict.txt"), dir+".txt"), os.RemoveAll(dir))
			if err != nil {
				return err
			}
		}
	}
	err = errors.Join(sum.Print(os.Stdout), leave(s.dir, "sum.txt", sum.Print))
	fmt.Printf("%d runs, %d of them bad\n", sum.Runs, len(bad))
	return errors.Join(append(bad, err, ctx.Err())...)
}

func list() {
	for _, s := range scenario.All() {
		fmt.Printf("%-26s %6v  %s\n", s.Name, s.Time, s.About)
	}
}

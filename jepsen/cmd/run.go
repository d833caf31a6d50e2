//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sluice/jepsen/proc"
	"sluice/jepsen/scenario"
)

// settings are the flags of a run.
type settings struct {
	bin, dir, scenario string
	seed               uint64
	time               time.Duration
	plain              bool
}

func run(ctx context.Context, args []string) error {
	var s settings
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.StringVar(&s.bin, "bin", "", "the sluice program (required)")
	flags.StringVar(&s.dir, "dir", "", "folder for what is left of the run; default: a temporary one, which is told")
	flags.StringVar(&s.scenario, "scenario", "everything", "which scenario: see list")
	flags.Uint64Var(&s.seed, "seed", 0, "seed of whatever is left to chance; 0: the time of day")
	flags.DurationVar(&s.time, "time", 0, "how long there are faults; 0: what the scenario says")
	flags.BoolVar(&s.plain, "plain", false, "do without namespaces and disks of our own")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.bin == "" || flags.NArg() > 0 {
		return errors.New(usage)
	}
	if s.seed == 0 {
		s.seed = uint64(time.Now().UnixNano())
	}
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "jepsen-")
		if err != nil {
			return err
		}
		s.dir = dir
	}
	return s.run(ctx)
}

func (s *settings) run(ctx context.Context) (err error) {
	plan, err := scenario.Find(s.scenario)
	if err != nil {
		return err
	}
	if s.time > 0 {
		plan.Time = s.time
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if s.bin, err = filepath.Abs(s.bin); err != nil {
		return err
	}
	began := time.Now()
	tell := func(format string, args ...any) {
		fmt.Printf("%7.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	tell("scenario %q: %s; %v of faults, seed %d, left in %s", plan.Name, plan.About, plan.Time, s.seed, s.dir)
	w, err := proc.New(ctx, proc.Config{Dir: s.dir, Bin: s.bin, Worker: []string{self, "worker"}, Plain: s.plain, Tell: tell})
	if err != nil {
		return err
	}
	err = scenario.Run(ctx, w, plan, scenario.Options{Seed: s.seed, Outside: w.Outside(), Tell: tell})
	return errors.Join(err, w.Close())
}

func list() {
	for _, s := range scenario.All() {
		fmt.Printf("%-26s %6v  %s\n", s.Name, s.Time, s.About)
	}
}

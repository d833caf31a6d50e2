//go:build linux

// Command cmd builds mutants of Sluice, one at a time, has the checkers of jepsen judge them, and tells which were caught
// and by whom. It ends in an error if one escaped, was caught by others than those that it names, or no longer fits the
// sources.
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
	"sync"
	"syscall"

	"sluice/jepsen/mutant"
)

// settings are the flags.
type settings struct {
	world         mutant.World
	names         string
	sample, turn  int
	processes     int
	overlay, left string
	list          bool
}

func readSettings() *settings {
	s := &settings{}
	flag.StringVar((*string)(&s.world), "world", string(mutant.Sim), "sim, or proc (which needs root)")
	flag.StringVar(&s.names, "mutants", "", "which: names, with | between, or a regular expression; default: all")
	flag.IntVar(&s.sample, "sample", 0, "how many of them; 0: all")
	flag.IntVar(&s.turn, "rotate", 0, "which sample: a number that grows, such as the day of the year")
	flag.IntVar(&s.processes, "processes", runtime.NumCPU(), "how many at once, in the world sim")
	flag.StringVar(&s.overlay, "overlay", "", "an overlay for the Go tool that holds, too, in the world sim: see jepsen/sim/still")
	flag.StringVar(&s.left, "left", "bin/mutants", "folder for binaries, and for what runs leave")
	flag.BoolVar(&s.list, "list", false, "name the mutants, and do no more")
	flag.Parse()
	return s
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := readSettings().run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// errBad: the checkers did not do what they are there for.
var errBad = errors.New("not every mutant was caught by name")

func (s *settings) run(ctx context.Context) error {
	if s.world != mutant.Sim && s.world != mutant.Proc || s.processes < 1 || s.sample < 0 || s.turn < 0 || flag.NArg() > 0 {
		return fmt.Errorf("world is %q, processes %d, sample %d, rotate %d; allowed are sim and proc, 1 and more, 0 and more, 0 and more, and no other words: %v", s.world, s.processes, s.sample, s.turn, flag.Args())
	}
	if s.list {
		return list(os.Stdout)
	}
	chosen, err := mutant.In(s.world, s.names)
	if err != nil {
		return err
	}
	chosen = mutant.Sample(chosen, s.sample, s.turn)
	b, err := s.bench()
	if err != nil {
		return err
	}
	if s.names == "" {
		chosen = append([]*mutant.Mutant{mutant.Control()}, chosen...)
	}
	all := s.all(ctx, b, chosen)
	if err := printAll(os.Stdout, s.world, all); err != nil {
		return err
	}
	for _, r := range all {
		if !r.good() {
			return errors.Join(errBad, ctx.Err())
		}
	}
	return ctx.Err()
}

// bench is where mutants of a world are built and tried.
func (s *settings) bench() (bench, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	left, err := filepath.Abs(s.left)
	if err != nil {
		return nil, err
	}
	p := place{root: root, left: left}
	if s.world == mutant.Proc {
		s.processes = 1 // they would measure each other
		return &procBench{p}, nil
	}
	if s.overlay != "" {
		if s.overlay, err = filepath.Abs(s.overlay); err != nil {
			return nil, err
		}
	}
	return &simBench{place: p, overlay: s.overlay}, nil
}

// all tries mutants, several at once, and tells of each as it ends.
func (s *settings) all(ctx context.Context, b bench, chosen []*mutant.Mutant) []*result {
	results := make([]*result, len(chosen))
	next := make(chan int)
	var workers sync.WaitGroup
	var telling sync.Mutex
	for range min(s.processes, len(chosen)) {
		workers.Go(func() {
			for n := range next {
				r := try(ctx, s.world, b, chosen[n])
				results[n] = r
				telling.Lock()
				fmt.Println(r)
				telling.Unlock()
			}
		})
	}
	for n := range chosen {
		next <- n
	}
	close(next)
	workers.Wait()
	return results
}

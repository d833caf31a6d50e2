//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sluice/jepsen/mutant"
	"sluice/jepsen/world"
)

// place is where sources lie, and where mutants are made.
type place struct{ root, left string }

func (p place) dir(m *mutant.Mutant) string { return filepath.Join(p.left, m.Name) }

// tags are those of every build of a mutant: the last makes it say what it is.
const tags = "hashicorpmetrics,mutant"

// fresh is the folder of a mutant, emptied.
func (p place) fresh(m *mutant.Mutant) (string, error) {
	dir := p.dir(m)
	return dir, errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755))
}

func (p place) clear(m *mutant.Mutant) error { return os.RemoveAll(p.dir(m)) }

// goTool runs the Go tool at the root.
func (p place) goTool(ctx context.Context, environment []string, args ...string) error {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir = p.root
	// As the Makefile has it, whoever calls: another setting would have everything compiled anew.
	c.Env = append(os.Environ(), "GOFLAGS=-trimpath -mod=readonly", "GOWORK=off", "CGO_ENABLED=0")
	c.Env = append(c.Env, environment...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// simBench plays in virtual time.
type simBench struct {
	place
	overlay string
}

func (b *simBench) build(ctx context.Context, m *mutant.Mutant) error {
	dir, err := b.fresh(m)
	if err != nil {
		return err
	}
	overlay, err := m.Overlay(b.root, b.overlay, filepath.Join(dir, "sources"))
	if err != nil {
		return err
	}
	return b.goTool(ctx, []string{"GOEXPERIMENT=norandomizedheapbase64"}, "test", "-vet=off", "-c", "-tags", tags, "-overlay", overlay,
		"-ldflags", "-s -w -X sluice/jepsen/sim.mutant="+m.Name, "-o", filepath.Join(dir, "sim.test"), "./jepsen/sim")
}

// simMost bounds a run, in real time; simQuiet is how long its cluster has to become quiet, in virtual time.
const (
	simMost  = 3 * time.Minute
	simQuiet = 40 * time.Second
)

// still makes a process as still as it can be: see jepsen/sim/still.
var still = []string{"GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=2GiB"}

func (b *simBench) play(ctx context.Context, m *mutant.Mutant, t *mutant.Try, seed uint64) (verdict, error) {
	dir := b.dir(m)
	ctx, cancel := context.WithTimeout(ctx, simMost)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(dir, "sim.test"), "-test.run", "^TestSeeds$", "-test.timeout", "0",
		"-sim.from", strconv.FormatUint(seed, 10), "-sim.count", "1", "-sim.keep", dir, "-sim.quiet", simQuiet.String(),
		"-sim.faults", world.FormatKinds(t.Faults), "-sim.shape", t.Shape, "-sim.time", t.Time.String())
	c.Dir = dir
	c.Env = append(os.Environ(), still...)
	out, err := c.CombinedOutput()
	if ctx.Err() != nil {
		err = errors.Join(err, fmt.Errorf("it took longer than %v", simMost))
	}
	if brand := "MUTANT " + m.Name + "\n"; !bytes.Contains(out, []byte(brand)) {
		return verdict{}, fmt.Errorf("the build does not say that it is the mutant %s: %w\n%s", m.Name, err, tail(out))
	}
	return read(filepath.Join(dir, fmt.Sprintf("seed-%d-verdict.txt", seed)), err, out)
}

// read reads a verdict that is there if anything was found; err and out are what came of the run.
func read(path string, err error, out []byte) (verdict, error) {
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, tail(out))
	}
	text, missing := os.ReadFile(path)
	if errors.Is(missing, fs.ErrNotExist) {
		return verdict{}, err
	}
	return readVerdict(string(text)), errors.Join(err, missing)
}

// tailBytes is how much of an output is told.
const tailBytes = 1500

func tail(out []byte) string {
	return strings.TrimSpace(string(out[max(0, len(out)-tailBytes):]))
}

// procBench plays with real processes.
type procBench struct{ place }

// jepsen is the program that plays a mutant, and whose processes are the workers: if the SDK is broken, it is a mutant, too.
func (b *procBench) jepsen(m *mutant.Mutant) string {
	for _, e := range m.Edits {
		if strings.HasPrefix(e.File, "client/") {
			return filepath.Join(b.dir(m), "jepsen")
		}
	}
	return filepath.Join(b.left, "jepsen")
}

func (b *procBench) build(ctx context.Context, m *mutant.Mutant) error {
	dir, err := b.fresh(m)
	if err != nil {
		return err
	}
	overlay, err := m.Overlay(b.root, "", filepath.Join(dir, "sources"))
	if err != nil {
		return err
	}
	sluice := filepath.Join(dir, "sluice")
	err = b.goTool(ctx, nil, "build", "-tags", tags+",skewed", "-overlay", overlay, "-ldflags", "-s -w -X main.mutant="+m.Name, "-o", sluice, "./cmd/sluice")
	if err == nil && b.jepsen(m) == filepath.Join(dir, "jepsen") {
		err = b.goTool(ctx, nil, "build", "-tags", tags, "-overlay", overlay, "-ldflags", "-s -w", "-o", b.jepsen(m), "./jepsen/cmd")
	} else if err == nil {
		err = b.goTool(ctx, nil, "build", "-tags", "hashicorpmetrics", "-ldflags", "-s -w", "-o", b.jepsen(m), "./jepsen/cmd")
	}
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, sluice, "version").Output()
	if err == nil && !strings.Contains(string(out), "MUTANT "+m.Name+" ") {
		err = fmt.Errorf("the build does not say that it is the mutant %s: %s", m.Name, out)
	}
	return err
}

// procMost bounds a run; procQuiet is how long its cluster has to become quiet.
const (
	procMost  = 6 * time.Minute
	procQuiet = 30 * time.Second
)

func (b *procBench) play(ctx context.Context, m *mutant.Mutant, t *mutant.Try, seed uint64) (verdict, error) {
	dir := filepath.Join(b.dir(m), fmt.Sprintf("seed-%d", seed))
	ctx, cancel := context.WithTimeout(ctx, procMost)
	defer cancel()
	args := []string{"run", "-bin", filepath.Join(b.dir(m), "sluice"), "-dir", dir, "-scenario", "calm", "-seed", strconv.FormatUint(seed, 10),
		"-time", t.Time.String(), "-faults", world.FormatKinds(t.Faults), "-shape", t.Shape, "-quiet", procQuiet.String()}
	c := exec.CommandContext(ctx, b.jepsen(m), args...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) } // so that it takes its network and disks down
	c.WaitDelay = time.Minute
	out, err := c.CombinedOutput()
	return read(filepath.Join(dir, "verdict.txt"), err, out)
}

// Shard plays seeds of the simulation, each in a process of its own, several at once; it tells how fast that goes and what
// failed, and leaves the trace, the history and the verdict of each failure with the command that shows it again.
//
//	shard -bin bin/sim.test -from 1 -seeds 1000 -left bin/sim
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"sluice/jepsen/check"
	"sluice/jepsen/sim"
)

// settings are the flags.
type settings struct {
	bin, left        string
	from, seeds      uint64
	processes, twice int
	within, seedMost time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.bin, "bin", "", "the test binary of jepsen/sim (required)")
	flag.StringVar(&s.left, "left", "", "folder for what failures leave (required)")
	flag.Uint64Var(&s.from, "from", 1, "the first seed")
	flag.Uint64Var(&s.seeds, "seeds", 100, "how many seeds")
	flag.IntVar(&s.processes, "processes", runtime.NumCPU(), "how many processes at once")
	flag.IntVar(&s.twice, "twice", 0, "of how many seeds in a hundred to play each twice, to see whether both runs are equal")
	flag.DurationVar(&s.within, "within", 0, "begin no seed after this time; 0: play all")
	flag.DurationVar(&s.seedMost, "seed-most", 5*time.Minute, "how long one seed may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "shard:", err)
		os.Exit(1)
	}
}

// fleet is a run of many seeds.
type fleet struct {
	settings
	began time.Time

	// mu guards what follows.
	mu                     sync.Mutex
	played, compared, same int
	virtual, processor     time.Duration
	total                  check.Sum
	failed, apart          []uint64
	told                   time.Time
}

func (s *settings) run(ctx context.Context) error {
	if s.bin == "" || s.left == "" || s.processes < 1 {
		return errors.New("say which binary, where failures are left, and how many processes: -bin FILE -left DIR -processes N")
	}
	var err error
	if s.bin, err = filepath.Abs(s.bin); err != nil {
		return err
	}
	if err := os.MkdirAll(s.left, 0o755); err != nil {
		return err
	}
	if s.within > 0 {
		limited, cancel := context.WithTimeout(ctx, s.within)
		defer cancel()
		return s.play(ctx, limited.Done())
	}
	return s.play(ctx, ctx.Done())
}

func (s *settings) play(ctx context.Context, over <-chan struct{}) error {
	f := &fleet{settings: *s, began: time.Now(), told: time.Now()}
	seeds := make(chan uint64)
	var workers sync.WaitGroup
	for range s.processes {
		workers.Go(func() {
			for seed := range seeds {
				f.one(ctx, seed)
			}
		})
	}
	for seed := s.from; seed < s.from+s.seeds; seed++ {
		select {
		case seeds <- seed:
			continue
		case <-over:
		}
		break
	}
	close(seeds)
	workers.Wait()
	if err := errors.Join(f.total.Print(os.Stdout), printPoints(os.Stdout, f.total.Points)); err != nil {
		return err
	}
	f.sum()
	if len(f.failed) > 0 {
		return fmt.Errorf("%d of %d seeds failed: %v; each is shown again by make sim FROM=SEED SEEDS=1", len(f.failed), f.played, f.failed)
	}
	return ctx.Err()
}

// How much of what a failure says is printed: complaints, and bytes of each.
const (
	complaintsTold = 5
	complaintMost  = 600
)

// outcome is what a process said of its seed.
type outcome struct {
	ok bool
	// processor is how much of a processor's time it took.
	virtual, processor time.Duration
	check              check.Sum
	sum                string
	output             []byte
}

var (
	line = regexp.MustCompile(`(?m)^SEED .* virtual=([0-9.]+) .* sum=([0-9a-f]+) .* failed=(true|false)$`)
	// complaint is a line of the test that says what is wrong.
	complaint = regexp.MustCompile(`(?m)^ +seed_test\.go:.*$`)
	sumLine   = regexp.MustCompile(`(?m)^SUM (.*)$`)
)

// one plays a seed, some of them twice.
func (f *fleet) one(ctx context.Context, seed uint64) {
	o := f.process(ctx, seed)
	again := o
	twice := o.ok && ctx.Err() == nil && int(seed%100) < f.twice
	if twice {
		again = f.process(ctx, seed)
	}
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.played++
	f.virtual += o.virtual
	f.processor += o.processor
	f.total = f.total.Plus(o.check)
	if !o.ok || !again.ok {
		f.failed = append(f.failed, seed)
		f.tell(seed, again)
	}
	if twice {
		f.compared++
		if o.sum == again.sum {
			f.same++
		} else {
			f.apart = append(f.apart, seed)
		}
	}
	if time.Since(f.told) > 10*time.Second {
		f.told = time.Now()
		f.sum()
	}
}

// tell says what of a failure is where.
func (f *fleet) tell(seed uint64, o outcome) {
	path := filepath.Join(f.left, fmt.Sprintf("seed-%d-output.txt", seed))
	if err := os.WriteFile(path, o.output, 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "shard:", err)
	}
	fmt.Printf("FAILED seed %d; its output, trace, history and verdict are in %s\n       again: make sim FROM=%d SEEDS=1\n", seed, filepath.Join(f.left, fmt.Sprintf("seed-%d-*", seed)), seed)
	why := complaint.FindAll(o.output, complaintsTold)
	if why == nil { // it ended in another way: the last of what it said
		why = [][]byte{o.output[max(0, len(o.output)-complaintMost):]}
	}
	for _, line := range why {
		fmt.Printf("       %.*s\n", complaintMost, line)
	}
}

// sum prints how far the run has come.
func (f *fleet) sum() {
	took := time.Since(f.began)
	fmt.Printf("%d seeds in %v: %.2f seeds a second, %.2f virtual hours, %.0f virtual seconds a second (%.0f in each second of a processor's time), %d failed",
		f.played, took.Round(time.Second), float64(f.played)/took.Seconds(), f.virtual.Hours(), f.virtual.Seconds()/took.Seconds(),
		f.virtual.Seconds()/max(f.processor.Seconds(), 1), len(f.failed))
	if f.compared > 0 {
		fmt.Printf("; %d of %d played twice were equal, not so %v", f.same, f.compared, f.apart)
	}
	fmt.Println()
}

// environment makes a process as still as it can be: see jepsen/sim/still.
var environment = []string{"GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=3GiB"}

func (f *fleet) process(ctx context.Context, seed uint64) outcome {
	ctx, cancel := context.WithTimeout(ctx, f.seedMost)
	defer cancel()
	c := exec.CommandContext(ctx, f.bin, "-test.run", "^TestSeeds$", "-test.timeout", "0",
		"-sim.from", strconv.FormatUint(seed, 10), "-sim.count", "1", "-sim.keep", f.left)
	c.Env = append(os.Environ(), environment...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	o := outcome{output: out.Bytes()}
	if s := c.ProcessState; s != nil {
		o.processor = s.UserTime() + s.SystemTime()
	}
	if ctx.Err() != nil {
		o.output = fmt.Appendf(o.output, "\nshard: it took longer than %v\n", f.seedMost)
	}
	o.ok = o.read() == nil && err == nil && ctx.Err() == nil
	return o
}

// read reads what a process said.
func (o *outcome) read() error {
	found, sum := line.FindSubmatch(o.output), sumLine.FindSubmatch(o.output)
	if found == nil || sum == nil {
		return errors.New("it did not say what came of it")
	}
	seconds, err := strconv.ParseFloat(string(found[1]), 64)
	o.virtual, o.sum = time.Duration(seconds*float64(time.Second)), string(found[2])
	return errors.Join(err, json.Unmarshal(sum[1], &o.check))
}

// printPoints tells how often nodes were stopped at each point, and at which never.
func printPoints(out io.Writer, counts map[string]int) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nSTOPPED AT\tTIMES")
	var never []string
	for _, at := range sim.Points() {
		if counts[at] == 0 {
			never = append(never, at)
			continue
		}
		fmt.Fprintf(w, "%s\t%d\n", at, counts[at])
	}
	fmt.Fprintf(w, "%d of %d points were not hit: %s\n\n", len(never), len(sim.Points()), strings.Join(never, ", "))
	return w.Flush()
}

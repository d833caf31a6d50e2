package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/cryptotest"
	"time"

	"sluice/jepsen/check"
	"sluice/jepsen/history"
)

var (
	from  = flag.Uint64("sim.from", 1, "the first seed")
	count = flag.Uint64("sim.count", 3, "how many seeds")
	keep  = flag.String("sim.keep", "", "folder for the traces and histories of failures; with -sim.verbose of all")
	every = flag.Bool("sim.packets", false, "keep the trace, with every packet, and the history, to find where two runs part")
	loud  = flag.Bool("sim.verbose", false, "write the trace, and what nodes log, to standard error")
)

// TestSeeds plays seeds, one after the other.
func TestSeeds(t *testing.T) {
	for seed := *from; seed < *from+*count; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { playSeed(t, seed) })
	}
}

// judge holds the history of a seed against every invariant, and tells what came of it.
func judge(t *testing.T, rows io.Reader, folder string, seed uint64) {
	h, err := history.Read(rows)
	if err != nil {
		t.Error(err)
		return
	}
	c, err := check.New(h)
	if err != nil {
		t.Error(err)
		return
	}
	v := check.Judge(c)
	if sum, err := json.Marshal(v.Sum()); err != nil {
		t.Error(err)
	} else {
		fmt.Printf("SUM %s\n", sum)
	}
	for name, found := range v.Violations {
		for _, one := range found[:min(len(found), 5)] {
			t.Errorf("seed %d: %s: %s", seed, name, one.Text)
		}
	}
	if !t.Failed() && !*loud {
		return
	}
	f, err := os.Create(filepath.Join(folder, fmt.Sprintf("seed-%d-verdict.txt", seed)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Print(f), f.Close()); err != nil {
		t.Error(err)
	}
}

func playSeed(t *testing.T, seed uint64) {
	p := asked(t, ByChance(seed))
	tellBrand()
	p.Outside, p.Packets = t.TempDir(), *every
	folder := *keep
	if folder == "" {
		folder = t.TempDir()
	}
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(folder, fmt.Sprintf("seed-%d-%s", seed, name)))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	trace, rows := open("trace.txt"), open("history.jsonl")
	buffered := bufio.NewWriterSize(rows, 1<<20) // if all breaks off the trace tells the rest
	p.Trace, p.History = trace, buffered
	if *loud {
		// Written at the end: a write to a file in the midst of the run lets another goroutine go first.
		var said bytes.Buffer
		defer func() { _, _ = said.WriteTo(os.Stderr) }()
		p.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	began := time.Now()
	var out Outcome
	cryptotest.SetGlobalRandom(t, seed) // ids come from there
	var err error
	bubble(t, func(*testing.T) { out, err = p.Run() })
	if err != nil { // told out here: what fails within a bubble ends the test, and its history would not be judged
		t.Errorf("seed %d (%s, %d nodes): %v", seed, p.Scenario.Name, p.Nodes, err)
	}
	if err := buffered.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := rows.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	judge(t, rows, folder, seed)
	fmt.Printf("SEED %d %s %d virtual=%.1f real=%.2f sum=%016x packets=%d failed=%v\n", seed, p.Scenario.Name, p.Nodes, out.Virtual.Seconds(), time.Since(began).Seconds(), out.Sum, out.Packets, t.Failed())
	trace.Close()
	rows.Close()
	if !t.Failed() && !*loud && !*every {
		os.Remove(trace.Name())
		os.Remove(rows.Name())
	}
	if *count > 1 {
		runtime.GC()
	}
}

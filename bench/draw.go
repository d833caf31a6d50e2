//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"sluice/bench/chart"
	"sluice/bench/report"
)

// plotResults is "bench plot": rate and latency against senders, of a file of results.
func plotResults(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("bench plot", flag.ContinueOnError)
	out := flags.String("out", ".", "folder for throughput.svg and latency-p99.svg")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("bench plot: want one file of results, as bench peers -out FILE writes it")
	}
	run, err := report.Read(flags.Arg(0))
	if err != nil {
		return err
	}
	lines := report.Lines(run.Samples)
	for _, one := range []struct {
		file  string
		chart chart.Lines
	}{
		{"throughput.svg", chart.Lines{Title: "Whole jobs, closed loop", Y: "jobs a second", Lines: lines.Rate}},
		{"latency-p99.svg", chart.Lines{Title: "Whole jobs, closed loop", Y: "latency p99, ms", Lines: lines.P99}},
	} {
		one.chart.X = "senders"
		name := filepath.Join(*out, one.file)
		if err := one.chart.Save(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Println(name)
	}
	return nil
}

// drawFlame is "bench flame": CPU profiles, summed up, as a flame graph.
func drawFlame(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("bench flame", flag.ContinueOnError)
	out := flags.String("out", "flame.svg", "file for the flame graph")
	title := flags.String("title", "CPU", "what stands above it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("bench flame: want CPU profiles, as bench peers -profiles DIR takes them; several are summed up")
	}
	graph, err := chart.ReadFlame(flags.Args())
	if err != nil {
		return err
	}
	return os.WriteFile(*out, graph.SVG(*title), 0o666)
}

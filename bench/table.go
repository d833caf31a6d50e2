//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// sample is one measurement.
type sample struct {
	part    string
	senders int
	// rate is messages, or jobs, a second.
	rate           float64
	p50, p99, p999 time.Duration
	// cpu is what the nodes used for one message, written what they wrote for it.
	cpu     time.Duration
	written float64
	// foreign is the share of the machine that neither the nodes nor the senders used, 1 being one processor.
	foreign float64
	// elections is how many there were meanwhile, though no node was hurt.
	elections uint64
}

func newSample(part string, latencies []time.Duration, senders int, before, after usage) sample {
	slices.Sort(latencies)
	count := len(latencies)
	s := sample{part: part, senders: senders}
	if count == 0 {
		return s
	}
	at := func(share float64) time.Duration { return latencies[min(count-1, int(share*float64(count)))] }
	elapsed := after.at.Sub(before.at)
	s.rate = float64(count) / elapsed.Seconds()
	s.p50, s.p99, s.p999 = at(0.5), at(0.99), at(0.999)
	s.cpu = (after.nodes - before.nodes) / time.Duration(count)
	s.written = float64(after.written-before.written) / float64(count)
	s.foreign = max(0, (after.machine-before.machine-(after.nodes-before.nodes)-(after.own-before.own)).Seconds()/elapsed.Seconds())
	return s
}

// String is the sample as progress shows it.
func (s sample) String() string {
	return fmt.Sprintf("%-4s %3d senders: %6.0f /s  p50 %v  p99 %v  foreign CPU %.2f  elections %d", s.part, s.senders, s.rate, round(s.p50), round(s.p99), s.foreign, s.elections)
}

// median takes the middle of each measure by itself, and all elections.
func median(samples []sample) sample {
	m := samples[0]
	m.rate = middle(samples, func(s sample) float64 { return s.rate })
	m.p50 = middle(samples, func(s sample) time.Duration { return s.p50 })
	m.p99 = middle(samples, func(s sample) time.Duration { return s.p99 })
	m.p999 = middle(samples, func(s sample) time.Duration { return s.p999 })
	m.cpu = middle(samples, func(s sample) time.Duration { return s.cpu })
	m.written = middle(samples, func(s sample) float64 { return s.written })
	m.foreign = middle(samples, func(s sample) float64 { return s.foreign })
	m.elections = 0
	for _, s := range samples {
		m.elections += s.elections
	}
	return m
}

func middle[T float64 | time.Duration](samples []sample, of func(sample) T) T {
	var values []T
	for _, s := range samples {
		values = append(values, of(s))
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// names say in the table what was measured.
var names = map[string]string{"send": "send", "job": "whole job", "bare": "bare raft"}

func printSamples(samples []sample) {
	type key struct {
		part    string
		senders int
	}
	groups := make(map[key][]sample)
	var order []key
	for _, s := range samples {
		k := key{s.part, s.senders}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], s)
	}
	if len(order) == 0 {
		return
	}
	slices.SortStableFunc(order, func(a, b key) int { return a.senders - b.senders })
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)
	row := func(cells ...any) {
		for _, cell := range cells {
			fmt.Fprintf(w, "\t %v ", cell)
		}
		fmt.Fprintln(w, "\t")
	}
	row("what", "senders", "per second", "p50", "p99", "p99.9", "CPU of the nodes a message", "bytes written a message", "foreign CPU", "elections")
	row("---", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:")
	for _, k := range order {
		m := median(groups[k])
		row(names[m.part], m.senders, fmt.Sprintf("%.0f", m.rate), round(m.p50), round(m.p99), round(m.p999), m.cpu.Round(time.Microsecond), fmt.Sprintf("%.0f", m.written), fmt.Sprintf("%.2f", m.foreign), m.elections)
	}
	_ = w.Flush() // standard output takes it or is gone
	fmt.Println()
	for _, k := range order {
		if base := groups[key{"bare", k.senders}]; k.part != "bare" && base != nil {
			fmt.Printf("%s / bare raft, %d senders: %.2f\n", names[k.part], k.senders, median(groups[k]).rate/median(base).rate)
		}
	}
	fmt.Println()
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

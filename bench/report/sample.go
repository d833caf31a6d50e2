// Package report holds what was measured, sums it up, and judges it against the goals.
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"sluice/bench/chart"
	"sluice/bench/load"
)

// The ways in which jobs begin.
const (
	// Closed is a closed loop: each sender has one job under way.
	Closed = "closed"
	// OpenOwn is an open loop at half of what the same system did in the closed loop of this run.
	OpenOwn = "open, half of its own capacity"
	// OpenEven is an open loop at one rate for all.
	OpenEven = "open, one rate for all"
)

// Sample is one measurement.
type Sample struct {
	// Who was measured, in which way, and in which repetition, from 1.
	Who        string `json:"who"`
	Mode       string `json:"mode"`
	Repetition int    `json:"repetition"`
	// Senders and Payload, in bytes: how many sent what.
	Senders int `json:"senders"`
	Payload int `json:"payload"`
	// Target is the rate of an open loop, Rate what was reached, jobs or messages a second.
	Target float64 `json:"target,omitempty"`
	Rate   float64 `json:"rate"`
	// P50, P99 and P999 are latencies, in nanoseconds.
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	// ServerCPU and LoadCPU are CPU time for one message, of the nodes and of the senders and workers, in nanoseconds.
	ServerCPU time.Duration `json:"server_cpu_ns"`
	LoadCPU   time.Duration `json:"load_cpu_ns"`
	// Written is how many bytes all nodes wrote for one message.
	Written float64 `json:"written_bytes"`
	// Foreign is the share of the machine that neither the nodes nor the senders used, 1 being one processor.
	Foreign float64 `json:"foreign_cpu"`
	// Elections is how many there were meanwhile, though no node was hurt; nil: unknown.
	Elections *uint64 `json:"elections,omitempty"`
	// Jobs were sent and settled in all; Repeated is how many settlements came again.
	Jobs     int64 `json:"jobs"`
	Repeated int64 `json:"repeated"`
}

// NewSample sums up a measurement. Its latencies are sorted by it.
func NewSample(who, mode string, repetition int, plan load.Plan, res load.Result) Sample {
	s := Sample{
		Who: who, Mode: mode, Repetition: repetition, Senders: plan.Senders, Payload: plan.Payload, Target: plan.Rate,
		Elections: res.Elections, Jobs: res.Settled, Repeated: res.Repeated,
	}
	slices.Sort(res.Latencies)
	count := len(res.Latencies)
	if count == 0 {
		return s
	}
	used, elapsed := res.After.Since(res.Before), res.After.At.Sub(res.Before.At)
	s.Rate = float64(count) / elapsed.Seconds()
	s.P50, s.P99, s.P999 = percentile(res.Latencies, 0.5), percentile(res.Latencies, 0.99), percentile(res.Latencies, 0.999)
	s.ServerCPU, s.LoadCPU = used.Nodes/time.Duration(count), used.Own/time.Duration(count)
	s.Written = float64(used.Written) / float64(count)
	s.Foreign = res.After.Foreign(res.Before)
	return s
}

// percentile is the value below which so large a share of sorted values lies.
func percentile(sorted []time.Duration, share float64) time.Duration {
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// String is the sample as progress shows it.
func (s Sample) String() string {
	return fmt.Sprintf("%-12s %4d senders: %6.0f /s  p50 %v  p99 %v  foreign CPU %.2f  elections %s  %s", s.Who, s.Senders, s.Rate, Round(s.P50), Round(s.P99), s.Foreign, elections(s.Elections), s.Mode)
}

// Round is a latency as tables show it.
func Round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

func elections(count *uint64) string {
	if count == nil {
		return "?"
	}
	return fmt.Sprint(*count)
}

// Spread is a median between the least and the greatest of what was measured.
type Spread struct{ Median, Least, Greatest float64 }

func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return Spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

// Group is the samples of the same system, in the same way, with as many senders and as large a payload.
type Group struct {
	// Who, Mode, Senders and Payload are those of every sample.
	Who, Mode        string
	Senders, Payload int
	// Samples are in the order of their repetitions.
	Samples []Sample
}

// Of is the spread of one measure.
func (g Group) Of(measure func(Sample) float64) Spread {
	var values []float64
	for _, s := range g.Samples {
		values = append(values, measure(s))
	}
	return spread(values)
}

// The measures that tables and goals are about; times in seconds.
func rate(s Sample) float64      { return s.Rate }
func p50(s Sample) float64       { return s.P50.Seconds() }
func p99(s Sample) float64       { return s.P99.Seconds() }
func p999(s Sample) float64      { return s.P999.Seconds() }
func serverCPU(s Sample) float64 { return s.ServerCPU.Seconds() }
func loadCPU(s Sample) float64   { return s.LoadCPU.Seconds() }
func written(s Sample) float64   { return s.Written }
func foreign(s Sample) float64   { return s.Foreign }

// groups sorts samples by mode, payload and senders, systems in the order in which they first appear.
func groups(samples []Sample) (all []Group) {
	for _, s := range samples {
		i := slices.IndexFunc(all, func(g Group) bool {
			return g.Who == s.Who && g.Mode == s.Mode && g.Senders == s.Senders && g.Payload == s.Payload
		})
		if i < 0 {
			i = len(all)
			all = append(all, Group{Who: s.Who, Mode: s.Mode, Senders: s.Senders, Payload: s.Payload})
		}
		all[i].Samples = append(all[i].Samples, s)
	}
	slices.SortStableFunc(all, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Mode, b.Mode), a.Payload-b.Payload, a.Senders-b.Senders)
	})
	return all
}

// Run is all that one run measured, as its file holds it.
type Run struct {
	// Machine, Go and Revision say where and what was measured, Began when.
	Machine  string    `json:"machine"`
	Go       string    `json:"go"`
	Revision string    `json:"revision"`
	Began    time.Time `json:"began"`
	// Private says whether the network was nobody else's.
	Private bool `json:"private_network"`
	// Seconds is the length of a measurement.
	Seconds float64 `json:"seconds"`
	// Samples are all measurements, Failovers all gaps after a leader was killed.
	Samples   []Sample   `json:"samples,omitempty"`
	Failovers []Failover `json:"failovers,omitempty"`
	// Skipped says what was asked for and could not be measured, and why.
	Skipped []string `json:"skipped,omitempty"`
}

// Failover is the longest time without a success around one kill of the leader.
type Failover struct {
	// Who lost its leader, and as which kill, from 1.
	Who        string `json:"who"`
	Repetition int    `json:"repetition"`
	// Gap is the longest time between two successes, in nanoseconds.
	Gap time.Duration `json:"gap_ns"`
}

// Write writes the run to a file.
func (r *Run) Write(name string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o666)
}

// Read reads a run from a file that Write wrote.
func Read(name string) (*Run, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := &Run{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s holds no results: %w", name, err)
	}
	return r, nil
}

// Curves are what is drawn of a run: by system, medians against senders, of the closed loops.
type Curves struct{ Rate, P99 []chart.Line }

// Lines takes the curves from samples; latencies in milliseconds.
func Lines(samples []Sample) (c Curves) {
	add := func(to *[]chart.Line, g Group, s Spread, scale float64) {
		i := slices.IndexFunc(*to, func(l chart.Line) bool { return l.Name == g.Who })
		if i < 0 {
			i = len(*to)
			*to = append(*to, chart.Line{Name: g.Who})
		}
		(*to)[i].Points = append((*to)[i].Points, chart.Point{X: float64(g.Senders), Y: s.Median * scale, Least: s.Least * scale, Greatest: s.Greatest * scale})
	}
	for _, g := range groups(samples) {
		if g.Mode == Closed {
			add(&c.Rate, g, g.Of(rate), 1)
			add(&c.P99, g, g.Of(p99), 1e3)
		}
	}
	return c
}

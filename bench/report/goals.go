package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Goal is one thing that Sluice must reach.
type Goal struct {
	// ID is the goal's name; What says what is compared.
	ID, What string
	// Versus is the system whose measure Sluice's is divided by; empty: Sluice's measure itself is judged.
	Versus string
	// Mode, Senders and Payload pick the samples.
	Mode             string
	Senders, Payload int
	// Of is the measure.
	Of func(Sample) float64
	// Most is the bound from above, Least from below; one of both is set.
	Most, Least float64
	// Unit stands behind the figure.
	Unit string
}

const ours = "sluice"

// payloadLarge is from which size on writing more than once is not excused by what a message costs beside its data.
const payloadLarge = 4096

// Goals are those that a run with this payload, in bytes, can judge.
func Goals(payload int) (all []Goal) {
	faster := func(id, versus string, senders int, least float64) {
		all = append(all, Goal{ID: id, What: fmt.Sprintf("jobs a second, %d senders, ours / %s", senders, versus), Versus: versus, Mode: Closed, Senders: senders, Of: rate, Least: least})
	}
	for _, versus := range []string{"nats", "nats-queue"} {
		for _, at := range []struct {
			senders int
			least   float64
		}{{1, 2}, {16, 2.5}, {64, 4}, {256, 4}, {1024, 5}} {
			faster("G1", versus, at.senders, at.least)
		}
	}
	for _, versus := range []string{"etcd", "etcd-each"} {
		faster("G2", versus, 64, 3)
		faster("G2", versus, 256, 4.5)
	}
	for _, at := range []struct {
		senders int
		least   float64
	}{{1, 1}, {16, 1}, {256, 2.5}, {1024, 4}} {
		faster("G3", "rabbitmq", at.senders, at.least)
	}
	faster("G4", "nats-default", 256, 1.5)
	faster("G4", "nats-default", 1024, 1.5)
	for _, mode := range []string{Closed, OpenOwn, OpenEven} {
		all = append(all, Goal{ID: "G5", What: "latency p99, 256 senders, " + mode + ", ours / nats", Versus: "nats", Mode: mode, Senders: 256, Of: p99, Most: 0.3})
	}
	all = append(all,
		Goal{ID: "G6", What: "CPU of the servers for 1M jobs, 256 senders", Mode: Closed, Senders: 256, Of: func(s Sample) float64 { return serverCPU(s) * 1e6 }, Most: 100, Unit: " s"},
		Goal{ID: "G6", What: "CPU of the servers, 256 senders, ours / nats", Versus: "nats", Mode: Closed, Senders: 256, Of: serverCPU, Most: 0.3})
	most := 2.0
	if payload >= payloadLarge {
		most = 1.2
	}
	for _, senders := range []int{256, 1024} {
		all = append(all, Goal{
			ID: "G7", What: fmt.Sprintf("bytes written by all nodes / (3 × payload), %d senders, %d bytes", senders, payload), Mode: Closed, Senders: senders,
			Of: func(s Sample) float64 { return s.Written / float64(3*s.Payload) }, Most: most,
		})
	}
	for i := range all {
		all[i].Payload = payload
	}
	return all
}

// Verdict is a goal held against a run.
type Verdict struct {
	Goal
	// Measured says whether the run had what the goal is about; without it the rest is empty.
	Measured bool
	// Figure is the ratio of the medians, or the median, Range that of single repetitions.
	Figure float64
	Range  Spread
	Met    bool
}

// Judge holds the goals against samples. A ratio is that of the medians; its range is over repetitions, in each of which
// both sides were measured one soon after the other.
func Judge(goals []Goal, samples []Sample) (all []Verdict) {
	grouped := groups(samples)
	find := func(g Goal, who string) []Sample {
		i := slices.IndexFunc(grouped, func(one Group) bool {
			return one.Who == who && one.Mode == g.Mode && one.Senders == g.Senders && one.Payload == g.Payload
		})
		if i < 0 {
			return nil
		}
		return grouped[i].Samples
	}
	for _, g := range goals {
		mine := find(g, ours)
		theirs := []Sample{{}}
		of := g.Of
		if g.Versus != "" {
			theirs = find(g, g.Versus)
		}
		v := Verdict{Goal: g, Measured: len(mine) > 0 && len(theirs) > 0}
		if v.Measured {
			v.Range, v.Figure = Group{Samples: mine}.Of(of), Group{Samples: mine}.Of(of).Median
			if g.Versus != "" {
				v.Figure /= Group{Samples: theirs}.Of(of).Median
				v.Range = paired(mine, theirs, of)
			}
			v.Met = g.Least > 0 && v.Figure >= g.Least || g.Most > 0 && v.Figure <= g.Most
		}
		all = append(all, v)
	}
	return all
}

// paired is the spread of ratios between samples of the same repetition.
func paired(mine, theirs []Sample, of func(Sample) float64) Spread {
	var ratios []float64
	for _, a := range mine {
		for _, b := range theirs {
			if a.Repetition == b.Repetition && of(b) > 0 {
				ratios = append(ratios, of(a)/of(b))
			}
		}
	}
	return spread(ratios)
}

// bound is the goal's bound as the table shows it.
func (g Goal) bound() string {
	if g.Least > 0 {
		return fmt.Sprintf("≥ %g%s", g.Least, g.Unit)
	}
	return fmt.Sprintf("≤ %g%s", g.Most, g.Unit)
}

// PrintVerdicts prints a table of the goals that were measured, and names those that were not.
func PrintVerdicts(w io.Writer, verdicts []Verdict) {
	fmt.Fprint(w, "\n| goal | what | measured | range of the repetitions | wanted | |\n|---|---|---:|---:|---:|---|\n")
	var missing []string
	for _, v := range verdicts {
		if !v.Measured {
			missing = append(missing, v.ID+" "+v.What)
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %.2f%s | %.2f–%.2f | %s | %s |\n", v.ID, v.What, v.Figure, v.Unit, v.Range.Least, v.Range.Greatest, v.bound(), map[bool]string{true: "met", false: "**missed**"}[v.Met])
	}
	if len(missing) > 0 {
		fmt.Fprintf(w, "\nNot measured: %s.\n", strings.Join(missing, "; "))
	}
}

// The bounds of the failover goal.
const (
	failoverMost  = time.Second
	failoverRatio = 0.8
	stopMost      = 100 * time.Millisecond
)

// PrintFailovers prints the gaps of each system, and judges ours by the median; graceful: leaders were stopped in good order.
func PrintFailovers(w io.Writer, all []Failover, graceful bool) {
	gaps := make(map[string][]float64)
	var order []string
	for _, f := range all {
		if gaps[f.Who] == nil {
			order = append(order, f.Who)
		}
		gaps[f.Who] = append(gaps[f.Who], f.Gap.Seconds())
	}
	how, most := "kills", failoverMost
	if graceful {
		how, most = "stops", stopMost
	}
	fmt.Fprintf(w, "\n| who | %s of the leader | longest time without a success, median | least | greatest |\n|---|---:|---:|---:|---:|\n", how)
	for _, who := range order {
		s := spread(gaps[who])
		fmt.Fprintf(w, "| %s | %d | %.2f s | %.2f s | %.2f s |\n", who, len(gaps[who]), s.Median, s.Least, s.Greatest)
	}
	mine, theirs := spread(gaps[ours]), spread(gaps["etcd"])
	verdict := func(what string, figure, most float64) {
		fmt.Fprintf(w, "\nG12, %s: %.2f, wanted ≤ %g: %s.\n", what, figure, most, map[bool]string{true: "met", false: "**missed**"}[figure <= most])
	}
	if len(gaps[ours]) > 0 {
		verdict("seconds, median", mine.Median, most.Seconds())
	}
	if len(gaps[ours]) > 0 && theirs.Median > 0 && !graceful {
		verdict("ours / etcd, medians", mine.Median/theirs.Median, failoverRatio)
	}
}

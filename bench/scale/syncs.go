package main

import (
	"fmt"
	"io"
	"math"
	"slices"
)

// cycle is the mean time from one sync of a log to the next, when entries come at random at a rate and a sync takes so
// long: what comes meanwhile goes with the next, which begins at once if there is something.
func cycle(rate, takes float64) float64 {
	if rate <= 0 {
		return math.Inf(1)
	}
	return takes + math.Exp(-rate*takes)/rate
}

// ownLogs tells how many syncs the logs of a node ask for a second, how many they get of a disk that does so many, and
// how long one takes with all of them waiting for the disk.
func ownLogs(rates []float64, alone, most float64) (asked, got, takes float64) {
	at := func(takes float64) (total float64) {
		for _, r := range rates {
			total += 1 / cycle(r, takes)
		}
		return total
	}
	asked = at(alone)
	if asked <= most {
		return asked, asked, alone
	}
	low, high := alone, alone*2
	for at(high) > most {
		high *= 2
	}
	for range 60 {
		middle := (low + high) / 2
		if at(middle) > most {
			low = middle
		} else {
			high = middle
		}
	}
	return asked, at(high), high
}

// sharedLog is the same of one log for all: each sync takes as long as the entries in it need.
func sharedLog(rate, base, entry float64) (syncs, takes, entries float64) {
	takes = base + entry
	for range 200 {
		entries = max(1, rate*cycle(rate, takes))
		next := base + entry*entries
		if math.Abs(next-takes) < 1e-12 || next > 10 {
			break
		}
		takes = next
	}
	return 1 / cycle(rate, takes), takes, entries
}

// appends are the rates at which entries come to the logs of the node that has most of them.
func (m *model) appends(place placement, l load) []float64 {
	rates, total := make([][]float64, m.nodes), make([]float64, m.nodes)
	for g, nodes := range place {
		r := min(m.entryRate, l.share[g]*m.rate*m.entriesOfJob)
		for _, n := range nodes {
			rates[n] = append(rates[n], r)
			total[n] += r
		}
	}
	return rates[slices.Index(total, slices.Max(total))]
}

// printSyncs compares a log for each replica with one for the node.
func printSyncs(out io.Writer, m *model) error {
	t := newTable(fmt.Sprintf("Syncs of the fullest node at %s jobs/s", count(m.rate)),
		"groups", "entries/s", "own logs: asked for", "done", "one takes", "shared log: syncs/s", "one takes", "entries in one")
	base, entry := m.syncBase.Seconds(), m.syncEntry.Seconds()
	most := m.syncParallel / (base + entry)
	for _, groups := range m.groups {
		rates := m.appends(m.byLoad(groups), m.load(groups))
		asked, got, takes := ownLogs(rates, base+entry, most)
		syncs, shared, entries := sharedLog(sum(rates), base, entry)
		t.row(count(float64(groups)), count(sum(rates)), count(asked), count(got), length(takes), count(syncs), length(shared), fmt.Sprintf("%.0f", entries))
	}
	t.note("A receipt waits for two of them, one after the other: the leader's and a follower's.")
	return t.print(out)
}

package raftlog

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

// BenchmarkManyLogs measures what it costs to make one entry of each of many groups durable: in a log for each of them,
// all at once, or in one log. What it prints is a parameter of bench/scale.
func BenchmarkManyLogs(b *testing.B) {
	for _, groups := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("own/%d", groups), func(b *testing.B) { appendToEach(b, groups, 1) })
		b.Run(fmt.Sprintf("shared/%d", groups), func(b *testing.B) { appendToEach(b, 1, groups) })
	}
}

// appendToEach appends so many entries of 512 bytes to so many logs at the same time.
func appendToEach(b *testing.B, logs, entries int) {
	b.Helper()
	var stores []*Store
	for range logs {
		stores = append(stores, open(b, b.TempDir(), WAL))
	}
	data, next := make([]byte, 512), uint64(1)
	for b.Loop() {
		batch := make([]*raft.Log, entries)
		for n := range batch {
			batch[n] = &raft.Log{Index: next + uint64(n), Term: 1, Type: raft.LogCommand, Data: data}
		}
		next += uint64(entries)
		var all errgroup.Group
		for _, s := range stores {
			all.Go(func() error { return s.StoreLogs(batch) })
		}
		if err := all.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*logs)/b.Elapsed().Seconds(), "syncs/s")
	b.ReportMetric(float64(b.N*logs*entries)/b.Elapsed().Seconds(), "entries/s")
}

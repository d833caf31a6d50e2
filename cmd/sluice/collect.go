package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// spareHeap is how much garbage may pile up before it is collected, whatever little is in use.
	spareHeap = 64 << 20
	// collectorEvery is how often it is looked how much is in use.
	collectorEvery = time.Second
)

// paceCollector has garbage collected when there is as much of it as of what is in use, which is Go's default, but not before
// there is spareHeap of it: a node that settles what it accepts has few things in use, and would go through them many times
// a second. It looks again and again until ctx ends. Who sets GOGC has it as it says.
func paceCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	look := time.NewTicker(collectorEvery)
	defer look.Stop()
	used := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for set := 100; ; {
		metrics.Read(used)
		if percent := collectorPercent(used[0].Value.Uint64()); percent != set {
			debug.SetGCPercent(percent)
			set = percent
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// collectorPercent is the garbage that may pile up, in percent of what is in use; a few steps, so that it seldom changes.
func collectorPercent(used uint64) int {
	const step = 50
	most := uint64(1000)
	if used > 0 {
		most = min(most, spareHeap*100/used)
	}
	return int(max(100, most/step*step))
}

package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// spareHeap is about how much garbage may pile up before it is collected, whatever little is in use.
const spareHeap = 64 << 20

// paceCollector has garbage collected when there is as much of it as of what is in use, which is Go's default, but not before
// there is about spareHeap of it: a node that settles what it accepts has few things in use, and would go through them many times
// a second. It sets that after each collection, which has found out what is in use, until ctx ends.
// Who sets GOGC has it as it says.
func paceCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	used := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	for set := 100; ; {
		collected := afterCollection()
		metrics.Read(used)
		sum := uint64(0)
		for _, u := range used {
			sum += u.Value.Uint64()
		}
		if percent := collectorPercent(sum); percent != set {
			debug.SetGCPercent(percent)
			set = percent
		}
		select {
		case <-ctx.Done():
			return
		case <-collected:
		}
	}
}

// afterCollection is closed after the next collection.
func afterCollection() <-chan struct{} {
	done := make(chan struct{})
	// It is of a size that is not packed with other small things, which would keep it alive.
	runtime.AddCleanup(&struct{ unused [64]byte }{}, func(done chan struct{}) { close(done) }, done)
	return done
}

// collectorPercent is the garbage that may pile up, in percent of what is in use; in steps, so that it seldom changes.
func collectorPercent(used uint64) int {
	const least, step = 100, 25
	most := uint64(1000)
	if used > 0 {
		most = min(most, spareHeap*100/used)
	}
	return int(max(least, most/step*step))
}

package main

import (
	"runtime"
	"testing"
	"time"
)

func TestGarbageIsCollectedWhenThereIsEnoughOfIt(t *testing.T) {
	t.Parallel()
	for used, want := range map[uint64]int{0: 1000, 1 << 20: 1000, 10 << 20: 625, 20 << 20: 300, 32 << 20: 200, 63 << 20: 100, 64 << 20: 100, 90 << 20: 100, 10 << 30: 100} {
		if got := collectorPercent(used); got != want {
			t.Errorf("with %d MiB in use: %d percent, want %d", used>>20, got, want)
		}
	}
}

// What is in use is known after each collection: that is when the next one is set, not some time later.
func TestACollectionIsNoticed(t *testing.T) {
	t.Parallel()
	for range 3 {
		collected := afterCollection()
		runtime.GC()
		select {
		case <-collected:
		case <-time.After(time.Minute):
			t.Fatal("a collection went by unnoticed")
		}
	}
}

// Memory is given back when the nodes have come to rest, and not again and again where that frees nothing.
func TestMemoryIsGivenBackAtRest(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	var r rest
	for n, step := range []struct {
		heap   heap
		gaveUp uint64 // by the cache
		want   bool
	}{
		{heap{allocated: 100 * mib, free: 300 * mib, objects: 90 * mib, live: 60 * mib}, 0, false},   // nothing to compare with yet
		{heap{allocated: 900 * mib, free: 300 * mib, objects: 90 * mib, live: 60 * mib}, 0, false},   // at work
		{heap{allocated: 905 * mib, free: 300 * mib, objects: 90 * mib, live: 60 * mib}, 0, true},    // at rest
		{heap{allocated: 906 * mib, free: 20 * mib, objects: 71 * mib, live: 60 * mib}, 0, false},    // still, with what it kept
		{heap{allocated: 907 * mib, free: 20 * mib, objects: 95 * mib, live: 60 * mib}, 0, false},    // a little garbage
		{heap{allocated: 4000 * mib, free: 200 * mib, objects: 95 * mib, live: 60 * mib}, 0, false},  // at work again
		{heap{allocated: 4001 * mib, free: 200 * mib, objects: 95 * mib, live: 60 * mib}, 0, true},   // and at rest
		{heap{allocated: 4002 * mib, free: 200 * mib, objects: 95 * mib, live: 100 * mib}, 0, false}, // objects read before live
		{heap{allocated: 4003 * mib, free: 185 * mib, objects: 70 * mib, live: 60 * mib}, 40 * mib, true},
		{heap{allocated: 4004 * mib, free: 180 * mib, objects: 70 * mib, live: 60 * mib}, 20 * mib, false},
	} {
		got := r.look(step.heap) && r.worthwhile(step.heap, step.gaveUp)
		if got != step.want {
			t.Errorf("look %d: %v, want %v", n, got, step.want)
		}
		if got {
			r.returned(heap{allocated: step.heap.allocated, free: 180 * mib, objects: 70 * mib, live: 60 * mib})
		}
	}
}

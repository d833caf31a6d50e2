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

package queue_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"

	"sluice/internal/disk"
	"sluice/queue"
)

// outage is a disk whose power fails at one of the changes that are made to it.
type outage struct {
	disk *disk.Memory
	rng  *rand.Rand
	// here tells the changes that count.
	here func(op disk.Op, name string, made bool) bool
	// stays is how much of what was not synced is there afterwards, in percent.
	stays int

	// mu guards what follows. left is how many changes pass until the power fails, at where it did; empty: it has not.
	mu   sync.Mutex
	left int
	at   string
}

func (o *outage) watch(op disk.Op, name string, made bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at != "" || !o.here(op, name, made) {
		return
	}
	if o.left--; o.left < 0 {
		o.at = fmt.Sprintf("%s %s (made: %v)", op, name, made)
		o.disk.PowerLoss(o.rng, o.stays)
	}
}

// strikes has the power fail while a store works, and tells whether it did. The store must open then, with what was flushed.
func (o *outage) strikes(t *testing.T) bool {
	t.Helper()
	o.disk = disk.NewMemory()
	mount := o.disk.Mount()
	mustNot(t, disk.MakeFolders(mount, "/store", 0o700))
	mount.Watch(o.watch)
	flushed := flushTwice(mount)
	if o.at == "" {
		return false
	}
	s, err := queue.OpenPebble("/store", smallPebble(o.disk.Mount()))
	if err != nil {
		t.Fatalf("power lost at %s: %v", o.at, err)
	}
	defer closeStore(t, s)
	if n := batchOf(t, s); n < flushed {
		t.Fatalf("power lost at %s: batch %d was flushed, and batch %d is there", o.at, flushed, n)
	}
	return true
}

// flushTwice opens the store twice, and commits and flushes a batch each time. It tells which batch was flushed last
// before something failed.
func flushTwice(files disk.FS) (flushed int) {
	for n := 1; n <= 2; n++ {
		s, err := queue.OpenPebble("/store", smallPebble(files))
		if err != nil {
			return flushed
		}
		err = errors.Join(writeBatch(s, n), s.Flush())
		if err == nil {
			flushed = n
		}
		if closed := s.Close(); err != nil || closed != nil {
			return flushed
		}
	}
	return flushed
}

// Whenever the power fails, and whatever is left of what was not synced, the store can be opened and has what was flushed.
func TestAStoreSurvivesALossOfPowerAtAnyChange(t *testing.T) {
	t.Parallel()
	for _, stays := range []int{0, 50, 90} {
		for _, after := range []bool{false, true} {
			for change := 0; ; change++ {
				o := &outage{
					rng: rand.New(rand.NewPCG(uint64(stays), uint64(change))), left: change, stays: stays,
					here: func(_ disk.Op, _ string, made bool) bool { return made == after },
				}
				if !o.strikes(t) {
					break
				}
			}
		}
	}
}

// A manifest is there if the marker is that names it, even if the power fails before the store's directory is synced with
// the marker in it.
func TestNoMarkerIsDurableBeforeItsManifest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		for marker := range 2 {
			o := &outage{
				rng: rand.New(rand.NewPCG(seed, uint64(marker))), left: marker, stays: 50,
				here: func(op disk.Op, name string, made bool) bool {
					return made && op == disk.OpCreate && strings.HasPrefix(path.Base(name), "marker.manifest.")
				},
			}
			if !o.strikes(t) {
				t.Fatalf("no marker %d was made", marker)
			}
		}
	}
}

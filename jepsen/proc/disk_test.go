//go:build linux

package proc

import (
	"errors"
	"os"
	"testing"
)

// TestADiskThatHasRoomAgainKeepsIt: what fills a disk comes back with its power if it was removed and that was not synced.
func TestADiskThatHasRoomAgainKeepsIt(t *testing.T) {
	t.Parallel()
	d := &disk{dir: t.TempDir()}
	comesBack := func(stays bool) {
		t.Helper()
		if err := os.WriteFile(d.filler(), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.settle(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(d.filler()); errors.Is(err, os.ErrNotExist) == stays {
			t.Errorf("what fills the disk is there: want %v, got %v", stays, err)
		}
	}
	d.full.Store(true)
	comesBack(true)
	if err := d.free(); err != nil {
		t.Fatal(err)
	}
	comesBack(false)
}

package workload

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestTheOutsideRefusesOldEpochsAndKnowsEffects(t *testing.T) {
	t.Parallel()
	o := outside{t.TempDir()}
	if before, err := o.effect("accounts/i", 5, "normal-1"); before != 0 || err != nil {
		t.Fatal(before, err)
	}
	counts, err := o.fence("accounts/i", 7, "normal-1", "normal-2")
	if err != nil || counts[0] != 1 || counts[1] != 0 {
		t.Fatal(counts, err)
	}
	if _, err := o.effect("accounts/i", 5, "normal-2"); !errors.Is(err, errFenced) {
		t.Fatalf("an effect under an old epoch: %v", err)
	}
	if before, err := o.effect("accounts/i", 7, "normal-1"); before != 1 || err != nil {
		t.Fatal(before, err)
	}
	all, err := Effects(o.dir)
	if err != nil || len(all) != 1 || all["accounts/i normal-1"] != 2 {
		t.Fatal(all, err)
	}
}

func TestTheOutsideIsSharedByMany(t *testing.T) {
	t.Parallel()
	o := outside{t.TempDir()}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := o.effect("a/i", 1, "normal-1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if counts, err := o.fence("a/i", 1, "normal-1"); err != nil || counts[0] != 20 {
		t.Errorf("%v %v", counts, err)
	}
}

func TestABrokenOutsideIsTold(t *testing.T) {
	t.Parallel()
	o := outside{t.TempDir()}
	if err := os.WriteFile(filepath.Join(o.dir, "a%2Fi"), []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := o.effect("a/i", 1, "normal-1"); err == nil || errors.Is(err, errFenced) {
		t.Errorf("a line that cannot be read: %v", err)
	}
	if _, err := Effects(o.dir); err == nil {
		t.Error("a line that cannot be read is passed over")
	}
}

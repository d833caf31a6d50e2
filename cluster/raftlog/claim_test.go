package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"sluice/internal/disk"
)

// claimOf makes the claim of an empty log.
func claimOf(t testing.TB) *claim {
	t.Helper()
	files := disk.NewMemory().Mount()
	c, err := openClaim(files, "/", true)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The end of a log may be damaged in any place, or cut off: it is no log that ends earlier.
func TestDamageAtTheEndIsNoEarlierEnd(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := disk.NewMemory()
		s := openOn(t, m.Mount(), 16<<10)
		last := uint64(0)
		for range 1 + rng.IntN(5) {
			fill(t, s, last+1, last+1+rng.Uint64N(8))
			last, _ = s.LastIndex()
		}
		m.Unmount() // killed: nothing was synced that was not synced by itself
		at := damageTail(t, m, rng)
		s, err := Open("/raft", Config{Files: m.Mount(), SegmentBytes: 16 << 10, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDamaged) {
				t.Fatalf("seed %d, damaged at %d: %v", seed, at, err)
			}
			continue
		}
		got, err := s.LastIndex()
		_ = s.Close() // a disk that is damaged may not be told of it
		if err != nil || got != last {
			t.Fatalf("seed %d, damaged at %d: the log ends at %d, acknowledged was %d (%v)", seed, at, got, last, err)
		}
	}
}

// damageTail changes a bit of the last segment, or cuts it off.
func damageTail(t *testing.T, m *disk.Memory, rng *rand.Rand) (at int) {
	t.Helper()
	paths, err := m.Files()
	if err != nil {
		t.Fatal(err)
	}
	tail := ""
	for _, path := range paths {
		if strings.HasSuffix(path, ".wal") {
			tail = max(tail, path)
		}
	}
	if err := m.Damage(tail, func(content []byte) []byte {
		at = rng.IntN(2 << 10)
		if rng.IntN(2) == 0 {
			return content[:at]
		}
		content[at] ^= 1 << rng.IntN(8)
		return content
	}); err != nil {
		t.Fatal(err)
	}
	return at
}

func TestALogInTheSystemsFilesThatLostItsEndIsRefused(t *testing.T) {
	t.Parallel()
	for _, backend := range []Backend{WAL, Bolt} {
		dir := t.TempDir()
		s := open(t, dir, backend)
		fill(t, s, 1, 20)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, backend)
		if err := s.inner.DeleteRange(15, 20); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, Config{Backend: backend, Logger: slog.New(slog.DiscardHandler)})
		var at *CorruptError
		if !errors.As(err, &at) || at.Index != 15 || !strings.Contains(err.Error(), "20") {
			t.Errorf("%s: want a corrupt entry 15 of 20, got %v", backend, err)
		}
		if err := os.Remove(filepath.Join(dir, claimFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Config{Backend: backend, Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: without its claim: want ErrMissing, got %v", backend, err)
		}
	}
}

// What is cut off on purpose, at either end or as a whole, is not missed, wherever the node is killed.
func TestWhatWasRemovedIsNotMissed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ first, last, remains uint64 }{{15, 20, 14}, {1, 10, 20}, {1, 20, 0}, {20, 20, 19}} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprint(c, lost), func(t *testing.T) {
				m := disk.NewMemory()
				s := openOn(t, m.Mount(), 0)
				fill(t, s, 1, 20)
				if err := s.DeleteRange(c.first, c.last); err != nil {
					t.Fatal(err)
				}
				if s.claim.index != c.remains {
					t.Errorf("index %d is claimed, want %d", s.claim.index, c.remains)
				}
				if lost {
					m.PowerLoss(nil, 0)
				} else {
					m.Unmount()
				}
				if got, err := openOn(t, m.Mount(), 0).LastIndex(); err != nil || got != c.remains {
					t.Fatalf("the log ends at %d (%v), want %d", got, err, c.remains)
				}
			})
		}
	}
}

// A claim is synced a while after it was raised, so that a loss of power takes no more of it than that.
func TestAClaimIsSyncedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disk.NewMemory()
		files := m.Mount()
		claim, err := openClaim(files, "/", true)
		if err != nil {
			t.Fatal(err)
		}
		c := check(&faulty{store: func() error { return nil }}, claim, "/", Config{}.withDefaults())
		for n := range uint64(3) {
			if err := c.StoreLogs([]*raft.Log{entry(n + 1)}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(claimSync)
		synctest.Wait()
		m.PowerLoss(nil, 0)
		content, err := disk.ReadFile(m.Mount(), "/"+claimFile)
		if err != nil {
			t.Fatal(err)
		}
		if index, _, err := latestClaim(content); err != nil || index != 3 {
			t.Fatalf("after a loss of power index %d is claimed (%v), want 3", index, err)
		}
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAClaimThatCannotBeReadIsDamage(t *testing.T) {
	t.Parallel()
	whole := make([]byte, 2*claimSlot)
	(&claim{turn: 6, index: 41}).put(whole)
	(&claim{turn: 7, index: 42}).put(whole[claimSlot:])
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		index  uint64
		err    bool
	}{
		{"as it was written", func(b []byte) []byte { return b }, 42, false},
		{"the later one torn", func(b []byte) []byte { b[claimSlot+9] ^= 1; return b }, 41, false},
		{"both changed", func(b []byte) []byte { b[claimSlot+9] ^= 1; b[9] ^= 1; return b }, 0, true},
		{"cut off", func(b []byte) []byte { return b[:claimSlot+7] }, 0, true},
		{"zeros", func(b []byte) []byte { clear(b); return b }, 0, true},
	} {
		index, _, err := latestClaim(c.change(append([]byte(nil), whole...)))
		if index != c.index || (err != nil) != c.err {
			t.Errorf("%s: index %d, %v", c.name, index, err)
		}
	}
}

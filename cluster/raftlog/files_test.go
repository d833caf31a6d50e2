package raftlog

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"sluice/internal/disk"
)

func openOn(t *testing.T, files disk.FS, segmentBytes int) *Store {
	t.Helper()
	s, err := Open("/raft", Config{Files: files, SegmentBytes: segmentBytes, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a disk that is gone cannot be told of it
	return s
}

// What was acknowledged is there after any loss of power, and what is there is as it was written.
func TestPowerLossesLoseNothingAcknowledged(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m, first, last, kept, handed := disk.NewMemory(), uint64(1), uint64(0), uint64(0), uint64(0)
		for range 10 {
			files := m.Mount()
			s := openOn(t, files, []int{0, fileSegmentLeast, 16 << 10}[seed%3])
			got, err := s.LastIndex()
			if err != nil || got < last || got > handed {
				t.Fatalf("seed %d: the log ends at %d, acknowledged was %d, and %d was written (%v)", seed, got, last, handed, err)
			}
			last = got
			if term, err := s.GetUint64([]byte("term")); err != nil || term != kept {
				t.Fatalf("seed %d: term %d, kept was %d (%v)", seed, term, kept, err)
			}
			for n := max(first, 1); n <= last; n++ {
				var l raft.Log
				if err := s.GetLog(n, &l); err != nil || !bytes.Equal(l.Data, entry(n).Data) {
					t.Fatalf("seed %d: entry %d: %v", seed, n, err)
				}
			}
			for range rng.IntN(20) {
				more := uint64(rng.IntN(200))
				if more > 0 {
					fill(t, s, last+1, last+more)
				}
				last += more
			}
			if last > first+20 && rng.IntN(2) == 0 {
				cut := uint64(rng.IntN(10))
				if err := s.DeleteRange(last-cut, last); err != nil {
					t.Fatal(err)
				}
				last -= cut + 1
			}
			if last > first+100 && rng.IntN(2) == 0 {
				if err := s.DeleteRange(first, last-100); err != nil {
					t.Fatal(err)
				}
				first = last - 99
			}
			if kept = last; s.SetUint64([]byte("term"), kept) != nil {
				t.Fatalf("seed %d: the term cannot be written", seed)
			}
			last, handed = fillLater(t, s, files, rng, last)
			m.PowerLoss(rng, rng.IntN(101))
		}
	}
}

// fillLater hands entries to a log that it writes later, and from some of them on never does. It answers what was
// acknowledged, and what may be found.
func fillLater(t *testing.T, s *Store, files *disk.Mount, rng *rand.Rand, last uint64) (acknowledged, handed uint64) {
	t.Helper()
	var done atomic.Uint64
	done.Store(last)
	handed = last
	hangs := rng.IntN(4)
	for n := range 6 {
		if n == hangs {
			if rng.IntN(2) == 0 {
				for news := s.Unwritten(handed); news != nil; news = s.Unwritten(handed) {
					<-news
				}
			}
			files.Hang()
		}
		var logs []*raft.Log
		for range 1 + rng.IntN(50) {
			handed++
			logs = append(logs, entry(handed))
		}
		upTo := handed
		if err := s.StoreLater(logs, func(err error) {
			if err == nil {
				done.Store(upTo)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	return done.Load(), handed
}

func TestSegmentsThatAreTooSmallAreRefused(t *testing.T) {
	t.Parallel()
	_, err := Open("/raft", Config{Files: disk.NewMemory().Mount(), SegmentBytes: fileSegmentLeast - 1})
	if err == nil || !strings.Contains(err.Error(), "4096") {
		t.Errorf("%v", err)
	}
}

func TestALogWithoutItsListIsRefused(t *testing.T) {
	t.Parallel()
	m := disk.NewMemory()
	files := m.Mount()
	fill(t, openOn(t, files, 0), 1, 3)
	if err := files.Remove("/raft/wal/" + fileMetaName); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("/raft", Config{Files: m.Mount(), Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrMissing) {
		t.Fatalf("want ErrMissing, got %v", err)
	}
	if _, err := Open("/bolt", Config{Files: m.Mount(), Backend: Bolt}); err == nil {
		t.Fatal("bolt was opened outside of the system's files")
	}
}

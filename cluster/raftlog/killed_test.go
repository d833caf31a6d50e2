package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"sluice/internal/disk"
)

// What a node that was killed had written and not synced is read when it is back, and it may be asked for it, or be told it
// again and say that it has it. So it is there after a loss of power, wherever the node was killed.
func TestWhatAKilledNodeLeftSurvivesALossOfPower(t *testing.T) {
	t.Parallel()
	const enough = 100
	for at := 1; ; at++ {
		m := disk.NewMemory()
		if !killedAt(m, at) {
			if at < enough {
				t.Fatalf("the log was whole after %d changes of the disk: too few to tell", at)
			}
			return
		}
		s := openOn(t, m.Mount(), fileSegmentLeast)
		seen, err := s.LastIndex()
		if err != nil {
			t.Fatal(err)
		}
		term, err := s.GetUint64([]byte("term"))
		if err != nil && at > 20 {
			t.Fatal(err)
		}
		// Rotated segments are not written on any more: what was left must not wait for an append.
		more := uint64(at%2) * 2
		if more > 0 {
			fill(t, s, seen+1, seen+more)
		}
		m.PowerLoss(nil, 0)
		s = openOn(t, m.Mount(), fileSegmentLeast)
		if last, err := s.LastIndex(); err != nil || last != seen+more {
			t.Fatalf("killed at change %d: the log ends at %d, and ended at %d (%v)", at, last, seen+more, err)
		}
		if again, err := s.GetUint64([]byte("term")); again != term {
			t.Fatalf("killed at change %d: term %d, and was %d (%v)", at, again, term, err)
		}
		for n := uint64(1); n <= seen+more; n++ {
			var l raft.Log
			if err := s.GetLog(n, &l); err != nil || !bytes.Equal(l.Data, entry(n).Data) {
				t.Fatalf("killed at change %d: entry %d of %d: %v", at, n, seen, err)
			}
		}
	}
}

// killedAt uses a log until its process is killed in the place of one change of the disk, and tells whether it was.
func killedAt(m *disk.Memory, at int) (killed bool) {
	files := m.Mount()
	var mu sync.Mutex
	changes := 0
	files.Watch(func(_ disk.Op, _ string, made bool) {
		mu.Lock()
		defer mu.Unlock()
		if !made {
			changes++
		}
		if changes == at && !killed {
			killed = true
			m.Unmount()
		}
	})
	s, err := Open("/raft", Config{Files: files, SegmentBytes: fileSegmentLeast, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return killed
	}
	defer func() { _ = s.Close() }() // a disk that is gone cannot be told of it
	for n := uint64(1); n <= 90 && err == nil; n += 3 {
		err = s.StoreLogs([]*raft.Log{entry(n), entry(n + 1), entry(n + 2)})
		if err == nil && n%5 == 0 {
			err = s.SetUint64([]byte("term"), n)
		}
	}
	if err != nil && !killed {
		panic(fmt.Sprintf("nobody killed it: %v", err))
	}
	return killed
}

// A segment in which there is something else is told as a corrupt entry, whatever the library calls it.
func TestWhatIsNoEntryIsACorruptOne(t *testing.T) {
	t.Parallel()
	for what, span := range map[string][2]int{"entries": {32, 2000}, "index": {4096, 1 << 20}} {
		m := disk.NewMemory()
		s := openOn(t, m.Mount(), fileSegmentLeast)
		fill(t, s, 1, 20)
		fill(t, s, 21, 40) // the segment is full
		fill(t, s, 41, 42)
		m.Unmount()
		files, err := m.Files()
		if err != nil {
			t.Fatal(err)
		}
		segments := slices.DeleteFunc(files, func(path string) bool { return !strings.HasSuffix(path, ".wal") })
		if len(segments) != 2 {
			t.Fatalf("%s: segments %v", what, segments)
		}
		if err := m.Damage(segments[0], func(content []byte) []byte {
			for n := span[0]; n < min(span[1], len(content)); n++ {
				content[n] = 13
			}
			return content
		}); err != nil {
			t.Fatal(err)
		}
		err = openOn(t, m.Mount(), fileSegmentLeast).GetLog(2, &raft.Log{})
		var at *CorruptError
		if !errors.As(err, &at) || at.Index != 2 || !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

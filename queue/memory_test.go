package queue_test

import (
	"errors"
	"fmt"
	"testing"

	logv1 "sluice/api/log/v1"
	"sluice/queue"
)

// TestBuckets wants every bucket to end after what is put into it, by no more than an eighth of the window or a second.
func TestBuckets(t *testing.T) {
	t.Parallel()
	for _, window := range []int64{1000, 1001, 8000, 60_000, 86_400_000, 366 * 86_400_000} {
		last := int64(0)
		for at := int64(1_700_000_000_000); at < 1_700_000_000_000+20_000; at += 7 {
			end := queue.BucketEnd(at, window)
			if end <= at || end-at > max(window/8, 1000) || end < last {
				t.Fatalf("window %d, at %d: %d", window, at, end)
			}
			last = end
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	s, b := inbox(t)
	m := queue.Memory{Application: 1, Instance: 2, Buckets: []int64{1000, 2000}}
	remember := func(end int64, id string, seq uint64, index uint64) {
		t.Helper()
		must(t, m.Remember(b, end, &logv1.SettledRecord{Id: id, Seq: seq, Index: index}))
	}
	remember(1000, "a", 1, 1)
	remember(2000, "b", 2, 2)
	remember(2000, "a", 3, 3) // the id was forgotten, and used again
	for id, want := range map[string]uint64{"a": 3, "b": 2} {
		if got, err := m.SettledByID(b, id); err != nil || got.Index != want {
			t.Fatal(id, got, err)
		}
	}
	for seq := uint64(1); seq <= 3; seq++ {
		if got, err := m.SettledBySeq(b, seq); err != nil || got.Index != seq {
			t.Fatal(seq, got, err)
		}
	}
	// Nobody else's, and nothing in a bucket that is not named.
	for name, other := range map[string]queue.Memory{
		"instance":    {Application: 1, Instance: 3, Buckets: m.Buckets},
		"application": {Application: 2, Instance: 2, Buckets: m.Buckets},
		"no buckets":  {Application: 1, Instance: 2},
	} {
		if _, err := other.SettledByID(b, "a"); !errors.Is(err, queue.ErrNotFound) {
			t.Error(name, err)
		}
		if _, err := other.SettledBySeq(b, 1); !errors.Is(err, queue.ErrNotFound) {
			t.Error(name, err)
		}
	}
	must(t, queue.DropBucket(b, 1, 2000), b.Commit())
	if got, err := m.SettledByID(s, "a"); err != nil || got.Index != 1 {
		t.Fatal(got, err)
	}
	if _, err := m.SettledBySeq(s, 3); !errors.Is(err, queue.ErrNotFound) {
		t.Fatal(err)
	}
	if n := s.Len(); n != 2 {
		t.Fatal(n)
	}
}

func TestMemoryOfCalls(t *testing.T) {
	t.Parallel()
	_, b := inbox(t)
	m := queue.Memory{Application: 1, Buckets: []int64{1000, 2000}}
	for n, c := range []struct {
		end             int64
		method, request string
	}{{1000, "Enter", "q"}, {1000, "Complete", "q"}, {2000, "Enter", "r"}, {2000, "Complete", "q"}} {
		must(t, m.RememberCall(b, c.end, c.method, c.request, &logv1.RequestRecord{TimeMs: int64(n)}))
	}
	for call, want := range map[[2]string]int64{{"Enter", "q"}: 0, {"Enter", "r"}: 2, {"Complete", "q"}: 3} {
		if got, err := m.Called(b, call[0], call[1]); err != nil || got.TimeMs != want {
			t.Error(call, got, err)
		}
	}
	if _, err := m.Called(b, "Complete", "r"); !errors.Is(err, queue.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := m.SettledByID(b, fmt.Sprint("Enter\x00", "q")); !errors.Is(err, queue.ErrNotFound) {
		t.Fatal("a call was taken for a message")
	}
}

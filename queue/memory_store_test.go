package queue_test

import (
	"errors"
	"fmt"
	"testing"

	"sluice/queue"
)

// count commits n batches, each of which counts one up and leaves a key of its own.
func count(t *testing.T, s queue.Store, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		b := s.NewBatch()
		mustNot(t, b.Set([]byte("count"), fmt.Append(nil, i)))
		mustNot(t, b.Set(fmt.Appendf(nil, "own-%d", i), []byte("x")))
		mustNot(t, b.Commit())
	}
}

func counted(t *testing.T, s queue.Store) string {
	t.Helper()
	v, err := s.Get([]byte("count"))
	if errors.Is(err, queue.ErrNotFound) {
		return "none"
	}
	mustNot(t, err)
	return string(v)
}

func TestMemoryCrashCopy(t *testing.T) {
	t.Parallel()
	s := queue.NewMemoryStore()
	count(t, s, 1, 3)
	if got := counted(t, s.CrashCopy(0)); got != "none" {
		t.Errorf("without a flush a crash may lose all; it left %s", got)
	}
	mustNot(t, s.Flush())
	count(t, s, 4, 3)
	if n := s.Unflushed(); n != 3 {
		t.Fatalf("%d batches unflushed, want 3", n)
	}
	for keep, want := range map[int]string{-1: "3", 0: "3", 1: "4", 2: "5", 3: "6", 99: "6"} {
		after := s.CrashCopy(keep)
		if got := counted(t, after); got != want {
			t.Errorf("a crash that keeps %d batches leaves %s, want %s", keep, got, want)
		}
		if n, err := after.Get([]byte("own-" + want)); err != nil {
			t.Errorf("a crash that keeps %d batches leaves %s in part: %q, %v", keep, want, n, err)
		}
		if after.Unflushed() != 0 {
			t.Errorf("what survived a crash is on disk")
		}
		count(t, after, 50, 1)
	}
	if got := counted(t, s); got != "6" || s.Len() != 7 {
		t.Errorf("the store itself holds %s in %d keys", got, s.Len())
	}
}

func TestMemoryClone(t *testing.T) {
	t.Parallel()
	s := queue.NewMemoryStore()
	count(t, s, 1, 2)
	mustNot(t, s.Flush())
	count(t, s, 3, 2)
	one, two := s.Clone(), s.Clone()
	count(t, s, 10, 1)
	count(t, one, 20, 1)
	count(t, two, 30, 2)
	for want, store := range map[string]*queue.MemoryStore{"10": s, "20": one, "31": two} {
		if got := counted(t, store); got != want {
			t.Errorf("a store holds %s, want %s", got, want)
		}
		if got := counted(t, store.CrashCopy(2)); got != "4" {
			t.Errorf("a crash of a clone leaves %s, want 4", got)
		}
		if got := counted(t, store.CrashCopy(3)); got[0] != want[0] {
			t.Errorf("a crash of a clone that keeps its own batch leaves %s, want %s", got, want)
		}
	}
	mustNot(t, s.Close())
	if got := counted(t, two); got != "31" {
		t.Errorf("a clone of a closed store holds %s", got)
	}
}

func TestMemoryRefusesSingleDeleteOfWhatWasSetTwice(t *testing.T) {
	t.Parallel()
	s := queue.NewMemoryStore()
	b := s.NewBatch()
	mustNot(t, b.Set([]byte("k"), []byte("1")))
	mustNot(t, b.Commit())
	b = s.NewBatch()
	mustNot(t, b.Set([]byte("k"), []byte("2")))
	if err := b.SingleDelete([]byte("k")); !errors.Is(err, queue.ErrSetTwice) {
		t.Fatalf("SingleDelete of a key set twice: %v", err)
	}
	mustNot(t, b.Delete([]byte("k")))
	mustNot(t, b.Set([]byte("k"), []byte("3")))
	mustNot(t, b.SingleDelete([]byte("k")))
	mustNot(t, b.Commit())
	if s.Len() != 0 {
		t.Error("the key is still there")
	}
}

// Two batches that were open at the same time both count, in the order of their commits.
func TestMemoryBatchesSideBySide(t *testing.T) {
	t.Parallel()
	s := queue.NewMemoryStore()
	one, two := s.NewBatch(), s.NewBatch()
	mustNot(t, one.Set([]byte("a"), []byte("1")))
	mustNot(t, two.Set([]byte("b"), []byte("2")))
	mustNot(t, two.Set([]byte("a"), []byte("2")))
	mustNot(t, two.Commit())
	mustNot(t, one.Commit())
	for key, want := range map[string]string{"a": "1", "b": "2"} {
		if got, err := s.Get([]byte(key)); err != nil || string(got) != want {
			t.Errorf("Get(%s) = %q, %v; want %s", key, got, err, want)
		}
	}
}

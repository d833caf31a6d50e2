package fsm_test

import (
	"testing"

	"sluice/fsm"
	"sluice/queue"
)

// lateStore runs something once, right after a snapshot was taken.
type lateStore struct {
	*queue.MemoryStore
	then func()
}

func (s *lateStore) NewSnapshot() queue.Snapshot {
	snap := s.MemoryStore.NewSnapshot()
	if then := s.then; then != nil {
		s.then = nil
		then()
	}
	return snap
}

// A reading shows one moment: entries that are applied while it begins must not mix with it.
func TestReadingsShowOneMoment(t *testing.T) {
	t.Parallel()
	r := setup(t)
	late := &lateStore{MemoryStore: r.store}
	m, err := fsm.Open(late, fsm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.m = m
	r.send("i", "m1", "m2")
	r.own("i", "s")
	late.then = func() {
		r.work("s", "i", "m1")
		r.enterAll("all")
	}
	o := r.offer("i")
	if len(o.Deliveries) != 1 {
		t.Fatal(o)
	}
	if d := o.Deliveries[0]; d.Recovery != nil && d.Recovery.InDoubt[0].Message.Id != "m2" {
		t.Fatalf("m1 is settled, and m2 in doubt: %v is announced", d.Recovery)
	}
	if got := r.doubts("i"); got != "m2" {
		t.Fatalf("in doubt is %q, want m2", got)
	}
}

package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

const (
	normalLane   = sluicev1.Lane_LANE_NORMAL
	recoveryLane = sluicev1.Lane_LANE_RECOVERY
)

// inbox is a batch of a fresh memory store, which is strict about SingleDelete.
func inbox(t *testing.T) (*queue.MemoryStore, queue.Batch) {
	t.Helper()
	s := queue.NewMemoryStore()
	b := s.NewBatch()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, b
}

func posted(lane sluicev1.Lane, seq uint64, id string) *logv1.MessageRecord {
	return &logv1.MessageRecord{Lane: lane, Seq: seq, Message: &sluicev1.Message{Id: id, Data: []byte(id)}}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// lane lists the ids of a lane, from a sequence number on.
func lane(t *testing.T, r queue.Reader, uid uint64, l sluicev1.Lane, from uint64) (ids []string) {
	t.Helper()
	must(t, queue.Messages(r, uid, l, from, func(m *logv1.MessageRecord) bool {
		ids = append(ids, m.Message.Id)
		return true
	}))
	return ids
}

func TestInboxKeepsLanesInOrder(t *testing.T) {
	t.Parallel()
	_, b := inbox(t)
	// Two instances with neighbouring uids, both lanes, sequence numbers across the borders of a byte.
	for _, uid := range []uint64{255, 256} {
		for _, seq := range []uint64{1, 255, 256, 65535, 65536} {
			must(t, queue.Append(b, uid, posted(normalLane, seq, fmt.Sprint("n", seq))), queue.Append(b, uid, posted(recoveryLane, seq+1, fmt.Sprint("r", seq))))
		}
	}
	for _, uid := range []uint64{255, 256} {
		if got, want := lane(t, b, uid, normalLane, 0), []string{"n1", "n255", "n256", "n65535", "n65536"}; !slices.Equal(got, want) {
			t.Fatal(got)
		}
		if got, want := lane(t, b, uid, recoveryLane, 257), []string{"r256", "r65535", "r65536"}; !slices.Equal(got, want) {
			t.Fatal(got)
		}
	}
	seqs, err := queue.Seqs(b, 255, normalLane, 2, 3)
	if err != nil || !slices.Equal(seqs, []uint64{255, 256, 65535}) {
		t.Fatal(seqs, err)
	}
	if seqs, err := queue.Seqs(b, 254, normalLane, 0, 3); err != nil || len(seqs) != 0 {
		t.Fatal(seqs, err)
	}
	n := 0
	must(t, queue.Messages(b, 255, normalLane, 0, func(*logv1.MessageRecord) bool { n++; return n < 2 }))
	if n != 2 {
		t.Fatal("a walk goes on when it was told not to")
	}
}

func TestInboxKnowsWhatIsUnsettled(t *testing.T) {
	t.Parallel()
	s, b := inbox(t)
	m := posted(recoveryLane, 7, "a")
	must(t, queue.Append(b, 1, m))
	if l, seq, err := queue.Unsettled(b, 1, "a"); err != nil || l != recoveryLane || seq != 7 {
		t.Fatal(l, seq, err)
	}
	if got, err := queue.Message(b, 1, recoveryLane, 7); err != nil || got.Message.Id != "a" {
		t.Fatal(got, err)
	}
	for _, wrong := range []func() error{
		func() error { _, _, err := queue.Unsettled(b, 2, "a"); return err },
		func() error { _, _, err := queue.Unsettled(b, 1, "b"); return err },
		func() error { _, err := queue.Message(b, 1, normalLane, 7); return err },
	} {
		if err := wrong(); !errors.Is(err, queue.ErrNotFound) {
			t.Fatal(err)
		}
	}
	must(t, queue.Remove(b, 1, m))
	if _, _, err := queue.Unsettled(b, 1, "a"); !errors.Is(err, queue.ErrNotFound) {
		t.Fatal(err)
	}
	// The id may be used again, and a message that was written twice goes, too.
	must(t, queue.Append(b, 1, posted(normalLane, 8, "a")))
	again, err := queue.Message(b, 1, normalLane, 8)
	must(t, err)
	again.Message.Data = []byte("other")
	must(t, queue.Replace(b, 1, again))
	got, err := queue.Message(b, 1, normalLane, 8)
	must(t, err)
	if string(got.Message.Data) != "other" || !got.Replaced {
		t.Fatal(got)
	}
	must(t, queue.Remove(b, 1, got), b.Commit())
	if n := s.Len(); n != 0 {
		t.Fatalf("%d keys are left", n)
	}
}

func TestFailuresAndDeadLetters(t *testing.T) {
	t.Parallel()
	_, b := inbox(t)
	if _, err := queue.Failure(b, 1, normalLane, 1); !errors.Is(err, queue.ErrNotFound) {
		t.Fatal(err)
	}
	for n := range uint32(2) {
		must(t, queue.PutFailure(b, 1, normalLane, 1, &logv1.FailureRecord{Attempts: n + 1}))
	}
	if f, err := queue.Failure(b, 1, normalLane, 1); err != nil || f.Attempts != 2 {
		t.Fatal(f, err)
	}
	must(t, queue.DropFailure(b, 1, normalLane, 1))
	if _, err := queue.Failure(b, 1, normalLane, 1); !errors.Is(err, queue.ErrNotFound) {
		t.Fatal(err)
	}
	for seq := range uint64(3) {
		must(t, queue.PutDeadLetter(b, 1, posted(recoveryLane, seq+1, fmt.Sprint(seq+1))))
	}
	must(t, queue.DropDeadLetter(b, 1, recoveryLane, 2))
	var ids []string
	must(t, queue.DeadLetters(b, 1, recoveryLane, 0, func(m *logv1.MessageRecord) bool { ids = append(ids, m.Message.Id); return true }))
	if !slices.Equal(ids, []string{"1", "3"}) {
		t.Fatal(ids)
	}
}

func TestDropInstanceLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	s, b := inbox(t)
	for uid := uint64(1); uid <= 3; uid++ {
		m := posted(normalLane, 1, "a")
		must(t, queue.Append(b, uid, m), queue.PutFailure(b, uid, normalLane, 1, &logv1.FailureRecord{}), queue.PutDeadLetter(b, uid, m))
	}
	must(t, queue.DropInstance(b, 2), b.Commit())
	if n := s.Len(); n != 8 {
		t.Fatal(n)
	}
	if ids := lane(t, s, 2, normalLane, 0); len(ids) != 0 {
		t.Fatal(ids)
	}
	if ids := lane(t, s, 3, normalLane, 0); len(ids) != 1 {
		t.Fatal(ids)
	}
}

func TestDamageIsTold(t *testing.T) {
	t.Parallel()
	s, b := inbox(t)
	must(t, queue.Append(b, 1, posted(normalLane, 1, "a")), b.Commit())
	it, err := s.NewIter(nil, nil)
	must(t, err)
	b = s.NewBatch()
	for ok := it.First(); ok; ok = it.Next() {
		must(t, b.Set(bytes.Clone(it.Key()), []byte{0xff}))
	}
	must(t, it.Close())
	for name, look := range map[string]func() error{
		"message": func() error { _, err := queue.Message(b, 1, normalLane, 1); return err },
		"messages": func() error {
			return queue.Messages(b, 1, normalLane, 0, func(*logv1.MessageRecord) bool { return true })
		},
		"unsettled": func() error { _, _, err := queue.Unsettled(b, 1, "a"); return err },
	} {
		if err := look(); !errors.Is(err, queue.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSuccessor(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "a": "b", "a\xff": "b", "\xff\xff": "", "a\x00": "a\x01"} {
		if got := queue.Successor([]byte(in)); string(got) != want || (got == nil) != (want == "") {
			t.Errorf("%q: %q", in, got)
		}
	}
	given := []byte{1, 2}
	if queue.Successor(given); !bytes.Equal(given, []byte{1, 2}) {
		t.Error("the prefix was changed")
	}
}

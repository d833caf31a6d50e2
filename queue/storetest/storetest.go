// Package storetest is the conformance suite of queue.Store: what every implementation has to do, and what it must leave
// after a crash.
package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"sluice/queue"
)

// Fixture is one empty store under test and what the suite cannot do by the interface.
type Fixture struct {
	// Store is the store under test. The factory closes it in a cleanup.
	Store queue.Store
	// Crash gives the store as a loss of power at this moment would leave it, opened again; Store itself goes on.
	Crash func() queue.Store
	// Checkpointed opens what Store.Checkpoint(dir) left.
	Checkpointed func(dir string) queue.Store
	// Dir gives a name for a checkpoint that no other call gave.
	Dir func() string
}

// Factory makes a fixture; it fails the test if it cannot.
type Factory func(t *testing.T) Fixture

// Run runs the whole suite over the stores that a factory makes. Every case has a store of its own and runs in parallel
// with the others.
func Run(t *testing.T, open Factory) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, Fixture)
	}{
		{"GetGivesWhatWasSet", getGivesWhatWasSet},
		{"BatchReadsItsOwnWrites", batchReadsItsOwnWrites},
		{"BatchIsInvisibleUntilCommit", batchIsInvisibleUntilCommit},
		{"BatchIsDoneAfterCommit", batchIsDoneAfterCommit},
		{"IterateWithinBounds", iterateWithinBounds},
		{"IterateWhileBoundsAreUsedAgain", iterateWhileBoundsAreUsedAgain},
		{"IterateOverBatch", iterateOverBatch},
		{"IteratorKeepsItsView", iteratorKeepsItsView},
		{"SeekAndTurn", seekAndTurn},
		{"SingleDelete", singleDelete},
		{"DeleteRange", deleteRange},
		{"SnapshotIsolation", snapshotIsolation},
		{"CheckpointHoldsWhatWasCommitted", checkpointHoldsWhatWasCommitted},
		{"CrashLeavesAPrefix", crashLeavesAPrefix},
		{"ClosedStoreAnswers", closedStoreAnswers},
		{"Random", random},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, open(t))
		})
	}
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// commit writes pairs of key and value in one batch.
func commit(t *testing.T, s queue.Store, pairs ...string) {
	t.Helper()
	b := s.NewBatch()
	for i := 0; i < len(pairs); i += 2 {
		must(t, b.Set([]byte(pairs[i]), []byte(pairs[i+1])))
	}
	must(t, b.Commit())
	must(t, b.Close())
}

// expect checks one key; want "" means that it is not there.
func expect(t *testing.T, r queue.Reader, key, want string) {
	t.Helper()
	got, err := r.Get([]byte(key))
	switch {
	case want == "" && !errors.Is(err, queue.ErrNotFound):
		t.Fatalf("Get(%q) = %q, %v; want ErrNotFound", key, got, err)
	case want != "" && (err != nil || string(got) != want):
		t.Fatalf("Get(%q) = %q, %v; want %q", key, got, err, want)
	}
}

// bound is a key as a bound; "" means open.
func bound(key string) []byte {
	if key == "" {
		return nil
	}
	return []byte(key)
}

// walk gives "key=value" for each key in [lower, upper), found forward, and checks that backward finds the same.
func walk(t *testing.T, r queue.Reader, lower, upper string) []string {
	t.Helper()
	it, err := r.NewIter(bound(lower), bound(upper))
	must(t, err)
	var there, back []string
	pair := func() string {
		value, err := it.Value()
		must(t, err)
		return string(it.Key()) + "=" + string(value)
	}
	for ok := it.First(); ok; ok = it.Next() {
		there = append(there, pair())
	}
	must(t, it.Error())
	for ok := it.Last(); ok; ok = it.Prev() {
		back = append(back, pair())
	}
	must(t, it.Error())
	must(t, it.Close())
	slices.Reverse(back)
	if !slices.Equal(there, back) {
		t.Fatalf("walk from %q to %q: forward %q, backward %q", lower, upper, there, back)
	}
	return there
}

// expectWalk checks what a walk finds.
func expectWalk(t *testing.T, r queue.Reader, lower, upper string, want ...string) {
	t.Helper()
	if got := walk(t, r, lower, upper); !slices.Equal(got, want) {
		t.Fatalf("walk from %q to %q: %q, want %q", lower, upper, got, want)
	}
}

func getGivesWhatWasSet(t *testing.T, f Fixture) {
	expect(t, f.Store, "a", "")
	key := []byte("a")
	b := f.Store.NewBatch()
	must(t, b.Set(key, []byte("one")))
	copy(key, "x")
	expect(t, b, "a", "one")
	must(t, b.Commit())
	got, err := f.Store.Get([]byte("a"))
	must(t, err)
	commit(t, f.Store, "a", "two", "empty", "")
	must(t, f.Store.Flush())
	if string(got) != "one" {
		t.Fatalf("what Get gave has become %q", got)
	}
	if got, err := f.Store.Get([]byte("empty")); err != nil || len(got) != 0 {
		t.Fatalf("Get of an empty value = %q, %v", got, err)
	}
}

func batchReadsItsOwnWrites(t *testing.T, f Fixture) {
	commit(t, f.Store, "a", "1", "b", "1", "c", "1", "d", "1")
	b := f.Store.NewBatch()
	defer b.Close()
	expect(t, b, "a", "1")
	must(t, b.Set([]byte("a"), []byte("2")))
	must(t, b.Delete([]byte("b")))
	must(t, b.SingleDelete([]byte("c")))
	must(t, b.Set([]byte("e"), []byte("2")))
	for key, want := range map[string]string{"a": "2", "b": "", "c": "", "d": "1", "e": "2", "f": ""} {
		expect(t, b, key, want)
	}
	must(t, b.Set([]byte("b"), []byte("3")))
	must(t, b.Delete([]byte("e")))
	must(t, b.Set([]byte("a"), []byte("3")))
	expectWalk(t, b, "", "", "a=3", "b=3", "d=1")
	must(t, b.Commit())
	expectWalk(t, f.Store, "", "", "a=3", "b=3", "d=1")
}

func batchIsInvisibleUntilCommit(t *testing.T, f Fixture) {
	commit(t, f.Store, "a", "1")
	b := f.Store.NewBatch()
	must(t, b.Set([]byte("a"), []byte("2")))
	must(t, b.Set([]byte("b"), []byte("2")))
	expectWalk(t, f.Store, "", "", "a=1")
	must(t, b.Close())
	must(t, b.Close())
	expectWalk(t, f.Store, "", "", "a=1")
	b = f.Store.NewBatch()
	must(t, b.Set([]byte("b"), []byte("3")))
	must(t, b.Commit())
	expectWalk(t, f.Store, "", "", "a=1", "b=3")
}

func batchIsDoneAfterCommit(t *testing.T, f Fixture) {
	b := f.Store.NewBatch()
	must(t, b.Set([]byte("a"), []byte("1")))
	must(t, b.Commit())
	if b.Commit() == nil || b.Set([]byte("a"), []byte("2")) == nil || b.Delete([]byte("a")) == nil ||
		b.SingleDelete([]byte("a")) == nil || b.DeleteRange([]byte("a"), []byte("b")) == nil {
		t.Error("a committed batch takes writes")
	}
	if _, err := b.Get([]byte("a")); err == nil || errors.Is(err, queue.ErrNotFound) {
		t.Errorf("a committed batch answers reads: %v", err)
	}
	if _, err := b.NewIter(nil, nil); err == nil {
		t.Error("a committed batch gives iterators")
	}
	must(t, b.Close())
	must(t, b.Close())
	expectWalk(t, f.Store, "", "", "a=1")
	empty := f.Store.NewBatch()
	must(t, empty.Commit())
}

func iterateWithinBounds(t *testing.T, f Fixture) {
	expectWalk(t, f.Store, "", "")
	commit(t, f.Store, "a", "1", "b", "1", "b\x00", "1", "c", "1", "d", "1")
	must(t, f.Store.Flush())
	commit(t, f.Store, "b", "2", "e", "2")
	expectWalk(t, f.Store, "", "", "a=1", "b=2", "b\x00=1", "c=1", "d=1", "e=2")
	expectWalk(t, f.Store, "b", "d", "b=2", "b\x00=1", "c=1")
	expectWalk(t, f.Store, "b\x00", "c", "b\x00=1")
	expectWalk(t, f.Store, "bb", "", "c=1", "d=1", "e=2")
	expectWalk(t, f.Store, "", "b", "a=1")
	expectWalk(t, f.Store, "f", "z")
	expectWalk(t, f.Store, "b", "b")
}

func iterateWhileBoundsAreUsedAgain(t *testing.T, f Fixture) {
	commit(t, f.Store, "a1", "1", "a2", "2", "a3", "3")
	lower, upper := []byte("a1"), []byte("a3")
	it, err := f.Store.NewIter(lower, upper)
	must(t, err)
	copy(lower, "b1")
	copy(upper, "b2")
	var keys []string
	for ok := it.First(); ok; ok = it.Next() {
		keys = append(keys, string(it.Key()))
	}
	if !slices.Equal(keys, []string{"a1", "a2"}) {
		t.Errorf("a walk from a1 to before a3 gives %q", keys)
	}
	must(t, it.Close())
}

func iterateOverBatch(t *testing.T, f Fixture) {
	commit(t, f.Store, "b", "1", "d", "1", "f", "1", "h", "1", "j", "1")
	must(t, f.Store.Flush())
	b := f.Store.NewBatch()
	defer b.Close()
	expectWalk(t, b, "c", "i", "d=1", "f=1", "h=1")
	for _, k := range []string{"a", "c", "d", "g", "k"} {
		must(t, b.Set([]byte(k), []byte("2")))
	}
	must(t, b.Delete([]byte("f")))
	must(t, b.SingleDelete([]byte("j")))
	must(t, b.Delete([]byte("x")))
	expectWalk(t, b, "", "", "a=2", "b=1", "c=2", "d=2", "g=2", "h=1", "k=2")
	expectWalk(t, b, "b", "h", "b=1", "c=2", "d=2", "g=2")
	expectWalk(t, b, "e", "g")
	must(t, b.DeleteRange([]byte("c"), []byte("h")))
	expectWalk(t, b, "", "", "a=2", "b=1", "h=1", "k=2")
	must(t, b.Set([]byte("d"), []byte("3")))
	must(t, b.DeleteRange([]byte("h"), []byte("z")))
	expectWalk(t, b, "", "", "a=2", "b=1", "d=3")
	must(t, b.Commit())
	expectWalk(t, f.Store, "", "", "a=2", "b=1", "d=3")
}

func iteratorKeepsItsView(t *testing.T, f Fixture) {
	commit(t, f.Store, "a", "1", "b", "1", "c", "1", "d", "1")
	b := f.Store.NewBatch()
	must(t, b.Set([]byte("b"), []byte("2")))
	it, err := b.NewIter(nil, nil)
	must(t, err)
	var seen []string
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		must(t, err)
		seen = append(seen, string(it.Key())+"="+string(value))
		must(t, b.Delete(it.Key()))
		must(t, b.Set(append([]byte("z"), it.Key()...), []byte("2")))
		must(t, b.DeleteRange([]byte("c"), []byte("d")))
	}
	must(t, it.Error())
	must(t, it.Close())
	if want := []string{"a=1", "b=2", "c=1", "d=1"}; !slices.Equal(seen, want) {
		t.Fatalf("an iterator over a batch that is written to: %q, want %q", seen, want)
	}
	expectWalk(t, b, "", "", "za=2", "zb=2", "zc=2", "zd=2")
	must(t, b.Commit())

	it, err = f.Store.NewIter(nil, nil)
	must(t, err)
	commit(t, f.Store, "y", "3", "za", "3")
	if !it.First() || string(it.Key()) != "za" {
		t.Fatalf("an iterator over the store sees later commits: %q", it.Key())
	}
	must(t, it.Close())
}

func seekAndTurn(t *testing.T, f Fixture) {
	commit(t, f.Store, "b", "1", "d", "1", "f", "1")
	b := f.Store.NewBatch()
	defer b.Close()
	must(t, b.Set([]byte("c"), []byte("2")))
	must(t, b.Set([]byte("e"), []byte("2")))
	must(t, b.Delete([]byte("d")))
	it, err := b.NewIter([]byte("b"), []byte("g"))
	must(t, err)
	defer it.Close()
	at := func(what string, ok bool, want string) {
		t.Helper()
		got := ""
		if ok {
			got = string(it.Key())
		}
		if got != want {
			t.Fatalf("%s: on %q, want %q", what, got, want)
		}
	}
	at("SeekGE(d)", it.SeekGE([]byte("d")), "e")
	at("Prev", it.Prev(), "c")
	at("Next", it.Next(), "e")
	at("Next", it.Next(), "f")
	at("Next", it.Next(), "")
	at("Next beyond the end", it.Next(), "")
	at("Prev from beyond the end", it.Prev(), "f")
	at("SeekLT(c)", it.SeekLT([]byte("c")), "b")
	at("Prev", it.Prev(), "")
	at("Prev before the start", it.Prev(), "")
	at("Next from before the start", it.Next(), "b")
	at("SeekLT(z)", it.SeekLT([]byte("z")), "f")
	at("SeekGE(a)", it.SeekGE([]byte("a")), "b")
	at("SeekGE(z)", it.SeekGE([]byte("z")), "")
	at("SeekLT(a)", it.SeekLT([]byte("a")), "")
}

func singleDelete(t *testing.T, f Fixture) {
	rounds := func(then func()) {
		for round := range 3 {
			value := fmt.Sprint(round)
			commit(t, f.Store, "k", value)
			then()
			expect(t, f.Store, "k", value)
			b := f.Store.NewBatch()
			must(t, b.SingleDelete([]byte("k")))
			must(t, b.SingleDelete([]byte("absent")))
			must(t, b.Commit())
			expect(t, f.Store, "k", "")
			then()
			expectWalk(t, f.Store, "", "")
		}
	}
	rounds(func() {})
	rounds(func() { must(t, f.Store.Flush()) })

	// Within one batch, over a key of the store that Delete or SingleDelete takes away first.
	for _, remove := range []func(queue.Batch) error{
		func(b queue.Batch) error { return b.Delete([]byte("k")) },
		func(b queue.Batch) error { return b.SingleDelete([]byte("k")) },
		func(b queue.Batch) error { return b.DeleteRange([]byte("k"), []byte("l")) },
	} {
		commit(t, f.Store, "k", "old")
		must(t, f.Store.Flush())
		b := f.Store.NewBatch()
		must(t, remove(b))
		must(t, b.Set([]byte("k"), []byte("new")))
		expect(t, b, "k", "new")
		must(t, b.Commit())
		expect(t, f.Store, "k", "new")
		b = f.Store.NewBatch()
		must(t, b.SingleDelete([]byte("k")))
		must(t, b.Set([]byte("k"), []byte("newer")))
		must(t, b.SingleDelete([]byte("k")))
		expect(t, b, "k", "")
		must(t, b.Commit())
		expect(t, f.Store, "k", "")
		must(t, f.Store.Flush())
		expectWalk(t, f.Store, "", "")
	}
}

func deleteRange(t *testing.T, f Fixture) {
	commit(t, f.Store, "a", "1", "b", "1", "c", "1", "d", "1")
	must(t, f.Store.Flush())
	b := f.Store.NewBatch()
	if b.DeleteRange([]byte("a"), nil) == nil {
		t.Error("DeleteRange without an upper bound is taken")
	}
	must(t, b.DeleteRange([]byte("d"), []byte("b")))
	must(t, b.DeleteRange([]byte("c"), []byte("c")))
	must(t, b.Set([]byte("bb"), []byte("2")))
	must(t, b.DeleteRange([]byte("b"), []byte("d")))
	must(t, b.Set([]byte("c"), []byte("3")))
	must(t, b.SingleDelete([]byte("b")))
	expect(t, b, "b", "")
	expect(t, b, "bb", "")
	must(t, b.Commit())
	expectWalk(t, f.Store, "", "", "a=1", "c=3", "d=1")
	must(t, f.Store.Flush())
	expectWalk(t, f.Store, "", "", "a=1", "c=3", "d=1")
}

func snapshotIsolation(t *testing.T, f Fixture) {
	commit(t, f.Store, "a", "1", "b", "1")
	before := f.Store.NewSnapshot()
	b := f.Store.NewBatch()
	must(t, b.Set([]byte("a"), []byte("2")))
	must(t, b.DeleteRange([]byte("b"), []byte("c")))
	must(t, b.Set([]byte("c"), []byte("2")))
	must(t, b.Commit())
	after := f.Store.NewSnapshot()
	must(t, f.Store.Flush())
	commit(t, f.Store, "a", "3")
	expectWalk(t, before, "", "", "a=1", "b=1")
	expectWalk(t, after, "", "", "a=2", "c=2")
	expectWalk(t, f.Store, "", "", "a=3", "c=2")
	expect(t, before, "a", "1")
	expect(t, before, "c", "")
	must(t, before.Close())
	must(t, before.Close())
	must(t, after.Close())
	if _, err := before.Get([]byte("a")); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("a closed snapshot answers %v", err)
	}
}

func checkpointHoldsWhatWasCommitted(t *testing.T, f Fixture) {
	commit(t, f.Store, "a", "1")
	must(t, f.Store.Flush())
	commit(t, f.Store, "b", "1", "a", "2")
	first := f.Dir()
	must(t, f.Store.Checkpoint(first))
	commit(t, f.Store, "c", "1", "a", "3")
	second := f.Dir()
	must(t, f.Store.Checkpoint(second))
	if err := f.Store.Checkpoint(first); err == nil {
		t.Error("a checkpoint goes over another")
	}
	one := f.Checkpointed(first)
	expectWalk(t, one, "", "", "a=2", "b=1")
	commit(t, one, "own", "1")
	must(t, one.Flush())
	must(t, one.Close())
	two := f.Checkpointed(second)
	expectWalk(t, two, "", "", "a=3", "b=1", "c=1")
	must(t, two.Close())
	expectWalk(t, f.Store, "", "", "a=3", "b=1", "c=1")
}

func closedStoreAnswers(t *testing.T, f Fixture) {
	commit(t, f.Store, "a", "1")
	b := f.Store.NewBatch()
	must(t, b.Set([]byte("a"), []byte("2")))
	must(t, f.Store.Close())
	must(t, f.Store.Close())
	_, get := f.Store.Get([]byte("a"))
	_, iter := f.Store.NewIter(nil, nil)
	_, snapshot := f.Store.NewSnapshot().Get([]byte("a"))
	for what, err := range map[string]error{
		"Get": get, "NewIter": iter, "snapshot": snapshot, "Flush": f.Store.Flush(),
		"Checkpoint": f.Store.Checkpoint(f.Dir()), "Commit": b.Commit(),
	} {
		if !errors.Is(err, queue.ErrClosed) {
			t.Errorf("%s of a closed store answers %v", what, err)
		}
	}
}

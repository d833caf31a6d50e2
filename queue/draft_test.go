package queue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestADraftIsReadAsItIsWalked: what a draft says of a key is what the layer of its writes says.
func TestADraftIsReadAsItIsWalked(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	key := func() string { return fmt.Sprint(r.IntN(20)) }
	d := newDraft()
	for n := range 2000 {
		if n%100 == 0 && !d.reset() {
			t.Fatal("a small draft is not used again")
		}
		switch w := (batchWrite{kind: writeSet, key: key(), value: []byte(fmt.Sprint(n))}); r.IntN(8) {
		default:
			d.add(w)
		case 0:
			d.add(batchWrite{kind: writeDelete, key: w.key})
		case 1:
			d.add(batchWrite{kind: writeSingleDelete, key: w.key})
		case 2:
			d.add(batchWrite{kind: writeDeleteRange, key: w.key, upper: w.key + "5"})
		}
		var lower, upper []byte
		if r.IntN(2) == 0 {
			lower, upper = []byte("1"), []byte([]string{"2", "15"}[r.IntN(2)])
		}
		walked := d.walk(lower, upper)
		for k := range 20 {
			k := fmt.Sprint(k)
			if lower != nil && k[0] != lower[0] {
				continue
			}
			value, there, _ := d.get([]byte(k))
			want, wanted, _ := walked.get([]byte(k), walked.version)
			if there != wanted || string(value) != string(want) {
				t.Fatalf("seed %d, write %d, key %s: %q, %v; the layer says %q, %v", seed, n, k, value, there, want, wanted)
			}
		}
		if r.IntN(3) > 0 { // the others are walked to the end of the draft, and none of them changes
			walked.leave()
		}
	}
}

// TestALayerKeepsWhatIsRead: what was there before a write is kept for those who read it, and for nobody else.
func TestALayerKeepsWhatIsRead(t *testing.T) {
	t.Parallel()
	s := NewWriteBack(NewMemoryStore(), 0)
	defer s.Close()
	commit := func(w ...batchWrite) {
		t.Helper()
		if err := s.commit(w); err != nil {
			t.Fatal(err)
		}
	}
	set := func(key, value string) { commit(batchWrite{kind: writeSet, key: key, value: []byte(value)}) }
	remove := func(key string) { commit(batchWrite{kind: writeSingleDelete, key: key}) }
	top := s.layers.top
	set("k", "1")
	set("k", "2")
	if top.slots["k"].before != nil {
		t.Error("what nobody reads was kept")
	}
	snap := s.NewSnapshot()
	it, err := s.NewIter(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	set("k", "3")
	set("k", "4") // nobody reads 3
	if k := top.slots["k"]; k.before == nil || string(k.before.value) != "2" || k.before.before != nil {
		t.Errorf("%+v is kept, want what is read alone", k.before)
	}
	set("l", "1")
	remove("k")
	remove("l")
	if top.slots["l"] != nil {
		t.Error("a key that came and went while nobody began to read was kept")
	}
	if v, err := snap.Get([]byte("k")); string(v) != "2" || err != nil {
		t.Errorf("a snapshot reads %q, %v; want what it was made of", v, err)
	}
	if ok := it.First(); !ok {
		t.Fatal("nothing is walked")
	}
	if v, err := it.Value(); string(v) != "2" || err != nil {
		t.Errorf("a walk reads %q, %v; want what it was made of", v, err)
	}
	if v, err := s.Get([]byte("k")); !errors.Is(err, ErrNotFound) {
		t.Errorf("%q, %v of a key that is gone", v, err)
	}
	for range 2 { // closed twice, counted once
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		if err := snap.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if top.readers != 0 {
		t.Errorf("%d readers are left", top.readers)
	}
	set("k", "5")
	remove("k")
	if len(top.slots) != 0 || top.held['k'] != 0 {
		t.Errorf("%d keys are left", len(top.slots))
	}
}

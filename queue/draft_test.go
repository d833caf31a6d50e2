package queue

import (
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
		walked := d.walk()
		for k := range 20 {
			k := fmt.Sprint(k)
			value, there, _ := d.get([]byte(k))
			want, wanted, _ := walked.get(k)
			if there != wanted || string(value) != string(want) {
				t.Fatalf("seed %d, write %d, key %s: %q, %v; the layer says %q, %v", seed, n, k, value, there, want, wanted)
			}
		}
		if r.IntN(3) > 0 { // the others are walked to the end of the draft, and none of them changes
			d.left(walked)
		}
	}
}

// TestALayerIsChangedInPlace unless somebody reads it.
func TestALayerIsChangedInPlace(t *testing.T) {
	t.Parallel()
	s := NewWriteBack(NewMemoryStore(), 0)
	defer s.Close()
	put := func(value string) *layer {
		t.Helper()
		b := s.NewBatch()
		if err := b.Set([]byte("k"), []byte(value)); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		return s.layers.top
	}
	first := put("1")
	if put("2") != first {
		t.Error("a layer that nobody reads was copied")
	}
	snap := s.NewSnapshot()
	it, err := s.NewIter(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	second := put("3")
	if second == first {
		t.Fatal("a layer that is read was changed")
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
	if put("4") != second {
		t.Error("a layer is copied for those who read the one before")
	}
	for range 2 { // closed twice, counted once
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		if err := snap.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if first.readers != 0 || second.readers != 0 {
		t.Errorf("%d and %d readers are left", first.readers, second.readers)
	}
}

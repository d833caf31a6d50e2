package raftlog

import (
	"bytes"
	"errors"
	"testing"
)

// No bit of the record may change without being noticed, and its absence only where there was none.
func TestDamagedStableValuesAreRefused(t *testing.T) {
	var kept []byte
	open := func(made bool) (*stable, error) {
		return openStable("stable.db", made, func() ([]byte, error) { return kept, nil }, func(r []byte) error { kept = r; return nil })
	}
	s, err := open(false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SetUint64([]byte("CurrentTerm"), 7), s.Set([]byte("LastVoteCand"), []byte("10.0.0.1:7631"))); err != nil {
		t.Fatal(err)
	}
	if s, err = open(true); err != nil {
		t.Fatal(err)
	}
	if term, err := s.GetUint64([]byte("CurrentTerm")); term != 7 || err != nil {
		t.Errorf("the term: got %d, %v", term, err)
	}
	whole := bytes.Clone(kept)
	for at := range whole {
		for bit := range 8 {
			kept = bytes.Clone(whole)
			kept[at] ^= 1 << bit
			if _, err := open(true); !errors.Is(err, ErrDamaged) {
				t.Fatalf("bit %d of byte %d flipped: got %v", bit, at, err)
			}
		}
	}
	for n := range whole {
		kept = whole[:n]
		if _, err := open(true); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrMissing) {
			t.Fatalf("cut to %d bytes: got %v", n, err)
		}
	}
}

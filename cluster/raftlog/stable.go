package raftlog

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"sync"
)

// stableKey is where the record of raft's stable values lies.
var stableKey = []byte("stable")

// stable is a raft.StableStore: the term, and for whom the node voted in it. All values are one record with a checksum. A
// node that believed in a damaged one, or in the absence of one whose name was damaged, could vote twice in a term.
type stable struct {
	put func(record []byte) error
	// mu guards values, which are on disk before they are seen here. Nothing waits under it but the disk itself.
	mu     sync.Mutex
	values map[string][]byte
}

// openStable reads the record, which lies at path, with get. A store that was made before has one.
func openStable(path string, made bool, get func() ([]byte, error), put func([]byte) error) (*stable, error) {
	s := &stable{put: put, values: map[string][]byte{}}
	record, err := get()
	switch {
	case err != nil:
		return nil, fmt.Errorf("raftlog: read %s: %w", path, err)
	case len(record) == 0 && made:
		return nil, fmt.Errorf("%w: %s: raft's term and vote", ErrMissing, path)
	case len(record) == 0:
		return s, s.keep(s.values)
	case len(record) < sumSize:
		return nil, fmt.Errorf("%w: %s: raft's term and vote are %d bytes", ErrDamaged, path, len(record))
	}
	content, sum := record[:len(record)-sumSize], binary.BigEndian.Uint32(record[len(record)-sumSize:])
	if crc32.Checksum(content, castagnoli) != sum {
		return nil, fmt.Errorf("%w: %s: raft's term and vote do not have their checksum", ErrDamaged, path)
	}
	if err := json.Unmarshal(content, &s.values); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return s, nil
}

func (s *stable) keep(values map[string][]byte) error {
	content, err := json.Marshal(values)
	if err != nil {
		return fmt.Errorf("raftlog: stable values: %w", err)
	}
	if err := s.put(binary.BigEndian.AppendUint32(content, crc32.Checksum(content, castagnoli))); err != nil {
		return err
	}
	s.values = values
	return nil
}

// Set keeps a value.
func (s *stable) Set(key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := maps.Clone(s.values)
	next[string(key)] = slices.Clone(value)
	return s.keep(next)
}

// Get reads a value; nil: there is none.
func (s *stable) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.values[string(key)]), nil
}

// SetUint64 keeps a number.
func (s *stable) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 reads a number; 0: there is none.
func (s *stable) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	switch {
	case err != nil || value == nil:
		return 0, err
	case len(value) != 8:
		return 0, fmt.Errorf("raftlog: stable value %q is no number", key)
	}
	return binary.BigEndian.Uint64(value), nil
}

package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"sluice/internal/disk"
)

// claim is a small file beside the log in which stands how far the log was acknowledged. What is damaged at the end of a
// log looks like a write that a loss of power tore, and is cut off by the libraries as such, though the node may have said
// that it has it: the claim tells the two apart (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage",
// FAST 2018, 3.3.3).
//
// It is written after each append, without a sync of its own: what a killed process has written is there, and a loss of
// power, which may take a claim back to an earlier one, is what tears writes. Within claimSync it is synced. It never
// claims more than the log holds: it is lowered, durably, before entries are cut off.
type claim struct {
	file  disk.File
	index uint64
	// turn counts what was written. Writes go to the two slots by turns, so that one of them is whole.
	turn  uint64
	dirty bool
}

const (
	claimFile = "acknowledged"
	// claimSync is after how long a claim is synced, and so how much of what was acknowledged before a loss of power may
	// be damaged without a word.
	claimSync = 500 * time.Millisecond
	// claimSlot is what one write has for itself: no write tears two.
	claimSlot  = 4096
	claimBytes = 20
)

// openClaim opens the claim of the log in dir. If there is none, it is made beside a log that holds nothing yet, and is
// missing beside any other.
func openClaim(files disk.FS, dir string, fresh bool) (*claim, error) {
	path := filepath.Join(dir, claimFile)
	content, err := disk.ReadFile(files, path)
	if errors.Is(err, os.ErrNotExist) && fresh {
		content = make([]byte, 2*claimSlot)
		(&claim{turn: 1}).put(content)
		if err = disk.ReplaceFile(files, path, content); err == nil {
			content, err = disk.ReadFile(files, path) // what was written is the file's, which may change it
		}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w: %s: %w", ErrMissing, path, err)
	case err != nil:
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	c := &claim{}
	if c.index, c.turn, err = latestClaim(content); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	if c.file, err = disk.Open(files, path); err != nil {
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	return c, nil
}

// meet compares the claim with the log, all of which is durable, and claims what it holds. It is an error if the log has
// lost what was acknowledged.
func (c *claim) meet(dir string, log raft.LogStore) error {
	last, err := log.LastIndex()
	if err != nil {
		return fmt.Errorf("raftlog: %w", err)
	}
	if last < c.index {
		return &CorruptError{dir, last + 1, fmt.Sprintf("the log ends before it, and was acknowledged up to index %d", c.index)}
	}
	if err := c.set(last); err != nil {
		return fmt.Errorf("raftlog: %w", err)
	}
	return nil
}

// latestClaim reads the later of the two slots that are whole.
func latestClaim(content []byte) (index, turn uint64, err error) {
	if len(content) != 2*claimSlot {
		return 0, 0, fmt.Errorf("it has %d bytes, and had %d", len(content), 2*claimSlot)
	}
	for at := 0; at < len(content); at += claimSlot {
		slot := content[at:][:claimBytes]
		if crc32.Checksum(slot[:16], castagnoli) != binary.BigEndian.Uint32(slot[16:]) {
			continue
		}
		if t := binary.BigEndian.Uint64(slot); t > turn {
			index, turn = binary.BigEndian.Uint64(slot[8:]), t
		}
	}
	if turn == 0 {
		return 0, 0, errors.New("its checksums do not fit")
	}
	return index, turn, nil
}

// put writes the claim to a slot.
func (c *claim) put(slot []byte) {
	binary.BigEndian.PutUint64(slot, c.turn)
	binary.BigEndian.PutUint64(slot[8:], c.index)
	binary.BigEndian.PutUint32(slot[16:], crc32.Checksum(slot[:16], castagnoli))
}

// raise claims an index that the log holds durably.
func (c *claim) raise(index uint64) error {
	var slot [claimBytes]byte
	c.index, c.turn, c.dirty = index, c.turn+1, true
	c.put(slot[:])
	_, err := c.file.WriteAt(slot[:], int64(c.turn%2)*claimSlot)
	return err
}

// set claims an index durably and leaves no other claim in the file.
func (c *claim) set(index uint64) error {
	if err := c.raise(index); err != nil {
		return err
	}
	if err := c.sync(); err != nil {
		return err
	}
	if err := c.raise(index); err != nil {
		return err
	}
	return c.sync()
}

// sync makes the claim durable.
func (c *claim) sync() error {
	if !c.dirty {
		return nil
	}
	if err := c.file.SyncData(); err != nil {
		return err
	}
	c.dirty = false
	return nil
}

// removing tells the claim, before it is done, that the entries from first to last are removed from a log that begins at
// begin.
func (c *claim) removing(begin, first, last uint64) error {
	switch {
	case last < c.index:
		return nil
	case first <= begin:
		return c.set(0)
	}
	return c.set(first - 1)
}

// Close makes the claim durable.
func (c *claim) Close() error {
	return errors.Join(c.sync(), c.file.Close())
}

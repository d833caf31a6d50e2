package raftlog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// full makes a log whose only segment is full, as it is when a node is killed before the next segment was begun. It
// answers the segment's file and how many entries there are.
func full(t *testing.T, dir string) (path string, entries uint64) {
	t.Helper()
	info, entries := lone(t, dir, 1000)
	list(t, dir, info)
	return filepath.Join(logPath(dir, WAL), segment.FileName(info)), entries
}

// lone makes a segment that is full or holds so many entries.
func lone(t *testing.T, dir string, most uint64) (info types.SegmentInfo, entries uint64) {
	t.Helper()
	folder := logPath(dir, WAL)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	info = types.SegmentInfo{ID: 0, BaseIndex: 1, MinIndex: 1, SizeLimit: 4096, Codec: wal.CodecBinaryV1, CreateTime: time.Now()}
	writer, err := segment.NewFiler(folder, walfs.New()).Create(info)
	if err != nil {
		t.Fatal(err)
	}
	for sealed := false; !sealed && entries < most; {
		entries++
		c := check(&collected{}, claimOf(t), dir, Config{}.withDefaults())
		if err := c.StoreLog(entry(entries)); err != nil {
			t.Fatal(err)
		}
		_ = c.stop() // nothing hangs
		var b bytes.Buffer
		if err := (&wal.BinaryCodec{}).Encode(c.inner.(*collected).log, &b); err != nil {
			t.Fatal(err)
		}
		if err := writer.Append([]types.LogEntry{{Index: entries, Data: b.Bytes()}}); err != nil {
			t.Fatal(err)
		}
		if sealed, _, err = writer.Sealed(); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return info, entries
}

// list makes the list of a log's segments.
func list(t *testing.T, dir string, segments ...types.SegmentInfo) {
	t.Helper()
	meta := &metadb.BoltMetaDB{}
	if _, err := meta.Load(logPath(dir, WAL)); err != nil {
		t.Fatal(err)
	}
	state := types.PersistentState{NextSegmentID: uint64(len(segments)), Segments: segments}
	if err := errors.Join(meta.CommitState(state), meta.Close()); err != nil {
		t.Fatal(err)
	}
}

// collected takes the entry that a checked log would store.
type collected struct {
	raft.LogStore
	log *raft.Log
}

func (c *collected) StoreLogs(logs []*raft.Log) error {
	c.log = logs[0]
	return nil
}

// goesOn opens the log, wants it to end at an entry, appends, and wants all of it to be there after another opening.
func goesOn(t *testing.T, dir string, last uint64) {
	t.Helper()
	for range 2 {
		s := open(t, dir, WAL)
		if got, err := s.LastIndex(); err != nil || got != last {
			t.Fatalf("the log ends at %d, want %d (%v)", got, last, err)
		}
		fill(t, s, last+1, last+50)
		last += 50
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir, WAL)
	for n := uint64(1); n <= last; n++ {
		var l raft.Log
		if err := s.GetLog(n, &l); err != nil || !bytes.Equal(l.Data, entry(n).Data) {
			t.Fatalf("entry %d: %v", n, err)
		}
	}
}

// A node that was killed after it filled a segment and before it began the next one can append when it is back.
func TestAFullTailIsFollowedByANewOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, entries := full(t, dir)
	goesOn(t, dir, entries)
}

// So can one whose last batch, with which the segment became full, is only there in part: that batch was not acknowledged.
func TestATornFullTailIsAppendedTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, entries := full(t, dir)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(content, entry(entries).Data)
	copy(content[at:], "torn")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	goesOn(t, dir, entries-1)
}

// Raft-wal before 0.4.1 left segments that are sealed and have no index.
func TestASealedSegmentWithoutAnIndexIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	info, entries := lone(t, dir, 9)
	next := info
	info.SealTime, info.MaxIndex = time.Now(), entries-2 // two were cut off
	next.ID, next.BaseIndex, next.MinIndex = 1, entries-1, entries-1
	list(t, dir, info, next)
	goesOn(t, dir, entries-2)
}

// What was cut off the end of the log, again and again, is gone after the next start, and what was kept is there.
func TestALogThatWasCutShortIsOpenedAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b Backend) {
		dir := t.TempDir()
		last := uint64(100)
		s := open(t, dir, b)
		fill(t, s, 1, last)
		for range 3 {
			last -= 7
			if err := s.DeleteRange(last+1, last+7); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, b)
			if got, err := s.LastIndex(); err != nil || got != last {
				t.Fatalf("the log ends at %d, want %d (%v)", got, last, err)
			}
			for n := uint64(1); n <= last; n++ {
				var l raft.Log
				if err := s.GetLog(n, &l); err != nil || !bytes.Equal(l.Data, entry(n).Data) {
					t.Fatalf("entry %d: %v", n, err)
				}
			}
			fill(t, s, last+1, last+3)
			last += 3
		}
	})
}

package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// mendedMeta is a list of segments that finishes, before the log is opened, what a crash interrupted.
//
// Raft-wal writes the index of a full segment with its last batch, and only then, in the background, notes that the
// segment is sealed and begins the next one. A crash in between, or in the midst of that last batch, leaves a tail that it
// takes for sealed and appends to: every append from then on is refused, and the node could never be started again. All
// nodes fill their segments with the same entries, so a loss of power can do that to a whole cluster.
type mendedMeta struct {
	types.MetaStore
	files types.VFS
}

// Load gives the list of segments, whose tail can be appended to.
func (m *mendedMeta) Load(dir string) (types.PersistentState, error) {
	s, err := m.MetaStore.Load(dir)
	if err != nil || len(s.Segments) == 0 {
		return s, err
	}
	tail := &s.Segments[len(s.Segments)-1]
	if !tail.SealTime.IsZero() {
		return s, nil
	}
	found, err := m.scan(dir, *tail)
	switch {
	case errors.Is(err, os.ErrNotExist): // it was noted, and not made yet
		return s, nil
	case err != nil:
		return s, fmt.Errorf("raftlog: look at the end of the log: %w", err)
	case found.index == 0:
		return s, nil
	case !found.whole:
		return s, m.erase(dir, *tail, found.index)
	}
	tail.SealTime, tail.MaxIndex, tail.IndexStart = time.Now(), tail.BaseIndex+found.entries-1, uint64(found.index+frameHeader)
	s.Segments = append(s.Segments, types.SegmentInfo{
		ID: s.NextSegmentID, BaseIndex: tail.MaxIndex + 1, MinIndex: tail.MaxIndex + 1, SizeLimit: tail.SizeLimit, Codec: tail.Codec, CreateTime: tail.SealTime,
	})
	s.NextSegmentID++
	return s, m.CommitState(s)
}

// The form of a segment: a header, then frames whose headers tell a kind and a length, or of a commit the checksum of all
// since the one before. Frames begin at multiples of their headers' size.
const (
	segmentHeader = 32
	frameHeader   = 8
)

// tailEnd is what the end of a segment holds.
type tailEnd struct {
	// entries come before the index.
	entries uint64
	// index is where the index's frame begins; 0: there is none. whole: the batch it is part of was committed.
	index int64
	whole bool
}

func (m *mendedMeta) scan(dir string, tail types.SegmentInfo) (end tailEnd, err error) {
	file, err := m.files.OpenReader(dir, segment.FileName(tail))
	if err != nil {
		return end, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return scanSegment(file)
}

// scanSegment walks the frames as raft-wal does when it opens a segment: what is no frame is the end.
func scanSegment(r io.ReaderAt) (end tailEnd, err error) {
	var head [frameHeader]byte
	batch, at := int64(0), int64(segmentHeader)
	for {
		if _, err := r.ReadAt(head[:], at); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return end, nil
		} else if err != nil {
			return end, err
		}
		value := binary.LittleEndian.Uint32(head[4:])
		size := int64(frameHeader)
		switch head[0] {
		case segment.FrameEntry:
			end.entries++
			size += padded(value)
		case segment.FrameIndex:
			end.index = at
			size += padded(value)
		case segment.FrameCommit:
			if end.index != 0 {
				end.whole, err = committed(r, batch, at, value)
				return end, err
			}
			batch = at + size
		default:
			return end, nil
		}
		at += size
	}
}

func padded(length uint32) int64 {
	return (int64(length) + frameHeader - 1) / frameHeader * frameHeader
}

// committed tells whether the bytes of a batch have the checksum of its commit.
func committed(r io.ReaderAt, from, to int64, want uint32) (bool, error) {
	content := make([]byte, to-from)
	if _, err := r.ReadAt(content, from); err != nil {
		return false, err
	}
	return crc32.Checksum(content, castagnoli) == want, nil
}

// erase puts zeros in the place of an index that was not committed, and of what follows it.
func (m *mendedMeta) erase(dir string, tail types.SegmentInfo, from int64) (err error) {
	file, err := m.files.OpenWriter(dir, segment.FileName(tail))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	chunk, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := file.ReadAt(chunk, from)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := file.WriteAt(zeros[:n], from); err != nil {
			return err
		}
		if from += int64(n); err != nil || n == 0 {
			return file.Sync()
		}
	}
}

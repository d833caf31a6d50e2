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

// mendedMeta is a list of segments that finishes, before the log is opened, what raft-wal leaves unfinished.
//
// It writes the index of a full segment with its last batch, and only then, in the background, notes that the segment is
// sealed and begins the next one. A crash in between, or in the midst of that last batch, leaves a tail that it takes for
// sealed and appends to: every append from then on is refused, and the node could never be started again. All nodes fill
// their segments with the same entries, so a loss of power can do that to a whole cluster.
//
// And before 0.4.1, when entries were cut off the end of the log, it noted that the segment was sealed and wrote no index,
// without which the entries cannot be read at the next start (hashicorp/raft-wal #31): there are folders that were left so.
type mendedMeta struct {
	types.MetaStore
	files types.VFS
}

// Load gives the list of segments, all of which can be read, and whose tail can be appended to.
func (m *mendedMeta) Load(dir string) (types.PersistentState, error) {
	s, err := m.MetaStore.Load(dir)
	if err != nil {
		return s, err
	}
	changed := false
	for n := range s.Segments {
		mended, err := m.mend(dir, &s, n)
		if err != nil {
			return s, fmt.Errorf("raftlog: look at segment %s: %w", segment.FileName(s.Segments[n]), err)
		}
		changed = changed || mended
	}
	if !changed {
		return s, nil
	}
	return s, m.CommitState(s)
}

// mend looks at a segment that may be unfinished, and tells whether the list was changed.
func (m *mendedMeta) mend(dir string, s *types.PersistentState, n int) (changed bool, err error) {
	info := &s.Segments[n]
	if info.IndexStart != 0 {
		return false, nil
	}
	sealed := !info.SealTime.IsZero()
	file, err := m.files.OpenWriter(dir, segment.FileName(*info))
	if errors.Is(err, os.ErrNotExist) && !sealed { // it was noted, and not made yet
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	found, err := scanSegment(file)
	switch {
	case err != nil:
		return false, err
	case found.whole:
		info.IndexStart = uint64(found.index + frameHeader)
	case sealed:
		info.IndexStart, err = found.writeIndex(file)
	case found.index != 0:
		return false, erase(file, found.index)
	default:
		return false, nil
	}
	if !sealed {
		info.SealTime, info.MaxIndex = time.Now(), info.BaseIndex+uint64(len(found.offsets))-1
		s.Segments = append(s.Segments, types.SegmentInfo{
			ID: s.NextSegmentID, BaseIndex: info.MaxIndex + 1, MinIndex: info.MaxIndex + 1, SizeLimit: info.SizeLimit, Codec: info.Codec, CreateTime: info.SealTime,
		})
		s.NextSegmentID++
	}
	return true, err
}

// The form of a segment: a header, then frames whose headers tell a kind and a length, or of a commit the checksum of all
// since the one before. Frames begin at multiples of their headers' size.
const (
	segmentHeader = 32
	frameHeader   = 8
)

// segmentEnd is what a segment holds, as far as it was committed.
type segmentEnd struct {
	// offsets are where the entries' frames begin.
	offsets []uint32
	// end is where the last commit ends.
	end int64
	// index is where the index's frame begins, committed or not; 0: there is none. whole: it was committed.
	index int64
	whole bool
}

// commit is the frame that ends a batch.
type commit struct {
	from, at int64
	sum      uint32
	entries  int
}

// scanSegment walks the frames as raft-wal does when it opens a segment: what is no frame is the end, and of the commits
// only the last may be torn.
func scanSegment(r io.ReaderAt) (segmentEnd, error) {
	var end segmentEnd
	var commits []commit
	batch, at := int64(0), int64(segmentHeader)
	for !end.whole {
		kind, value, err := readFrame(r, at)
		if err != nil {
			return end, err
		}
		size := int64(frameHeader)
		switch kind {
		case segment.FrameEntry:
			end.offsets = append(end.offsets, uint32(at))
			size += padded(value)
		case segment.FrameIndex:
			end.index = at
			size += padded(value)
		case segment.FrameCommit:
			commits = append(commits, commit{batch, at, value, len(end.offsets)})
			batch = at + size
			if end.index == 0 {
				break
			}
			if end.whole, err = commits[len(commits)-1].good(r); err != nil || !end.whole {
				return end.cut(commits[:len(commits)-1]), err
			}
		default:
			return end.settle(r, commits)
		}
		at += size
	}
	return end.cut(commits), nil
}

// settle ends a scan without a whole index: nothing behind the last commit counts, and if nothing is there it may be torn.
func (e segmentEnd) settle(r io.ReaderAt, commits []commit) (segmentEnd, error) {
	if last := len(commits) - 1; last >= 0 && e.index == 0 && commits[last].entries == len(e.offsets) {
		good, err := commits[last].good(r)
		if err != nil {
			return e, err
		}
		if !good {
			commits = commits[:last]
		}
	}
	return e.cut(commits), nil
}

// cut leaves what was committed.
func (e segmentEnd) cut(commits []commit) segmentEnd {
	if len(commits) == 0 {
		e.offsets, e.end = nil, segmentHeader
		return e
	}
	last := commits[len(commits)-1]
	e.offsets, e.end = e.offsets[:last.entries], last.at+frameHeader
	return e
}

// readFrame reads the header of a frame; kind segment.FrameInvalid: there is none.
func readFrame(r io.ReaderAt, at int64) (kind uint8, value uint32, err error) {
	var head [frameHeader]byte
	_, err = r.ReadAt(head[:], at)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return segment.FrameInvalid, 0, nil
	}
	return head[0], binary.LittleEndian.Uint32(head[4:]), err
}

func padded(length uint32) int64 {
	return (int64(length) + frameHeader - 1) / frameHeader * frameHeader
}

// good tells whether the batch has the checksum of its commit.
func (c commit) good(r io.ReaderAt) (bool, error) {
	content := make([]byte, c.at-c.from)
	if _, err := r.ReadAt(content, c.from); err != nil {
		return false, err
	}
	return crc32.Checksum(content, castagnoli) == c.sum, nil
}

// erase puts zeros in the place of all from an offset on.
func erase(file types.WritableFile, from int64) error {
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

// writeIndex writes the index of what was committed behind it, commits it, and tells where it begins.
func (e segmentEnd) writeIndex(file types.WritableFile) (start uint64, err error) {
	if err := erase(file, e.end); err != nil {
		return 0, err
	}
	frame := make([]byte, frameHeader+padded(uint32(4*len(e.offsets)))+frameHeader)
	frame[0] = segment.FrameIndex
	binary.LittleEndian.PutUint32(frame[4:], uint32(4*len(e.offsets)))
	for n, o := range e.offsets {
		binary.LittleEndian.PutUint32(frame[frameHeader+4*n:], o)
	}
	end := frame[len(frame)-frameHeader:]
	end[0] = segment.FrameCommit
	binary.LittleEndian.PutUint32(end[4:], crc32.Checksum(frame[:len(frame)-frameHeader], castagnoli))
	if _, err := file.WriteAt(frame, e.end); err != nil {
		return 0, err
	}
	return uint64(e.end + frameHeader), file.Sync()
}

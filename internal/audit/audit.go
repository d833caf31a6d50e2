// Package audit is the record that a node keeps, if it is told to, of every entry it applied: what the checkers of
// jepsen compare between replicas and replay through their reference model. It is JSON lines in a file that should not
// lie on the disk under test.
package audit

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Row is one entry that was applied, or a state that was taken over.
type Row struct {
	// Time is the machine's clock, in Unix nanoseconds.
	Time  int64  `json:"time"`
	Index uint64 `json:"index"`
	Term  uint64 `json:"term,omitempty"`
	// Hash is the SHA-256 of Entry, in hexadecimal; empty for an entry of raft itself.
	Hash string `json:"hash,omitempty"`
	// Digest is the chained hash over the state's writes up to the entry, in hexadecimal.
	Digest string `json:"digest,omitempty"`
	// Entry is a marshalled api/log/v1 Entry; empty for an entry of raft itself.
	Entry []byte `json:"entry,omitempty"`
	// Outcomes are what its commands were answered, each a marshalled api/log/v1 Outcome.
	Outcomes [][]byte `json:"outcomes,omitempty"`
	// Restored: the leader's state up to Index took the place of the node's own; what came before was not applied here.
	Restored bool `json:"restored,omitempty"`
}

// Entry makes the row of an entry that was applied now.
func Entry(index, term, digest uint64, entry []byte, outcomes [][]byte) Row {
	row := Row{Time: time.Now().UnixNano(), Index: index, Term: term, Digest: fmt.Sprintf("%016x", digest), Entry: entry, Outcomes: outcomes}
	if len(entry) > 0 {
		sum := sha256.Sum256(entry)
		row.Hash = hex.EncodeToString(sum[:])
	}
	return row
}

// Restore makes the row of a state that is taken over now.
func Restore(index uint64) Row { return Row{Time: time.Now().UnixNano(), Index: index, Restored: true} }

// File appends rows to a file. It is for one goroutine at a time.
type File struct{ file *os.File }

// Open opens a file to append to; it is made if absent. A last line that a crash cut short is cut away.
func Open(name string) (*File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	whole, err := wholeLines(f)
	if err == nil {
		err = f.Truncate(whole)
	}
	if err == nil {
		_, err = f.Seek(whole, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit: %w", err), f.Close())
	}
	return &File{f}, nil
}

// wholeLines is the length of a file up to its last end of line.
func wholeLines(r io.Reader) (whole int64, err error) {
	in := bufio.NewReaderSize(r, 1<<20)
	for at := int64(0); ; {
		part, err := in.ReadSlice('\n')
		at += int64(len(part))
		switch {
		case err == nil:
			whole = at
		case err == io.EOF:
			return whole, nil
		case err != bufio.ErrBufferFull:
			return 0, err
		}
	}
}

// Append writes rows with one call of the operating system, so that a process that is killed has lost none it had told of.
func (f *File) Append(rows ...Row) error {
	var lines []byte
	for _, row := range rows {
		line, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		lines = append(append(lines, line...), '\n')
	}
	if _, err := f.file.Write(lines); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

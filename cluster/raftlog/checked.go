package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// Errors of a store. After any of them but ErrCorrupt on a read, the store takes nothing more.
var (
	// ErrCorrupt is an entry that is not as it was written.
	ErrCorrupt = errors.New("raftlog: corrupt entry")
	// ErrDamaged is a file that cannot be opened, because it is not as it was written.
	ErrDamaged = errors.New("raftlog: damaged file")
	// ErrStuck is an append that took longer than the deadline.
	ErrStuck = errors.New("raftlog: the disk hangs")
	// ErrFailed is what a store answers after an append failed: what a disk says after a failed fsync is not to be
	// believed.
	ErrFailed = errors.New("raftlog: an earlier write failed")
	// ErrClosed is what a closed store answers.
	ErrClosed = errors.New("raftlog: closed")
)

// CorruptError names the entry and where it lies.
type CorruptError struct {
	Dir   string
	Index uint64
	Why   string
}

// Error tells where and why.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: index %d in %s: %s", ErrCorrupt, e.Index, e.Dir, e.Why)
}

// Unwrap makes it an ErrCorrupt.
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumSize is what the checksum adds to an entry's extensions.
const sumSize = 4

// checked is a log with a checksum per entry and a deadline per write.
//
// One goroutine does the writes, one at a time and in the order in which they were asked for, so that the caller can stop
// waiting for a disk that hangs, or need not wait at all.
type checked struct {
	inner    raft.LogStore
	claim    *claim
	dir      string
	deadline time.Duration
	onStuck  func(error)
	stats    Stats

	// jobs hands writes to the goroutine; it is closed by stop. done is closed when the goroutine has ended, stuck when a
	// write takes too long.
	jobs        chan job
	done, stuck chan struct{}
	stuckOnce   sync.Once
	tail        tail

	// turn holds a token that guards closed, and the order of what is handed to the goroutine. It is no mutex, because
	// simulated time stands still while a goroutine waits for one.
	turn   chan struct{}
	closed bool
}

// Stats counts appends since the store was opened.
type Stats struct {
	Appends, Entries, Bytes atomic.Uint64
	// Nanoseconds is the time that appends took, all together.
	Nanoseconds atomic.Uint64
}

// job is a write; answer is told, by the goroutine that does it, what came of it.
type job struct {
	do     func() error
	answer func(error)
}

// jobsWaiting is how many writes may wait for the one under way.
const jobsWaiting = 64

func check(inner raft.LogStore, claim *claim, dir string, cfg Config) *checked {
	c := &checked{
		inner: inner, claim: claim, dir: dir, deadline: cfg.WriteDeadline, onStuck: cfg.OnStuck,
		turn: make(chan struct{}, 1), jobs: make(chan job, jobsWaiting), done: make(chan struct{}), stuck: make(chan struct{}),
	}
	go c.work()
	return c
}

// work does what it is given, and syncs the claim a while after it was raised. The first write that fails is the last.
func (c *checked) work() {
	defer close(c.done)
	var due <-chan time.Time
	var failed error
	for {
		select {
		case j, more := <-c.jobs:
			switch {
			case !more:
				return
			case failed != nil:
				j.answer(fmt.Errorf("%w: %w", ErrFailed, failed))
			default:
				late := time.AfterFunc(c.deadline, c.hang)
				failed = j.do()
				late.Stop()
				j.answer(failed)
			}
			if c.claim.dirty && due == nil {
				due = time.After(claimSync)
			}
		case <-due:
			failed = errors.Join(failed, c.claim.sync())
			due = nil
		}
	}
}

// Stats tells what was appended.
func (c *checked) Stats() *Stats { return &c.stats }

// FirstIndex is the first index in the log; 0: none.
func (c *checked) FirstIndex() (uint64, error) {
	first, _ := c.tail.ends()
	index, err := c.inner.FirstIndex()
	if err != nil || index > 0 {
		return index, err
	}
	return first, nil
}

// LastIndex is the last index in the log; 0: none.
func (c *checked) LastIndex() (uint64, error) {
	if _, last := c.tail.ends(); last > 0 {
		return last, nil
	}
	return c.inner.LastIndex()
}

// GetLog reads an entry and checks it.
func (c *checked) GetLog(index uint64, l *raft.Log) error {
	if c.tail.get(index, l) {
		return nil
	}
	err := c.inner.GetLog(index, l)
	switch {
	case errors.Is(err, wal.ErrCorrupt), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &CorruptError{c.dir, index, err.Error()}
	case err != nil:
		return err
	}
	n := len(l.Extensions) - sumSize
	switch {
	case l.Index != index:
		return &CorruptError{c.dir, index, fmt.Sprintf("it says that it is index %d", l.Index)}
	case n < 0:
		return &CorruptError{c.dir, index, "it has no checksum"}
	}
	want := binary.BigEndian.Uint32(l.Extensions[n:])
	l.Extensions = l.Extensions[:n:n]
	if n == 0 {
		l.Extensions = nil
	}
	if sum(l) != want {
		return &CorruptError{c.dir, index, "its checksum does not fit"}
	}
	return nil
}

// sum is the CRC-32C of what an entry means: index, term, type, data and extensions.
func sum(l *raft.Log) uint32 {
	var head [25]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	binary.BigEndian.PutUint64(head[17:], uint64(len(l.Data)))
	crc := crc32.Update(0, castagnoli, head[:])
	return crc32.Update(crc32.Update(crc, castagnoli, l.Data), castagnoli, l.Extensions)
}

// StoreLog appends one entry.
func (c *checked) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries. When it returns without error they are on the disk.
func (c *checked) StoreLogs(logs []*raft.Log) error { return c.run(c.append(logs)) }

// append is the write of entries.
func (c *checked) append(logs []*raft.Log) func() error {
	sealed := make([]*raft.Log, len(logs))
	bytes := 0
	for n, l := range logs {
		s := *l // raft keeps using its own
		s.Extensions = binary.BigEndian.AppendUint32(append(make([]byte, 0, len(l.Extensions)+sumSize), l.Extensions...), sum(l))
		sealed[n] = &s
		bytes += len(l.Data)
	}
	return func() error {
		start := time.Now()
		if err := c.inner.StoreLogs(sealed); err != nil || len(sealed) == 0 {
			return err
		}
		if err := c.claim.raise(sealed[len(sealed)-1].Index); err != nil {
			return err
		}
		c.stats.Appends.Add(1)
		c.stats.Entries.Add(uint64(len(sealed)))
		c.stats.Bytes.Add(uint64(bytes))
		c.stats.Nanoseconds.Add(uint64(time.Since(start)))
		return nil
	}
}

// DeleteRange removes entries, both ends included.
func (c *checked) DeleteRange(first, last uint64) error {
	return c.run(func() error {
		begin, err := c.inner.FirstIndex()
		if err != nil {
			return err
		}
		if err := c.claim.removing(begin, first, last); err != nil {
			return err
		}
		return c.inner.DeleteRange(first, last)
	})
}

// run does a write, and waits for it for as long as the disk does not hang.
func (c *checked) run(do func() error) error {
	answer := make(chan error, 1)
	if err := c.hand(job{do: do, answer: func(err error) { answer <- err }}); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-c.stuck:
		return c.hangs()
	}
}

// hand gives the goroutine a write, once there is room for it.
func (c *checked) hand(j job) error {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	switch {
	case c.isStuck():
		return fmt.Errorf("%w: %w", ErrFailed, c.hangs())
	case c.closed:
		return ErrClosed
	}
	select {
	case c.jobs <- j:
		return nil
	case <-c.stuck:
		return c.hangs()
	}
}

// hang notes, once, that a write takes too long. Nothing more is taken then.
func (c *checked) hang() {
	c.stuckOnce.Do(func() {
		c.onStuck(c.hangs())
		close(c.stuck)
	})
}

func (c *checked) hangs() error {
	return fmt.Errorf("%w: a write in %s takes longer than %v", ErrStuck, c.dir, c.deadline)
}

func (c *checked) isStuck() bool {
	select {
	case <-c.stuck:
		return true
	default:
		return false
	}
}

// stop ends the goroutine once it has done what it was given. It is an error while a write hangs.
func (c *checked) stop() error {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if !c.closed {
		c.closed = true
		close(c.jobs)
	}
	select {
	case <-c.done:
		return nil
	case <-c.stuck:
	}
	select {
	case <-c.done:
		return nil
	default:
		return c.hangs()
	}
}

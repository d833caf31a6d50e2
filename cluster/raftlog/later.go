package raftlog

import (
	"sync"

	"github.com/hashicorp/raft"
)

// StoreLater appends entries and does not wait for the disk. From its return on they are read like all others; whoever
// counts on them asks Unwritten first. What is written or removed after it comes after it. stored is told what became of
// it, by the goroutine that writes: an error is the end of the store. OnStuck is told of a write that takes longer than the
// deadline.
func (c *checked) StoreLater(logs []*raft.Log, stored func(error)) error {
	if len(logs) == 0 {
		stored(nil)
		return nil
	}
	j := job{do: c.append(logs), answer: func(err error) {
		if err == nil {
			c.tail.written()
		}
		stored(err)
	}}
	c.tail.add(logs)
	if err := c.hand(j); err != nil {
		c.tail.drop()
		return err
	}
	return nil
}

// Unwritten answers nil if no entry up to an index waits for the disk, and else a channel that is closed once one that
// waits was written: then ask again. After a write that failed none is closed any more.
func (c *checked) Unwritten(index uint64) <-chan struct{} { return c.tail.unwritten(index) }

// tail is the end of a log that is not on the disk yet: appends, oldest first. Its zero value is empty.
type tail struct {
	mu      sync.Mutex
	appends [][]*raft.Log
	// progress is closed when the oldest append was written; nil: nobody waits.
	progress chan struct{}
}

// add appends to the tail.
func (t *tail) add(logs []*raft.Log) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.appends = append(t.appends, logs)
}

// drop takes back what was added last.
func (t *tail) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.appends = t.appends[:len(t.appends)-1]
}

// written takes away the oldest append.
func (t *tail) written() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.appends = t.appends[1:]
	if t.progress != nil {
		close(t.progress)
		t.progress = nil
	}
}

func (t *tail) unwritten(index uint64) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.appends) == 0 || t.appends[0][0].Index > index {
		return nil
	}
	if t.progress == nil {
		t.progress = make(chan struct{})
	}
	return t.progress
}

// ends are the first and the last index of the tail; 0: it is empty.
func (t *tail) ends() (first, last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.appends) == 0 {
		return 0, 0
	}
	newest := t.appends[len(t.appends)-1]
	return t.appends[0][0].Index, newest[len(newest)-1].Index
}

// get reads an entry of the tail, if it is there.
func (t *tail) get(index uint64, l *raft.Log) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, logs := range t.appends {
		if first := logs[0].Index; index >= first && index-first < uint64(len(logs)) {
			*l = *logs[index-first]
			return true
		}
	}
	return false
}

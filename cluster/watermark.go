package cluster

import "sync"

// watermark is an index that only grows, and those who wait for it.
type watermark struct {
	mu sync.Mutex
	at uint64
	// waiting holds a channel to close for each waiter, by the index that it waits for.
	waiting map[chan struct{}]uint64
}

// reach raises the mark and wakes those who waited for it.
func (w *watermark) reach(index uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = max(w.at, index)
	for c, want := range w.waiting {
		if want <= w.at {
			delete(w.waiting, c)
			close(c)
		}
	}
}

func (w *watermark) index() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

// wait answers a channel that is closed once the mark has reached an index, and a function to give up with.
func (w *watermark) wait(index uint64) (reached <-chan struct{}, giveUp func()) {
	c := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at >= index {
		close(c)
		return c, func() {}
	}
	if w.waiting == nil {
		w.waiting = map[chan struct{}]uint64{}
	}
	w.waiting[c] = index
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting, c)
	}
}

package sim

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"sync"
	"time"
)

// trace is what happened in a world, in order: every packet goes into its sum, so that two runs can be compared; what a
// person wants to know is written down.
type trace struct {
	begun time.Time
	out   io.Writer
	// every: packets are written down, too.
	every bool

	// mu is held for one event at a time.
	mu      sync.Mutex
	sum     hash.Hash64
	packets uint64
}

func newTrace(out io.Writer) *trace {
	return &trace{begun: time.Now(), out: out, sum: fnv.New64a()}
}

// packet notes a packet in the sum.
func (t *trace) packet(w way, size int, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.packets++
	_, _ = io.WriteString(t.sum, w.from+">"+w.to) // a hash takes everything
	_, _ = t.sum.Write(binary.BigEndian.AppendUint64(nil, uint64(size)))
	_, _ = t.sum.Write(binary.BigEndian.AppendUint64(nil, uint64(at.Sub(t.begun))))
	if t.every {
		_, _ = fmt.Fprintf(t.out, "%12.6f %s>%s %d bytes\n", time.Since(t.begun).Seconds(), w.from, w.to, size)
	}
}

// note writes an event down, and into the sum.
func (t *trace) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := fmt.Sprintf("%12.6f %s\n", time.Since(t.begun).Seconds(), fmt.Sprintf(format, args...))
	_, _ = io.WriteString(t.sum, line)
	// A trace that cannot be written is not there when it is wanted; the run's verdict does not hang on it.
	_, _ = io.WriteString(t.out, line)
}

// digest is the sum so far, and of how many packets.
func (t *trace) digest() (sum, packets uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum.Sum64(), t.packets
}

package sim

import (
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how many bytes may be under way, or arrived and not read; a connection with more breaks. Writing never waits:
// net/http writes under a lock, and virtual time stands still while a goroutine waits for one.
const window = 64 << 20

// stream is one direction of a connection. It has one reader and one writer.
type stream struct {
	network *network
	link    *link
	// number is that of its connection.
	number uint64
	// arrived wakes the reader: something has changed.
	arrived chan struct{}

	// mu guards what follows. It may be taken under the network's mu, not the other way round.
	mu    sync.Mutex
	queue []segment
	bytes int
	// last is when the last segment arrives: streams keep their order.
	last time.Time
	// ended, if set, is what the reader gets from endAt on, after the queue.
	ended error
	endAt time.Time
	// left: the reader's side is closed; stopped: the writer's is.
	left, stopped   bool
	readBy, writeBy time.Time
}

// segment is what one write sent.
type segment struct {
	data []byte
	at   time.Time
}

func newStream(n *network, l *link) *stream {
	return &stream{network: n, link: l, number: n.conns, arrived: make(chan struct{}, 1)}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *stream) change(do func()) {
	s.mu.Lock()
	do()
	s.mu.Unlock()
	poke(s.arrived)
}

func (s *stream) leave()                                { s.change(func() { s.left, s.queue, s.bytes = true, nil, 0 }) }
func (s *stream) stop()                                 { s.change(func() { s.stopped = true }) }
func (s *stream) setDeadline(d *time.Time, t time.Time) { s.change(func() { *d = t }) }

// finish has the reader get an error at a time, and after what was sent before.
func (s *stream) finish(at time.Time, err error) {
	s.change(func() {
		if s.ended != nil && s.ended == err {
			return
		}
		s.ended, s.endAt = err, at
		if s.last.After(at) {
			s.endAt = s.last
		}
	})
}

// tear loses the second half of the last that was sent and has not arrived.
func (s *stream) tear() {
	s.change(func() {
		if last := len(s.queue) - 1; last >= 0 {
			data := s.queue[last].data
			s.bytes -= len(data) - len(data)/2
			s.queue[last].data = data[:len(data)/2]
		}
	})
}

// postpone has nothing arrive before a time.
func (s *stream) postpone(until time.Time) {
	s.change(func() {
		for i := range s.queue {
			if s.queue[i].at.Before(until) {
				s.queue[i].at = until
			}
		}
		if s.last.Before(until) {
			s.last = until
		}
		if s.ended != nil && s.endAt.Before(until) {
			s.endAt = until
		}
	})
}

// read waits for what arrives next.
func (s *stream) read(p []byte) (int, error) {
	for {
		held := s.network.held(s.link)
		n, wait, err := s.take(p, held)
		if n > 0 || err != nil {
			return n, err
		}
		s.await(wait)
	}
}

// await waits for news, at most for a span; a negative one: for ever.
func (s *stream) await(span time.Duration) {
	if span < 0 {
		<-s.arrived
		return
	}
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-s.arrived:
	case <-timer.C:
	}
}

// take gives what has arrived, or how long to wait for more.
func (s *stream) take(p []byte, held bool) (n int, wait time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.left {
		return 0, 0, net.ErrClosed
	}
	if !s.readBy.IsZero() && !now.Before(s.readBy) {
		return 0, 0, os.ErrDeadlineExceeded
	}
	wait = until(now, s.readBy)
	if held {
		return 0, wait, nil
	}
	if len(s.queue) > 0 {
		if first := s.queue[0].at; first.After(now) {
			return 0, sooner(wait, first.Sub(now)), nil
		}
		return s.consume(p, now), 0, nil
	}
	if s.ended != nil {
		if s.endAt.After(now) {
			return 0, sooner(wait, s.endAt.Sub(now)), nil
		}
		return 0, 0, s.ended
	}
	return 0, wait, nil
}

// consume copies all that has arrived, as far as there is place.
func (s *stream) consume(p []byte, now time.Time) (n int) {
	for len(s.queue) > 0 && n < len(p) && !s.queue[0].at.After(now) {
		copied := copy(p[n:], s.queue[0].data)
		n += copied
		if s.queue[0].data = s.queue[0].data[copied:]; len(s.queue[0].data) == 0 {
			s.queue = s.queue[1:]
		}
	}
	s.bytes -= n
	return n
}

func until(now, deadline time.Time) time.Duration {
	if deadline.IsZero() {
		return -1
	}
	return deadline.Sub(now)
}

// sooner is the shorter of two spans of which the first may be for ever.
func sooner(a, b time.Duration) time.Duration {
	if a < 0 {
		return b
	}
	return min(a, b)
}

// write sends.
func (s *stream) write(p []byte) (int, error) {
	n := s.network
	n.mu.Lock()
	at := time.Now().Add(n.delay(s.link))
	n.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return 0, net.ErrClosed
	case !s.writeBy.IsZero() && !time.Now().Before(s.writeBy):
		return 0, os.ErrDeadlineExceeded
	case s.bytes+len(p) > window:
		return 0, syscall.ENOBUFS
	}
	if at.Before(s.last) {
		at = s.last
	}
	s.last = at
	if !s.left {
		s.queue = append(s.queue, segment{data: append([]byte(nil), p...), at: at})
		s.bytes += len(p)
	}
	n.trace.packet(s.link.way, len(p), at)
	poke(s.arrived)
	return len(p), nil
}

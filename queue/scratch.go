package queue

import "strings"

// Scratch is memory that a Writer lends to the functions of this package, which would else ask for some with each key and
// value. A Writer has it by embedding it, and is then used by one goroutine.
type Scratch struct {
	key  []byte // what keys are built in, one at a time
	room []byte // the rest of the piece that values are made of
}

// scratchRoom is how much is asked for at once. What is in it is kept as long as any of it is used.
const scratchRoom = 32 << 10

// lender is a Writer that has a Scratch.
type lender interface{ scratch() *Scratch }

func (s *Scratch) scratch() *Scratch { return s }

// scratchOf is what a reader or writer lends; nil, which asks for new memory each time, if it lends nothing.
func scratchOf(r Reader) *Scratch {
	if l, ok := r.(lender); ok {
		return l.scratch()
	}
	return nil
}

// buffer is what a key is built in. It is good until the next one is asked for.
func (s *Scratch) buffer() []byte {
	if s == nil {
		return make([]byte, 0, 48)
	}
	if s.key == nil {
		s.key = make([]byte, 0, 128)
	}
	return s.key[:0]
}

// value gives room for a value, which is given to nobody else.
func (s *Scratch) value(bytes int) []byte {
	if s == nil || bytes > scratchRoom/4 {
		return make([]byte, bytes)
	}
	if len(s.room) < bytes {
		s.room = make([]byte, scratchRoom)
	}
	v := s.room[:bytes:bytes]
	s.room = s.room[bytes:]
	return v
}

// keyRoom gives keys that are strings, many of them from one piece of memory.
type keyRoom struct{ b strings.Builder }

func (r *keyRoom) key(key []byte) string {
	if len(key) > scratchRoom/4 {
		return string(key)
	}
	if r.b.Cap()-r.b.Len() < len(key) {
		r.b = strings.Builder{}
		r.b.Grow(scratchRoom)
	}
	r.b.Write(key)
	return r.b.String()[r.b.Len()-len(key):]
}

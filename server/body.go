package server

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"sluice/api/reason"
)

// bodyGuard bounds the body of a call with one request: its size, before it is read into memory, and the time it
// may take to arrive. Connect has a limit of its own; this one answers with the contract's reason.
type bodyGuard struct {
	body    io.Reader
	closer  io.Closer
	control *http.ResponseController
	most    int64 // of the message; what frames it is not counted
	left    int64 // bytes of body that may still come
	framed  bool  // gRPC: the next five bytes tell how long the message says it is
	pending []byte
}

// guardBody puts a guard before the body of a request that is not a stream. A compressed body is unpacked here, so
// that the limit is on what is unpacked.
func guardBody(w http.ResponseWriter, r *http.Request, most int64, within time.Duration) {
	framed := strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
	guard := &bodyGuard{body: r.Body, closer: r.Body, control: http.NewResponseController(w), most: most, left: most, framed: framed}
	if framed {
		guard.left += framePrefix
	}
	if !framed && r.Header.Get("Content-Encoding") == "gzip" {
		r.Header.Del("Content-Encoding")
		guard.body = &lazyGzip{packed: r.Body}
	}
	guard.deadline(time.Now().Add(within))
	r.Body = guard
}

// framePrefix is what stands before a message in gRPC: a flag and four bytes of length.
const framePrefix = 5

// Read reads on, and refuses the first byte too many.
func (g *bodyGuard) Read(p []byte) (int, error) {
	if g.framed {
		g.framed = false
		if err := g.readFrame(); err != nil {
			return 0, g.ended(err)
		}
	}
	if len(g.pending) > 0 {
		n := copy(p, g.pending)
		g.pending = g.pending[n:]
		return n, nil
	}
	if g.left == 0 {
		return 0, g.ended(g.probe())
	}
	n, err := g.body.Read(p[:min(int64(len(p)), g.left)])
	g.left -= int64(n)
	return n, g.ended(err)
}

// readFrame reads the length that a gRPC message says it has.
func (g *bodyGuard) readFrame() error {
	prefix := make([]byte, framePrefix)
	n, err := io.ReadFull(g.body, prefix)
	g.pending, g.left = prefix[:n], g.left-int64(n)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil // what there is goes to Connect, which knows what to say
		}
		return err
	}
	if int64(binary.BigEndian.Uint32(prefix[1:])) > g.most {
		return g.tooLong()
	}
	return nil
}

// probe tells whether the body ends where the limit is.
func (g *bodyGuard) probe() error {
	var one [1]byte
	n, err := io.ReadFull(g.body, one[:])
	if n == 0 {
		return err
	}
	return g.tooLong()
}

// tooLong refuses the body. The rest is read and dropped up to twice the limit: most clients read the answer only
// after they have sent everything.
func (g *bodyGuard) tooLong() error {
	// Whatever goes wrong here, the answer is the same.
	_, _ = io.CopyN(io.Discard, g.body, 2*g.most)
	return toWire(reason.LimitMessageBytes.Errorf("the call is larger than %d bytes (%d MiB), the most a call may have", g.most, g.most>>20))
}

// ended lifts the deadline once the body was read: the answer may take longer.
func (g *bodyGuard) ended(err error) error {
	if err != nil {
		g.deadline(time.Time{})
	}
	return err
}

func (g *bodyGuard) deadline(at time.Time) {
	// A connection without deadlines (a test's recorder) has no slow senders.
	_ = g.control.SetReadDeadline(at)
}

// Close closes the body.
func (g *bodyGuard) Close() error { return g.closer.Close() }

// lazyGzip unpacks a body when it is first read, so that a broken header is answered like any other broken body.
type lazyGzip struct {
	packed io.Reader
	plain  *gzip.Reader
}

// Read unpacks.
func (z *lazyGzip) Read(p []byte) (n int, err error) {
	if z.plain == nil {
		if z.plain, err = gzip.NewReader(z.packed); err != nil {
			z.plain = nil
			return 0, gzipFault(err)
		}
	}
	n, err = z.plain.Read(p)
	return n, gzipFault(err)
}

func gzipFault(err error) error {
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return toWire(reason.BadField.Errorf("the body says it is gzip and cannot be unpacked: %v", err))
}

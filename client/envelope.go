package client

import (
	"encoding/binary"
	"io"
	"net/http"
)

const (
	// streamType is the content type of a stream's requests and answers.
	streamType = "application/connect+proto"
	// envelopeBytes is the length of what precedes each message of a stream: a byte of flags, and the message's length.
	envelopeBytes = 5
)

// envelopes reads the body of a stream a message at a time. The RPC library writes what precedes a message and the message
// itself one after the other, and the HTTP library sends what a Read gives it as a frame of its own, with a system call.
type envelopes struct {
	io.ReadCloser
	prefix [envelopeBytes]byte
	told   int // bytes of the prefix that were read
	left   int // bytes of the message that were not read
}

// gathered is the request with a body that is read a message at a time, if it is that of a stream.
func gathered(req *http.Request) *http.Request {
	if req.Body == nil || req.Header.Get("Content-Type") != streamType {
		return req
	}
	own := *req
	own.Body = &envelopes{ReadCloser: req.Body}
	return &own
}

// Read gives as much of one message as fits, with what precedes it. It waits for the whole, which is being written.
func (e *envelopes) Read(p []byte) (n int, err error) {
	if e.left == 0 {
		n, err = io.ReadFull(e.ReadCloser, p[:min(envelopeBytes-e.told, len(p))])
		copy(e.prefix[e.told:], p[:n])
		if e.told += n; err != nil || e.told < envelopeBytes {
			return n, err
		}
		e.left, e.told = int(binary.BigEndian.Uint32(e.prefix[1:])), 0
	}
	read, err := io.ReadFull(e.ReadCloser, p[n:n+min(e.left, len(p)-n)])
	e.left -= read
	return n + read, err
}

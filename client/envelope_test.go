package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"testing"
)

// wrapped is a message as it stands in a stream.
func wrapped(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(data))), data...)
}

func TestAStreamIsReadAMessageAtATime(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	small, empty, large := wrapped([]byte("small")), wrapped(nil), wrapped(bytes.Repeat([]byte("large"), 100))
	go func() {
		for _, message := range [][]byte{small, empty, large, small} {
			for _, part := range [][]byte{message[:envelopeBytes], message[envelopeBytes:]} {
				if len(part) == 0 {
					continue
				}
				if _, err := writer.Write(part); err != nil {
					return // the test has ended
				}
			}
		}
		_ = writer.Close()
	}()
	req, err := http.NewRequest(http.MethodPost, "http://node", reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", streamType)
	body := gathered(req).Body
	defer body.Close()
	room := make([]byte, 300)
	for _, want := range [][]byte{small, empty, large[:300], large[300:]} {
		n, err := body.Read(room)
		if err != nil || !bytes.Equal(room[:n], want) {
			t.Fatalf("a Read gives %d bytes, %v; want %d", n, err, len(want))
		}
	}
	for _, want := range [][]byte{small[:3], small[3:6], small[6:9], small[9:]} {
		if n, err := body.Read(room[:3]); err != nil || !bytes.Equal(room[:n], want) {
			t.Fatalf("a short Read gives %q, %v; want %q", room[:n], err, want)
		}
	}
	if n, err := body.Read(room); n != 0 || err != io.EOF {
		t.Fatalf("after the last message a Read gives %d bytes, %v; want io.EOF", n, err)
	}
}

func TestAStreamThatBreaksWithinAMessageSaysWhy(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	why := errors.New("the caller gave up")
	go func() {
		message := wrapped([]byte("whole"))
		_, _ = writer.Write(message[:len(message)-1]) // the reader tells of an error
		_ = writer.CloseWithError(why)
	}()
	body := &envelopes{ReadCloser: reader}
	if _, err := body.Read(make([]byte, 64)); !errors.Is(err, why) {
		t.Fatalf("got %v, want %v", err, why)
	}
}

func TestOnlyStreamsAreReadAMessageAtATime(t *testing.T) {
	t.Parallel()
	req, err := http.NewRequest(http.MethodPost, "http://node", bytes.NewReader(make([]byte, 3)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", unaryType)
	if got := gathered(req); got != req {
		t.Fatal("the body of a unary call is read in another way")
	}
}

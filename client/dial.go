package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// handshakeTimeout bounds the TLS handshake, and then the node's first frame.
	handshakeTimeout = 5 * time.Second
	// http2Header is the length of a frame's header in HTTP/2.
	http2Header = 9
	// excerptMost is how much of an answer that is no HTTP/2 is read, to be shown.
	excerptMost = 200
	// excerptWait is how long is waited for it.
	excerptWait = 200 * time.Millisecond
)

// wayError is a connection that came to nothing before a call was put on it: nothing was done. What it came from is
// not unwrapped: on the way through the HTTP and RPC libraries an end of file would be taken for one in an answer.
type wayError struct {
	text string
	err  error
	// lasting: the same again will fail in the same way, as with a certificate or a protocol that does not fit.
	lasting bool
}

func (e *wayError) Error() string { return e.text + ": " + e.err.Error() }

// notEstablished is what the HTTP library says, without an error of its own to compare with, of a connection that ended
// before a request could be put on it: the request was not sent.
const notEstablished = "http2: client conn could not be established"

// ways is the transport that remembers, by address, why the last connection came to nothing: a call that waited for that
// connection is told only that there is none.
type ways struct {
	*http.Transport
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	lost sync.Map // address → *wayError
}

// RoundTrip is the transport's, with the reason that it leaves out.
func (w *ways) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := w.Transport.RoundTrip(gathered(req))
	if err == nil {
		return known(req, res)
	}
	if !strings.Contains(err.Error(), notEstablished) {
		return nil, err
	}
	if why, ok := w.lost.Load(req.URL.Host); ok {
		return nil, why.(*wayError)
	}
	return nil, err
}

// known gives an answer to a unary call that a node may have given: one in the protocol of the calls, or in plain text
// from a proxy that says that the node is away or that there is too much to do. Anything else is of a stranger who
// speaks HTTP/2, too.
func known(req *http.Request, res *http.Response) (*http.Response, error) {
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	switch {
	case req.Header.Get("Content-Type") != unaryType, kind == unaryType, kind == "application/json":
		return res, nil
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusRequestTimeout, res.StatusCode >= http.StatusInternalServerError && res.StatusCode != http.StatusNotImplemented:
		return res, nil
	}
	_ = res.Body.Close() // nothing of it is wanted
	return nil, &wayError{noNode(req.URL.Host), fmt.Errorf("it answers HTTP status %s of type %q", res.Status, kind), true}
}

// unaryType is the content type of a unary call and of its answer.
const unaryType = "application/proto"

// noNode says that somebody else has an address.
func noNode(address string) string { return "what answers at " + address + " is no Sluice node" }

// note gives a way's error, and remembers it.
func (w *ways) note(address string, e *wayError) error {
	w.lost.Store(address, e)
	return e
}

// dialPlain opens a connection without TLS.
func (w *ways) dialPlain(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := w.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return w.greet(raw, address), nil
}

// dialSecure opens connections with TLS.
func (w *ways) dialSecure(cfg *tls.Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		raw, err := w.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		own := cfg.Clone()
		own.ServerName = orDefault(own.ServerName, host)
		secured := tls.Client(raw, own)
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = raw.Close() // what went wrong is the handshake
			return nil, handshakeError(err)
		}
		if p := secured.ConnectionState().NegotiatedProtocol; p != "h2" {
			_ = raw.Close()
			return nil, &wayError{"the peer does not speak HTTP/2", fmt.Errorf("it chose %q in the TLS handshake", p), true}
		}
		return w.greet(secured, address), nil
	}
}

// handshakeError judges why there is no TLS. What a connection or a clock did may pass; what the two sides think of
// each other does not.
func handshakeError(err error) error {
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record):
		return &wayError{"the peer does not speak TLS", err, true}
	case refusal(err):
		return &wayError{"the node refuses the TLS handshake", err, true}
	}
	return &wayError{"no TLS connection", err, !passing(err)}
}

// refusal says that the error is a TLS alert of the other side.
func refusal(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// passing says that a connection broke or time ran out, which another attempt may mend.
func passing(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &op) && op.Op != "local error" && op.Op != "remote error"
}

// greeting is a connection whose other side must show that it speaks HTTP/2 before a call is put on it: the first Write,
// which is the client's own greeting, ends when the other side's first frame is there. So what goes wrong before was
// surely not done. With TLS 1.3 it is here that a node refuses the client's certificate. The first Write is that of the
// HTTP library's dialing, which holds no lock meanwhile; with those of calls it holds the connection's, for which a call
// that is given up would wait.
type greeting struct {
	net.Conn
	ways    *ways
	address string
	written bool   // by the first Write; it ends before there is another one, or a Read
	first   []byte // what was read of the first frame and not given yet
}

func (w *ways) greet(conn net.Conn, address string) *greeting {
	return &greeting{Conn: conn, ways: w, address: address}
}

// Read gives the first frame, then what the connection has. Only one goroutine reads at a time.
func (g *greeting) Read(p []byte) (int, error) {
	if len(g.first) == 0 {
		return g.Conn.Read(p)
	}
	n := copy(p, g.first)
	g.first = g.first[n:]
	return n, nil
}

// Write writes; the first one waits for the other side's first frame. Only one goroutine writes at a time.
func (g *greeting) Write(p []byte) (int, error) {
	if g.written {
		return g.Conn.Write(p)
	}
	g.written = true
	n, err := g.Conn.Write(p)
	if why := g.listen(); why != nil { // if the greeting was not written the other side may have said why
		return n, why
	}
	return n, err
}

// listen waits for the other side's first frame.
func (g *greeting) listen() error {
	if err := g.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return g.ways.note(g.address, &wayError{"the connection ended before the node spoke", err, false})
	}
	header := make([]byte, http2Header)
	n, err := io.ReadFull(g.Conn, header)
	switch {
	case n > 0 && !settings(header[:n]):
		return g.ways.note(g.address, &wayError{"the peer does not speak HTTP/2 as it is spoken here", fmt.Errorf("it says %q", g.excerpt(header[:n])), true})
	case err != nil && refusal(err):
		return g.ways.note(g.address, &wayError{"the node refuses the certificate that this side shows, or the lack of one", err, true})
	case err != nil:
		return g.ways.note(g.address, &wayError{"the connection ended before the node spoke", err, false})
	}
	g.first = header
	return g.SetReadDeadline(time.Time{})
}

// settings says that the bytes are, or begin, the header of a SETTINGS frame: the first of each side in HTTP/2.
func settings(header []byte) bool {
	pattern := [http2Header]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	for i, b := range header {
		if i != 1 && i != 2 && b != pattern[i] { // these two are the length
			return false
		}
	}
	return true
}

// excerpt is the start of what a peer says that is no node, on one line.
func (g *greeting) excerpt(start []byte) string {
	if g.SetReadDeadline(time.Now().Add(excerptWait)) != nil {
		return string(start)
	}
	more, _ := io.ReadAll(io.LimitReader(g.Conn, excerptMost)) // as much as there is
	return strings.Join(strings.Fields(string(start)+string(more)), " ")
}

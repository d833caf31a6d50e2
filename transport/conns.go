package transport

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
)

// trackedConn is an accepted TCP connection: it gives its place back when it is closed.
type trackedConn struct {
	net.Conn
	t    *Transport
	once sync.Once
	err  error
	// place is the count that the connection is part of, once it is known whose it is.
	place atomic.Pointer[atomic.Int64]
}

// Close closes the connection and gives its place back, once.
func (c *trackedConn) Close() error {
	c.once.Do(func() {
		c.err = c.Conn.Close()
		c.t.forget(c)
		if place := c.place.Load(); place != nil {
			place.Add(-1)
		}
	})
	return c.err
}

// take counts the connection in, unless max are there already.
func (c *trackedConn) take(count *atomic.Int64, max int) bool {
	if count.Add(1) > int64(max) {
		count.Add(-1)
		return false
	}
	c.place.Store(count)
	return true
}

// readBufferBytes is how much of a connection is read ahead.
const readBufferBytes = 16 << 10

// bufferedConn is a connection that is read ahead. The HTTP/2 server reads each frame's header and then what it holds:
// without a buffer that is two system calls for each frame.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func buffered(conn net.Conn) *bufferedConn {
	return &bufferedConn{conn, bufio.NewReaderSize(conn, readBufferBytes)}
}

// Read gives what was read ahead, then what the connection has. Only one goroutine reads at a time.
func (c *bufferedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// nodeConn is a connection from a node that has told its id.
type nodeConn struct {
	net.Conn
	peer string
}

// PeerOf is the node id that the other end of a connection from RaftListener gave; with TLS its certificate proves it.
// Empty for other connections.
func PeerOf(conn net.Conn) string {
	if c, ok := conn.(*nodeConn); ok {
		return c.peer
	}
	return ""
}

// handover is a net.Listener whose connections come from the one port.
type handover struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	// onClose is called once, at Close.
	onClose func()
}

func newHandover(addr net.Addr, onClose func()) *handover {
	return &handover{addr: addr, conns: make(chan net.Conn), done: make(chan struct{}), onClose: onClose}
}

// Accept waits for the next connection.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; connections handed over before are not touched.
func (h *handover) Close() error {
	h.once.Do(func() {
		close(h.done)
		if h.onClose != nil {
			h.onClose()
		}
	})
	return nil
}

// Addr is the address of the port.
func (h *handover) Addr() net.Addr { return h.addr }

// give hands a connection over, and closes it if nobody will take it any more.
func (h *handover) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.done:
		closeQuietly(conn)
	}
}

// closeQuietly closes a connection that is given up: there is nobody whom its error would help.
func closeQuietly(conn net.Conn) {
	if c, ok := conn.(*tls.Conn); ok {
		// The TLS farewell could block for seconds on a peer that is gone.
		conn = c.NetConn()
	}
	_ = conn.Close()
}

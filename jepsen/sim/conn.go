package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// address is HOST:PORT.
type address string

// Network is "tcp".
func (address) Network() string { return "tcp" }

// String is HOST:PORT.
func (a address) String() string { return string(a) }

// listener takes connections to a port of a host.
type listener struct {
	host   *host
	at     address
	accept chan *conn
	closed chan struct{}
	once   sync.Once
}

const backlog = 128

// listen opens a port.
func (h *host) listen(_, at string) (net.Listener, error) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	if h.gone {
		return nil, net.ErrClosed
	}
	if h.listeners[at] != nil {
		return nil, fmt.Errorf("listen %s: %w", at, syscall.EADDRINUSE)
	}
	l := &listener{host: h, at: address(at), accept: make(chan *conn, backlog), closed: make(chan struct{})}
	h.listeners[at] = l
	return l, nil
}

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close closes the port.
func (l *listener) Close() error {
	l.host.network.mu.Lock()
	defer l.host.network.mu.Unlock()
	delete(l.host.listeners, string(l.at))
	l.stop()
	return nil
}

func (l *listener) stop() { l.once.Do(func() { close(l.closed) }) }

// Addr is the port's address.
func (l *listener) Addr() net.Addr { return l.at }

// knock is the wait between the tries of a dial that nobody answers.
const knock = time.Second

// dial opens a connection from this host, for as long as ctx allows.
func (h *host) dial(ctx context.Context, _, at string) (net.Conn, error) {
	to, _, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	for {
		span, open := h.knock(to, at)
		timer := time.NewTimer(span)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(at), Err: ctx.Err()}
		}
		if open == nil {
			continue
		}
		c, err := open()
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(at), Err: err}
		}
		return c, nil
	}
}

// knock asks for a connection once. It answers how long the answer takes, and what it is; nil: none will come.
func (h *host) knock(to, at string) (time.Duration, func() (net.Conn, error)) {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	there, back := n.link(way{h.name, to}), n.link(way{to, h.name})
	host := n.hosts[to]
	if there.cuts+back.cuts > 0 || host == nil || host.dark {
		return knock, nil
	}
	return n.delay(there) + n.delay(back), func() (net.Conn, error) { return h.connect(to, at) }
}

func (h *host) connect(to, at string) (net.Conn, error) {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	target := n.hosts[to]
	if h.gone {
		return nil, net.ErrClosed
	}
	if target == nil || target.gone || target.listeners[at] == nil {
		return nil, syscall.ECONNREFUSED
	}
	n.conns++
	there, back := newStream(n, n.link(way{h.name, to})), newStream(n, n.link(way{to, h.name}))
	t := &talk{}
	near := &conn{host: h, number: n.conns, out: there, in: back, local: address(h.name + ":0"), remote: address(at), talk: t, asks: true}
	far := &conn{host: target, number: n.conns, out: back, in: there, local: address(at), remote: address(h.name + ":0"), talk: t}
	select {
	case target.listeners[at].accept <- far:
	default:
		return nil, syscall.ECONNREFUSED
	}
	h.conns[near], target.conns[far] = struct{}{}, struct{}{}
	there.link.streams[there], back.link.streams[back] = struct{}{}, struct{}{}
	return near, nil
}

// conn is one end of a connection. One goroutine may read and one write at a time, as all that use it here do.
type conn struct {
	host          *host
	number        uint64
	in, out       *stream
	local, remote address
	once          sync.Once
	// talk is both ends'; asks: this end made the connection.
	talk *talk
	asks bool
}

// Read reads what has arrived.
func (c *conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write sends.
func (c *conn) Write(p []byte) (int, error) {
	at := c.point(p)
	if at == "" {
		return c.out.write(p)
	}
	c.host.watched(at, false)
	n, err := c.out.write(p)
	if err == nil {
		c.host.watched(at, true)
	}
	return n, err
}

// Close ends both directions; the other end learns it after what was sent before.
func (c *conn) Close() error {
	n := c.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	c.once.Do(func() {
		delete(c.host.conns, c)
		c.in.leave()
		c.out.stop()
		c.out.finish(time.Now().Add(n.delay(c.out.link)), io.EOF)
		delete(c.in.link.streams, c.in)
	})
	return nil
}

// LocalAddr is this end's address.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the other end's address.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline bounds reads, those that wait too.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	return nil
}

// SetWriteDeadline bounds writes, those that wait too.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

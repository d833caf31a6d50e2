package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// The health of a connection between nodes. A dead peer is noticed after pingAfter + pingTimeout.
const (
	pingAfter    = 2 * time.Second
	pingTimeout  = 3 * time.Second
	writeTimeout = 5 * time.Second
	// streamsMax is how many calls one peer may have under way at a node; further ones wait at the caller.
	streamsMax = 4096
	frameBytes = 256 << 10
	// The windows hold a usual batch whole; greater bodies take several turns.
	streamWindow     = 2 << 20
	connectionWindow = 3 << 20
)

func http2Config() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams: streamsMax, MaxReadFrameSize: frameBytes,
		MaxReceiveBufferPerConnection: connectionWindow, MaxReceiveBufferPerStream: streamWindow,
		SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: writeTimeout,
	}
}

// onlyHTTP2 is HTTP/2 without a handshake of its own: a node's connection is already known to be one.
func onlyHTTP2() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// peerPool keeps one connection to each peer that is called.
type peerPool struct {
	transport *http.Transport
	// life ends when the pool closes, and with it what is being dialled.
	life context.Context
	end  context.CancelFunc
	// dials are the goroutines that open connections.
	dials sync.WaitGroup

	// mu guards what follows.
	mu     sync.Mutex
	closed bool
	// peers has the connection to each address that new calls take.
	peers map[string]*peerConn
	// open has every connection that is not known to be closed, also those that new calls do not take any more.
	open map[*http.ClientConn]struct{}
}

// peerConn is a connection to a peer, or the try to open one. http and err may be read once ready is closed.
type peerConn struct {
	addr  string
	ready chan struct{}
	http  *http.ClientConn
	err   error
}

func newPeerPool(dial func(ctx context.Context, addr string) (net.Conn, error)) *peerPool {
	p := &peerPool{peers: map[string]*peerConn{}, open: map[*http.ClientConn]struct{}{}}
	p.life, p.end = context.WithCancel(context.Background())
	p.transport = &http.Transport{
		DialContext:        func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) },
		Protocols:          onlyHTTP2(),
		HTTP2:              http2Config(),
		DisableCompression: true,
	}
	return p
}

// get gives a connection to addr, opened by the first who asks. Opening goes on when the caller's ctx ends: others
// may wait for it.
func (p *peerPool) get(ctx context.Context, addr string) (*peerConn, error) {
	conn, err := p.find(addr)
	if err != nil {
		return nil, err
	}
	select {
	case <-conn.ready:
	default:
		select {
		case <-conn.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return conn, conn.err
}

func (p *peerPool) find(addr string) (*peerConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, net.ErrClosed
	}
	if conn, ok := p.peers[addr]; ok {
		return conn, nil
	}
	conn := &peerConn{addr: addr, ready: make(chan struct{})}
	p.peers[addr] = conn
	p.dials.Go(func() { p.dial(conn) })
	return conn, nil
}

// dial opens a connection. The tries of one address do not overlap.
func (p *peerPool) dial(conn *peerConn) {
	client, err := p.transport.NewClientConn(p.life, "http", conn.addr)
	if err == nil {
		err = p.opened(conn, client)
	}
	conn.http, conn.err = client, err
	if err != nil {
		p.drop(conn)
	}
	close(conn.ready)
}

func (p *peerPool) opened(conn *peerConn, client *http.ClientConn) error {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.open[client] = struct{}{}
	}
	p.mu.Unlock()
	if closed {
		return errors.Join(net.ErrClosed, client.Close())
	}
	client.SetStateHook(func(client *http.ClientConn) {
		if client.Err() != nil {
			p.drop(conn)
			p.forget(client)
		}
	})
	return nil
}

func (p *peerPool) forget(client *http.ClientConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, client)
}

// drop makes new calls open another connection, and tells whether the pool is still open. Calls that are under way
// on this one go on.
func (p *peerPool) drop(conn *peerConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.peers[conn.addr] == conn {
		delete(p.peers, conn.addr)
	}
	return !p.closed
}

// close ends all connections, and the calls on them.
func (p *peerPool) close() {
	p.mu.Lock()
	p.closed = true
	open := make([]*http.ClientConn, 0, len(p.open))
	for client := range p.open {
		open = append(open, client)
	}
	clear(p.open)
	clear(p.peers)
	p.mu.Unlock()
	p.end()
	for _, client := range open {
		// The connection is given up; its error would help nobody.
		_ = client.Close()
	}
	p.dials.Wait()
}

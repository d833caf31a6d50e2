package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Transport is one node's port. Its methods are safe for use by several goroutines.
type Transport struct {
	cfg       Config
	log       *slog.Logger
	listener  net.Listener
	advertise string
	// certs is nil in plain mode.
	certs   *certificates
	http    *handover
	peerIn  *handover
	peers   *peerPool
	handler atomic.Pointer[PeerHandler]
	memory  budget
	pending chan struct{}
	// clientConns and nodeConns count what is open.
	clientConns, nodeConns atomic.Int64
	// welcomes are the goroutines at a handshake or a hand-over.
	welcomes sync.WaitGroup

	// mu guards what follows.
	mu      sync.Mutex
	stopped bool
	conns   map[*trackedConn]struct{}
	groups  map[uint32]*handover
}

// Listen binds the port and reads the certificates. Run then serves it; without Run, Close gives it up.
func Listen(cfg Config) (*Transport, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	t := &Transport{
		cfg: cfg, log: cfg.Logger.With("component", "transport"),
		pending: make(chan struct{}, pendingMax),
		conns:   map[*trackedConn]struct{}{}, groups: map[uint32]*handover{},
		memory: newBudget(),
	}
	if cfg.secure() {
		certs, err := loadCertificates(cfg, t.log)
		if err != nil {
			return nil, err
		}
		t.certs = certs
	}
	if err := t.bind(); err != nil {
		return nil, err
	}
	t.http = newHandover(t.listener.Addr(), nil)
	t.peerIn = newHandover(t.listener.Addr(), nil)
	t.peers = newPeerPool(t.dialPeer)
	return t, nil
}

func (t *Transport) bind() error {
	listener, err := t.cfg.Bind("tcp", t.cfg.Listen)
	if err != nil {
		return fmt.Errorf("transport: cannot listen on %s: %w", t.cfg.Listen, err)
	}
	t.listener = listener
	if t.advertise, err = t.cfg.advertised(listener.Addr()); err == nil && t.certs != nil {
		err = t.certs.advertise(t.advertise)
	}
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return nil
}

// Run serves until ctx ends, then closes every listener and connection. It is called once.
func (t *Transport) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	server := t.peerServer()
	group.Go(func() error { return t.accept(ctx) })
	group.Go(func() error { return servePeers(server, t.peerIn) })
	if t.certs != nil {
		group.Go(func() error { return t.certs.watch(ctx) })
	}
	group.Go(func() error {
		<-ctx.Done()
		shutdownPeers(server)
		return t.Close()
	})
	err := group.Wait()
	t.welcomes.Wait()
	return err
}

// Close gives the port up: no more connections either way, those that are open are closed. Run's end does the same.
func (t *Transport) Close() error {
	t.mu.Lock()
	done := t.stopped
	t.stopped = true
	conns := make([]*trackedConn, 0, len(t.conns))
	for conn := range t.conns {
		conns = append(conns, conn)
	}
	listeners := []*handover{t.http, t.peerIn}
	for _, group := range t.groups {
		listeners = append(listeners, group)
	}
	t.mu.Unlock()
	if done {
		return nil
	}
	err := t.listener.Close()
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	for _, conn := range conns {
		closeQuietly(conn)
	}
	t.peers.close()
	return err
}

// Addr is the bound address.
func (t *Transport) Addr() net.Addr { return t.listener.Addr() }

// Advertise is the HOST:PORT under which others reach this node.
func (t *Transport) Advertise() string { return t.advertise }

// CertificateExpires is when the node's certificate ends; the zero time in plain mode.
func (t *Transport) CertificateExpires() time.Time {
	if t.certs == nil {
		return time.Time{}
	}
	return t.certs.current.Load().expires
}

// HTTPListener gives the connections of clients: plain ones, or *tls.Conn whose handshake is done and whose ALPN
// chose "h2" or "http/1.1". An http.Server whose Protocols hold HTTP1, HTTP2 and UnencryptedHTTP2 serves both kinds.
func (t *Transport) HTTPListener() net.Listener { return t.http }

// RaftListener gives the raft streams of one group. Streams of a group without a listener are refused. Asked for a
// second time it gives the same listener, or a new one if that was closed.
func (t *Transport) RaftListener(group uint32) net.Listener {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, ok := t.groups[group]; ok {
		return l
	}
	l := newHandover(raftAddr{t.listener.Addr(), t.advertise}, func() { t.dropGroup(group) })
	if t.stopped {
		l.onClose = nil
		return closed(l)
	}
	t.groups[group] = l
	return l
}

// raftAddr prints as the address for others, which is what raft takes a listener's address for.
type raftAddr struct {
	net.Addr
	advertise string
}

func (a raftAddr) String() string { return a.advertise }

func closed(l *handover) *handover {
	_ = l.Close()
	return l
}

func (t *Transport) dropGroup(group uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.groups, group)
}

func (t *Transport) group(group uint32) (*handover, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.groups[group]
	return l, ok
}

// track remembers an accepted connection, so that Close finds it; nil once the transport has stopped.
func (t *Transport) track(raw net.Conn) *trackedConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return nil
	}
	conn := &trackedConn{Conn: raw, t: t}
	t.conns[conn] = struct{}{}
	return conn
}

func (t *Transport) forget(conn *trackedConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, conn)
}

// DialRaft opens a raft stream of a group to a node. When it returns without error, the other side has accepted it.
func (t *Transport) DialRaft(ctx context.Context, group uint32, addr string) (net.Conn, error) {
	conn, err := t.dialNode(ctx, addr, hello{kind: kindRaft, group: group, nodeID: t.cfg.NodeID})
	if err != nil {
		return nil, fmt.Errorf("transport: raft stream to %s: %w", addr, err)
	}
	return conn, nil
}

func (t *Transport) dialPeer(ctx context.Context, addr string) (net.Conn, error) {
	return t.dialNode(ctx, addr, hello{kind: kindPeer, nodeID: t.cfg.NodeID})
}

// dialNode opens a connection, says the hello and waits for the welcome, all within the dial timeout.
func (t *Transport) dialNode(ctx context.Context, addr string, h hello) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout)
	defer cancel()
	conn, err := t.cfg.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	out, err := t.greet(ctx, conn, addr, h)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		closeQuietly(conn)
		return nil, errors.Join(err, ctx.Err())
	}
	return out, nil
}

func (t *Transport) greet(ctx context.Context, conn net.Conn, addr string, h hello) (net.Conn, error) {
	first := h.encode(t.certs == nil)
	if t.certs != nil {
		config, err := t.certs.dialConfig(addr, h.kind)
		if err != nil {
			return nil, err
		}
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secured
	}
	if _, err := conn.Write(first); err != nil {
		return nil, err
	}
	return conn, readWelcome(conn)
}

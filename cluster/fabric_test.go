package cluster

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"

	"sluice/cluster/gossip"
	"sluice/transport"
)

// fabric connects the nodes of a test within the process: raft streams are pipes, calls are calls. Links can be cut.
type fabric struct {
	mu    sync.Mutex
	next  int
	ports map[string]*port
	// cut holds nodes that reach nobody and are reached by nobody.
	cut map[string]bool
	// streams are the open pipes by the addresses of their ends.
	streams map[net.Conn][2]string
	// held, if set, holds back what comes to an address over the streams that it opened, until it is closed.
	held map[string]chan struct{}
	// lost, if set, tells of an answer to a call whether it is lost on its way.
	lost    func(method string, answer []byte) bool
	gossips map[string]*hearsay
}

func newFabric() *fabric {
	return &fabric{ports: map[string]*port{}, cut: map[string]bool{}, streams: map[net.Conn][2]string{}, held: map[string]chan struct{}{}, gossips: map[string]*hearsay{}}
}

// port is one node's Transport.
type port struct {
	fabric  *fabric
	addr    string
	accept  chan net.Conn
	closed  chan struct{}
	once    sync.Once
	handler transport.PeerHandler
}

func (f *fabric) listen() *port {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	return f.listenLocked(fmt.Sprintf("10.0.0.%d:1", f.next))
}

// listenAt takes an address again that nobody has any more, with links that are sound.
func (f *fabric) listenAt(addr string) *port {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.cut, addr)
	return f.listenLocked(addr)
}

func (f *fabric) listenLocked(addr string) *port {
	p := &port{fabric: f, addr: addr, accept: make(chan net.Conn, 16), closed: make(chan struct{})}
	f.ports[p.addr] = p
	return p
}

// isolate cuts or heals all links of an address.
func (f *fabric) isolate(addr string, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[addr] = cut
	f.mu.Unlock()
	if cut {
		f.sever(addr)
	}
	f.mu.Lock()
}

// cutOff cuts all links of an address and leaves its streams open: what is on its way still comes.
func (f *fabric) cutOff(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[addr] = true
}

// sever closes the streams of an address.
func (f *fabric) sever(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c, ends := range f.streams {
		if ends[0] == addr || ends[1] == addr {
			c.Close()
			delete(f.streams, c)
		}
	}
}

// reach finds a port unless the way to it is cut.
func (f *fabric) reach(from, to string) (*port, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.ports[to]
	if p == nil || from != to && (f.cut[from] || f.cut[to]) {
		return nil, fmt.Errorf("%w: from %s to %s", transport.ErrUnreachable, from, to)
	}
	select {
	case <-p.closed:
		return nil, fmt.Errorf("%w: %s is closed", transport.ErrUnreachable, to)
	default:
		return p, nil
	}
}

func (p *port) Advertise() string                { return p.addr }
func (p *port) RaftListener(uint32) net.Listener { return p }
func (p *port) HandlePeers(h transport.PeerHandler) {
	p.fabric.mu.Lock()
	p.handler = h
	p.fabric.mu.Unlock()
}
func (p *port) Addr() net.Addr { return advertised(p.addr) }
func (p *port) Close() error {
	p.once.Do(func() { close(p.closed) })
	p.fabric.sever(p.addr)
	return nil
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *port) DialRaft(ctx context.Context, _ uint32, addr string) (net.Conn, error) {
	to, err := p.fabric.reach(p.addr, addr)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	p.fabric.mu.Lock()
	p.fabric.streams[near], p.fabric.streams[far] = [2]string{p.addr, addr}, [2]string{p.addr, addr}
	p.fabric.mu.Unlock()
	select {
	case to.accept <- far:
		return &answeredStream{near, p}, nil
	case <-to.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hold keeps what is answered to an address on its way, until the function that it gives is called.
func (f *fabric) hold(addr string) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held[addr] = make(chan struct{})
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		close(f.held[addr])
		delete(f.held, addr)
	}
}

// answeredStream is the end of a stream at the node that opened it.
type answeredStream struct {
	net.Conn
	port *port
}

func (s *answeredStream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.port.fabric.mu.Lock()
	held := s.port.fabric.held[s.port.addr]
	s.port.fabric.mu.Unlock()
	if held != nil {
		<-held
	}
	return n, err
}

// Write loses what is written once the way is cut.
func (s *answeredStream) Write(p []byte) (int, error) {
	s.port.fabric.mu.Lock()
	cut := s.port.fabric.cut[s.port.addr]
	s.port.fabric.mu.Unlock()
	if cut {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

func (p *port) CallPeer(ctx context.Context, addr, method string, body []byte) ([]byte, error) {
	to, err := p.fabric.reach(p.addr, addr)
	if err != nil {
		return nil, err
	}
	p.fabric.mu.Lock()
	handler := to.handler
	p.fabric.mu.Unlock()
	if handler == nil {
		return nil, transport.ErrUnreachable
	}
	type result struct {
		body []byte
		err  error
	}
	c := make(chan result, 1)
	go func() {
		b, err := handler(ctx, p.addr, method, body)
		c <- result{b, err}
	}()
	select {
	case r := <-c:
		if _, err := p.fabric.reach(p.addr, addr); err != nil || p.fabric.loses(method, r.body) {
			return nil, transport.ErrLost
		}
		return r.body, r.err
	case <-to.closed:
		return nil, transport.ErrLost
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", transport.ErrLost, ctx.Err())
	}
}

func (f *fabric) lose(which func(method string, answer []byte) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = which
}

func (f *fabric) loses(method string, answer []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost != nil && f.lost(method, answer)
}

// hearsay is gossip without a network: everybody knows everybody.
type hearsay struct {
	fabric *fabric
	tell   func(gossip.Event)
	addr   string
	mu     sync.Mutex
	meta   gossip.Meta
}

func (f *fabric) gossip(cfg gossip.Config) (Gossip, error) {
	h := &hearsay{fabric: f, tell: cfg.OnEvent, addr: cfg.Bind, meta: cfg.Meta}
	f.mu.Lock()
	f.gossips[cfg.NodeID] = h
	f.mu.Unlock()
	return h, nil
}

func (h *hearsay) Run(ctx context.Context) error {
	h.tell(gossip.Event{Kind: gossip.Asked})
	<-ctx.Done()
	return h.Close()
}

func (h *hearsay) Close() error {
	h.fabric.mu.Lock()
	gone := h.fabric.gossips[h.meta.NodeID] == h
	if gone {
		delete(h.fabric.gossips, h.meta.NodeID)
	}
	h.fabric.mu.Unlock()
	if gone {
		h.fabric.tell(gossip.Event{Kind: gossip.Left, Member: h.member()})
	}
	return nil
}

func (h *hearsay) Addr() string { return h.addr }

func (h *hearsay) member() gossip.Member {
	h.mu.Lock()
	defer h.mu.Unlock()
	return gossip.Member{Meta: h.meta, GossipAddress: h.addr, Alive: true}
}

// UpdateMeta tells everybody about this node, and this node about everybody.
func (h *hearsay) UpdateMeta(m gossip.Meta) error {
	h.mu.Lock()
	h.meta = m
	h.mu.Unlock()
	h.fabric.tell(gossip.Event{Kind: gossip.Updated, Member: h.member()})
	for _, other := range h.fabric.hearers() {
		h.tell(gossip.Event{Kind: gossip.Updated, Member: other.member()})
	}
	return nil
}

func (f *fabric) hearers() []*hearsay {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.gossips))
}

func (f *fabric) tell(e gossip.Event) {
	for _, h := range f.hearers() {
		h.tell(e)
	}
}

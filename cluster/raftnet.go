package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	peerv1 "sluice/api/peer/v1"
	"sluice/transport"
)

const (
	helloTimeout  = 5 * time.Second
	helloMaxBytes = 1024
	// installsInARow is after how many snapshots to one peer within installWindow the log warns: raft may send them
	// without end to a follower whose log diverges.
	installsInARow = 4
	installWindow  = 10 * time.Minute
)

// streamLayer carries raft's streams. Each begins with a Hello, so that a node that took over another's address, or
// belongs to another cluster, is told apart before it can be counted as a vote.
type streamLayer struct {
	net.Listener
	node  *Node
	group uint32
}

// Dial opens a stream to "id@host:port", or to an address whose node is not known.
func (s *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	to, addr, known := strings.Cut(string(address), "@")
	if !known {
		to, addr = "", to
	}
	conn, err := s.node.cfg.Transport.DialRaft(ctx, s.group, addr)
	if err != nil {
		return nil, err
	}
	if err := s.greet(conn, to); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (s *streamLayer) greet(conn net.Conn, to string) error {
	i := s.node.folder.current()
	hello := &peerv1.Hello{Cluster: i.Cluster, ClusterId: i.member(), From: i.NodeID, To: to}
	data, err := proto.Marshal(hello)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(data))), data...)); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
}

// Accept hands out a stream that checks its Hello at the first read, so that a slow peer holds up nobody else.
func (s *streamLayer) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &greetedConn{Conn: conn, node: s.node}, nil
}

// Addr is where others reach this node.
func (s *streamLayer) Addr() net.Addr { return advertised(s.node.cfg.Transport.Advertise()) }

type advertised string

func (advertised) Network() string  { return "tcp" }
func (a advertised) String() string { return string(a) }

type greetedConn struct {
	net.Conn
	node *Node
	once sync.Once
	err  error
}

func (c *greetedConn) Read(p []byte) (int, error) {
	c.once.Do(func() { c.err = c.check() })
	if c.err != nil {
		return 0, ended(c.err)
	}
	n, err := c.Conn.Read(p)
	return n, ended(err)
}

// ended makes the end that this side gave a stream, as when the node stops, an end like any other. Raft would take it
// for a message that it cannot read.
func ended(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return err
}

func (c *greetedConn) check() error {
	if err := c.Conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	hello, err := readHello(c.Conn)
	if err != nil {
		return fmt.Errorf("cluster: raft stream from %s: %w", c.RemoteAddr(), err)
	}
	if err := c.node.welcome(hello, transport.PeerOf(c.Conn)); err != nil {
		c.node.log.Warn("refused a raft stream", "from", hello.From, "address", c.RemoteAddr().String(), "error", err)
		return err
	}
	return c.Conn.SetReadDeadline(time.Time{})
}

func readHello(r io.Reader) (*peerv1.Hello, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint16(head[:])
	if size > helloMaxBytes {
		return nil, fmt.Errorf("a hello of %d bytes, at most %d are allowed", size, helloMaxBytes)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	hello := &peerv1.Hello{}
	return hello, proto.Unmarshal(data, hello)
}

// welcome tells whether a raft stream is meant for this node and comes from its cluster. peer is the node at the other end
// as the transport knows it, by its certificate if there is one; empty: it does not know.
func (n *Node) welcome(h *peerv1.Hello, peer string) error {
	i := n.folder.current()
	switch {
	case peer != "" && h.From != peer:
		return fmt.Errorf("cluster: it says that it comes from node %q, and node %q opened it", h.From, peer)
	case h.Cluster != i.Cluster:
		return fmt.Errorf("cluster: it belongs to cluster %q, this node to %q", h.Cluster, i.Cluster)
	case h.To != "" && h.To != i.NodeID:
		return fmt.Errorf("cluster: it means node %q, this is %q", h.To, i.NodeID)
	case i.member() == "":
		return errors.New("cluster: this node belongs to no cluster yet")
	case h.ClusterId != i.member():
		return fmt.Errorf("cluster: it belongs to cluster id %s, this node to %s", h.ClusterId, i.member())
	}
	return nil
}

// member is the cluster that the node belongs to or has promised to found; empty: none.
func (i Identity) member() string {
	if i.ClusterID != "" {
		return i.ClusterID
	}
	return i.Promised
}

// raftTransport is raft's network transport, changed where raft would do harm or wait for ever:
//   - relay.go: raft is given one message at a time, each when it has answered the one before, but for heartbeats; all go over
//     its main loop, for handled beside it a heartbeat could change the term under a leader (hashicorp/raft #695). While that
//     loop is at a message for long, heartbeats are answered here, and change nothing.
//   - beside.go: raft is told that a follower has what a leader sent once it is on the leader's own disk, too.
//   - pipeline.go: the answers of a pipeline are always taken.
//   - spare.go: entries that there is no room for, and snapshots of what the node has, are answered here; calls are cut off what
//     raft could make nothing of; a question before a vote does not ask for membership.
//   - fresh.go: what a leader says of itself is heard before raft hears it.
//   - here: nor does a vote ask for membership; who acknowledges, and when that was sent, is noted (confirm.go); snapshots that
//     are sent to a peer are counted (#697).
type raftTransport struct {
	*raft.NetworkTransport
	node *Node
	rpcs chan raft.RPC
	// turn is held by the message that raft is at, or that comes next.
	turn chan struct{}
	mu   sync.Mutex
	// installs holds when snapshots were sent to a peer of late.
	installs map[raft.ServerID][]time.Time
}

func newRaftTransport(carrier *raft.NetworkTransport, n *Node) *raftTransport {
	return &raftTransport{
		NetworkTransport: carrier, node: n, rpcs: make(chan raft.RPC), turn: make(chan struct{}, 1), installs: map[raft.ServerID][]time.Time{},
	}
}

// AppendEntries sends entries or a heartbeat, and notes who acknowledged it. What is pipelined is not noted: a heartbeat
// comes soon enough.
func (t *raftTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := time.Now()
	if err := t.NetworkTransport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	if resp.Success {
		t.node.backing.acknowledged(id, args.Term, sent)
	}
	if !t.node.written(acknowledges(args, resp)) {
		return raft.ErrRaftShutdown
	}
	return nil
}

// RequestVote asks for a vote without the candidate's id. With it raft's voter would look for the candidate in the
// configuration that it knows, and one that lags behind knows an old one: a cluster in which only the newest member has
// all that was committed would have no leader for ever. Who is most up-to-date may lead, whoever that is.
func (t *raftTransport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	asked := *args
	asked.ID = nil
	return t.NetworkTransport.RequestVote(id, target, &asked, resp)
}

// InstallSnapshot sends a snapshot, and warns when that happens again and again.
func (t *raftTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	t.node.metrics.installs.Inc()
	if n := t.installed(id, time.Now()); n >= installsInARow {
		t.node.log.Warn("the same node gets one snapshot after another: its log may diverge or its disk be too slow", "peer", string(id), "snapshots", n, "within", installWindow)
	}
	return t.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
}

func (t *raftTransport) installed(id raft.ServerID, now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.installs[id][:0]
	for _, at := range t.installs[id] {
		if now.Sub(at) < installWindow {
			kept = append(kept, at)
		}
	}
	t.installs[id] = append(kept, now)
	return len(t.installs[id])
}

// ServerAddr finds a node by its id: where gossip saw it last, else where raft's configuration has it. The stream
// then says whom it means, so a wrong address is noticed.
func (n *Node) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if string(id) == n.cfg.NodeID {
		return raft.ServerAddress(n.cfg.Transport.Advertise()), nil
	}
	if addr := n.gossiped(string(id)); addr != "" {
		return raft.ServerAddress(string(id) + "@" + addr), nil
	}
	if s, ok := n.server(string(id)); ok {
		return raft.ServerAddress(string(id) + "@" + string(s.Address)), nil
	}
	return "", fmt.Errorf("cluster: node %s is not known", id)
}

package transport

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestTheFirstByteTellsWhoseAConnectionIs(t *testing.T) {
	t.Parallel()
	tr := start(t, "n1", nil)
	raft := tr.RaftListener(7)

	client := dial(t, tr)
	send(t, client, []byte("GET / HTTP/1.1\r\n"))
	expectBytes(t, accepted(t, tr.HTTPListener()), "GET / HTTP/1.1\r\n")

	node := dial(t, tr)
	send(t, node, append(hello{kind: kindRaft, group: 7, nodeID: "n2"}.encode(true), "votes"...))
	expectBytes(t, node, string(rune(welcomed)))
	stream := accepted(t, raft)
	expectBytes(t, stream, "votes")
	if got := PeerOf(stream); got != "n2" {
		t.Errorf("the stream is of %q", got)
	}

	peer := dial(t, tr)
	send(t, peer, hello{kind: kindPeer, nodeID: "n2"}.encode(true))
	expectBytes(t, peer, string(rune(welcomed)))

	secure := dial(t, tr)
	send(t, secure, []byte{tlsRecord, 3, 1})
	expectClosed(t, secure)
}

func TestAHelloThatIsNotOneIsRefused(t *testing.T) {
	t.Parallel()
	tr := start(t, "n1", nil)
	tr.RaftListener(1)
	for name, data := range map[string]string{
		"a longer node id than is allowed": string(append([]byte{byte(kindPeer), NodeIDBytesMax + 1}, strings.Repeat("n", NodeIDBytesMax+1)...)),
		"no node id":                       string([]byte{byte(kindPeer), 0}),
	} {
		conn := dial(t, tr)
		send(t, conn, []byte(data))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s was welcomed", name)
		}
	}
	cut := dial(t, tr)
	send(t, cut, []byte{byte(kindRaft), 0, 0})
	if err := cut.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expectClosed(t, cut)
	if n := tr.nodeConns.Load(); n != 0 {
		t.Errorf("%d refused connections hold places of nodes", n)
	}
}

func TestAGroupWithoutAListenerIsRefused(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a", nil), start(t, "b", nil)
	if _, err := a.DialRaft(t.Context(), 3, b.Advertise()); !errors.Is(err, refusals[refusedGroup]) {
		t.Fatalf("nobody listens: %v", err)
	}
	first := b.RaftListener(3)
	if _, err := a.DialRaft(t.Context(), 3, b.Advertise()); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.DialRaft(t.Context(), 3, b.Advertise()); !errors.Is(err, refusals[refusedGroup]) {
		t.Fatalf("the listener is closed: %v", err)
	}
	again := b.RaftListener(3)
	conn, err := a.DialRaft(t.Context(), 3, b.Advertise())
	if err != nil {
		t.Fatal(err)
	}
	send(t, conn, []byte("x"))
	expectBytes(t, accepted(t, again), "x")
}

func TestConnectionsAreLimitedClientsAndNodesApart(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a", nil), start(t, "b", func(c *Config) { c.MaxConnections, c.MaxNodeConnections = 1, 1 })
	raft := b.RaftListener(1)
	client := dial(t, b)
	send(t, client, []byte("G"))
	held := accepted(t, b.HTTPListener())
	second := dial(t, b)
	send(t, second, []byte("G"))
	expectClosed(t, second)

	if _, err := a.DialRaft(t.Context(), 1, b.Advertise()); err != nil {
		t.Fatalf("clients took the place of a node: %v", err)
	}
	stream := accepted(t, raft)
	if _, err := a.DialRaft(t.Context(), 1, b.Advertise()); !errors.Is(err, refusals[refusedBusy]) {
		t.Fatalf("a second node connection: %v", err)
	}

	if err := errors.Join(held.Close(), stream.Close()); err != nil {
		t.Fatal(err)
	}
	third := dial(t, b)
	send(t, third, []byte("H"))
	expectBytes(t, accepted(t, b.HTTPListener()), "H")
	if _, err := a.DialRaft(t.Context(), 1, b.Advertise()); err != nil {
		t.Fatalf("the place was not given back: %v", err)
	}
}

func TestWhoSaysNothingIsClosed(t *testing.T) {
	t.Parallel()
	tr := start(t, "n1", func(c *Config) { c.HandshakeTimeout = 20 * time.Millisecond })
	expectClosed(t, dial(t, tr))
	half := dial(t, tr)
	send(t, half, []byte{byte(kindRaft), 0, 0, 0, 1, 9, 'n'})
	expectClosed(t, half)
}

func TestADialEndsWithItsTimeout(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() }) // nothing of it is looked at
	a := start(t, "a", func(c *Config) { c.DialTimeout = 20 * time.Millisecond })
	if _, err := a.DialRaft(t.Context(), 1, silent.Addr().String()); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
		t.Fatalf("a node that never answers: %v", err)
	}
}

func TestCloseEndsWhatIsOpen(t *testing.T) {
	t.Parallel()
	tr := start(t, "n1", nil)
	listener := tr.RaftListener(1)
	client := dial(t, tr)
	send(t, client, []byte("G"))
	accepted(t, tr.HTTPListener())
	if err := errors.Join(tr.Close(), tr.Close()); err != nil {
		t.Fatal(err)
	}
	expectClosed(t, client)
	for _, l := range []net.Listener{listener, tr.HTTPListener(), tr.RaftListener(1), tr.RaftListener(2)} {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]Config{
		"not HOST:PORT":            {NodeID: "n", Listen: "here"},
		"not a loopback address":   {NodeID: "n", Listen: "0.0.0.0:0"},
		"the advertise address":    {NodeID: "n", Listen: "127.0.0.1:0", Advertise: "n1.example:7"},
		"all three or none":        {NodeID: "n", Listen: "127.0.0.1:0", CertFile: "a", KeyFile: "b"},
		"must not be negative":     {NodeID: "n", Listen: "127.0.0.1:0", MaxConnections: -1},
		"say which one":            {NodeID: "n", Listen: ":0", Insecure: true},
		"the node id has 129":      {NodeID: strings.Repeat("n", NodeIDBytesMax+1), Listen: "127.0.0.1:0"},
		"the node id has 0":        {Listen: "127.0.0.1:0"},
		"no such file":             {NodeID: "n", Listen: "127.0.0.1:0", CertFile: "none", KeyFile: "none", CAFile: "none"},
		"transport: cannot listen": {NodeID: "n", Listen: "127.0.0.1:99999"},
	} {
		tr, err := Listen(cfg)
		if err == nil {
			err = tr.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", cfg, err, want)
		}
	}
}

// FuzzHello reads any bytes as a hello: an error, or a node id within its bounds that encodes to the bytes read.
func FuzzHello(f *testing.F) {
	for _, h := range []hello{{kind: kindRaft, group: 1 << 31, nodeID: "n1"}, {kind: kindPeer, nodeID: strings.Repeat("n", NodeIDBytesMax)}} {
		f.Add(h.kind == kindRaft, h.encode(false))
	}
	f.Add(false, []byte{0})
	f.Add(false, []byte{255, 1})
	f.Add(true, []byte{0, 0})
	f.Fuzz(func(t *testing.T, raft bool, data []byte) {
		k := kindPeer
		if raft {
			k = kindRaft
		}
		r := strings.NewReader(string(data))
		h, err := readHello(r, k)
		if err != nil {
			return
		}
		if len(h.nodeID) == 0 || len(h.nodeID) > NodeIDBytesMax {
			t.Fatalf("a node id of %d bytes", len(h.nodeID))
		}
		rest, err := io.ReadAll(r)
		if err != nil || string(h.encode(false))+string(rest) != string(data) {
			t.Fatalf("%q was read as %+v with a rest of %q (%v)", data, h, rest, err)
		}
	})
}

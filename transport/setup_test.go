package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/authority"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for: whatever takes longer will not come.
const patience = 20 * time.Second

// start runs a transport on a free port of the loopback address until the test ends.
func start(t *testing.T, id string, change func(*Config)) *Transport {
	t.Helper()
	cfg := Config{NodeID: id, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	tr, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run of %s: %v", id, err)
		}
	})
	return tr
}

// secured gives a transport the certificate that an authority issued under a name.
func secured(a *authority.Authority, name string) func(*Config) {
	return func(c *Config) {
		c.CertFile, c.KeyFile, c.CAFile = a.File(name+".crt"), a.File(name+".key"), a.File("ca.crt")
	}
}

// dial opens a plain TCP connection that gives up with the test's patience.
func dial(t *testing.T, tr *Transport) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", tr.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the test has looked at the errors that count
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// dialTLS is dial with a handshake, whose error it gives back.
func dialTLS(t *testing.T, tr *Transport, pool *x509.CertPool, pair *tls.Certificate, protocols ...string) (*tls.Conn, error) {
	t.Helper()
	config := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", NextProtos: protocols}
	if pair != nil {
		// Not Certificates: Go would keep one back whose authority the server does not name.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	conn := tls.Client(dial(t, tr), config)
	return conn, conn.Handshake()
}

// accepted is the next connection of a listener.
func accepted(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	got := make(chan net.Conn, 1)
	go func() {
		defer close(got)
		if conn, err := l.Accept(); err == nil {
			got <- conn
		}
	}()
	select {
	case conn, ok := <-got:
		if !ok {
			t.Fatal("the listener was closed")
		}
		t.Cleanup(func() { _ = conn.Close() }) // given up with the test
		return conn
	case <-time.After(patience):
		t.Fatal("no connection came")
	}
	return nil
}

func send(t *testing.T, conn net.Conn, data []byte) {
	t.Helper()
	if _, err := conn.Write(data); err != nil {
		t.Fatal(err)
	}
}

// expectBytes wants these bytes next.
func expectBytes(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

// expectClosed wants the other side to have closed the connection, without a word.
func expectClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	n, err := conn.Read(make([]byte, 1))
	var late net.Error
	if n > 0 || err == nil || errors.As(err, &late) && late.Timeout() {
		t.Fatalf("the connection is still open: %d bytes, %v", n, err)
	}
}

package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/internal/authority"
)

// pair makes two transports whose certificates one authority signed.
func pair(t *testing.T) (ca *authority.Authority, a, b *Transport) {
	t.Helper()
	ca = authority.New(t)
	ca.Issue(t, "a")
	ca.Issue(t, "b")
	return ca, start(t, "a", secured(ca, "a")), start(t, "b", secured(ca, "b"))
}

func TestWithCertificatesTheProtocolNameTellsWhoseAConnectionIs(t *testing.T) {
	t.Parallel()
	ca, a, b := pair(t)
	raft := b.RaftListener(1)
	stream, err := a.DialRaft(t.Context(), 1, b.Advertise())
	if err != nil {
		t.Fatal(err)
	}
	send(t, stream, []byte("votes"))
	got := accepted(t, raft)
	expectBytes(t, got, "votes")
	if PeerOf(got) != "a" {
		t.Errorf("the stream is of %q", PeerOf(got))
	}
	b.HandlePeers(echo)
	if out, err := a.CallPeer(t.Context(), b.Advertise(), "Echo", []byte("x")); err != nil || string(out) != "a Echo x" {
		t.Errorf("a call: %q %v", out, err)
	}
	for _, protocol := range []string{"h2", "http/1.1"} {
		conn, err := dialTLS(t, b, ca.Pool(), nil, protocol)
		if err != nil {
			t.Fatal(err)
		}
		send(t, conn, []byte(protocol))
		expectBytes(t, accepted(t, b.HTTPListener()), protocol)
	}
	plain := dial(t, b)
	send(t, plain, []byte("GET / HTTP/1.1\r\n\r\n"))
	expectBytes(t, plain, "HTTP/1.0 400 Bad Request\r\n")
}

// refusedAt says a hello and tells how it was refused; a handshake of TLS 1.3 that the server refuses fails at the
// first reading only.
func refusedAt(t *testing.T, tr *Transport, pool *x509.CertPool, cert *tls.Certificate, protocol string, h hello) error {
	t.Helper()
	conn, err := dialTLS(t, tr, pool, cert, protocol)
	if err != nil {
		return err
	}
	_, err = conn.Write(h.encode(false))
	return errors.Join(err, readWelcome(conn))
}

func TestWhoIsNoNodeOfTheAuthorityIsRefused(t *testing.T) {
	t.Parallel()
	ca, _, b := pair(t)
	b.RaftListener(1)
	other := authority.New(t)
	other.Issue(t, "a")
	ca.Issue(t, "user", x509.ExtKeyUsageClientAuth)
	ca.Issue(t, "site", x509.ExtKeyUsageServerAuth)
	stranger, user, site, node := other.Pair(t, "a"), ca.Pair(t, "user"), ca.Pair(t, "site"), ca.Pair(t, "a")
	for _, h := range []hello{{kind: kindRaft, group: 1}, {kind: kindPeer}} {
		for _, c := range []struct {
			what, id string
			cert     *tls.Certificate
			want     string
		}{
			{"a certificate of another authority", "a", &stranger, "tls:"},
			{"no certificate", "a", nil, "tls:"},
			{"a certificate for servers only", "site", &site, "tls:"},
			{"a user's certificate", "user", &user, refusals[refusedIdentity].Error()},
			{"another node's id", "c", &node, refusals[refusedIdentity].Error()},
			{"no node id", "", &node, "EOF"},
		} {
			h.nodeID = c.id
			if err := refusedAt(t, b, ca.Pool(), c.cert, h.kind.alpn(), h); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: got %v, want %q", h.kind.alpn(), c.what, err, c.want)
			}
		}
		h.nodeID = "a"
		if err := refusedAt(t, b, ca.Pool(), &node, h.kind.alpn(), h); err != nil {
			t.Errorf("%s: the node itself: %v", h.kind.alpn(), err)
		}
	}
	if _, err := dialTLS(t, b, other.Pool(), nil, "h2"); err == nil {
		t.Error("a client that trusts another authority was satisfied")
	}
	bad, err := dialTLS(t, b, ca.Pool(), &stranger, "h2")
	if err == nil {
		_, err = bad.Read(make([]byte, 1))
	}
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a client with a certificate of another authority: %v", err)
	}
}

func TestADialToAServerOfAnotherAuthorityFails(t *testing.T) {
	t.Parallel()
	_, a, _ := pair(t)
	_, _, stranger := pair(t)
	stranger.RaftListener(1)
	_, err := a.DialRaft(t.Context(), 1, stranger.Advertise())
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v", err)
	}
}

func TestACertificateThatOthersWouldRefuseIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	ca, other := authority.New(t), authority.New(t)
	ca.Issue(t, "n1")
	ca.Issue(t, "user", x509.ExtKeyUsageClientAuth)
	for want, cfg := range map[string]Config{
		"does not name node":         {NodeID: "n2", Listen: "127.0.0.1:0", CertFile: ca.File("n1.crt"), KeyFile: ca.File("n1.key"), CAFile: ca.File("ca.crt")},
		"signed by the CA":           {NodeID: "n1", Listen: "127.0.0.1:0", CertFile: ca.File("n1.crt"), KeyFile: ca.File("n1.key"), CAFile: other.File("ca.crt")},
		"both server and client":     {NodeID: "user", Listen: "127.0.0.1:0", CertFile: ca.File("user.crt"), KeyFile: ca.File("user.key"), CAFile: ca.File("ca.crt")},
		"private key does not":       {NodeID: "n1", Listen: "127.0.0.1:0", CertFile: ca.File("n1.crt"), KeyFile: ca.File("user.key"), CAFile: ca.File("ca.crt")},
		"holds no certificate":       {NodeID: "n1", Listen: "127.0.0.1:0", CertFile: ca.File("n1.crt"), KeyFile: ca.File("n1.key"), CAFile: ca.File("n1.key")},
		"fit the advertised address": {NodeID: "n1", Listen: "127.0.0.1:0", Advertise: "other.example:1", CertFile: ca.File("n1.crt"), KeyFile: ca.File("n1.key"), CAFile: ca.File("ca.crt")},
	} {
		tr, err := Listen(cfg)
		if err == nil {
			err = tr.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// said is a log that a test can wait for.
type said chan string

func (s said) Enabled(context.Context, slog.Level) bool { return true }
func (s said) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s said) WithGroup(string) slog.Handler            { return s }

func (s said) Handle(_ context.Context, r slog.Record) error {
	select {
	case s <- r.Message:
	default: // the test waits for none of these any more
	}
	return nil
}

func (s said) await(t *testing.T, want string) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case got := <-s:
			if strings.Contains(got, want) {
				return
			}
		case <-late:
			t.Fatalf("the log never said %q", want)
		}
	}
}

func serial(conn *tls.Conn) string {
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestCertificatesAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	ca := authority.New(t)
	ca.Issue(t, "n1")
	log := make(said, 100)
	tr := start(t, "n1", func(c *Config) {
		secured(ca, "n1")(c)
		c.Logger = slog.New(log)
	})
	shown := func() string {
		t.Helper()
		conn, err := dialTLS(t, tr, ca.Pool(), nil, "h2")
		if err != nil {
			t.Fatal(err)
		}
		accepted(t, tr.HTTPListener())
		return serial(conn)
	}
	first := shown()
	key, err := os.ReadFile(ca.File("n1.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca.File("n1.key"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	log.await(t, "the old ones stay in use")
	if got := shown(); got != first {
		t.Error("files that cannot be used were taken into use")
	}
	if err := os.WriteFile(ca.File("n1.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	ca.Issue(t, "n1")
	log.await(t, "new TLS files are in use")
	if got := shown(); got == first {
		t.Error("the old certificate is still shown")
	}
	if left := time.Until(tr.CertificateExpires()); left <= 0 || left > time.Hour {
		t.Errorf("the certificate expires in %v", left)
	}
}

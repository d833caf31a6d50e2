package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// peer answers every connection with answer, after it has read the client's greeting, and closes it.
func peer(t *testing.T, answer string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096)) // all of it: a client's greeting is one write
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// secureServer speaks HTTP/2 over TLS, with a certificate that no system knows.
func secureServer(t *testing.T) *httptest.Server {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// stranger speaks HTTP/2 in plain text and answers every call alike.
func stranger(t *testing.T, status int, kind, body string) (url string) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// A worker, too, is told at once: its session is opened by a call as any.
func TestAWorkerEndsWhereThereIsNoNode(t *testing.T) {
	t.Parallel()
	c := newFake(t).client(func(cfg *Config) { cfg.Addresses = []string{stranger(t, 404, "text/plain", "not found")} })
	w, err := c.NewWorker(WorkerConfig{Application: "app", Handler: func(context.Context, *Delivery) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "is no Sluice node") {
		t.Errorf("want UNREACHABLE, got %v", err)
	}
}

func TestWhatIsNoNodeIsUnreachableAndNothingWasDone(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	old := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(old.Close)
	secure := secureServer(t)
	for _, c := range []struct {
		name, address, words string
		temporary            bool
	}{
		{"a web server", plain.URL, "does not speak HTTP/2", false},
		{"a certificate of an authority that is not known", secure.URL, "failed to verify certificate", false},
		{"a web server with TLS that knows no HTTP/2", old.URL, "no application protocol", false},
		{"a web server, with TLS", strings.Replace(plain.URL, "http", "https", 1), "does not speak TLS", false},
		{"another protocol", peer(t, "SSH-2.0-OpenSSH_9.6\r\n"), `it says "SSH-2.0-OpenSSH_9.6"`, false},
		{"a web server that speaks HTTP/2", stranger(t, 404, "text/plain; charset=utf-8", "not found"), "is no Sluice node: it answers HTTP status 404 Not Found", false},
		{"a web server with a page for everything", stranger(t, 200, "text/html", "<html>"), "is no Sluice node", false},
		{"a gRPC server", stranger(t, 415, "application/grpc", ""), "is no Sluice node", false},
		{"another service in Connect", stranger(t, 501, "application/json", `{"code":"unimplemented","message":"no such method"}`), "is no Sluice node: it does not know the call", false},
		{"somebody who hangs up", peer(t, ""), "before the node spoke", true},
		{"somebody who hangs up in TLS", "https://" + peer(t, ""), "no TLS connection", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := newFake(t).client(func(cfg *Config) {
				cfg.Addresses, cfg.Retry.Attempts = []string{c.address}, 2
			})
			_, err := client.Send(t.Context(), message("m"))
			var e *Error
			if !errors.As(err, &e) || e.Reason != ErrUnreachable || e.Code != "unavailable" || e.Uncertain || e.Temporary() != c.temporary || !strings.Contains(e.Message, c.words) {
				t.Fatalf("want UNREACHABLE with %q, temporary %t, got %#v", c.words, c.temporary, err)
			}
		})
	}
}

func TestANodeSetUpWronglyIsPassedOver(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	client := f.client(func(cfg *Config) {
		cfg.Addresses = []string{"https://" + f.client().Addresses()[0], peer(t, "HTTP/1.0 400 Bad Request\r\n\r\n"), f.url}
	})
	for range 4 {
		if _, err := client.Send(t.Context(), message("")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFailureThatLastsAtOneNodeAloneIsRepeated(t *testing.T) {
	t.Parallel()
	client := newFake(t).client(func(cfg *Config) {
		cfg.Addresses, cfg.Retry.Attempts = []string{peer(t, "HTTP/1.0 400 Bad Request\r\n\r\n"), peer(t, "")}, 6
	})
	_, err := client.Send(t.Context(), message("m"))
	if e := asError(err); e.Reason != ErrUnreachable || !e.Temporary() {
		t.Fatalf("want UNREACHABLE for now, got %#v", err)
	}
}

func TestAWorkerEndsIfNoNodeWillEverTakeIt(t *testing.T) {
	t.Parallel()
	secure := secureServer(t)
	client := newFake(t).client(func(cfg *Config) { cfg.Addresses = []string{secure.URL} })
	w, err := client.NewWorker(WorkerConfig{Application: "app", Handler: func(ctx context.Context, _ *Delivery) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "failed to verify certificate") {
			t.Errorf("want UNREACHABLE for the certificate, got %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the worker goes on trying")
	}
}

// A lock held while the node's first frame is awaited would stop the bubble's time: the calls would never end.
func TestACallThatIsGivenUpWaitsForNoSilentNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{Addresses: []string{"silent:1"}, Insecure: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			mine, theirs := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			return mine, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() {
				if _, err := c.Send(ctx, message("m")); err == nil {
					t.Error("a node that says nothing took a message")
				}
			})
			synctest.Wait()
		}
		calls.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("given up after 1s, they ended after %v", took)
		}
		c.Close()
		<-time.After(handshakeTimeout) // the dialing ends by itself
	})
}

// An address that cannot be one is said as it was given.
func TestAnAddressThatCannotBeIsSaidAsItWasGiven(t *testing.T) {
	t.Parallel()
	for address, words := range map[string]string{
		"127.0.0.1": `address "127.0.0.1" is not host:port`, "localhost:99999": `address "localhost:99999": the port must be within 1 and 65535`, "localhost:0": "the port must be within",
	} {
		if _, err := New(Config{Addresses: []string{address}}); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: want %q, got %v", address, words, err)
		}
	}
}

package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Limits of the client.
const (
	// MaxAddresses is how many nodes a client may know.
	MaxAddresses = 256
	// MaxBatch is how many messages or settlements go in one request.
	MaxBatch = 1024
	// maxBatchBytes is how much content goes in one request, unless a single message is larger.
	maxBatchBytes = 2 << 20
	// maxResponseBytes is the largest answer that is read.
	maxResponseBytes = 256 << 20
)

// Config says how a Client reaches a cluster. The zero value of each field but Addresses has a default.
type Config struct {
	// Addresses of nodes, host:port; http:// or https:// before it is allowed. At least one; any node will do.
	Addresses []string
	// Spread has calls go to the nodes in turn. By default they go to the leader, which saves a hop, as soon as a node has
	// told who that is, if its address is among Addresses. Workers have their streams of deliveries at the leader in any case.
	Spread bool
	// TLS secures the connections. Nil: plain text, which is allowed to loopback addresses only, unless Insecure.
	TLS *TLS
	// Insecure allows plain text to any address.
	Insecure bool
	// CallTimeout bounds one attempt of a call, the server's waiting not counted. Default 10 s.
	CallTimeout time.Duration
	// Retry bounds the repetitions of a call.
	Retry Retry
	// Logger takes what the client and its workers have to say. Default slog.Default().
	Logger *slog.Logger
	// Dial opens the connections, before TLS; a net.Dialer's if nil. For tests and proxies.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// WrapTransport stands around the client's HTTP transport, for tracing or tests. Nil: nothing does.
	WrapTransport func(http.RoundTripper) http.RoundTripper
}

// TLS names the files, in PEM, that secure a client's connections.
type TLS struct {
	// CAFile holds the authorities that nodes' certificates are checked against; empty: the system's.
	CAFile string
	// CertFile and KeyFile are the client's own certificate; both or neither.
	CertFile, KeyFile string
	// ServerName overrides the name that nodes' certificates are checked for.
	ServerName string
}

// Retry is the budget of one call. A call that was not done, or whose outcome is unknown, is repeated with the same
// ids until it is answered or the budget is spent. A refusal is never repeated.
type Retry struct {
	// Attempts in all; 1 never repeats. Default 12.
	Attempts int
	// Total is the time after which no further attempt begins. Default 30 s.
	Total time.Duration
	// Initial and Max bound the pause between attempts, which doubles and varies at random. Default 20 ms and 2 s.
	Initial, Max time.Duration
}

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	c.CallTimeout = orDefault(c.CallTimeout, 10*time.Second)
	c.Retry.Attempts = orDefault(c.Retry.Attempts, 12)
	c.Retry.Total = orDefault(c.Retry.Total, 30*time.Second)
	c.Retry.Initial = orDefault(c.Retry.Initial, 20*time.Millisecond)
	c.Retry.Max = orDefault(c.Retry.Max, 2*time.Second)
	c.Logger = orDefault(c.Logger, slog.Default())
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	return c
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// validate says what is wrong with a configuration whose defaults are filled in.
func (c Config) validate() error {
	switch {
	case len(c.Addresses) == 0:
		return errors.New("client: no address given")
	case len(c.Addresses) > MaxAddresses:
		return fmt.Errorf("client: %d addresses, at most %d are allowed", len(c.Addresses), MaxAddresses)
	case c.Retry.Attempts < 0:
		return fmt.Errorf("client: Retry.Attempts is %d; it must not be negative", c.Retry.Attempts)
	case c.TLS != nil && (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return errors.New("client: a client certificate needs both CertFile and KeyFile")
	}
	for _, span := range []struct {
		name string
		d    time.Duration
	}{{"CallTimeout", c.CallTimeout}, {"Retry.Total", c.Retry.Total}, {"Retry.Initial", c.Retry.Initial}, {"Retry.Max", c.Retry.Max}} {
		if span.d < 0 {
			return fmt.Errorf("client: %s is %v; it must not be negative", span.name, span.d)
		}
	}
	return nil
}

// baseURL is the URL of a node, and refuses plain text where it is not allowed.
func (c Config) baseURL(address string) (*url.URL, error) {
	scheme := "http"
	if c.TLS != nil {
		scheme = "https"
	}
	given := address
	if !strings.Contains(address, "://") {
		address = scheme + "://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Port() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("client: address %q is not host:port", given)
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return nil, fmt.Errorf("client: address %q: the port must be within 1 and 65535", given)
	}
	if u.Scheme == "http" && !c.Insecure && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("client: %s is not a loopback address: it needs TLS, or Insecure, which allows plain text", u.Host)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// config is the TLS configuration that the files make.
func (t *TLS) config() (*tls.Config, error) {
	if t == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("client: read authorities: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("client: %s holds no certificate in PEM", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client: load certificate: %w", err)
		}
		// Always this one: left to itself TLS shows none if the node's authorities do not know it, and the caller would
		// be nameless instead of refused.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg, nil
}

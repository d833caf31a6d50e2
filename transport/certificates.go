package transport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleTime is how long the files must be quiet before they are read again: a certificate and its key are two files.
	settleTime = 100 * time.Millisecond
	// rereadEvery catches changes that the file system did not tell of.
	rereadEvery = time.Minute
)

// certificates holds what the files said when they were last good.
type certificates struct {
	cfg     Config
	log     *slog.Logger
	current atomic.Pointer[material]
	// address is where others reach this node, once it is known; the certificate must fit it.
	address string
}

// material is one state of the three files. It does not change.
type material struct {
	digest  [sha256.Size]byte
	cert    tls.Certificate
	ca      *x509.CertPool
	expires time.Time
	// node and client are for accepting connections of nodes and of clients.
	node, client *tls.Config
}

func loadCertificates(cfg Config, log *slog.Logger) (*certificates, error) {
	c := &certificates{cfg: cfg, log: log}
	m, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current.Store(m)
	return c, nil
}

// read reads and checks the three files.
func (c *certificates) read() (*material, error) {
	var pem [3][]byte
	for i, name := range []string{c.cfg.CertFile, c.cfg.KeyFile, c.cfg.CAFile} {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("transport: TLS files: %w", err)
		}
		pem[i] = data
	}
	cert, err := tls.X509KeyPair(pem[0], pem[1])
	if err != nil {
		return nil, fmt.Errorf("transport: %s and %s: %w", c.cfg.CertFile, c.cfg.KeyFile, err)
	}
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM(pem[2]) {
		return nil, fmt.Errorf("transport: %s holds no certificate", c.cfg.CAFile)
	}
	m := &material{digest: sha256.Sum256(bytes.Join(pem[:], []byte{0})), cert: cert, ca: ca, expires: cert.Leaf.NotAfter}
	if err := c.check(m); err != nil {
		return nil, fmt.Errorf("transport: %s: %w", c.cfg.CertFile, err)
	}
	m.node = m.nodeConfig()
	m.client = m.clientConfig()
	return m, nil
}

// check refuses a certificate that other nodes would refuse, so that the mistake shows where it was made.
func (c *certificates) check(m *material) error {
	between := x509.NewCertPool()
	for _, der := range m.cert.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(cert)
		}
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		options := x509.VerifyOptions{Roots: m.ca, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{use}}
		if _, err := m.cert.Leaf.Verify(options); err != nil {
			return fmt.Errorf("it must be signed by the CA, be valid now, and be for both server and client use: %w", err)
		}
	}
	if !names(m.cert.Leaf, c.cfg.NodeID) {
		return fmt.Errorf("it does not name node %q, neither as common name nor as DNS name (it names %q, %q)",
			c.cfg.NodeID, m.cert.Leaf.Subject.CommonName, m.cert.Leaf.DNSNames)
	}
	return c.checkAddress(m)
}

// advertise says where others will reach this node, and tells whether they will believe its certificate there. It is
// called once, before watch.
func (c *certificates) advertise(address string) error {
	c.address = address
	if err := c.checkAddress(c.current.Load()); err != nil {
		return fmt.Errorf("transport: %s: %w", c.cfg.CertFile, err)
	}
	return nil
}

func (c *certificates) checkAddress(m *material) error {
	if c.address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.address)
	if err != nil {
		return err
	}
	if err := m.cert.Leaf.VerifyHostname(host); err != nil {
		return fmt.Errorf("it does not fit the advertised address: %w", err)
	}
	return nil
}

// names tells whether a certificate names a node id. Node ids need not be host names, so they are compared as they are.
func names(cert *x509.Certificate, nodeID string) bool {
	return cert.Subject.CommonName == nodeID || slices.Contains(cert.DNSNames, nodeID)
}

// certifies tells whether a verified client certificate is a node's, and this node's. A certificate that is not for
// server use as well is a user's: users must not pass for nodes.
func certifies(cert *x509.Certificate, nodeID string) bool {
	server := slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny)
	return server && names(cert, nodeID)
}

func (m *material) nodeConfig() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{m.cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{alpnRaft, alpnPeer},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: m.ca,
		// A resumed session would carry an identity past a change of the CA.
		SessionTicketsDisabled: true,
	}
}

func (m *material) clientConfig() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{m.cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: m.ca, SessionTicketsDisabled: true,
	}
}

// serverConfig chooses by what the caller offers to speak, with the material of that moment.
func (c *certificates) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			m := c.current.Load()
			if slices.Contains(hello.SupportedProtos, alpnRaft) || slices.Contains(hello.SupportedProtos, alpnPeer) {
				return m.node, nil
			}
			return m.client, nil
		},
	}
}

// dialConfig is for connections to the node at addr: its certificate must fit that host.
func (c *certificates) dialConfig(addr string, k kind) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	m := c.current.Load()
	return &tls.Config{
		Certificates: []tls.Certificate{m.cert}, RootCAs: m.ca, ServerName: host,
		MinVersion: tls.VersionTLS13, NextProtos: []string{k.alpn()},
	}, nil
}

// watch reads the files again when they change, until ctx ends. It watches their folders: a file that is replaced, or
// a symbolic link that is swapped, takes a watch on the file itself away.
func (c *certificates) watch(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("transport: cannot watch the TLS files: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	for _, name := range []string{c.cfg.CertFile, c.cfg.KeyFile, c.cfg.CAFile} {
		if err := watcher.Add(filepath.Dir(name)); err != nil {
			return fmt.Errorf("transport: cannot watch the folder of %s: %w", name, err)
		}
	}
	return c.follow(ctx, watcher)
}

func (c *certificates) follow(ctx context.Context, watcher *fsnotify.Watcher) error {
	// The first reading was before the watch: what changed in between is found now.
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	reread := time.NewTicker(rereadEvery)
	defer reread.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Events:
			if !ok {
				return errors.New("transport: the watch on the TLS files ended")
			}
			quiet.Reset(settleTime)
		case err := <-watcher.Errors:
			c.log.Warn("the watch on the TLS files failed for a moment", "error", err)
			quiet.Reset(settleTime)
		case <-reread.C:
			c.reload()
		case <-quiet.C:
			c.reload()
		}
	}
}

// reload takes new files into use, for new connections. Bad ones change nothing.
func (c *certificates) reload() {
	m, err := c.read()
	if err != nil {
		c.log.Error("the new TLS files cannot be used; the old ones stay in use", "error", err)
		return
	}
	if m.digest == c.current.Load().digest {
		return
	}
	c.current.Store(m)
	c.log.Info("new TLS files are in use", "expires", m.expires)
}

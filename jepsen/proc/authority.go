//go:build linux

package proc

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sluice/client"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// trust is its certificate in PEM.
	trust []byte
}

// authorities are the two that everybody trusts, which take turns, and a foreign one that nobody does.
type authorities struct {
	trusted [2]*authority
	foreign *authority

	mu sync.Mutex // guards turns
	// turns count the certificates of each place.
	turns map[string]int
}

// The files of a node.
const (
	certFile = "pem"
	keyFile  = "key"
	caFile   = "ca"
)

const (
	// validity is how long a certificate is good if nothing else is said; it began as long before.
	validity = 24 * time.Hour
	// webTime bounds one question to a node over HTTP.
	webTime = 5 * time.Second
)

func newAuthorities() (*authorities, error) {
	var made [3]*authority
	for i, name := range []string{"first", "second", "foreign"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("proc: %w", err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name + " authority"}, NotBefore: time.Now().Add(-validity), NotAfter: time.Now().Add(validity),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			return nil, fmt.Errorf("proc: %w", err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("proc: %w", err)
		}
		made[i] = &authority{cert: cert, key: key, trust: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	}
	return &authorities{trusted: [2]*authority{made[0], made[1]}, foreign: made[2], turns: map[string]int{}}, nil
}

// next is the authority whose turn it is at a place; the turn goes on.
func (a *authorities) next(place string) *authority {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turns[place]++
	return a.trusted[a.turns[place]%2]
}

// trust is what everybody trusts, in PEM.
func (a *authorities) trust() []byte {
	return bytes.Join([][]byte{a.trusted[0].trust, a.trusted[1].trust}, nil)
}

// holder is what a certificate says of who holds it.
type holder struct {
	name string
	host string // empty: no server's
	user bool   // not for server use
	ends time.Time
}

// sign makes a certificate and its key, both in PEM.
func (a *authority) sign(h holder) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("proc: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return nil, nil, fmt.Errorf("proc: %w", err)
	}
	if h.ends.IsZero() {
		h.ends = time.Now().Add(validity)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: h.name}, DNSNames: []string{h.name}, NotBefore: time.Now().Add(-validity), NotAfter: h.ends,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if h.user {
		template.ExtKeyUsage = template.ExtKeyUsage[:1]
	}
	if ip := net.ParseIP(h.host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("proc: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("proc: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}

// tls is the path of a file of the node's: certFile, keyFile or caFile.
func (n *node) tls(kind string) string {
	return filepath.Join(n.w.cfg.Dir, "tls", n.place+"."+kind)
}

// put writes files, each in one step, as one who renews certificates does.
func put(files map[string][]byte) error {
	for name, data := range files {
		if err := os.WriteFile(name+".next", data, 0o600); err != nil {
			return fmt.Errorf("proc: certificates: %w", err)
		}
		if err := os.Rename(name+".next", name); err != nil {
			return fmt.Errorf("proc: certificates: %w", err)
		}
	}
	return nil
}

// certifyAll makes the authorities, and all certificates, if the world is to have them.
func (w *World) certifyAll() (err error) {
	if !w.cfg.TLS {
		return nil
	}
	if w.authorities, err = newAuthorities(); err != nil {
		return err
	}
	cert, key, err := w.authorities.trusted[0].sign(holder{name: "jepsen", user: true})
	if err != nil {
		return err
	}
	files := w.clientTLS()
	if err := put(map[string][]byte{files.CertFile: cert, files.KeyFile: key, files.CAFile: w.authorities.trust()}); err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(w.authorities.trust())
	w.web = &http.Client{Timeout: webTime, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	for _, n := range w.nodes {
		err = errors.Join(err, w.certify(n))
	}
	return err
}

// certify gives a node a good certificate.
func (w *World) certify(n *node) error {
	if w.authorities == nil {
		return nil
	}
	return w.issue(n, w.authorities.next(n.place), holder{name: n.name()}, w.authorities.trust())
}

// issue puts a node's certificate, its key and whom the node trusts where the node finds them.
func (w *World) issue(n *node, by *authority, h holder, trust []byte) error {
	host, _, err := net.SplitHostPort(n.address)
	if err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	h.host = host
	cert, key, err := by.sign(h)
	if err != nil {
		return err
	}
	return put(map[string][]byte{n.tls(caFile): trust, n.tls(certFile): cert, n.tls(keyFile): key})
}

// clientTLS are the files of all clients; nil: plain text.
func (w *World) clientTLS() *client.TLS {
	if w.authorities == nil {
		return nil
	}
	name := func(kind string) string { return filepath.Join(w.cfg.Dir, "tls", "jepsen."+kind) }
	return &client.TLS{CertFile: name(certFile), KeyFile: name(keyFile), CAFile: name(caFile)}
}

func (w *World) scheme() string {
	if w.authorities == nil {
		return "http://"
	}
	return "https://"
}

package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority makes certificates for one test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	template := certificate("test authority")
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	a.key = newKey(t)
	raw, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file("ca.crt"), "CERTIFICATE", raw)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// issue makes a certificate and its key in name.crt and name.key.
func (a *authority) issue(t *testing.T, name string) {
	t.Helper()
	key := newKey(t)
	template := certificate(name)
	template.DNSNames, template.IPAddresses = []string{name, "localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file(name+".crt"), "CERTIFICATE", raw)
	writePEM(t, a.file(name+".key"), "PRIVATE KEY", secret)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func writePEM(t *testing.T, path, kind string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// client speaks TLS, with a certificate if it has a name, over HTTP/2 or HTTP/1.1.
func (a *authority) client(t *testing.T, name string, two bool) *http.Client {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(a.cert)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(a.file(name+".crt"), a.file(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!two)
	protocols.SetHTTP2(two)
	carrier := &http.Transport{TLSClientConfig: config, Protocols: protocols}
	t.Cleanup(carrier.CloseIdleConnections)
	return &http.Client{Transport: carrier}
}

func TestWithTLSTheCertificateSaysWhoCalls(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue(t, "n1")
	a.issue(t, "olga")
	s := startReal(t, t.TempDir(), func(c *Config) {
		c.CertFile, c.KeyFile, c.CAFile = a.file("n1.crt"), a.file("n1.key"), a.file("ca.crt")
	})
	url := strings.Replace(s.url, "http://", "https://", 1)
	for _, two := range []bool{false, true} {
		named, nameless := a.client(t, "olga", two), a.client(t, "", two)
		if got := post(t, named, url, "ApplicationService/Apply", `{"name": "a"}`); got.status != http.StatusOK {
			t.Fatalf("Apply: got %d %s", got.status, got.body)
		}
		enter := `{"application": "a", "instance": "i", "cause": "test"}`
		for _, client := range []*http.Client{named, nameless} {
			if got := post(t, client, url, "InstanceService/EnterRecovery", enter, "Sluice-Actor", "somebody else"); got.status != http.StatusOK {
				t.Fatalf("EnterRecovery: got %d %s", got.status, got.body)
			}
		}
		history := post(t, nameless, url, "InstanceService/History", `{"application": "a", "instance": "i"}`).body
		if !strings.Contains(history, `"olga"`) || !strings.Contains(history, `"anonymous@127.0.0.1"`) || strings.Contains(history, "somebody else") {
			t.Errorf("HTTP/2 %v: want olga and an anonymous caller in the history, got %s", two, history)
		}
	}
}

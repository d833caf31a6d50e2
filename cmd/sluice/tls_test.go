package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/server"
)

// signed makes an authority and a certificate of it, for a node and its users alike: ca.pem, cert.pem and key.pem.
func signed(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority " + dir}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "n1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.CreateCertificate(rand.Reader, authority, authority, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: root}, "cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestMistakesWithTLSAreSaidAtOnce tries what people confuse, on a node with TLS and one without. A command that tried
// again would not end within its time-out.
func TestMistakesWithTLSAreSaidAtOnce(t *testing.T) {
	t.Parallel()
	ours, others := signed(t), signed(t)
	in := filepath.Join
	secure := startNode(t, func(c *server.Config) {
		c.CertFile, c.KeyFile, c.CAFile = in(ours, "cert.pem"), in(ours, "key.pem"), in(ours, "ca.pem")
	})
	plain := startNode(t)
	ca, wrongCA := []string{"--tls-ca", in(ours, "ca.pem")}, []string{"--tls-ca", in(others, "ca.pem")}
	foreign := append(ca[:2:2], "--tls-cert", in(others, "cert.pem"), "--tls-key", in(others, "key.pem"))
	own := append(ca[:2:2], "--tls-cert", in(ours, "cert.pem"), "--tls-key", in(ours, "key.pem"))
	for _, command := range [][]string{
		{"app", "list"}, {"send", "o/1", "--type", "t"}, {"instance", "recover", "o/1"}, {"instance", "watch", "o/1"},
		{"worker", "exec", "--app", "o", "--", "true"},
	} {
		at := func(address string, flags []string) []string {
			return append(append(command[:2:2], append([]string{"--addr", address, "--timeout", "10s"}, flags...)...), command[2:]...)
		}
		refused(t, exitUnavailable, `\[UNREACHABLE\] .*failed to verify certificate(?s:.*)next: .*--tls-ca`, at(secure, wrongCA)...)
		refused(t, exitUnavailable, `\[UNREACHABLE\] the node refuses the certificate that this side shows(?s:.*)next: .*--tls-cert`, at(secure, foreign)...)
		refused(t, exitUnavailable, `\[UNREACHABLE\] the peer does not speak HTTP/2.*This port speaks TLS(?s:.*)next: .*--tls-ca`, at(secure, nil)...)
		refused(t, exitUnavailable, `\[UNREACHABLE\] the peer does not speak TLS(?s:.*)next: .*plain text`, at(plain, ca)...)
	}
	refused(t, exitNotFound, `UNKNOWN_APPLICATION`, append([]string{"app", "get", "o", "--addr", secure}, own...)...)
	refused(t, exitNotFound, `UNKNOWN_APPLICATION`, append([]string{"app", "get", "o", "--addr", secure}, ca...)...)
}

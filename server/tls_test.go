package server

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"sluice/internal/authority"
)

// secureClient speaks TLS, with a certificate if it has a name, over HTTP/2 or HTTP/1.1.
func secureClient(t *testing.T, a *authority.Authority, name string, two bool) *http.Client {
	t.Helper()
	config := &tls.Config{RootCAs: a.Pool()}
	if name != "" {
		config.Certificates = []tls.Certificate{a.Pair(t, name)}
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
	a := authority.New(t)
	a.Issue(t, "n1")
	a.Issue(t, "olga")
	s := startReal(t, t.TempDir(), func(c *Config) {
		c.CertFile, c.KeyFile, c.CAFile = a.File("n1.crt"), a.File("n1.key"), a.File("ca.crt")
	})
	url := strings.Replace(s.url, "http://", "https://", 1)
	for _, two := range []bool{false, true} {
		named, nameless := secureClient(t, a, "olga", two), secureClient(t, a, "", two)
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

//go:build linux

package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/jepsen/world"
	"sluice/transport"
)

// secured is a world of two places, with what a node does at its port at the first of them.
func secured(t *testing.T) (*World, *node, *node) {
	t.Helper()
	w, _ := bare(t)
	w.cfg.TLS = true
	if err := os.Mkdir(filepath.Join(w.cfg.Dir, "tls"), 0o750); err != nil {
		t.Fatal(err)
	}
	for i, place := range []string{"n1", "n2"} {
		n := &node{w: w, place: place, number: i, id: place}
		if err := w.address(n); err != nil {
			t.Fatal(err)
		}
		w.nodes = append(w.nodes, n)
	}
	if err := w.certifyAll(); err != nil {
		t.Fatal(err)
	}
	listen(t, w.nodes[0])
	return w, w.nodes[0], w.nodes[1]
}

func listen(t *testing.T, n *node) {
	t.Helper()
	port, err := transport.Listen(transport.Config{NodeID: n.id, Listen: n.address, CertFile: n.tls(certFile), KeyFile: n.tls(keyFile), CAFile: n.tls(caFile)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- port.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, port.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestImpostorsAreToldFromNodes: a node with a right certificate is let in, so that a refusal of the wrong ones says
// something.
func TestImpostorsAreToldFromNodes(t *testing.T) {
	t.Parallel()
	w, n1, n2 := secured(t)
	ctx := context.Background()
	if !w.admits(ctx, n1, n2) {
		t.Fatal("a node with a right certificate was not let in")
	}
	for _, shape := range world.WrongCertificates() {
		by, h, trust, err := w.wrong(n2, shape)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.issue(n2, by, h, trust); err != nil {
			t.Fatal(err)
		}
		if w.admits(ctx, n1, n2) {
			t.Errorf("%s: it was let in", shape)
		}
	}
	if _, _, _, err := w.wrong(n2, "strange"); err == nil || !strings.Contains(err.Error(), "foreign") {
		t.Errorf("a certificate that is strange: %v", err)
	}
}

func TestANodeShowsItsNewCertificate(t *testing.T) {
	t.Parallel()
	w, n1, n2 := secured(t)
	ctx := context.Background()
	before, err := n1.certificate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	heal, err := w.rotateCertificates(ctx, world.Fault{}, []*node{n1, n2}) // nobody is at n2
	if err != nil {
		t.Fatal(err)
	}
	after, err := n1.certificate(ctx)
	if err != nil || after.Equal(before) || after.Issuer.String() == before.Issuer.String() {
		t.Errorf("after a rotation it shows a certificate by %v, as it did by %v (%v)", after.Issuer, before.Issuer, err)
	}
	if err := heal(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestACertificateEndsInUse: others do not believe the node any more.
func TestACertificateEndsInUse(t *testing.T) {
	t.Parallel()
	w, n1, n2 := secured(t)
	if _, err := w.expireCertificates(context.Background(), world.Fault{}, []*node{n1, n2}); err != nil {
		t.Fatal(err)
	}
	shown, err := n1.certificate(context.Background())
	if err != nil || time.Now().Before(shown.NotAfter) {
		t.Fatalf("it shows a certificate that ends at %v (%v)", shown.NotAfter, err)
	}
	if w.admits(context.Background(), n1, n2) {
		t.Error("a node was let in whose certificate has ended")
	}
}

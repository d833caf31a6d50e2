//go:build linux

package proc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/client"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

const (
	// shownWithin is how long a node may take to show a certificate whose files were replaced.
	shownWithin = 30 * time.Second
	// shortLived is how long a certificate lasts that is to end while it is in use.
	shortLived = 3 * time.Second
	// refusedWithin is how long a node may take to end that must not start.
	refusedWithin = 30 * time.Second
	// callTime bounds one call of an impostor.
	callTime = 3 * time.Second
)

// rotateCertificates has nodes take new certificates into use, of another authority than before.
func (w *World) rotateCertificates(ctx context.Context, _ world.Fault, nodes []*node) (world.Heal, error) {
	heal := func(ctx context.Context) error { return w.renewCertificates(ctx, nodes) }
	return heal, w.renewCertificates(ctx, nodes)
}

func (w *World) renewCertificates(ctx context.Context, nodes []*node) (err error) {
	for _, n := range nodes {
		err = errors.Join(err, w.certify(n))
	}
	for _, n := range nodes {
		err = errors.Join(err, w.shown(ctx, n))
	}
	return err
}

// shown waits until a node shows the certificate in its file. One that is down or does not answer shows none, and is
// passed over.
func (w *World) shown(ctx context.Context, n *node) error {
	ctx, cancel := context.WithTimeout(ctx, shownWithin)
	defer cancel()
	for {
		there, err := n.certificate(ctx)
		if err == nil && sameFile(n.tls(certFile), there) {
			return nil
		}
		down := there == nil && (n.running() == nil || !n.running().alive())
		if !down && w.Wait(ctx, 100*time.Millisecond) == nil {
			continue
		}
		if there == nil {
			return nil
		}
		return fmt.Errorf("%s does not show its new certificate after %v", n.place, shownWithin)
	}
}

// certificate asks a node for what it shows, whatever that is worth.
func (n *node) certificate(ctx context.Context) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}}
	c, err := dialer.DialContext(ctx, "tcp", n.address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

func sameFile(name string, cert *x509.Certificate) bool {
	data, err := readPEM(name)
	return err == nil && bytes.Equal(data, cert.Raw)
}

// expireCertificates has the certificates of nodes end while they are in use, and breaks what was built on them.
func (w *World) expireCertificates(ctx context.Context, _ world.Fault, nodes []*node) (world.Heal, error) {
	heal := func(ctx context.Context) error { return errors.Join(startAll(nodes), w.renewCertificates(ctx, nodes)) }
	ends := time.Now().Add(shortLived)
	for _, n := range nodes {
		if err := w.issue(n, w.authorities.next(n.place), holder{name: n.name(), ends: ends}, w.authorities.trust()); err != nil {
			return heal, err
		}
	}
	for _, n := range nodes {
		if err := w.shown(ctx, n); err != nil {
			return heal, err
		}
	}
	if err := w.Wait(ctx, time.Until(ends.Truncate(time.Second).Add(time.Second))); err != nil {
		return heal, err
	}
	for _, n := range nodes {
		if w.network == nil {
			break // connections that stand go on; new ones are refused
		}
		if err := w.network.sever(ctx, n.number); err != nil {
			return heal, err
		}
	}
	return heal, nil
}

// wrong makes a certificate for a node that must not be believed, and says whom that node itself trusts: it would not
// start with one that it does not believe itself.
func (w *World) wrong(n *node, shape string) (by *authority, h holder, trust []byte, err error) {
	a := w.authorities
	switch shape {
	case world.ForeignCertificate:
		return a.foreign, holder{name: n.name()}, bytes.Join([][]byte{a.trust(), a.foreign.trust}, nil), nil
	case world.UsersCertificate:
		return a.next(n.place), holder{name: n.name(), user: true}, a.trust(), nil
	case world.OthersCertificate:
		other := w.nodes[(n.number+1)%len(w.nodes)]
		return a.next(n.place), holder{name: other.name()}, a.trust(), nil
	}
	return nil, h, nil, fmt.Errorf("there is no certificate that is wrong by being %q: there are %s", shape, strings.Join(world.WrongCertificates(), ", "))
}

// wrongCertificates has nodes start with certificates that must not be believed, and calls all others in their names.
func (w *World) wrongCertificates(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	heal := func(ctx context.Context) error {
		_, err := w.kill(ctx, f, nodes)
		for _, n := range nodes {
			err = errors.Join(err, w.certify(n))
		}
		return errors.Join(err, startAll(nodes))
	}
	if _, err := w.kill(ctx, f, nodes); err != nil {
		return heal, err
	}
	for _, n := range nodes {
		by, h, trust, err := w.wrong(n, f.Shape)
		if err == nil {
			err = errors.Join(w.issue(n, by, h, trust), n.start())
		}
		if err != nil {
			return heal, err
		}
		n.hold()
		w.impersonate(ctx, n)
		if f.Shape != world.ForeignCertificate {
			w.mustEnd(ctx, n, f.Shape)
		}
	}
	return heal, nil
}

// mustEnd notes a node that goes on with a certificate with which it must not.
func (w *World) mustEnd(ctx context.Context, n *node, shape string) {
	ctx, cancel := context.WithTimeout(ctx, refusedWithin)
	defer cancel()
	for n.running().alive() {
		if w.Wait(ctx, 50*time.Millisecond) != nil {
			w.log.Mark(history.Mark{Name: history.Admitted, Text: fmt.Sprintf("%s runs with a certificate that is wrong: %s", n.name(), shape)})
			return
		}
	}
}

// impersonate calls all other nodes and says that it is the node, with the node's files: none may let it in. Those that
// do not answer let nobody in.
func (w *World) impersonate(ctx context.Context, n *node) {
	for _, other := range w.nodes {
		if other == n {
			continue
		}
		if w.admits(ctx, other, n) {
			w.log.Mark(history.Mark{Name: history.Admitted, Text: fmt.Sprintf("%s let in a node that called itself %s and had no right to", other.name(), n.name())})
		}
	}
	if w.serves(ctx, n) {
		w.log.Mark(history.Mark{Name: history.Admitted, Text: fmt.Sprintf("a client was served whose certificate was signed by a foreign authority, in the name of %s", n.name())})
	}
}

// welcomed is how a node answers a node that it lets in; anything else, and nothing, is a refusal.
const welcomed = 0

// admits says hello to a node as another one would: the length of its id, and the id.
func (w *World) admits(ctx context.Context, to, as *node) bool {
	cert, err := tls.LoadX509KeyPair(as.tls(certFile), as.tls(keyFile))
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"sluice-peer/1"}, MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	}}
	c, err := dialer.DialContext(ctx, "tcp", to.address)
	if err != nil {
		return false
	}
	defer c.Close()
	return greeted(c, as.name())
}

func greeted(c net.Conn, name string) bool {
	answer := []byte{0}
	err := c.SetDeadline(time.Now().Add(callTime))
	if err == nil {
		_, err = c.Write(append([]byte{byte(len(name))}, name...))
	}
	if err == nil {
		_, err = io.ReadFull(c, answer)
	}
	return err == nil && answer[0] == welcomed
}

// serves asks all nodes but one as a client with a certificate of a foreign authority, and tells whether any answers.
func (w *World) serves(ctx context.Context, n *node) bool {
	cert, key, err := w.authorities.foreign.sign(holder{name: n.name(), user: true})
	if err != nil {
		return false
	}
	files := client.TLS{CAFile: w.clientTLS().CAFile, CertFile: filepath.Join(w.cfg.Dir, "tls", "stranger.pem"), KeyFile: filepath.Join(w.cfg.Dir, "tls", "stranger.key")}
	if put(map[string][]byte{files.CertFile: cert, files.KeyFile: key}) != nil {
		return false
	}
	var others []string
	for _, other := range w.nodes {
		if other != n {
			others = append(others, other.address)
		}
	}
	cfg := clientConfig(others, &files, w.logger)
	cfg.CallTimeout, cfg.Retry.Total = callTime, callTime
	c, err := client.New(cfg)
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = c.Cluster().Status(ctx)
	return err == nil
}

func readPEM(name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("proc: %s holds no certificate", name)
	}
	return block.Bytes, nil
}

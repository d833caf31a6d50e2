package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"sluice/client"
)

// link makes the client that a command talks through. That no node is there at all is said at once, and not after the
// time that a restart or an election is given.
func (sh *shell) link(ctx context.Context) (*client.Client, error) {
	return sh.linkBy(ctx, sh.clientConfig())
}

// linkBy is link with a configuration of the command's own.
func (sh *shell) linkBy(ctx context.Context, cfg client.Config) (*client.Client, error) {
	if (sh.tls.cert == "") != (sh.tls.key == "") {
		return nil, usagef("--tls-cert and --tls-key go together: give both, or neither")
	}
	c, err := client.New(cfg)
	if err != nil {
		wrong := usagef("%s", strings.TrimPrefix(err.Error(), "client: "))
		if cfg.TLS == nil {
			return nil, hint(wrong, "--addr takes HOST:PORT; for other than loopback addresses give --tls-ca FILE, or --insecure for plain text")
		}
		return nil, wrong
	}
	if err := reachable(ctx, c.Addresses()); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (sh *shell) clientConfig() client.Config {
	cfg := client.Config{
		Addresses: sh.addresses(), Insecure: sh.insecure, Logger: sh.logger(),
		Retry:         client.Retry{Attempts: 1 << 20, Total: 20 * time.Second},
		WrapTransport: sh.sign,
	}
	if sh.tls != (tlsFlags{}) {
		cfg.TLS = &client.TLS{CAFile: sh.tls.ca, CertFile: sh.tls.cert, KeyFile: sh.tls.key}
	}
	return cfg
}

// reachable tries to connect to each address, all at once; one that takes the connection is enough.
func reachable(ctx context.Context, addresses []string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	results := make(chan error, len(addresses))
	for _, address := range addresses {
		go func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err == nil {
				conn.Close()
			}
			results <- err
		}()
	}
	var last error
	for range addresses {
		if last = <-results; last == nil {
			return nil
		}
	}
	return &client.Error{Code: client.ErrNoLeader.Code(), Reason: client.ErrUnreachable, Message: "no node answers at " + strings.Join(addresses, ", ") + ": " + cause(last)}
}

// cause is the innermost of an error's texts: "connection refused", without the addresses again.
func cause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// signer says in every request who makes it.
type signer struct {
	next  http.RoundTripper
	actor string
}

func (s signer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Sluice-Actor", s.actor)
	return s.next.RoundTrip(req)
}

func (sh *shell) sign(next http.RoundTripper) http.RoundTripper { return signer{next, sh.actor()} }

// errInterrupted is a call that the user ended before there was an answer.
var errInterrupted = errors.New("interrupted before an answer came")

// ask calls a method that changes nothing: without an answer nothing was done.
func ask[Req, Res any](ctx context.Context, c *client.Client, procedure string, req *Req) (*Res, error) {
	res, err := client.Call[Req, Res](ctx, c, procedure, req)
	var e *client.Error
	if errors.As(err, &e) && (e.Code == "unknown" || e.Code == "canceled") {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, errInterrupted
		}
		return nil, &client.Error{Code: client.ErrNoLeader.Code(), Reason: client.ErrNoLeader, Message: "no answer in time: " + e.Message, Node: e.Node}
	}
	return res, err
}

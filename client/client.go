package client

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Client talks to a cluster. It is safe for use by many goroutines. It has goroutines of its
// own only while requests of gathered Sends are under way or their streams end.
type Client struct {
	cfg       Config
	nodes     *nodes
	transport *ways
	http      *http.Client
	closed    chan struct{}
	closeOnce sync.Once

	alone   chan struct{} // one token for each Send with a request of its own
	gather  *Sender       // of all further Sends
	ingests *ingests      // of this and the other Senders
}

const (
	// sendsAlone is how many Sends of a client at once have a request each; further ones are gathered, in sendsGathered
	// requests at once, and while those are under way all are: what a request costs is spent on many messages then.
	sendsAlone, sendsGathered = 2, 2
)

// New makes a client and connects nowhere yet; its errors are those of the configuration.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ns, err := newNodes(cfg)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, nodes: ns, transport: transport, closed: make(chan struct{}), alone: make(chan struct{}, sendsAlone)}
	c.ingests = &ingests{client: c}
	if c.gather, err = c.NewSender(SenderConfig{Requests: sendsGathered}); err != nil {
		return nil, err
	}
	var rt http.RoundTripper = transport
	if cfg.WrapTransport != nil {
		rt = cfg.WrapTransport(transport)
	}
	c.http = &http.Client{Transport: rt}
	return c, nil
}

// Dial makes a client and asks a node for its status, so that a wrong address or certificate is known at once. It
// tries within the retry budget. The cluster need not have a leader yet.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	if _, err := c.Cluster().Status(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("client: no node answers: %w", err)
	}
	return c, nil
}

// Close ends the client's idle connections; calls that begin later are refused with ErrClosed.
func (c *Client) Close() {
	c.closeOnce.Do(func() { close(c.closed) })
	c.ingests.close()
	c.transport.CloseIdleConnections()
}

// Addresses are the nodes that the client knows, host:port.
func (c *Client) Addresses() []string {
	out := make([]string, len(c.nodes.all))
	for i, n := range c.nodes.all {
		out[i] = n.address
	}
	return out
}

// newTransport speaks HTTP/2 only, with or without TLS, and notices a dead connection by pings.
func newTransport(cfg Config) (*ways, error) {
	tlsConfig, err := cfg.TLS.config()
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	w := &ways{dial: cfg.Dial}
	w.Transport = &http.Transport{
		Protocols:       protocols,
		DialContext:     w.dialPlain,
		DialTLSContext:  w.dialSecure(tlsConfig), // which speaks HTTP/2 without being asked again
		IdleConnTimeout: 90 * time.Second,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:               5 * time.Second,
			PingTimeout:                   5 * time.Second,
			WriteByteTimeout:              10 * time.Second,
			MaxReceiveBufferPerConnection: 8 << 20,
			MaxReceiveBufferPerStream:     4 << 20,
		},
	}
	return w, nil
}

// NewID makes an id for a message or a request: a UUID of version 7, which sorts by time.
func NewID() string {
	id, err := uuid.NewV7()
	if err != nil {
		panic(fmt.Sprintf("client: the system has no randomness: %v", err))
	}
	return id.String()
}

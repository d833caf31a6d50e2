package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// The defaults of Config, and the limits that are not to be set.
const (
	MaxConnectionsDefault     = 10_000
	MaxNodeConnectionsDefault = 1_000
	HandshakeTimeoutDefault   = 5 * time.Second
	DialTimeoutDefault        = 3 * time.Second
	// PeerBytesMax is the size of the greatest body that a call between nodes, or its answer, may have.
	PeerBytesMax = 64 << 20
	// NodeIDBytesMax is the length of the longest node id.
	NodeIDBytesMax = 128
	// pendingMax is how many accepted connections may be at their handshake at one time.
	pendingMax = 1_000
)

// Config tells where to listen, and how.
type Config struct {
	// NodeID is what this node calls itself towards its peers. Required. With TLS the certificate must name it, as its common
	// name or one of its DNS names.
	NodeID string
	// Listen is the HOST:PORT to bind; port 0 takes a free one.
	Listen string
	// Advertise is the HOST:PORT under which others reach this node. Empty: the bound address.
	Advertise string
	// CertFile, KeyFile and CAFile are PEM files; all three or none. They are read again when they change.
	CertFile, KeyFile, CAFile string
	// Insecure allows plain text outside loopback. Anybody who reaches the port can then forge the log.
	Insecure bool
	// MaxConnections is how many connections of clients there may be, 10,000 if zero; more are closed at once.
	MaxConnections int
	// MaxNodeConnections is how many connections of nodes there may be, 1,000 if zero. They are counted by
	// themselves: clients cannot take the places of nodes.
	MaxNodeConnections int
	// HandshakeTimeout is how long a connection may take to say whose it is, 5 s if zero.
	HandshakeTimeout time.Duration
	// DialTimeout is how long opening a connection to a node may take, handshake included, 3 s if zero.
	DialTimeout time.Duration
	// Bind opens the port; net.Listen if nil.
	Bind func(network, address string) (net.Listener, error)
	// Dial opens TCP connections to nodes; a net.Dialer's if nil. Tests put faults in between.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger takes what an operator should know; slog.Default if nil.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.MaxConnections == 0 {
		c.MaxConnections = MaxConnectionsDefault
	}
	if c.MaxNodeConnections == 0 {
		c.MaxNodeConnections = MaxNodeConnectionsDefault
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = HandshakeTimeoutDefault
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = DialTimeoutDefault
	}
	if c.Bind == nil {
		c.Bind = net.Listen
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) secure() bool { return c.CertFile != "" }

func (c Config) validate() error {
	if c.MaxConnections < 0 || c.MaxNodeConnections < 0 || c.HandshakeTimeout < 0 || c.DialTimeout < 0 {
		return errors.New("transport: limits and timeouts must not be negative")
	}
	if c.NodeID == "" || len(c.NodeID) > NodeIDBytesMax {
		return fmt.Errorf("transport: the node id has %d bytes, 1 to %d are allowed", len(c.NodeID), NodeIDBytesMax)
	}
	if (c.CertFile == "") != (c.KeyFile == "") || (c.CertFile == "") != (c.CAFile == "") {
		return errors.New("transport: TLS needs a certificate, its key and a CA file: give all three or none")
	}
	if err := c.validateAddress("listen", c.Listen); err != nil {
		return err
	}
	if c.Advertise == "" {
		return nil
	}
	return c.validateAddress("advertise", c.Advertise)
}

func (c Config) validateAddress(what, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("transport: the %s address %q is not HOST:PORT: %w", what, address, err)
	}
	if c.secure() || c.Insecure || loopback(host) {
		return nil
	}
	return fmt.Errorf("transport: the %s address %q is not a loopback address, and there plain text is refused: "+
		"give a certificate, its key and a CA file, or say that it is to be insecure", what, address)
}

// loopback tells whether a host surely means this machine only. A name other than localhost may mean anything.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// advertised is the address for others: the one that is configured, else the bound one, which must then be one.
func (c Config) advertised(bound net.Addr) (string, error) {
	if c.Advertise == "" {
		if tcp, ok := bound.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
			return "", fmt.Errorf("transport: %s listens on every address: say which one to advertise", bound)
		}
		return bound.String(), nil
	}
	host, port, err := net.SplitHostPort(c.Advertise)
	if err != nil || port != "0" {
		return c.Advertise, err
	}
	_, port, err = net.SplitHostPort(bound.String())
	return net.JoinHostPort(host, port), err
}

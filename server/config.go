package server

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sluice/cluster"
	"sluice/cluster/raftlog"
	"sluice/internal/audit"
	"sluice/queue"
	"sluice/transport"
)

// Config tells a server who it is, where it listens, where its data lies and how much it takes. The zero value of an
// optional field means its default, given by Defaults.
type Config struct {
	// NodeID names the node for ever. Required.
	NodeID string
	// Cluster is the name that all nodes of a cluster share; default "sluice".
	Cluster string
	// DataDir is the folder that only this node uses; it is made if absent. Required.
	DataDir string
	// Version is what the program calls itself in Status and on its page.
	Version string
	// Logger takes every line of the server; default slog.Default().
	Logger *slog.Logger

	// Listen is the HOST:PORT of the one port for clients, peers and raft; port 0: any free one. Required.
	Listen string
	// Advertise is the HOST:PORT under which others reach it, if it is not the one bound.
	Advertise string
	// Gossip is the HOST:PORT of gossip; empty: none, a cluster of one needs none.
	Gossip string
	// GossipAdvertise is the address that others use, if it is not Gossip.
	GossipAdvertise string
	// BootstrapExpect is how many nodes without data found a new cluster together; 0: this node founds none.
	BootstrapExpect int
	// Join lists gossip addresses of other nodes, tried for ever.
	Join []string

	// StartHeld has the cluster start held: every application is in recovery before anything is delivered, unless the
	// cluster is at work already.
	StartHeld bool

	// CertFile, KeyFile and CAFile switch TLS on, mutual between nodes. Without them plain text is spoken, on
	// loopback addresses alone unless Insecure is set.
	CertFile, KeyFile, CAFile string
	// Insecure allows plain text on any address.
	Insecure bool

	// ElectionTimeout is how long a node waits for a word of the leader before it stands for election, and how long a
	// leader goes on without a word of a majority; 100 ms to a minute; zero: the node's default. It must be well above
	// the time between the nodes, and be the same at all of them.
	ElectionTimeout time.Duration
	// LogStore is the library that keeps the raft log, "wal" or "bolt"; default the node's own.
	LogStore string
	// SnapshotInterval is how often raft looks whether SnapshotThreshold entries have come since the last snapshot,
	// and TrailingLogs how many are kept behind one; zero: the node's defaults.
	SnapshotInterval  time.Duration
	SnapshotThreshold uint64
	TrailingLogs      uint64
	// DrainBeside is how many messages of instances that drain, all of them together, are handed out in the time that an
	// entry takes, while other instances have work, 1 to 1,024; zero: the node's default.
	DrainBeside int
	// BlockCache, if set, is the cache of the node's store, which other nodes of the process may share; nil: one of its own.
	BlockCache *queue.BlockCache
	// Audit, if set, is told of every entry that the node applies, as cluster.Config says.
	Audit func(rows ...audit.Row) error
	// Tune and TuneTransport, if set, change the configuration of the node and of its port last; for tests and for what
	// has no field here.
	Tune          func(*cluster.Config)
	TuneTransport func(*transport.Config)

	// Limits bound what callers may ask for.
	Limits Limits
	// DrainTime is how long a stopping server lets calls in progress go on; default 5 s.
	DrainTime time.Duration
	// Profiles shows /debug/pprof to callers on this machine.
	Profiles bool
}

// With a shorter election timeout a pause of the process deposes a leader; with a longer one nothing would be accepted for
// minutes after a leader's death.
const electionTimeoutLeast, electionTimeoutMost = 100 * time.Millisecond, time.Minute

// Limits bound what callers may ask for. Zero means the default.
type Limits struct {
	// Calls is how many calls are served at once, streams and long polls among them; default 16,384.
	Calls int
	// CallBytes is how large a request may be, or one message of a stream; default 32 MiB.
	CallBytes int
	// MessageBytes is how large the data of one message may be, whatever its application allows; default 15 MiB:
	// a command of the log holds 16.
	MessageBytes int
	// Streams is how many calls one HTTP/2 connection may have at once; default 4,096.
	Streams int
	// Watches is how many streams of events are served at once; default 256.
	Watches int
	// Connections is how many client connections are open at once; 0: the transport's default.
	Connections int
	// HeaderBytes is how large the headers of a call may be; default 64 KiB.
	HeaderBytes int
	// HeaderTime and BodyTime are how long headers and a request that is no stream may take to arrive; default 10 s and 60 s.
	HeaderTime, BodyTime time.Duration
	// IdleTime is after how long a connection without calls is closed; default 3 minutes.
	IdleTime time.Duration
	// PingAfter is after how long without a frame an HTTP/2 peer is pinged, PingTime how long it may take to answer
	// before the connection is given up; default 15 s each.
	PingAfter, PingTime time.Duration
}

// Defaults fills in every optional field that is zero.
func (c Config) Defaults() Config {
	standard(&c.Cluster, "sluice")
	standard(&c.DrainTime, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	l := &c.Limits
	standard(&l.Calls, 16384)
	standard(&l.CallBytes, 32<<20)
	standard(&l.MessageBytes, 15<<20)
	standard(&l.Streams, 4096)
	standard(&l.Watches, 256)
	standard(&l.HeaderBytes, 64<<10)
	standard(&l.HeaderTime, 10*time.Second)
	standard(&l.BodyTime, time.Minute)
	standard(&l.IdleTime, 3*time.Minute)
	standard(&l.PingAfter, 15*time.Second)
	standard(&l.PingTime, 15*time.Second)
	return c
}

func standard[T comparable](field *T, otherwise T) {
	var zero T
	if *field == zero {
		*field = otherwise
	}
}

// Validate tells what is wrong with the configuration, all at once. What concerns the node or the transport alone is
// judged there.
func (c Config) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("server: "+format, args...))
		}
	}
	need(c.NodeID != "", "a node id is needed")
	need(c.DataDir != "", "a data folder is needed")
	need(c.Listen != "", "an address to listen on is needed")
	need((c.CertFile == "") == (c.KeyFile == ""), "tls-cert and tls-key go together: give both, or neither")
	need(c.CAFile == "" || c.CertFile != "", "tls-ca is of no use without tls-cert and tls-key: give all three")
	need(c.LogStore == "" || c.LogStore == string(raftlog.WAL) || c.LogStore == string(raftlog.Bolt), "log store %q: want %q or %q", c.LogStore, raftlog.WAL, raftlog.Bolt)
	need(c.ElectionTimeout == 0 || c.ElectionTimeout >= electionTimeoutLeast && c.ElectionTimeout <= electionTimeoutMost, "the election timeout, %v, must be from %v to %v", c.ElectionTimeout, electionTimeoutLeast, electionTimeoutMost)
	need(c.TrailingLogs == 0 || c.TrailingLogs >= cluster.TrailingLogsLeast, "trailing-logs: %d are too few, give %d or more", c.TrailingLogs, cluster.TrailingLogsLeast)
	need(c.DrainBeside >= 0 && c.DrainBeside <= cluster.DrainBesideMost, "drain-beside: %d is not within 1 and %d", c.DrainBeside, cluster.DrainBesideMost)
	l := c.Limits
	for _, count := range []struct {
		name string
		n    int
	}{{"Calls", l.Calls}, {"CallBytes", l.CallBytes}, {"MessageBytes", l.MessageBytes}, {"Streams", l.Streams}, {"Watches", l.Watches}, {"HeaderBytes", l.HeaderBytes}} {
		need(count.n > 0, "limit %s is %d; it must be above zero", count.name, count.n)
	}
	for _, span := range []struct {
		name string
		d    time.Duration
	}{
		{"HeaderTime", l.HeaderTime}, {"BodyTime", l.BodyTime}, {"IdleTime", l.IdleTime}, {"PingAfter", l.PingAfter}, {"PingTime", l.PingTime}, {"DrainTime", c.DrainTime},
	} {
		need(span.d > 0, "%s is %v; it must be above zero", span.name, span.d)
	}
	return errors.Join(errs...)
}

func (c Config) secure() bool { return c.CertFile != "" }

func (c Config) transport() transport.Config {
	carrier := transport.Config{
		NodeID: c.NodeID, Listen: c.Listen, Advertise: c.Advertise,
		CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile, Insecure: c.Insecure,
		MaxConnections: c.Limits.Connections, Logger: c.Logger,
	}
	if c.TuneTransport != nil {
		c.TuneTransport(&carrier)
	}
	return carrier
}

func (c Config) cluster(carrier cluster.Transport) cluster.Config {
	node := cluster.Config{
		NodeID: c.NodeID, Cluster: c.Cluster, DataDir: c.DataDir, Version: c.Version, Logger: c.Logger, Transport: carrier,
		GossipBind: c.Gossip, GossipAdvertise: c.GossipAdvertise, BootstrapExpect: c.BootstrapExpect, Join: c.Join, StartHeld: c.StartHeld,
		RaftLog:          raftlog.Backend(c.LogStore),
		HeartbeatTimeout: c.ElectionTimeout, ElectionTimeout: c.ElectionTimeout, LeaderLeaseTimeout: c.ElectionTimeout,
		SnapshotInterval: c.SnapshotInterval, SnapshotThreshold: c.SnapshotThreshold, TrailingLogs: c.TrailingLogs,
		DrainBeside: c.DrainBeside,
		BlockCache:  c.BlockCache,
		Audit:       c.Audit,
	}
	if c.Tune != nil {
		c.Tune(&node)
	}
	return node
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"time"

	"sluice/cluster/gossip"
	"sluice/cluster/raftlog"
	"sluice/internal/audit"
	"sluice/internal/disk"
	"sluice/queue"
	"sluice/transport"
)

// Transport carries raft streams and calls between nodes; *transport.Transport is one. The caller of New runs it,
// from before Run until after Run has returned.
type Transport interface {
	RaftListener(group uint32) net.Listener
	DialRaft(ctx context.Context, group uint32, addr string) (net.Conn, error)
	HandlePeers(h transport.PeerHandler)
	CallPeer(ctx context.Context, addr, method string, body []byte) ([]byte, error)
	// Advertise is the HOST:PORT under which other nodes reach this one.
	Advertise() string
}

// entriesInFlight is the default of Config.EntriesInFlight.
const entriesInFlight = 2

const (
	// TrailingLogsLeast is how few entries may be kept behind a snapshot, with the default EntriesInFlight.
	TrailingLogsLeast = 4 * entriesInFlight
	// DrainBesideMost is the greatest Config.DrainBeside.
	DrainBesideMost = pollMost
)

// Config tells a node who it is, where it keeps its data and how it behaves. The zero value of an optional field
// means its default, given by Defaults.
type Config struct {
	// NodeID names the node for ever: 1 to 63 letters, digits, dots, underscores and dashes, beginning with a letter or digit.
	// Required.
	NodeID string
	// Cluster is the name that all nodes of a cluster share; default "sluice".
	Cluster string
	// DataDir is the folder that only this node uses; it is made if absent. Required.
	DataDir string
	// Transport carries what nodes say to each other. Required, and running while the node runs.
	Transport Transport
	// Version is what the node calls its program towards others.
	Version string

	// GossipBind is HOST:PORT of gossip; empty: none, a cluster of one needs none.
	GossipBind string
	// GossipAdvertise is the address that others use, if it is not GossipBind.
	GossipAdvertise string
	// BootstrapExpect is how many nodes without state found a new cluster together; 0: this node founds none.
	BootstrapExpect int
	// Join lists gossip addresses of other nodes, tried for ever.
	Join []string

	// StartHeld has the cluster start held: if this node leads before it has seen the cluster at work since its start, it
	// puts every application into recovery before anything is delivered or taken.
	StartHeld bool

	// Logger takes every line of the node, of raft and of gossip; default slog.Default().
	Logger *slog.Logger

	// RaftLog is the library that keeps the raft log; default raftlog's own.
	RaftLog raftlog.Backend
	// OpenStore opens the state store in a folder; default Pebble, with what was written last in memory.
	OpenStore func(dir string) (queue.Store, error)
	// BlockCache, if set, is what Pebble keeps blocks in, for all nodes of the process that share it; nil: this node has its own.
	BlockCache *queue.BlockCache
	// CacheInstances is how many instance headers stay decoded in memory; 0: fsm's default.
	CacheInstances int
	// BucketRecords is how many records the first memory buckets of an application take, and must be the same at all nodes; 0:
	// fsm's default.
	BucketRecords int

	// HeartbeatTimeout, ElectionTimeout, LeaderLeaseTimeout and CommitTimeout are raft's;
	// default 300 ms each, and 20 ms (docs/adr/0022-election-timeouts.md).
	HeartbeatTimeout, ElectionTimeout, LeaderLeaseTimeout, CommitTimeout time.Duration
	// SnapshotInterval is how often raft looks whether SnapshotThreshold entries have come since the last snapshot;
	// default 30 s and 8,192.
	SnapshotInterval  time.Duration
	SnapshotThreshold uint64
	// SnapshotBytes: once entries of so many bytes were applied since the last snapshot began, one is asked for, whatever
	// SnapshotInterval says; default 256 MiB. A node that starts reads the entries behind its last snapshot twice: raft looks for
	// configurations, and the state machine passes over what it has.
	SnapshotBytes uint64
	// TrailingLogs is how many entries are kept behind a snapshot, at least four for each of EntriesInFlight; default 10,240.
	TrailingLogs uint64
	// MaxAppendEntries is how many entries one append may carry, 1 to 1,024; default 64.
	MaxAppendEntries int

	// BatchCommands and BatchBytes bound one raft entry; default 1,024 and 1 MiB. One command may be larger than BatchBytes.
	BatchCommands, BatchBytes int
	// MaxCommandBytes bounds one command; default 16 MiB.
	MaxCommandBytes int
	// QueueLength and QueueBytes bound what waits to be proposed; default 8,192 and 64 MiB. Beyond them: OVERLOADED.
	QueueLength, QueueBytes int
	// EntriesInFlight is how many entries the leader has under way at most, 1 to TrailingLogs/4; default 2. It has more than
	// one only where what waits fills another.
	EntriesInFlight int
	// ForwardCalls is how many batches a follower has under way to the leader at once; default 4.
	ForwardCalls int
	// DigestEvery is after how many entries the leader puts a digest of the state into the log; default 1,000.
	DigestEvery int

	// Audit, if set, is told of every entry that this node applies, before its proposer is answered, and of every state
	// that it takes over; by one goroutine at a time. It is for tests of clusters. After an error the node stops.
	Audit func(rows ...audit.Row) error

	// LeaderWait is how long a call waits for a leader before it says NO_LEADER; default 5 s.
	LeaderWait time.Duration
	// RedeliverAfter is when what was given and is not settled is offered again, at most half a session's ttl; default 5 s.
	RedeliverAfter time.Duration
	// DrainBeside is how many messages of instances that drain, all of them together, are handed out in the time that an entry
	// takes, while other instances have work; 1 to 1,024; default 4.
	DrainBeside int
	// PromoteAfter is how long a new member must have been reachable and caught up before it votes; default 10 s.
	PromoteAfter time.Duration
	// DiskReserve is how many bytes must be free for the node to take commands; default 32 MiB, at most 5 % of the file system.
	DiskReserve uint64

	// What follows is for simulations: what a node stands on.
	//
	// Files is the file system that DataDir lies on; default the operating system's. The raft log is where OpenLog has it.
	Files disk.FS
	// FreeSpace tells how many bytes of the file system beneath a folder are free, and how many it has; default statfs(2).
	FreeSpace func(dir string) (free, total uint64, err error)
	// OpenLog opens the raft log in a folder; default raftlog's Open.
	OpenLog func(dir string, cfg raftlog.Config) (RaftLog, error)
	// ListenGossip opens the port of gossip; default memberlist's.
	ListenGossip func(cfg gossip.Config) (Gossip, error)
	// Now is the wall clock, which stamps entries and tells what has come due; default time.Now.
	Now func() time.Time
	// NoLibraryMetrics leaves out what raft, its log and gossip measure of themselves: for simulations, in which nobody
	// reads it.
	NoLibraryMetrics bool
}

// Defaults fills in every optional field that is zero.
func (c Config) Defaults() Config {
	text(&c.Cluster, "sluice")
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.OpenStore == nil {
		logger, files, cache := c.Logger, c.Files, c.BlockCache // no files: the store watches the operating system's for slow writes
		c.OpenStore = func(dir string) (queue.Store, error) {
			store, err := queue.OpenPebble(dir, queue.PebbleConfig{FS: files, Logger: logger, Cache: cache})
			if err != nil {
				return nil, err
			}
			return queue.NewWriteBack(store, 0), nil
		}
	}
	if c.Files == nil {
		c.Files = disk.System()
	}
	if c.FreeSpace == nil {
		c.FreeSpace = statfs
	}
	if c.OpenLog == nil {
		c.OpenLog = func(dir string, cfg raftlog.Config) (RaftLog, error) { return raftlog.Open(dir, cfg) }
	}
	if c.ListenGossip == nil {
		c.ListenGossip = func(cfg gossip.Config) (Gossip, error) { return gossip.Listen(cfg) }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	number(&c.HeartbeatTimeout, 300*time.Millisecond)
	number(&c.ElectionTimeout, 300*time.Millisecond)
	number(&c.LeaderLeaseTimeout, 300*time.Millisecond)
	number(&c.CommitTimeout, 20*time.Millisecond)
	number(&c.SnapshotInterval, 30*time.Second)
	number(&c.SnapshotThreshold, 8192)
	number(&c.SnapshotBytes, 256<<20)
	number(&c.TrailingLogs, 10240)
	number(&c.MaxAppendEntries, 64)
	number(&c.BatchCommands, 1024)
	number(&c.BatchBytes, 1<<20)
	number(&c.MaxCommandBytes, 16<<20)
	number(&c.QueueLength, 8192)
	number(&c.QueueBytes, 64<<20)
	number(&c.EntriesInFlight, entriesInFlight)
	number(&c.ForwardCalls, 4)
	number(&c.DigestEvery, 1000)
	number(&c.LeaderWait, 5*time.Second)
	number(&c.RedeliverAfter, 5*time.Second)
	number(&c.DrainBeside, 4)
	number(&c.PromoteAfter, 10*time.Second)
	number(&c.DiskReserve, 32<<20)
	return c
}

func text(field *string, standard string) {
	if *field == "" {
		*field = standard
	}
}

func number[T int | uint64 | time.Duration](field *T, standard T) {
	if *field == 0 {
		*field = standard
	}
}

// named is what nodes and clusters may be called.
var named = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Validate tells what is wrong with the configuration, all at once.
func (c Config) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("cluster: "+format, args...))
		}
	}
	need(named.MatchString(c.NodeID), "the node id %q: want 1 to 63 letters, digits, dots, underscores and dashes, beginning with a letter or digit", c.NodeID)
	need(named.MatchString(c.Cluster), "the cluster name %q: want 1 to 63 letters, digits, dots, underscores and dashes, beginning with a letter or digit", c.Cluster)
	need(c.DataDir != "", "a data folder is needed")
	need(c.Transport != nil, "a transport is needed")
	need(c.BootstrapExpect >= 0 && c.BootstrapExpect <= 15, "bootstrap-expect %d must be 0 to 15", c.BootstrapExpect)
	need(c.BootstrapExpect < 2 || c.GossipBind != "", "bootstrap-expect %d needs a gossip address", c.BootstrapExpect)
	need(len(c.Join) == 0 || c.GossipBind != "", "join needs a gossip address")
	need(c.EntriesInFlight >= 1 && uint64(c.EntriesInFlight) <= max(c.TrailingLogs/4, 1), "%d entries in flight: allowed are 1 to %d, a quarter of the %d trailing logs", c.EntriesInFlight, max(c.TrailingLogs/4, 1), c.TrailingLogs)
	need(c.MaxAppendEntries >= 1 && c.MaxAppendEntries <= 1024, "%d entries in an append must be 1 to 1,024", c.MaxAppendEntries)
	need(c.BatchCommands <= forwardCommandsMost && c.BatchBytes+c.MaxCommandBytes <= forwardBytesMost, "a batch of %d commands and %d bytes with one of %d more must be within %d and %d", c.BatchCommands, c.BatchBytes, c.MaxCommandBytes, forwardCommandsMost, forwardBytesMost)
	need(c.BatchCommands > 0 && c.BatchBytes > 0 && c.MaxCommandBytes > 0, "a batch of %d commands or %d bytes and a command of %d bytes must be above zero", c.BatchCommands, c.BatchBytes, c.MaxCommandBytes)
	need(c.QueueLength > 0 && c.QueueBytes >= c.MaxCommandBytes, "the queue of %d calls and %d bytes must hold at least one command, which may have %d bytes", c.QueueLength, c.QueueBytes, c.MaxCommandBytes)
	need(c.DrainBeside >= 1 && c.DrainBeside <= DrainBesideMost, "%d messages to be drained beside others' work, in the time that an entry takes, must be 1 to %d", c.DrainBeside, DrainBesideMost)
	need(c.ForwardCalls > 0 && c.DigestEvery > 0, "%d forward calls and a digest after %d entries must be above zero", c.ForwardCalls, c.DigestEvery)
	for _, d := range []struct {
		what string
		span time.Duration
	}{
		{"heartbeat timeout", c.HeartbeatTimeout}, {"election timeout", c.ElectionTimeout}, {"leader lease", c.LeaderLeaseTimeout},
		{"commit timeout", c.CommitTimeout}, {"snapshot interval", c.SnapshotInterval}, {"wait for a leader", c.LeaderWait},
		{"time to redelivery", c.RedeliverAfter}, {"time to promotion", c.PromoteAfter},
	} {
		need(d.span > 0, "the %s, %v, must be above zero", d.what, d.span)
	}
	return errors.Join(errs...)
}

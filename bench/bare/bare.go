// Package bare is the yardstick of the benchmark: hashicorp/raft alone behind the port, the log store, the batching
// and the service of Sluice, with a state machine that does nothing. What Sluice costs beyond it is Sluice's own.
package bare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/cluster"
	"sluice/cluster/raftlog"
	"sluice/transport"
)

// Config says which node of the yardstick a process is.
type Config struct {
	// ID names the node; one of Peers.
	ID string
	// Dir is the node's own folder; it must exist.
	Dir string
	// Peers holds the HOST:PORT of every node by its id, this one's among them.
	Peers map[string]string
	// LogStore is the library that keeps the raft log, "wal" or "bolt"; empty: raftlog's default.
	LogStore string
}

// group is the one raft group.
const group = 1

// Run serves until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	port, err := transport.Listen(transport.Config{NodeID: cfg.ID, Listen: cfg.Peers[cfg.ID], Logger: logger})
	if err != nil {
		return err
	}
	store, err := raftlog.Open(cfg.Dir, raftlog.Config{Backend: raftlog.Backend(cfg.LogStore), Logger: logger})
	if err != nil {
		return err
	}
	r, err := start(cfg, port, store)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	b := newBatcher(r, port)
	port.HandlePeers(b.serve)
	web := &http.Server{Handler: handler(b, r), Protocols: new(http.Protocols)}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)

	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return port.Run(ctx) })
	parts.Go(func() error { b.run(ctx); return nil })
	parts.Go(func() error { b.await(); return nil })
	parts.Go(func() error { return ended(web.Serve(port.HTTPListener()), http.ErrServerClosed, net.ErrClosed) })
	parts.Go(func() error {
		<-ctx.Done()
		return errors.Join(web.Close(), r.Shutdown().Error())
	})
	return errors.Join(parts.Wait(), store.Close())
}

// ended is err, unless it is one that a plain end gives.
func ended(err error, plain ...error) error {
	for _, p := range plain {
		if errors.Is(err, p) {
			return nil
		}
	}
	return err
}

// start begins raft with the settings that Sluice's nodes have by default.
func start(cfg Config, port *transport.Transport, store *raftlog.Store) (*raft.Raft, error) {
	defaults := cluster.Config{}.Defaults()
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(cfg.ID)
	conf.LogOutput, conf.LogLevel = os.Stderr, "WARN"
	conf.HeartbeatTimeout, conf.ElectionTimeout = defaults.HeartbeatTimeout, defaults.ElectionTimeout
	conf.LeaderLeaseTimeout, conf.CommitTimeout = defaults.LeaderLeaseTimeout, defaults.CommitTimeout
	conf.SnapshotInterval, conf.SnapshotThreshold = defaults.SnapshotInterval, defaults.SnapshotThreshold
	conf.TrailingLogs, conf.MaxAppendEntries = defaults.TrailingLogs, defaults.MaxAppendEntries
	conf.BatchApplyCh = true

	cache, err := raft.NewLogCache(512, store)
	if err != nil {
		return nil, err
	}
	carrier := raft.NewNetworkTransport(&streams{port.RaftListener(group), port}, 3, 10*time.Second, os.Stderr)
	snapshots := raft.NewDiscardSnapshotStore()
	var servers raft.Configuration
	for id, address := range cfg.Peers {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(address)})
	}
	if err := raft.BootstrapCluster(conf, cache, store, snapshots, carrier, servers); err != nil {
		return nil, fmt.Errorf("bare: bootstrap: %w", err)
	}
	return raft.NewRaft(conf, nothing{}, cache, store, snapshots, carrier)
}

// streams carries raft over the shared port.
type streams struct {
	net.Listener
	port *transport.Transport
}

// Dial opens a stream to another node.
func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.port.DialRaft(ctx, group, string(address))
}

// nothing is a state machine that does nothing.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                  { return nil }
func (nothing) ApplyBatch(entries []*raft.Log) []any { return make([]any, len(entries)) }
func (nothing) Snapshot() (raft.FSMSnapshot, error)  { return nothing{}, nil }
func (nothing) Restore(snapshot io.ReadCloser) error { return snapshot.Close() }
func (nothing) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (nothing) Release()                             {}

// handler answers Send as a node of Sluice does, and tells when it is ready.
func handler(b *batcher, r *raft.Raft) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(sluicev1connect.NewMessageServiceHandler(&service{batcher: b}))
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if leader, _ := r.LeaderWithID(); leader == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return mux
}

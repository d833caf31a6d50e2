package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/cluster"
	"sluice/transport"
	"sluice/web"
)

// Server is one Sluice node with everything around it: its port, its part of the cluster, its services and pages.
type Server struct {
	*lifetime
	cfg       Config
	logger    *slog.Logger
	transport *transport.Transport
	node      *cluster.Node
	http      *http.Server
	// aborted: the end is a crash.
	aborted atomic.Bool
}

// New binds the port, opens the data folder and puts the parts together; nothing is served before Run.
// A server that is never run must be closed.
func New(cfg Config) (*Server, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	carrier, err := transport.Listen(cfg.transport())
	if err != nil {
		return nil, err
	}
	node, err := cluster.New(cfg.cluster(carrier))
	if err != nil {
		return nil, errors.Join(err, carrier.Close())
	}
	s := &Server{lifetime: newLifetime(), cfg: cfg, logger: cfg.Logger.With("component", "server"), transport: carrier, node: node}
	s.http = newHTTP(cfg, s.logger, s.handler())
	return s, nil
}

func (s *Server) handler() http.Handler {
	calls := newCallMetrics()
	p := &pages{
		lifetime: s.lifetime, node: clusterNode{s.node}, profiles: s.cfg.Profiles, registry: newRegistry(calls, s.node.Collector()),
		about: web.About{NodeID: s.cfg.NodeID, Cluster: s.cfg.Cluster, Version: s.cfg.Version},
	}
	return newHandler(s.cfg, s.logger, s.lifetime, clusterNode{s.node}, calls, p)
}

// newHandler is all that the port answers over HTTP.
func newHandler(cfg Config, logger *slog.Logger, life *lifetime, node Node, calls *callMetrics, p *pages) http.Handler {
	options := connect.WithHandlerOptions(
		connect.WithCodec(protoCodec{}), connect.WithCodec(jsonCodec{"json"}), connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
		connect.WithReadMaxBytes(cfg.Limits.CallBytes),
		connect.WithCompressMinBytes(1024),
		connect.WithInterceptors(&access{logger: logger, metrics: calls}),
	)
	mux := http.NewServeMux()
	p.register(mux)
	mux.Handle(sluicev1connect.NewMessageServiceHandler(&messageService{lifetime: life, node: node, limits: cfg.Limits}, options))
	mux.Handle(sluicev1connect.NewInstanceServiceHandler(&instanceService{node}, options))
	mux.Handle(sluicev1connect.NewApplicationServiceHandler(&applicationService{node: node, limits: cfg.Limits}, options))
	mux.Handle(sluicev1connect.NewOperationServiceHandler(&operationService{node}, options))
	mux.Handle(sluicev1connect.NewTransactionServiceHandler(&transactionService{node}, options))
	mux.Handle(sluicev1connect.NewWorkerServiceHandler(&workerService{lifetime: life, node: node}, options))
	mux.Handle(sluicev1connect.NewEventServiceHandler(newEventService(life, node, cfg.Limits.Watches), options))
	mux.Handle(sluicev1connect.NewClusterServiceHandler(&clusterService{node}, options))
	return &front{
		lifetime: life, next: mux, leader: node.LeaderAddress, procedures: procedures(), errors: connect.NewErrorWriter(options),
		limits: cfg.Limits, secure: cfg.secure(), logger: logger, metrics: calls,
	}
}

func newHTTP(cfg Config, logger *slog.Logger, handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	l := cfg.Limits
	return &http.Server{
		Handler:   handler,
		Protocols: protocols,
		// Without pings a connection whose other end is gone would be waited on for ever.
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: l.Streams, SendPingTimeout: l.PingAfter, PingTimeout: l.PingTime, WriteByteTimeout: l.PingAfter + l.PingTime},
		ReadHeaderTimeout: l.HeaderTime,
		IdleTimeout:       l.IdleTime,
		MaxHeaderBytes:    l.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// Addr is the address that the port is bound to.
func (s *Server) Addr() net.Addr { return s.transport.Addr() }

// Node is this server's part of the cluster.
func (s *Server) Node() *cluster.Node { return s.node }

// Close gives up a server that was never run.
func (s *Server) Close() error {
	return errors.Join(s.node.Close(), s.transport.Close())
}

// Run serves until ctx ends or the node has to stop. Then it takes no more calls, lets those in progress end within
// the drain time, has the node hand over its leadership, and closes everything. The error says why the node had to
// stop, nil if it was told to.
func (s *Server) Run(ctx context.Context) error {
	// Each part has a context of its own, because they end one after the other, the carrier last.
	carrierCtx, stopCarrier := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCarrier()
	nodeCtx, stopNode := context.WithCancel(carrierCtx)
	defer stopNode()
	over, end := context.WithCancel(ctx)
	defer end()
	carrier := start("transport", end, func() error { return s.transport.Run(carrierCtx) })
	node := start("node", end, func() error { return s.node.Run(nodeCtx) })
	front := start("http", end, func() error { return s.http.Serve(s.transport.HTTPListener()) })
	s.logger.InfoContext(ctx, "serving", "node", s.cfg.NodeID, "cluster", s.cfg.Cluster, "address", s.Addr().String(), "gossip", s.node.GossipAddress(), "tls", s.cfg.secure())

	<-over.Done()
	if !s.aborted.Load() {
		s.drain(context.WithoutCancel(ctx))
	}
	stopNode()
	err := node.wait()
	err = errors.Join(err, s.http.Close(), front.wait())
	stopCarrier()
	err = errors.Join(err, carrier.wait())
	s.logger.InfoContext(ctx, "stopped", "node", s.cfg.NodeID)
	return err
}

// Abort makes a server end as if it had been killed: calls in progress are cut, the lead is not handed over, nobody is
// told. Run answers the cause. It is for tests of crashes.
func (s *Server) Abort(cause error) {
	s.aborted.Store(true)
	s.node.Abort(cause)
	// What is cut off now is cut off by a crash: there is nobody to tell.
	_ = s.transport.Close()
}

// part is one part of the server at work.
type part struct {
	done chan struct{}
	err  error // set before done is closed
}

// start runs a part. When it ends, for whatever reason, so does the server.
func start(name string, end func(), run func() error) *part {
	p := &part{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer end()
		if err := run(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, context.Canceled) {
			p.err = fmt.Errorf("%s: %w", name, err)
		}
	}()
	return p
}

func (p *part) wait() error {
	<-p.done
	return p.err
}

// drain takes no more calls and waits, not too long, for those in progress.
func (s *Server) drain(ctx context.Context) {
	s.end()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DrainTime)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.logger.WarnContext(ctx, "calls are cut off: they took longer than the drain time", "calls", s.calls.Load(), "drain", s.cfg.DrainTime)
	}
}

// readyPoll is how often WaitReady looks.
const readyPoll = 5 * time.Millisecond

// WaitReady waits until the node knows a leader and has caught up, as /readyz tells.
func (s *Server) WaitReady(ctx context.Context) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		var waiting []string
		for _, check := range s.node.Ready() {
			if !check.OK {
				waiting = append(waiting, check.Name+": "+check.Text)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("server: %s is not ready (%v): %w", s.cfg.NodeID, waiting, ctx.Err())
		}
	}
}

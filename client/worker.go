package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// WorkerConfig says what a worker hosts and how. Application and Handler are required; the zero value of every other
// field has a default.
type WorkerConfig struct {
	// Application whose instances the worker hosts.
	Application string
	// Name shows in sessions and histories, 1 to 256 bytes. Default host name and process id.
	Name string
	// Capacity is how many instances the worker owns at most, 1 to 65,536. Default 64.
	Capacity int
	// TTL is the length of the lease, 1 s to 1 h. A worker that is silent for longer has lost its instances. Default 15 s.
	TTL time.Duration
	// Concurrency is how many message handlers run at once, and how many recovery handlers, 1 to 65,536. Default 16.
	Concurrency int
	// Prefetch is how many messages of normal lanes the worker has in hand at most, 1 to 1,024. Default 4 * Concurrency.
	Prefetch int
	// Grace is how long handlers may go on after Run's context has ended, before their own contexts are cancelled.
	// Default 10 s.
	Grace time.Duration

	// Handler handles one message. Nil completes it, with what was set on the Delivery. Reject dead-letters it,
	// Recover sends the instance into recovery; any other error, and a panic, is a failed attempt: the message comes
	// again after the application's backoff, or after RetryAfter's. The context is cancelled when the epoch is over
	// (ErrFenced), the lease lapsed (ErrLeaseLost) or the grace time ended (ErrStopped): context.Cause tells.
	Handler func(context.Context, *Delivery) error
	// OnRecovery handles the recovery of an instance. Nil completes it; an error reports it as failed, and it comes
	// again after a backoff. Without OnRecovery the worker says so in the log, once per instance and epoch, reports each
	// attempt as failed, and the instance stays in recovery until an operator completes it.
	OnRecovery func(context.Context, *Recovery) error
	// OnRecoveryMessage handles a message of the recovery lane that OnRecovery did not ask for. Default Handler.
	OnRecoveryMessage func(context.Context, *Delivery) error
	// OnEvent is told what happens; it must not block. Nil: nobody is.
	OnEvent func(Event)
	// Logger. Default the client's.
	Logger *slog.Logger
	// UsePoll has the worker use Poll and Settle instead of the stream, as it does where no stream can be had.
	UsePoll bool
}

func (c WorkerConfig) withDefaults(client *Client) WorkerConfig {
	if c.Name == "" {
		host, _ := os.Hostname() // an unknown host has an empty name
		c.Name = fmt.Sprintf("%.200s-%d", orDefault(host, "worker"), os.Getpid())
	}
	c.Capacity = orDefault(c.Capacity, 64)
	c.TTL = orDefault(c.TTL, 15*time.Second)
	c.Concurrency = orDefault(c.Concurrency, 16)
	c.Prefetch = orDefault(c.Prefetch, min(4*c.Concurrency, 1024))
	c.Grace = orDefault(c.Grace, 10*time.Second)
	c.Logger = orDefault(c.Logger, client.cfg.Logger).With("worker", c.Name, "application", c.Application)
	if c.OnRecoveryMessage == nil {
		c.OnRecoveryMessage = c.Handler
	}
	return c
}

func (c WorkerConfig) validate() error {
	if err := checkApplication(c.Application); err != nil {
		return err
	}
	switch {
	case c.Handler == nil:
		return errors.New("client: the worker has no Handler")
	case c.Capacity < 1 || c.Capacity > 65_536:
		return fmt.Errorf("client: Capacity is %d; allowed are 1 to 65,536", c.Capacity)
	case c.TTL < time.Second || c.TTL > time.Hour:
		return fmt.Errorf("client: TTL is %v; allowed are 1 s to 1 h", c.TTL)
	case c.Concurrency < 1 || c.Concurrency > 65_536:
		return fmt.Errorf("client: Concurrency is %d; allowed are 1 to 65,536", c.Concurrency)
	case c.Prefetch < 1 || c.Prefetch > 1024:
		return fmt.Errorf("client: Prefetch is %d; allowed are 1 to 1,024", c.Prefetch)
	case c.Grace < 0:
		return fmt.Errorf("client: Grace is %v, which is negative", c.Grace)
	}
	return checkText(ErrBadField, "worker name", c.Name)
}

// Worker hosts instances of one application: it takes what the cluster assigns to it, handles each instance's messages
// one after the other and in order, those of different instances at once, and keeps its lease.
type Worker struct {
	client  *Client
	cfg     WorkerConfig
	running atomic.Bool
}

// NewWorker makes a worker; Run starts it.
func (c *Client) NewWorker(cfg WorkerConfig) (*Worker, error) {
	cfg = cfg.withDefaults(c)
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Worker{client: c, cfg: cfg}, nil
}

// Run works until ctx ends. Then it takes nothing more, lets running handlers finish within the grace time, settles,
// and hands its instances back with nothing in doubt: nil. An instance whose handler did not return even after its
// context was cancelled is sent into recovery first. An error tells that the session could not be opened for a
// reason that trying again does not mend, or not be handed back, in which case it will expire. A session that is lost
// on the way is replaced by a new one. Only one Run may be under way at a time.
func (w *Worker) Run(ctx context.Context) error {
	if !w.running.CompareAndSwap(false, true) {
		return errors.New("client: the worker is running already")
	}
	defer w.running.Store(false)
	h := newHost(w.client, w.cfg)
	for {
		session, ttl, err := w.open(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s := &tenure{host: h, id: session, ttl: ttl}
		done, err := s.serve(ctx)
		if done {
			return err
		}
	}
}

// Running is a worker that was started, until Stop. It is safe for use by many goroutines.
type Running struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // Run's, set before done is closed
}

// Start is Run in the background.
func (w *Worker) Start() *Running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Running{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = w.Run(ctx)
	}()
	return r
}

// Done is closed when the worker has ended, also if it did by itself; Stop tells why.
func (r *Running) Done() <-chan struct{} { return r.done }

// Stop ends the worker as the end of Run's context does, waits for it, and returns what Run returned. Called again, it
// returns the same.
func (r *Running) Stop() error {
	r.cancel()
	<-r.done
	return r.err
}

// open opens a session, for as long as it takes.
func (w *Worker) open(ctx context.Context) (id string, ttl time.Duration, err error) {
	req := &sluicev1.OpenSessionRequest{
		Application: w.cfg.Application, Name: w.cfg.Name, Ttl: durationpb.New(w.cfg.TTL), Capacity: uint32(w.cfg.Capacity),
	}
	for {
		res, err := Call[sluicev1.OpenSessionRequest, sluicev1.OpenSessionResponse](ctx, w.client, sluicev1connect.WorkerServiceOpenSessionProcedure, req)
		if err == nil {
			return res.GetSessionId(), res.GetTtl().AsDuration(), nil
		}
		if !asError(err).Temporary() || ctx.Err() != nil {
			return "", 0, fmt.Errorf("client: open a session for %s: %w", w.cfg.Application, err)
		}
		w.cfg.Logger.Warn("no session could be opened; trying again", "error", err)
		sleep(ctx, w.client.closed, jitter(w.client.cfg.Retry.Max))
	}
}

func stack() string { return string(debug.Stack()) }

// tenure is one session of a worker: its lease and its link.
type tenure struct {
	*host
	id  string
	ttl time.Duration
}

// serve works under the session until it is lost, or until ctx ends and it was handed back (done).
func (s *tenure) serve(ctx context.Context) (done bool, err error) {
	s.adoptSession()
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	for _, part := range []func(context.Context){s.keepLease, s.link, s.unpark} {
		parts.Go(func() { part(inner) })
	}
	defer parts.Wait()
	defer cancel()
	select {
	case <-s.lost:
		cancel()
		parts.Wait()
		s.reset()
		return false, nil
	case <-s.client.closed:
		cancel()
		parts.Wait()
		s.reset()
		return true, &Error{Code: "canceled", Reason: ErrClosed, Message: "the client was closed under a running worker; its session will expire"}
	case <-ctx.Done():
		return true, s.stop()
	}
}

func (s *tenure) adoptSession() {
	s.mu.Lock()
	defer s.unlock()
	s.session = s.id
	s.log.Info("the worker's session is open", "session", s.id, "ttl", s.ttl)
	s.tell(Event{Kind: EventSessionOpened})
}

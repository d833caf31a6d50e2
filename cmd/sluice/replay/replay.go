package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/api/reason"
	"sluice/client"
)

// run is one replay at work.
type run struct {
	cfg    Config
	client *client.Client
	plan   *Plan
	ledger *ledger
	nonce  string // makes this run's requests its own
	pace   pace
	// startIndex is the log's position before anything was sent: a duplicate of an older receipt is of an earlier run.
	startIndex uint64

	slots       chan struct{} // one token for each completion under way
	completions sync.WaitGroup

	elapsed, proof time.Duration

	mu         sync.Mutex // guards what follows
	sent       int
	violations []string
	wrong      int
	failures   []error // of completions
	reporting  sync.Mutex
}

// Run replays a plan and, if asked to, proves that it came out right. What was not right is in the report; an error
// says that the replay could not be carried out to its end, and comes with the report of what was done.
func Run(ctx context.Context, c *client.Client, cfg Config, plan *Plan) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &run{cfg: cfg.withDefaults(), client: c, plan: plan, ledger: newLedger(plan), nonce: client.NewID(), slots: make(chan struct{}, completers)}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	retries := r.cfg.Retries()
	r.pace = pace{speed: r.cfg.Speed, begun: time.Now(), first: plan.order[0].at}
	err := r.working(ctx, func(ctx context.Context) error {
		if err := r.send(ctx); err != nil {
			return err
		}
		return r.drain(ctx)
	})
	r.elapsed = time.Since(r.pace.begun)
	if err == nil && r.cfg.Verify {
		begun := time.Now()
		err = r.verify(ctx)
		r.proof = time.Since(begun)
	}
	report := r.report()
	report.Retries = r.cfg.Retries() - retries
	return report, err
}

// prepare declares the application if it is not there, and notes where the log stands.
func (r *run) prepare(ctx context.Context) error {
	_, err := r.client.Applications().Get(ctx, r.cfg.Application)
	if errors.Is(err, reason.UnknownApplication) {
		_, err = r.client.Applications().Apply(ctx, client.Application{
			Name: r.cfg.Application, Delivery: client.DeliveryPolicy{Window: r.cfg.Window},
		})
	}
	if err != nil {
		return fmt.Errorf("declare the application %q: %w", r.cfg.Application, err)
	}
	for range r.client.Addresses() {
		status, err := r.client.Cluster().Status(ctx)
		if err != nil {
			return fmt.Errorf("ask for the cluster's status: %w", err)
		}
		r.startIndex = max(r.startIndex, status.CommitIndex)
	}
	return nil
}

// drain waits until the cluster holds nothing unsettled and every instance is normal.
func (r *run) drain(ctx context.Context) error {
	const look = 250 * time.Millisecond
	moved, last := time.Now(), -1
	for {
		unsettled, first, err := r.unsettled(ctx)
		switch {
		case err != nil && !waitable(err):
			return err
		case err == nil && unsettled == 0:
			return nil
		}
		r.progress(0)
		if mark := unsettled*len(r.plan.order) + r.ledger.count(); err == nil && mark != last {
			moved, last = time.Now(), mark
		}
		if time.Since(moved) > r.cfg.Patience {
			return fmt.Errorf("nothing moved for %v: %s %w", r.cfg.Patience, first, err)
		}
		if err := pause(ctx, look); err != nil {
			return err
		}
	}
}

// unsettled counts what the replay's instances still hold, instances that are not normal among it; first is one of them.
func (r *run) unsettled(ctx context.Context) (n int, first string, err error) {
	instances, err := r.instances(ctx)
	if err != nil {
		return 0, "", err
	}
	for key, now := range instances {
		if r.ledger.books[key] == nil {
			continue
		}
		held := int(now.NormalMessages + now.RecoveryMessages)
		if held == 0 && now.Mode != client.ModeNormal {
			held = 1
		}
		if held > 0 {
			first = fmt.Sprintf("%s is in mode %s and holds %d messages", key, now.Mode, held)
		}
		n += held
	}
	return n, first, nil
}

// progress tells how far the replay is, after more messages were sent.
func (r *run) progress(more int) {
	r.mu.Lock()
	r.sent += more
	p := Progress{Sent: r.sent, Handled: r.ledger.count(), Total: len(r.plan.order), Phase: "send"}
	r.mu.Unlock()
	if p.Sent == p.Total {
		p.Phase = "drain"
	}
	r.tell(p)
}

func (r *run) verified(done int) {
	r.tell(Progress{Handled: done, Total: len(r.plan.order), Phase: "verify"})
}

func (r *run) tell(p Progress) {
	r.reporting.Lock()
	defer r.reporting.Unlock()
	r.cfg.Progress(p)
}

// violation keeps what must not be.
func (r *run) violation(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrong++; len(r.violations) < maxViolations {
		r.violations = append(r.violations, fmt.Sprintf(format, args...))
	}
}

func (r *run) completionFailed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, err)
}

func (r *run) completionErrors() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures[:min(len(r.failures), 3)]
}

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

// maxBatchBytes is how much content goes in one request, unless a single message is larger.
const maxBatchBytes = 1 << 20

// sender works one list of steps off.
type sender struct {
	*run
	steps []step
	batch []*planned
	bytes int
}

// send runs all senders until everything is sent and every recovery that the replay began is completed.
func (r *run) send(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var senders sync.WaitGroup
	for _, steps := range r.plan.steps(r.cfg.Senders, r.cfg.Recover, r.cfg.Seed) {
		s := &sender{run: r, steps: steps}
		senders.Go(func() {
			if err := s.work(ctx); err != nil {
				cancel(err)
			}
		})
	}
	senders.Wait()
	r.completions.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return errors.Join(r.completionErrors()...)
}

func (s *sender) work(ctx context.Context) error {
	for _, next := range s.steps {
		if err := s.step(ctx, next); err != nil {
			return err
		}
	}
	return s.flush(ctx)
}

func (s *sender) step(ctx context.Context, next step) error {
	if next.do == sends {
		return s.gather(ctx, next.event)
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	if next.do == enters {
		return s.enter(ctx, next.of)
	}
	s.completeLater(ctx, next.of)
	return nil
}

// gather puts a message to the batch, which goes when it is full, or when the clock says wait.
func (s *sender) gather(ctx context.Context, p *planned) error {
	full := len(s.batch) >= s.cfg.Batch || len(s.batch) > 0 && s.bytes+len(p.data) > maxBatchBytes
	wait := s.pace.until(p.at)
	if full || wait > 0 {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	if err := pause(ctx, wait); err != nil {
		return err
	}
	s.batch, s.bytes = append(s.batch, p), s.bytes+len(p.data)
	return nil
}

// pace is the clock of the log, run at the replay's speed.
type pace struct {
	speed float64
	begun time.Time
	first time.Time
}

// until is how long it is until a moment of the log is due.
func (p pace) until(at time.Time) time.Duration {
	if p.speed == 0 || at.IsZero() {
		return 0
	}
	due := p.begun.Add(time.Duration(float64(at.Sub(p.first)) / p.speed))
	return time.Until(due)
}

// pause waits for a moment; its error says why it was cut short.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// flush sends the batch, and what was not done again, until all is done.
func (s *sender) flush(ctx context.Context) error {
	left := s.batch
	s.batch, s.bytes = nil, 0
	patience := newPatience(s.cfg.Patience)
	for len(left) > 0 {
		results, err := s.client.SendBatch(ctx, s.messages(left))
		if err != nil && !waitable(err) {
			return fmt.Errorf("send to %s: %w", left[0].of.key, err)
		}
		done, again, err := s.note(left, results)
		if err != nil {
			return err
		}
		if done > 0 {
			patience.renew()
			s.progress(done)
		}
		if left = again; len(left) > 0 {
			if err := patience.wait(ctx, results[len(results)-1].Err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *sender) messages(batch []*planned) []client.Message {
	all := make([]client.Message, len(batch))
	for i, p := range batch {
		all[i] = client.Message{Application: s.cfg.Application, Instance: p.of.key, ID: p.id(), Type: p.kind, Source: cause, ContentType: "application/json", Data: p.data}
	}
	return all
}

// note writes receipts down, and gives back what must be sent again, in its order.
func (s *sender) note(batch []*planned, results []client.Result) (done int, again []*planned, err error) {
	waiting := map[*plannedCase]bool{}
	for i, p := range batch {
		switch err := results[i].Err; {
		case err == nil:
			r := results[i].Receipt
			if waiting[p.of] {
				s.violation("%s: %s was taken though the message before it was not", p.of.key, p.id())
			}
			s.ledger.accepted(p, r, r.Duplicate && r.Index <= s.startIndex)
			done++
		case waitable(err) || held(err):
			waiting[p.of] = true
			again = append(again, p)
		default:
			return done, nil, fmt.Errorf("%s of %s: %w", p.id(), p.of.key, err)
		}
	}
	return done, again, nil
}

// held tells whether a message was refused because its instance holds too many: they will become fewer.
func held(err error) bool {
	for _, limit := range []error{reason.LimitDeferredMessages, reason.LimitDeferredBytes, reason.LimitApplicationBytes, reason.LimitInboxMessages, reason.LimitInboxBytes} {
		if errors.Is(err, limit) {
			return true
		}
	}
	return false
}

// patience paces the repetitions of what was not done, and ends when nothing has moved for too long.
type patience struct {
	most time.Duration
	last time.Time
	next time.Duration
}

func newPatience(most time.Duration) *patience {
	p := &patience{most: most}
	p.renew()
	return p
}

func (p *patience) renew() { p.last, p.next = time.Now(), 10*time.Millisecond }

// wait pauses, a little longer each time; err is what made it necessary.
func (p *patience) wait(ctx context.Context, err error) error {
	if time.Since(p.last) > p.most {
		return fmt.Errorf("nothing moved for %v: %w", p.most, err)
	}
	d := p.next
	p.next = min(2*p.next, time.Second)
	return pause(ctx, d)
}

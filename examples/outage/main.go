// Command outage shows what happens when a service breaks that all instances need: their messages fail alike, so it is
// no message's fault. The application goes into recovery as a whole, by one entry, and no attempts are burnt. When the
// service is mended an operator completes the application, at a rate that the service can bear, and all is drained.
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/client"
	"sluice/examples/internal/stage"
)

// application is the sample application: parcels, each an instance.
const application = "parcels"

// parcels is how many there are, and rate how many a second are completed.
const (
	parcels = 20
	rate    = 20
)

func main() { stage.Main(outage, nil) }

// parcel is the state of an instance: where it went, in the order in which the carrier took it in.
type parcel struct {
	Legs []string `json:"legs"`
}

// depot is where parcels are handled.
type depot struct {
	*stage.Stage
	carrier *carrier
}

// outage tells the story.
func outage(ctx context.Context, on *stage.Stage) (err error) {
	s := &depot{Stage: on, carrier: newCarrier()}
	defer s.carrier.close()
	stop, err := s.declare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, chapter := range []func(context.Context) error{s.broken, s.held, s.mended, s.proof} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// declare declares the application and starts its worker.
func (s *depot) declare(ctx context.Context) (stop func() error, err error) {
	s.Title("The application %q is declared: %d instances that fail alike within a minute are an outage", application, parcels)
	_, err = s.Client.Applications().Apply(ctx, client.Application{
		Name:        application,
		Delivery:    client.DeliveryPolicy{MaxAttempts: 3, BackoffInitial: 10 * time.Second},
		Supervision: client.Supervision{OutageInstances: parcels, OutageWindow: time.Minute},
	})
	if err != nil {
		return nil, err
	}
	s.Say("a message has 3 attempts, 10 s apart")
	return s.work()
}

// work starts the worker. It has no recovery handler: that the carrier is back, an operator says.
func (s *depot) work() (stop func() error, err error) {
	return s.Work(client.WorkerConfig{Application: application, Logger: stage.Quiet, Handler: client.Typed(client.Schema[parcel]{}, s.handle)})
}

// handle hands a parcel to the carrier.
func (s *depot) handle(ctx context.Context, tx *client.Tx[parcel]) error {
	if tx.Message.Type == stage.Asked {
		return tx.ReplyJSON(tx.State)
	}
	if err := s.carrier.take(ctx, tx.Instance.Key, tx.Message.Data); err != nil {
		return fmt.Errorf("hand parcel %s to the carrier: %w", tx.Instance.Key, err)
	}
	tx.State.Legs = append(tx.State.Legs, string(tx.Message.Data))
	return nil
}

// all are the instances.
func all() (ids []client.InstanceID) {
	for n := range parcels {
		ids = append(ids, client.InstanceID{Application: application, Key: fmt.Sprintf("p%02d", n+1)})
	}
	return ids
}

// send sends one message to each parcel, and tells how many were deferred.
func (s *depot) send(ctx context.Context, leg string) (deferred int, err error) {
	for _, id := range all() {
		r, err := s.Client.Send(ctx, client.Message{Application: id.Application, Instance: id.Key, ID: leg, Type: "leg", Data: []byte(leg)})
		if err != nil {
			return deferred, err
		}
		if r.Disposition == client.DispositionDeferred {
			deferred++
		}
	}
	return deferred, nil
}

// broken breaks the carrier and waits until the cluster has understood.
func (s *depot) broken(ctx context.Context) error {
	s.Title("The carrier's service breaks, and %d parcels need it", parcels)
	s.carrier.broken.Store(true)
	if _, err := s.send(ctx, "first"); err != nil {
		return err
	}
	wanted := client.WatchOptions{Application: application, Types: []client.ClusterEventType{client.TypeApplicationRecoveryEntered}}
	for e, err := range s.Client.Watch(ctx, wanted) {
		if err != nil {
			return err
		}
		s.Title("One entry of the log put all of them into recovery; by: %s", e.Actor)
		break
	}
	app, err := s.Client.Applications().Get(ctx, application)
	switch {
	case err != nil:
		return err
	case app.Recovery == nil || app.Recovery.Outage == nil:
		return errors.New("the application is not in recovery because of an outage")
	}
	s.Say("cause: %s", app.Recovery.Cause)
	s.Say("%d instances failed like this: %s", app.Recovery.Outage.Instances, app.Recovery.Outage.Error)
	s.Say("in recovery: %d of %d", app.Counts.Recovery, parcels)
	return nil
}

// held shows that what comes now waits, and that no attempts are burnt.
func (s *depot) held(ctx context.Context) error {
	s.Title("Senders go on: what they send is held, and the carrier is left alone")
	before := s.carrier.calls.Load()
	deferred, err := s.send(ctx, "second")
	if err != nil {
		return err
	}
	s.Say("%d of %d deferred; the carrier was called %d times in all, %d of them since", deferred, parcels, s.carrier.calls.Load(), s.carrier.calls.Load()-before)
	attempts, err := s.attempts(ctx)
	if err != nil {
		return err
	}
	s.Say("attempts of the messages that failed: %d to %d of 3", slices.Min(attempts), slices.Max(attempts))
	return nil
}

// attempts of each parcel's first message.
func (s *depot) attempts(ctx context.Context) (attempts []int, err error) {
	for _, id := range all() {
		m, err := s.Client.Get(ctx, id, "first")
		if err != nil {
			return nil, err
		}
		attempts = append(attempts, m.Attempts)
	}
	return attempts, nil
}

// mended mends the carrier and completes the application.
func (s *depot) mended(ctx context.Context) error {
	s.Title("The service is mended; the operator completes the application, %d instances a second", rate)
	s.carrier.broken.Store(false)
	for passedOver := true; passedOver; {
		op, err := s.Client.Applications().CompleteRecovery(ctx, application, rate, "")
		if err != nil {
			return err
		}
		if op, err = s.Client.Operations().Wait(ctx, op.ID); err != nil {
			return err
		}
		s.Say("%s: %s, %d done, %d passed over, in %v", op.ID, op.State, op.Done, op.PassedOver, op.EndTime.Sub(op.StartTime).Round(time.Millisecond))
		passedOver = op.PassedOver > 0 // the worker had not said yet that it has no recovery handler
	}
	for _, id := range all() {
		if _, err := s.Client.Await(ctx, id, "second"); err != nil {
			return err
		}
	}
	return nil
}

// proof asks each parcel where it went.
func (s *depot) proof(ctx context.Context) error {
	for _, id := range all() {
		p, err := stage.Look[parcel](ctx, s.Stage, id)
		if err != nil {
			return err
		}
		if !slices.Equal(p.Legs, []string{"first", "second"}) {
			return fmt.Errorf("%s went %q", id, p.Legs)
		}
	}
	s.Title("All %d parcels went both legs, in order, and no attempt was burnt.", parcels)
	return nil
}

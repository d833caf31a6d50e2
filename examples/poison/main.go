// Command poison shows what becomes of a message that its handler cannot take: after some attempts its instance goes
// into recovery with the error and the history of the attempts, while other instances go on. An operator looks, puts the
// message's data right, and completes the recovery; the message keeps its place, and what stood behind it follows.
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"sluice/client"
	"sluice/examples/internal/stage"
)

// application is the sample application: price lists, each an instance.
const application = "prices"

// attempts of a message before its instance goes into recovery.
const attempts = 3

var (
	tea    = client.InstanceID{Application: application, Key: "tea"}
	coffee = client.InstanceID{Application: application, Key: "coffee"}
)

func main() { stage.Main(poison, nil) }

// list is the state of an instance: the prices in the order in which they were taken in.
type list struct {
	Prices []float64 `json:"prices"`
}

// shop is where prices are sent to.
type shop struct {
	*stage.Stage
	seen client.ListedMessage // the poison, as the operator has seen it
}

// poison tells the story.
func poison(ctx context.Context, on *stage.Stage) (err error) {
	s := &shop{Stage: on}
	s.Title("The application %q is declared: %d attempts, then recovery", application, attempts)
	_, err = s.Client.Applications().Apply(ctx, client.Application{
		Name:     application,
		Delivery: client.DeliveryPolicy{MaxAttempts: attempts, BackoffInitial: 50 * time.Millisecond},
	})
	if err != nil {
		return err
	}
	stop, err := s.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, chapter := range []func(context.Context) error{s.poisoned, s.looked, s.mended, s.proof} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// open starts the shop's worker. It has no recovery handler: what is in recovery waits for an operator.
func (s *shop) open() (stop func() error, err error) {
	return s.Work(client.WorkerConfig{Application: application, Logger: stage.Quiet, Handler: client.Typed(client.Schema[list]{}, s.handle)})
}

// handle takes a price in, if it is one.
func (s *shop) handle(_ context.Context, tx *client.Tx[list]) error {
	if tx.Message.Type == stage.Asked {
		return tx.ReplyJSON(tx.State)
	}
	price, err := strconv.ParseFloat(string(tx.Message.Data), 64)
	if err != nil {
		s.Say("handler: %s, message %d, attempt %d: %v", tx.Instance.Key, tx.Seq, tx.Attempt, err)
		return fmt.Errorf("not a price: %w", err)
	}
	tx.State.Prices = append(tx.State.Prices, price)
	s.Say("handler: %s, message %d, attempt %d: the price is %v", tx.Instance.Key, tx.Seq, tx.Attempt, price)
	return nil
}

// send sends a price under an id.
func (s *shop) send(ctx context.Context, id client.InstanceID, message, price string) error {
	r, err := s.Client.Send(ctx, client.Message{Application: id.Application, Instance: id.Key, ID: message, Type: "price.set", Data: []byte(price)})
	if err != nil {
		return err
	}
	s.Say("send %s %q to %s: number %d, %s", message, price, id, r.Seq, r.Disposition)
	return nil
}

// poisoned lets a message fail until its instance goes into recovery.
func (s *shop) poisoned(ctx context.Context) error {
	s.Title("Prices arrive; the second one has a comma")
	for i, price := range []string{"4.20", "4,30", "4.40"} {
		if err := s.send(ctx, tea, fmt.Sprint("m", i+1), price); err != nil {
			return err
		}
	}
	i, err := s.Client.Instances().WaitUntil(ctx, tea, func(i client.Instance) bool { return i.Mode == client.ModeRecovery })
	if err != nil {
		return err
	}
	s.Title("%s is in mode %s: %s", tea, i.Mode, i.Cause)
	if err := s.send(ctx, tea, "m4", "4.50"); err != nil {
		return err
	}
	s.Say("coffee does not notice:")
	if err := s.send(ctx, coffee, "m1", "7.10"); err != nil {
		return err
	}
	_, err = s.Client.Await(ctx, coffee, "m1")
	return err
}

// looked is the operator's look at what is wrong.
func (s *shop) looked(ctx context.Context) error {
	s.Title("The operator looks: what holds it?")
	e, err := s.Client.Instances().Explain(ctx, tea)
	if err != nil {
		return err
	}
	for _, h := range e.Holds {
		s.Say("%s: %s", h.Kind, h.Text)
	}
	s.Title("And what is in its lane?")
	for m, err := range s.Client.Instances().ListMessages(ctx, tea, client.ListMessages{}) {
		if err != nil {
			return err
		}
		doubt := ""
		if m.InDoubt {
			doubt = ", in doubt"
		}
		s.Say("number %d, %s, %q: %s%s", m.Seq, m.Message.ID, m.Message.Data, m.Status, doubt)
		for _, a := range m.AttemptHistory {
			s.Say("  attempt %d: %s", a.Number, a.Error)
		}
		if len(m.AttemptHistory) > 0 {
			s.seen = m
		}
	}
	return nil
}

// mended puts the data right and completes the recovery.
func (s *shop) mended(ctx context.Context) error {
	s.Title("The operator replaces the data of number %d; its place, its id and its number stay", s.seen.Seq)
	status, err := s.Client.Instances().ResolveMessage(ctx, tea, client.ResolveMessage{
		Seq: s.seen.Seq, Lane: s.seen.Lane, Action: client.ActionReplace, Data: []byte("4.30"), Reason: "a comma for a point",
		Version: s.seen.Version, // refused if it is not any more what the operator has seen
	})
	if err != nil {
		return err
	}
	s.Say("number %d, %s: %s", status.Seq, status.MessageID, status.Status)
	for _, e := range status.Edits {
		s.Say("  %s: %s", e.Action, e.Reason)
	}
	s.Title("And completes the recovery: the handler has not taken number 2 in, so it is delivered again")
	now, err := s.Client.Instances().Get(ctx, tea)
	if err != nil {
		return err
	}
	if _, err := s.Client.Instances().CompleteRecovery(ctx, tea, client.CompleteRecovery{Epoch: now.Epoch}); err != nil {
		return err
	}
	for i := range 4 {
		if _, err := s.Client.Await(ctx, tea, fmt.Sprint("m", i+1)); err != nil {
			return err
		}
	}
	_, err = s.Client.Instances().WaitUntil(ctx, tea, func(i client.Instance) bool { return i.Mode == client.ModeNormal })
	return err
}

// proof compares what was taken in with what was meant.
func (s *shop) proof(ctx context.Context) error {
	l, err := stage.Look[list](ctx, s.Stage, tea)
	if err != nil {
		return err
	}
	if !slices.Equal(l.Prices, []float64{4.2, 4.3, 4.4, 4.5}) {
		return fmt.Errorf("the prices of tea were %v", l.Prices)
	}
	s.Title("Every price was taken in once, and in order: %v", l.Prices)
	return nil
}

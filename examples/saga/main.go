// Command saga shows a saga: an order books a room, a seat and a payment with others; the payment is refused, and what
// was booked is released again, in reverse order. The worker that runs the order is killed midway.
//
// The order and everybody it deals with are instances with typed states. A step of an order is one handler: it changes
// the state and gives out the message of the next step, and both take effect with the settlement of the message that it
// handled, or neither does.
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

// lease is how long the cluster waits for a silent worker. It is short, so that the story is.
const lease = 2 * time.Second

var roles = stage.Roles{"orders": workOrders}

func main() { stage.Main(saga, roles) }

// saga tells the story.
func saga(ctx context.Context, s *stage.Stage) error {
	if err := declare(ctx, s); err != nil {
		return err
	}
	stop, err := workPartners(s)
	if err != nil {
		return err
	}
	return errors.Join(stage.Chapters(confirmed, refused, finished, proof)(ctx, s), stop())
}

func declare(ctx context.Context, s *stage.Stage) error {
	s.Title("Four applications: orders, and those that an order deals with")
	s.Say("order.placed → room.booked → seat.booked → payment.taken, or")
	s.Say("  payment.refused → seat.released → room.released")
	for _, app := range []client.Application{
		{Name: orders, Patterns: []client.Pattern{orderPattern}}, {Name: hotels}, {Name: flights}, {Name: accounts},
	} {
		if _, err := s.Client.Applications().Apply(ctx, app); err != nil {
			return err
		}
	}
	for customer, balance := range map[string]int{"ada": 1000, "bo": 100} {
		if err := send(ctx, s, accounts, customer, "account.opened", request{Amount: balance}); err != nil {
			return err
		}
	}
	s.Say("ada has 1000 in her account, bo has 100")
	return nil
}

// send sends a message whose id is its type.
func send(ctx context.Context, s *stage.Stage, application, instance, kind string, data any) error {
	m, err := client.Message{Application: application, Instance: instance, ID: kind, Type: kind}.WithJSON(data)
	if err != nil {
		return err
	}
	_, err = s.Client.Send(ctx, m)
	return err
}

// confirmed is a saga in which nobody refuses.
func confirmed(ctx context.Context, s *stage.Stage) error {
	s.Title("Ada orders a trip for 300")
	w, err := s.Start(ctx, "orders", "orders", "lives")
	if err != nil {
		return err
	}
	defer w.Kill()
	if err := send(ctx, s, orders, "4712", "order.placed", trip{Customer: "ada", Hotel: "astoria", Flight: "su-1", Price: 300}); err != nil {
		return err
	}
	if err := w.Until(ctx, "outcome"); err != nil {
		return err
	}
	return w.Stop(ctx)
}

// refused is a saga whose payment is refused, and whose worker is killed amid the compensations.
func refused(ctx context.Context, s *stage.Stage) error {
	s.Title("Bo orders the same, with 100 in the account")
	w, err := s.Start(ctx, "orders, worker 1", "orders", "dies")
	if err != nil {
		return err
	}
	defer w.Kill()
	if err := send(ctx, s, orders, "4711", "order.placed", trip{Customer: "bo", Hotel: "astoria", Flight: "su-1", Price: 300}); err != nil {
		return err
	}
	if err := w.Until(ctx, "stuck"); err != nil {
		return err
	}
	s.Title("The seat is released, the room is not: kill -9 %d", w.PID())
	w.Kill()
	i, err := s.Client.Instances().WaitUntil(ctx, order4711, func(i client.Instance) bool { return i.Mode == client.ModeRecovery })
	if err != nil {
		return err
	}
	s.Say("orders/4711: mode %s, cause: %s", i.Mode, i.Cause)
	return showPartners(ctx, s)
}

// finished lets another worker take the saga up.
func finished(ctx context.Context, s *stage.Stage) error {
	s.Title("Worker 2 starts: whatever a lost handler had begun would stand in the state, so nothing in doubt took effect")
	w, err := s.Start(ctx, "orders, worker 2", "orders", "lives")
	if err != nil {
		return err
	}
	defer w.Kill()
	if err := w.Until(ctx, "outcome"); err != nil {
		return err
	}
	if err := showPartners(ctx, s); err != nil {
		return err
	}
	for _, id := range []client.InstanceID{order4711, order4712} {
		o, err := stage.Look[order](ctx, s, id)
		if err != nil {
			return err
		}
		s.Say("%s: %s: %v", id, o.Outcome, o.Steps)
	}
	return w.Stop(ctx)
}

var (
	order4711 = client.InstanceID{Application: orders, Key: "4711"}
	order4712 = client.InstanceID{Application: orders, Key: "4712"}
	partners  = []client.InstanceID{{Application: hotels, Key: "astoria"}, {Application: flights, Key: "su-1"}, {Application: accounts, Key: "ada"}, {Application: accounts, Key: "bo"}}
)

// books are what everybody must have done in the end: each once, in this order.
var books = map[string][]string{
	"hotels/astoria": {"room.booked 4712", "room.booked 4711", "room.released 4711"},
	"flights/su-1":   {"seat.booked 4712", "seat.booked 4711", "seat.released 4711"},
	"accounts/ada":   {"account.opened", "payment.taken 4712"},
	"accounts/bo":    {"account.opened", "payment.refused 4711"},
}

func showPartners(ctx context.Context, s *stage.Stage) error {
	for _, id := range partners {
		p, err := stage.Look[partner](ctx, s, id)
		if err != nil {
			return err
		}
		s.Say("%-14s  %v", id, p.Book)
	}
	return nil
}

// proof compares what everybody did with what they had to do.
func proof(ctx context.Context, s *stage.Stage) error {
	for _, id := range partners {
		p, err := stage.Look[partner](ctx, s, id)
		if err != nil {
			return err
		}
		if !slices.Equal(p.Book, books[id.String()]) {
			return fmt.Errorf("%s did %q, not %q", id, p.Book, books[id.String()])
		}
	}
	s.Title("Each step took effect once, and what was booked was released in reverse order.")
	return nil
}

// Command demo shows in some seconds what Sluice is for: a worker dies in the middle of a message, its instance goes into
// recovery, what arrives meanwhile is held, another worker finds out what took effect, and everything is drained in order.
//
// It starts an embedded node, and the workers as processes of their own; the first is killed with kill -9.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sluice/client"
	"sluice/examples/internal/stage"
)

// application is the sample application: orders, each an instance.
const application = "orders"

// lease is how long the cluster waits for a silent worker. It is short, so that the demo is.
const lease = 2 * time.Second

var roles = stage.Roles{"worker": work}

func main() {
	roles.Play()
	binary := flag.String("bin", "", "the sluice binary, whose embedded node is used; without it the node is in this process")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg := stage.Config{Out: os.Stdout}
	if *binary != "" {
		cfg.Node = stage.Binary(*binary)
	}
	stage.Exit(stage.Play(ctx, cfg, demo))
}

// story is the demo at work.
type story struct {
	*stage.Stage
	ledger string // file that the workers write to: the world outside Sluice
}

// demo tells the story.
func demo(ctx context.Context, on *stage.Stage) error {
	s := &story{Stage: on, ledger: filepath.Join(on.Dir, "ledger")}
	for _, chapter := range []func(context.Context) error{s.declare, s.death, s.held, s.recovery, s.proof} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// declare declares the application with its pattern.
func (s *story) declare(ctx context.Context) error {
	s.Title("The application %q is declared: which messages an order takes, in which order, in which mode", application)
	_, err := s.Client.Applications().Apply(ctx, client.Application{
		Name:     application,
		Delivery: client.DeliveryPolicy{Window: 4},
		Patterns: []client.Pattern{{Name: "order", Types: []client.MessageType{
			{Name: "order.placed", Opens: true, After: []string{""}},
			{Name: "order.paid", After: []string{"order.placed"}},
			{Name: "order.packed", After: []string{"order.paid"}},
			{Name: "order.shipped", After: []string{"order.packed"}},
			{Name: "stock.counted", Suitable: client.SuitableRecovery},
		}}},
	})
	s.Say("order.placed → order.paid → order.packed → order.shipped; in recovery also: stock.counted")
	return err
}

// death lets a worker begin a message and kills it.
func (s *story) death(ctx context.Context) error {
	s.Title("Worker 1 starts, a process of its own; two orders are placed, and one of them is paid")
	w, err := s.Start(ctx, "worker 1", "worker", s.ledger, "dies")
	if err != nil {
		return err
	}
	defer w.Kill()
	for _, m := range []struct{ order, kind string }{{"4711", "order.placed"}, {"4712", "order.placed"}} {
		if err := s.send(ctx, m.order, m.kind); err != nil {
			return err
		}
		if _, err := s.Client.Await(ctx, s.id(m.order), m.kind); err != nil {
			return err
		}
	}
	if err := s.send(ctx, "4711", "order.paid"); err != nil {
		return err
	}
	if err := w.Until(ctx, "stuck"); err != nil {
		return err
	}
	s.Title("Worker 1 has booked the payment and has not said so yet: kill -9 %d", w.PID())
	w.Kill()
	s.Say("did the payment take effect? Sluice cannot know, so it will not run the handler again blindly")
	s.Title("The lease of %v runs out", lease)
	return s.wait(ctx, "4711", client.ModeRecovery)
}

// held shows what happens to messages now.
func (s *story) held(ctx context.Context) error {
	s.Title("Messages go on arriving for 4711: they are deferred, in order")
	for _, kind := range []string{"order.packed", "order.shipped"} {
		if err := s.send(ctx, "4711", kind); err != nil {
			return err
		}
	}
	s.Title("A recovery message is taken; it would have been refused in normal mode")
	if err := s.send(ctx, "4711", "stock.counted"); err != nil {
		return err
	}
	s.Title("Order 4712 does not notice: it is in normal mode")
	if err := s.send(ctx, "4712", "order.paid"); err != nil {
		return err
	}
	s.Title("What is unsettled in 4711")
	for m, err := range s.Client.Instances().ListMessages(ctx, s.id("4711"), client.ListMessages{}) {
		if err != nil {
			return err
		}
		doubt := ""
		if m.InDoubt {
			doubt = "  in doubt"
		}
		s.Say("seq %d  %-14s %-9s lane  %s%s", m.Seq, m.Message.Type, m.Lane, m.Status, doubt)
	}
	return s.show(ctx, "4711")
}

// recovery lets another worker recover the instance and drain what was held.
func (s *story) recovery(ctx context.Context) error {
	s.Title("Worker 2 starts: it has a recovery handler, which looks into the ledger for what is in doubt")
	w, err := s.Start(ctx, "worker 2", "worker", s.ledger, "lives")
	if err != nil {
		return err
	}
	defer w.Kill()
	if err := s.wait(ctx, "4711", client.ModeNormal); err != nil {
		return err
	}
	for order, kinds := range orders {
		if _, err := s.Client.Await(ctx, s.id(order), kinds[len(kinds)-1]); err != nil {
			return err
		}
	}
	s.Title("The history of 4711")
	history, err := s.Client.Instances().History(ctx, s.id("4711"))
	if err != nil {
		return err
	}
	for _, h := range history {
		s.Say("%-8s → %-8s  epoch %-3d  %s", h.From, h.To, h.Epoch, h.Cause)
	}
	return w.Stop(ctx)
}

// orders are the messages that must have taken effect, each once and in this order.
var orders = map[string][]string{
	"4711": {"order.placed", "order.paid", "order.packed", "order.shipped"},
	"4712": {"order.placed", "order.paid"},
}

// proof reads the ledger: each message once, each order in its order.
func (s *story) proof(context.Context) error {
	s.Title("The ledger, which the workers wrote")
	text, err := os.ReadFile(s.ledger)
	if err != nil {
		return err
	}
	got := map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		s.Say("%s", line)
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return fmt.Errorf("the ledger's line %q is none that a worker writes", line)
		}
		if fields[2] != "stock.counted" {
			got[fields[1]] = append(got[fields[1]], fields[2])
		}
	}
	for order, want := range orders {
		if strings.Join(got[order], " ") != strings.Join(want, " ") {
			return fmt.Errorf("order %s took %q, want %q", order, got[order], want)
		}
	}
	s.Title("Each message took effect once, in order, though a worker was killed in the middle.")
	return nil
}

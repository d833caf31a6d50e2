// Command demo shows in some seconds what Sluice is for: a worker dies in the middle of a message, its instance goes into
// recovery, what arrives meanwhile is held, another worker finds out what took effect, and everything is drained in order.
//
// It starts an embedded node, and the workers as processes of their own; the first is killed with kill -9.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"sluice/client"
)

// application is the sample application: orders, each an instance.
const application = "orders"

// lease is how long the cluster waits for a silent worker. It is short, so that the demo is.
const lease = 2 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 5 && os.Args[1] == "worker" {
		exit(work(ctx, os.Stdout, os.Args[2], os.Args[3], os.Args[4]))
	}
	binary := flag.String("bin", "", "the sluice binary, whose embedded node is used; without it the node is in this process")
	flag.Parse()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	exit(demo(ctx, os.Stdout, *binary))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// story is the demo at work.
type story struct {
	out    io.Writer
	begun  time.Time
	client *client.Client
	addr   string
	ledger string     // file that the workers write to: the world outside Sluice
	mu     sync.Mutex // guards out: the workers tell the story, too
}

func (s *story) title(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "\n%5.1fs  %s\n", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

func (s *story) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "        "+format+"\n", args...)
}

// demo tells the story; an error means that it did not come out as it should.
func demo(ctx context.Context, out io.Writer, binary string) (err error) {
	dir, err := os.MkdirTemp("", "sluice-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &story{out: out, begun: time.Now(), ledger: filepath.Join(dir, "ledger")}
	stop, err := s.startNode(ctx, filepath.Join(dir, "node"), binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if s.client, err = client.Dial(ctx, client.Config{Addresses: []string{s.addr}}); err != nil {
		return err
	}
	defer s.client.Close()
	for _, chapter := range []func(context.Context) error{s.declare, s.death, s.held, s.recovery, s.proof} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// declare declares the application with its pattern.
func (s *story) declare(ctx context.Context) error {
	s.title("The application %q is declared: which messages an order takes, in which order, in which mode", application)
	_, err := s.client.Applications().Apply(ctx, client.Application{
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
	s.say("order.placed → order.paid → order.packed → order.shipped; in recovery also: stock.counted")
	return err
}

// death lets a worker begin a message and kills it.
func (s *story) death(ctx context.Context) error {
	s.title("Worker 1 starts, a process of its own; two orders are placed, and one of them is paid")
	w, err := s.startWorker(ctx, "1", "dies")
	if err != nil {
		return err
	}
	defer w.kill()
	for _, m := range []struct{ order, kind string }{{"4711", "order.placed"}, {"4712", "order.placed"}} {
		if err := s.send(ctx, m.order, m.kind); err != nil {
			return err
		}
		if _, err := s.client.Await(ctx, s.id(m.order), m.kind); err != nil {
			return err
		}
	}
	if err := s.send(ctx, "4711", "order.paid"); err != nil {
		return err
	}
	if err := w.until(ctx, "stuck"); err != nil {
		return err
	}
	s.title("Worker 1 has booked the payment and has not said so yet: kill -9 %d", w.cmd.Process.Pid)
	w.kill()
	s.say("did the payment take effect? Sluice cannot know, so it will not run the handler again blindly")
	s.title("The lease of %v runs out", lease)
	return s.wait(ctx, "4711", client.ModeRecovery)
}

// held shows what happens to messages now.
func (s *story) held(ctx context.Context) error {
	s.title("Messages go on arriving for 4711: they are deferred, in order")
	for _, kind := range []string{"order.packed", "order.shipped"} {
		if err := s.send(ctx, "4711", kind); err != nil {
			return err
		}
	}
	s.title("A recovery message is taken; it would have been refused in normal mode")
	if err := s.send(ctx, "4711", "stock.counted"); err != nil {
		return err
	}
	s.title("Order 4712 does not notice: it is in normal mode")
	if err := s.send(ctx, "4712", "order.paid"); err != nil {
		return err
	}
	s.title("What is unsettled in 4711")
	for m, err := range s.client.Instances().ListMessages(ctx, s.id("4711"), client.ListMessages{}) {
		if err != nil {
			return err
		}
		doubt := ""
		if m.InDoubt {
			doubt = "  in doubt"
		}
		s.say("seq %d  %-14s %-9s lane  %s%s", m.Seq, m.Message.Type, m.Lane, m.Status, doubt)
	}
	return s.show(ctx, "4711")
}

// recovery lets another worker recover the instance and drain what was held.
func (s *story) recovery(ctx context.Context) error {
	s.title("Worker 2 starts: it has a recovery handler, which looks into the ledger for what is in doubt")
	w, err := s.startWorker(ctx, "2", "lives")
	if err != nil {
		return err
	}
	defer w.kill()
	if err := s.wait(ctx, "4711", client.ModeNormal); err != nil {
		return err
	}
	for order, kinds := range orders {
		if _, err := s.client.Await(ctx, s.id(order), kinds[len(kinds)-1]); err != nil {
			return err
		}
	}
	s.title("The history of 4711")
	history, err := s.client.Instances().History(ctx, s.id("4711"))
	if err != nil {
		return err
	}
	for _, h := range history {
		s.say("%-8s → %-8s  epoch %-3d  %s", h.From, h.To, h.Epoch, h.Cause)
	}
	return w.stop(ctx)
}

// orders are the messages that must have taken effect, each once and in this order.
var orders = map[string][]string{
	"4711": {"order.placed", "order.paid", "order.packed", "order.shipped"},
	"4712": {"order.placed", "order.paid"},
}

// proof reads the ledger: each message once, each order in its order.
func (s *story) proof(context.Context) error {
	s.title("The ledger, which the workers wrote")
	text, err := os.ReadFile(s.ledger)
	if err != nil {
		return err
	}
	got := map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		s.say("%s", line)
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
	s.title("Each message took effect once, in order, though a worker was killed in the middle.")
	return nil
}

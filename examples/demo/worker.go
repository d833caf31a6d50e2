package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"sluice/client"
)

// worker is the process that hosts orders.
type worker struct {
	out    io.Writer // each line: a word for the story, and a text for people
	ledger string
	dies   bool // it says nothing more once it has booked a payment
}

// work runs a worker until ctx ends, or until the process is killed.
func work(ctx context.Context, out io.Writer, addr, ledger, fate string) error {
	c, err := client.Dial(ctx, client.Config{Addresses: []string{addr}})
	if err != nil {
		return err
	}
	defer c.Close()
	w := &worker{out: out, ledger: ledger, dies: fate == "dies"}
	hosted, err := c.NewWorker(client.WorkerConfig{
		Application: application, Name: "demo", TTL: lease, Handler: w.handle, OnRecovery: w.recover, OnRecoveryMessage: w.handle,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		OnEvent: func(e client.Event) {
			if e.Kind == client.EventSessionOpened {
				fmt.Fprintln(out, "ready hosts orders under a lease")
			}
		},
	})
	if err != nil {
		return err
	}
	if err := hosted.Run(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// handle books a message in the ledger: that is its effect, in the world outside Sluice.
func (w *worker) handle(ctx context.Context, d *client.Delivery) error {
	if err := w.book(d); err != nil {
		return err
	}
	if w.dies && d.Message.Type == "order.paid" {
		fmt.Fprintf(w.out, "stuck has booked %s of %s, and …\n", d.Message.Type, d.Instance.Key)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	held := ""
	if d.Deferred {
		held = ", which had been held"
	}
	fmt.Fprintf(w.out, "done handled seq %d, %s of %s%s\n", d.Seq, d.Message.Type, d.Instance.Key, held)
	return nil
}

// book writes a line: sequence number, order, type.
func (w *worker) book(d *client.Delivery) error {
	f, err := os.OpenFile(w.ledger, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d %s %s\n", d.Seq, d.Instance.Key, d.Message.Type)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// recover finds out what took effect: what stands in the ledger did.
func (w *worker) recover(_ context.Context, r *client.Recovery) error {
	fmt.Fprintf(w.out, "recovers recovers %s: %s; %d deferred, %d in doubt\n", r.Instance.Key, r.Cause, r.DeferredMessages, len(r.InDoubt))
	for _, m := range r.InDoubt {
		booked, err := w.booked(fmt.Sprintf("%d %s %s", m.Seq, r.Instance.Key, m.Message.Type))
		if err != nil {
			return err
		}
		if !booked {
			break
		}
		fmt.Fprintf(w.out, "found found seq %d, %s, stands in the ledger: it took effect and is not run again\n", m.Seq, m.Message.Type)
		r.ProcessedThrough(m.Seq)
	}
	return nil
}

func (w *worker) booked(line string) (bool, error) {
	f, err := os.Open(w.ledger)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == line {
			return true, nil
		}
	}
	return false, lines.Err()
}

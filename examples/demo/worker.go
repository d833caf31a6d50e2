package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"sluice/client"
	"sluice/examples/internal/stage"
)

// worker is the process that hosts orders.
type worker struct {
	*stage.Role
	ledger string
	dies   bool // it says nothing more once it has booked a payment
}

// work is the role of a worker; its arguments are the ledger and its fate.
func work(ctx context.Context, r *stage.Role) error {
	w := &worker{Role: r, ledger: r.Args[0], dies: r.Args[1] == "dies"}
	return r.Work(ctx, client.WorkerConfig{
		Application: application, Name: "demo", TTL: lease, Handler: w.handle, OnRecovery: w.recover, OnRecoveryMessage: w.handle,
	})
}

// handle books a message in the ledger: that is its effect, in the world outside Sluice.
func (w *worker) handle(ctx context.Context, d *client.Delivery) error {
	if err := w.book(d); err != nil {
		return err
	}
	if w.dies && d.Message.Type == "order.paid" {
		w.Cue("stuck", "has booked %s of %s, and …", d.Message.Type, d.Instance.Key)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	held := ""
	if d.Deferred {
		held = ", which had been held"
	}
	w.Cue("done", "handled seq %d, %s of %s%s", d.Seq, d.Message.Type, d.Instance.Key, held)
	return nil
}

// book writes a line: sequence number, order, type.
func (w *worker) book(d *client.Delivery) error {
	f, err := os.OpenFile(w.ledger, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d %s %s\n", d.Seq, d.Instance.Key, d.Message.Type)
	return errors.Join(err, f.Close())
}

// recover finds out what took effect: what stands in the ledger did.
func (w *worker) recover(_ context.Context, r *client.Recovery) error {
	w.Cue("recovers", "recovers %s: %s; %d deferred, %d in doubt", r.Instance.Key, r.Cause, r.DeferredMessages, len(r.InDoubt))
	for _, m := range r.InDoubt {
		booked, err := w.booked(fmt.Sprintf("%d %s %s", m.Seq, r.Instance.Key, m.Message.Type))
		if err != nil {
			return err
		}
		if !booked {
			break
		}
		w.Cue("found", "found seq %d, %s, stands in the ledger: it took effect and is not run again", m.Seq, m.Message.Type)
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

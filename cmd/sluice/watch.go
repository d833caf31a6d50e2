package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/client"
)

// pollInterval is how often a waiting command looks again.
const pollInterval = 250 * time.Millisecond

// watching says how an instance is watched.
type watching struct {
	every    time.Duration
	onlyLast bool // print nothing but the end
}

func newInstanceWatch(sh *shell) *cobra.Command {
	var w watching
	c := onInstance("watch", "Watch an instance until it is in normal mode: a line for each change",
		"  sluice instance watch orders/4711\n  sluice instance watch orders/4711 --timeout 10m -o jsonl",
		func(cmd *cobra.Command, at target) error {
			if w.every <= 0 {
				return usagef("--every %v: it must be more than nothing", w.every)
			}
			return sh.withClient(cmd, func(_ context.Context, c *client.Client) error { return sh.watch(cmd.Context(), c, at, w) })
		})
	c.Flags().DurationVar(&w.every, "every", pollInterval, "how often to look")
	return c
}

// watch looks at an instance again and again until it is normal. A cluster that does not answer for a while is waited for.
func (sh *shell) watch(ctx context.Context, c *client.Client, at target, w watching) error {
	ctx, cancel := sh.patient(ctx)
	defer cancel()
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	bar := sh.newBar("draining")
	defer bar.clear()
	var last *sluicev1.Instance
	var held uint64
	for {
		now, err := getInstance(ctx, c, at, false)
		if ctx.Err() != nil {
			return sh.watchOver(ctx, at, last)
		}
		if err != nil && connectCode(err) != "unavailable" {
			return err
		}
		if err == nil {
			held = max(held, now.GetDeferredMessages())
			bar.show(held-now.GetDeferredMessages(), held, word(now.GetMode()))
			if normal := now.GetMode() == sluicev1.Mode_MODE_NORMAL; normal || !w.onlyLast && changed(last, now) {
				bar.clear()
				if err := sh.watchLine(now, last == nil || w.onlyLast); err != nil || normal {
					return err
				}
			}
			last = now
		}
		select {
		case <-ctx.Done():
			return sh.watchOver(ctx, at, last)
		case <-tick.C:
		}
	}
}

// watchOver is the end of a watch before its instance was normal.
func (sh *shell) watchOver(ctx context.Context, at target, last *sluicev1.Instance) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("watch %s: interrupted", at.String())
	}
	late := &client.Error{Code: client.ErrNoLeader.Code(), Message: fmt.Sprintf("%s is not normal yet: %s, %d deferred", at.String(), firstOf(word(last.GetMode()), "unknown"), last.GetDeferredMessages())}
	return hint(late, "complete its recovery with: sluice instance complete %s; draining needs a running worker", at.String())
}

// changed tells whether there is something new to print.
func changed(a, b *sluicev1.Instance) bool {
	return a == nil || a.GetMode() != b.GetMode() || a.GetEpoch() != b.GetEpoch() || a.GetOwner() != b.GetOwner() ||
		a.GetDeferredMessages() != b.GetDeferredMessages() || a.GetRecoveryMessages() != b.GetRecoveryMessages()
}

func (sh *shell) watchLine(i *sluicev1.Instance, first bool) error {
	if sh.output != "table" {
		return sh.writeJSON(i)
	}
	line := fmt.Sprintf("%-12s  %-9s  %8s  %8s  %8s  %s", "TIME", "MODE", "EPOCH", "DEFERRED", "RECOVERY", "CAUSE")
	if first {
		if _, err := fmt.Fprintln(sh.out, line); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(sh.out, "%-12s  %-9s  %8d  %8d  %8d  %s\n", sh.now().Format("15:04:05.000"), word(i.GetMode()), i.GetEpoch(), i.GetDeferredMessages(), i.GetRecoveryMessages(), cell(i.GetCause()))
	return err
}

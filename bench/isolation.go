//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/bench/load"
	"sluice/bench/report"
)

// isolationSenders is how many jobs are under way at the other instances.
const isolationSenders = 16

// settling is how long the disk is given to take in a backlog that was just sent: that it is written back and compacted
// slows everything for a while, as any other million messages would.
const settling = 30 * time.Second

// isolation measures whole jobs at some instances alone, then with a backlog held at an instance of the same
// application, then while that backlog is drained.
func (s *settings) isolation(ctx context.Context) (err error) {
	others := *s
	others.instances, others.declaration = 100, unbounded
	n, c, end, err := others.launch(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	// The load's instances are named 0, 1, …: the backlog lies at the one that follows.
	b := backlog{1, s.deferred}
	d := s.newDrainage(c, b, orderWindow)
	d.application, d.first = fmt.Sprintf("job-%d", isolationSenders), others.instances
	fmt.Printf("\n| jobs at 100 instances, %d senders, while one other instance | per second | p50 | p99 | p99.9 | drained a second | foreign CPU |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n", isolationSenders)
	measure := func(what string) error {
		before, err := d.held(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		plan := others.plan(isolationSenders)
		res, err := load.Measure(ctx, n, d.application, plan)
		if err != nil {
			return err
		}
		after, err := d.held(ctx)
		if err != nil {
			return err
		}
		drained := float64(before-after) / time.Since(began).Seconds()
		got := report.NewSample(what, report.Closed, 1, plan, res)
		fmt.Printf("| %s | %.0f | %v | %v | %v | %.0f | %.2f |\n", what, got.Rate, report.Round(got.P50), report.Round(got.P99), report.Round(got.P999), drained, got.Foreign)
		return nil
	}
	if err := measure("holds nothing"); err != nil {
		return err
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	if err := measure(fmt.Sprintf("was just given %d messages", b.each)); err != nil {
		return err
	}
	select {
	case <-time.After(settling):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := measure(fmt.Sprintf("holds %d messages", b.each)); err != nil {
		return err
	}
	return errors.Join(d.release(ctx), measure("drains them"))
}

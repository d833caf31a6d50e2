//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"sluice/client"
)

const (
	// commitSamples is how many sends, one after the other, tell how long a commit takes.
	commitSamples = 1000
	// orderWindow is the window of what is measured beside window 1, and of the instance that isolation drains.
	orderWindow = 64
	// orderSeconds is about how long the messages of one instance are worked off, one at a time.
	orderSeconds = 5
)

// order measures one instance whose messages are worked off strictly one after the other, and with a window,
// against the time of a commit: each settlement takes one, and so did each send.
func (s *settings) order(ctx context.Context) (err error) {
	n, c, end, err := s.launch(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	commit, err := s.commitLatency(ctx, c)
	if err != nil {
		return err
	}
	fmt.Printf("\nA commit, as a lone sender sees it: %v, median of %d.\n\n| one instance, window | per second | over 1 / (2 × commit) | over window 1 | foreign CPU |\n| ---: | ---: | ---: | ---: | ---: |\n", commit.Round(10*time.Microsecond), commitSamples)
	each := int(orderSeconds * time.Second / (2 * commit))
	one := 0.0
	for _, window := range []int{1, orderWindow} {
		b := backlog{1, each}
		if window > 1 {
			b.each = 10 * each
		}
		got, err := s.drain(ctx, n.Processes(), b, window)
		if err != nil {
			return err
		}
		rate := float64(got.messages) / got.took.Seconds()
		if window == 1 {
			one = rate
		}
		fmt.Printf("| %d | %.0f | %.2f | %.1f | %.2f |\n", window, rate, rate*2*commit.Seconds(), rate/one, got.foreign)
	}
	return nil
}

// commitLatency is the median time of sends, one after the other.
func (s *settings) commitLatency(ctx context.Context, c *client.Client) (time.Duration, error) {
	declaration := unbounded
	declaration.Name = "commits"
	if _, err := c.Applications().Apply(ctx, declaration); err != nil {
		return 0, err
	}
	data := make([]byte, s.payload)
	var took []time.Duration
	for i := range 2 * commitSamples { // the first half warms up
		began := time.Now()
		if _, err := c.Send(ctx, client.Message{Application: declaration.Name, Instance: strconv.Itoa(i % s.instances), Type: "measured", Data: data}); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	took = took[commitSamples:]
	slices.Sort(took)
	return took[len(took)/2], nil
}

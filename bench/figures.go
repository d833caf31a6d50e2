//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/bench/load"
	"sluice/bench/process"
	"sluice/bench/report"
	"sluice/client"
)

const (
	// settleTime is how long a node is left alone before its memory is read.
	settleTime = 10 * time.Second
	// deferBatch is how many messages are deferred in one request.
	deferBatch = 1000
	// deferAtOnce is how many requests are under way.
	deferAtOnce = 8
	application = "figures"
)

// figures measures a single node: start, memory, size, restart.
func (s *settings) figures(ctx context.Context) (err error) {
	binary, err := os.Stat(s.bin)
	if err != nil {
		return err
	}
	row := func(what, value string) { fmt.Printf("| %s | %s |\n", what, value) }
	fmt.Print("| figure | value |\n| --- | ---: |\n")
	row("size of the binary", megabytes(uint64(binary.Size())))

	n, err := s.startDev()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Stop()) }()
	start, err := n.Ready(ctx, ready(n))
	if err != nil {
		return err
	}
	row("`sluice dev`, start to ready", report.Round(start).String())
	if err := s.memory(ctx, n, row, "memory of an idle node"); err != nil {
		return err
	}
	began := time.Now()
	if err := s.fill(ctx, n); err != nil {
		return err
	}
	row(fmt.Sprintf("%d messages of %d bytes deferred within", s.deferred, s.payload), time.Since(began).Round(time.Second).String())
	if err := s.memory(ctx, n, row, "memory with them"); err != nil {
		return err
	}
	for _, end := range []struct {
		name   string
		signal syscall.Signal
	}{{"after a stop in good order", syscall.SIGTERM}, {"after kill -9", syscall.SIGKILL}} {
		if n, err = s.again(ctx, n, end.signal, func(took time.Duration) { row("restart to ready with them, "+end.name, report.Round(took).String()) }); err != nil {
			return err
		}
	}
	return s.memory(ctx, n, row, "memory with them after the restart")
}

func (s *settings) startDev() (*process.Node, error) {
	ports, err := process.FreePorts(1)
	if err != nil {
		return nil, err
	}
	return s.launchDev(ports[0])
}

func (s *settings) launchDev(address string) (*process.Node, error) {
	return process.Launch(process.Program{
		Name: "dev", Address: address, Log: filepath.Join(s.dir, "dev.log"), Path: s.bin, Args: []string{"dev", "--listen", address, "--data-dir", filepath.Join(s.dir, "dev")},
	})
}

// again ends the node by a signal, starts it on the same data and tells how long it took to be ready.
func (s *settings) again(ctx context.Context, n *process.Node, signal syscall.Signal, tell func(time.Duration)) (*process.Node, error) {
	if err := n.End(signal); err != nil {
		return n, err
	}
	next, err := s.launchDev(n.Address)
	if err != nil {
		return n, err
	}
	took, err := next.Ready(ctx, ready(next))
	if err == nil {
		tell(took)
	}
	return next, err
}

// memory reads what a node holds once it has come to rest.
func (s *settings) memory(ctx context.Context, n *process.Node, row func(what, value string), what string) error {
	if err := load.Pause(ctx, settleTime); err != nil {
		return err
	}
	held, err := process.Memory(n.Pid)
	row(what, megabytes(held))
	return err
}

// fill puts every instance into recovery and sends until so many messages are deferred.
func (s *settings) fill(ctx context.Context, n *process.Node) error {
	c, err := client.New(client.Config{Addresses: []string{n.Address}, Logger: quiet})
	if err != nil {
		return err
	}
	defer c.Close()
	limits := client.Limits{
		MaxInboxMessages: client.NoLimit, MaxInboxBytes: client.NoLimit,
		MaxDeferredMessages: client.NoLimit, MaxDeferredBytes: client.NoLimit,
	}
	if _, err := c.Applications().Apply(ctx, client.Application{Name: application, Limits: limits}); err != nil {
		return err
	}
	err = s.atOnce(ctx, s.instances, 1, func(ctx context.Context, first, _ int) error {
		_, err := c.Instances().EnterRecovery(ctx, client.InstanceID{Application: application, Key: strconv.Itoa(first)}, client.EnterRecovery{Cause: "measured"})
		return err
	})
	if err != nil {
		return err
	}
	return s.atOnce(ctx, s.deferred, deferBatch, func(ctx context.Context, first, end int) error { return s.deferSome(ctx, c, first, end) })
}

// atOnce does some of count things at a time, in steps, and ends with the first error.
func (s *settings) atOnce(ctx context.Context, count, step int, do func(ctx context.Context, first, end int) error) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(deferAtOnce)
	for first := 0; first < count && ctx.Err() == nil; first += step {
		work.Go(func() error { return do(ctx, first, min(first+step, count)) })
	}
	return work.Wait()
}

// deferSome sends the messages first to end and wants each deferred.
func (s *settings) deferSome(ctx context.Context, c *client.Client, first, end int) error {
	var batch []client.Message
	for n := first; n < end; n++ {
		data := make([]byte, s.payload)
		if _, err := rand.Read(data); err != nil {
			return err
		}
		batch = append(batch, client.Message{Application: application, Instance: strconv.Itoa(n % s.instances), Type: "measured", Data: data})
	}
	results, err := c.SendBatch(ctx, batch)
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			return r.Err
		}
		if r.Receipt.Disposition != client.DispositionDeferred {
			return fmt.Errorf("message %s was %s, not deferred", r.Receipt.MessageID, r.Receipt.Disposition)
		}
	}
	return nil
}

func megabytes(bytes uint64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

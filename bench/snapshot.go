//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/bench/load"
	"sluice/bench/peer"
	"sluice/bench/process"
	"sluice/bench/report"
	"sluice/client"
)

const (
	// snapshotSenders send while snapshots are made.
	snapshotSenders = 16
	// snapshotEvery is how often a node makes a snapshot meanwhile, and for how long it is watched.
	snapshotEvery, snapshotWatch = 5 * time.Second, 30 * time.Second
	// seldom is how often where none is wanted.
	seldom = "24h"
	// stateInstances is how many instances the state is spread over.
	stateInstances = 1000
)

// snapshots measures what a large state costs: how long sends are held up while snapshots are made of it, how soon a node
// that was killed serves again, and what the cluster does while a node that missed too much takes over a snapshot.
func (s *settings) snapshots(ctx context.Context) (err error) {
	fmt.Printf("\n| with %d MiB of state | sends a second | p50 | p99 | p99.9 | longest | foreign CPU |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n", s.state)
	quietly := s.sluice()
	quietly.Args = []string{"--snapshot-interval", seldom}
	c, err := quietly.Launch(ctx, s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	if err := s.fillState(ctx, c.Processes()); err != nil {
		return err
	}
	if _, err := s.sendsRow(ctx, c.Processes(), "no snapshots"); err != nil {
		return err
	}
	c.Args("--snapshot-interval", snapshotEvery.String(), "--snapshot-threshold", "100", "--trailing-logs", "1000")
	for _, node := range slices.Clone(c.Processes().All) { // one after the other: there is always a leader
		if err := errors.Join(node.End(syscall.SIGTERM), c.Restart(ctx, node)); err != nil {
			return err
		}
	}
	base, err := s.sendsRow(ctx, c.Processes(), fmt.Sprintf("each node makes one every %v", snapshotEvery))
	if err != nil {
		return err
	}
	return s.comesBack(ctx, c, base)
}

// fillState defers messages until the nodes' folders of state have the size that is wanted.
func (s *settings) fillState(ctx context.Context, n *process.Cluster) error {
	c, err := client.New(client.Config{Addresses: n.Addresses(), Logger: quiet})
	if err != nil {
		return err
	}
	defer c.Close()
	const part = 100 // messages of each instance at a time
	for round := 0; ; round++ {
		d := s.newDrainage(c, backlog{stateInstances, part}, drainWindow)
		d.application = "state"
		if round == 0 {
			err = d.fill(ctx)
		} else {
			err = d.sendAll(ctx)
		}
		if err != nil {
			return err
		}
		size, err := folderSize(filepath.Join(n.Dir, "n1", "groups", "0001", "state"))
		if err != nil || size >= int64(s.state)<<20 {
			return err
		}
	}
}

// folderSize is the sum of the sizes of the files in a folder. Files may go meanwhile.
func folderSize(dir string) (sum int64, err error) {
	if _, err := os.Stat(dir); err != nil {
		return 0, err
	}
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				sum += info.Size()
			}
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return sum, err
}

// sendsRow measures sends and prints a row.
func (s *settings) sendsRow(ctx context.Context, nodes *process.Cluster, what string) (report.Sample, error) {
	s.rows++
	name := fmt.Sprintf("row-%d", s.rows)
	of := &sends{mode: client.ModeNormal, processes: nodes}
	if err := s.declare(ctx, of, name); err != nil {
		return report.Sample{}, err
	}
	plan := load.Plan{Senders: snapshotSenders, Instances: s.instances, Payload: s.payload, Warm: s.warm, Length: snapshotWatch}
	res, err := load.Measure(ctx, of, name, plan)
	if err != nil {
		return report.Sample{}, err
	}
	got := report.NewSample(what, report.Closed, 1, plan, res)
	fmt.Printf("| %s | %.0f | %v | %v | %v | %v | %.2f |\n", what, got.Rate, report.Round(got.P50), report.Round(got.P99), report.Round(got.P999), report.Round(slices.Max(res.Latencies)), got.Foreign)
	return got, nil
}

// comesBack kills a follower, has it miss more than the others keep in their logs, and starts it again while they serve.
func (s *settings) comesBack(ctx context.Context, c *peer.SluiceCluster, base report.Sample) error {
	leader, err := c.Leader(ctx)
	if err != nil {
		return err
	}
	place := slices.IndexFunc(c.Processes().All, func(n *process.Node) bool { return n != leader })
	follower := func() *process.Node { return c.Processes().All[place] }
	if err := follower().End(syscall.SIGKILL); err != nil {
		return err
	}
	ready, err := c.Begin(follower())
	if err != nil {
		return err
	}
	killed, err := ready(ctx)
	if err != nil {
		return err
	}
	if err := follower().End(syscall.SIGKILL); err != nil {
		return err
	}
	others := &process.Cluster{Dir: c.Processes().Dir}
	for i, n := range c.Processes().All {
		if i != place {
			others.All = append(others.All, n)
		}
	}
	if err := s.outgrow(ctx, others); err != nil {
		return err
	}
	before, err := sentSnapshots(ctx, others)
	if err != nil {
		return err
	}
	work, working := errgroup.WithContext(ctx)
	var late time.Duration
	work.Go(func() error {
		if err := load.Pause(working, 2*s.warm); err != nil { // those who send are being counted
			return err
		}
		ready, err := c.Begin(follower())
		if err == nil {
			late, err = ready(working)
		}
		return err
	})
	meanwhile, err := s.sendsRow(working, others, "the same, and a node comes back")
	if err = errors.Join(err, work.Wait()); err != nil {
		return err
	}
	after, err := sentSnapshots(ctx, others)
	if err == nil && after == before {
		err = errors.New("the node that came back was sent no snapshot")
	}
	fmt.Printf("\nA node that was killed serves again after %v; one that missed %d MiB, and is sent a snapshot, after %v.\nSends while it came back / sends before: %.2f\n",
		report.Round(killed), missing>>20, report.Round(late), meanwhile.Rate/base.Rate)
	return err
}

const (
	// missing is how many bytes of messages a node misses: more than two files of the raft log, which go as a whole.
	missing = 160 << 20
	// missedBytes is how many one of them has: they come in more entries than are kept.
	missedBytes = 8 << 10
)

// outgrow sends more than the logs of the nodes hold, and waits until each of them has made a snapshot since.
func (s *settings) outgrow(ctx context.Context, nodes *process.Cluster) error {
	c, err := client.New(client.Config{Addresses: nodes.Addresses(), Logger: quiet})
	if err != nil {
		return err
	}
	defer c.Close()
	data := make([]byte, missedBytes)
	err = s.atOnce(ctx, missing/missedBytes, 1, func(ctx context.Context, n, _ int) error {
		_, err := c.Send(ctx, client.Message{Application: "state", Instance: strconv.Itoa(n % stateInstances), Type: "measured", Data: data})
		return err
	})
	return errors.Join(err, load.Pause(ctx, 3*snapshotEvery))
}

// sentSnapshots is how many snapshots nodes have sent to others.
func sentSnapshots(ctx context.Context, nodes *process.Cluster) (sum float64, err error) {
	for _, n := range nodes.All {
		text, err := page(ctx, "http://"+n.Address+"/metrics")
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "sluice_snapshots_sent_total "); ok {
				one, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					return 0, err
				}
				sum += one
			}
		}
	}
	return sum, nil
}

//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"sluice/bench/load"
	"sluice/bench/peer"
	"sluice/bench/process"
	"sluice/client"
)

// quiet drops what clients have to say; what fails is returned.
var quiet = slog.New(slog.DiscardHandler)

// sends is a cluster under senders alone: what was receipted is done.
type sends struct {
	load.Cluster // of Sluice; nil: bare raft
	mode         client.Mode
	processes    *process.Cluster
}

// measureSends measures senders alone, on nodes of Sluice, in a mode of their instances, or on those of bare raft.
func (s *settings) measureSends(ctx context.Context, processes *process.Cluster, of *sends, senders int) (load.Result, error) {
	name := fmt.Sprintf("send-%d", senders)
	of.processes = processes
	if of.Cluster != nil {
		if of.mode == client.ModeRecovery {
			name = fmt.Sprintf("held-%d", senders)
		}
		if err := s.declare(ctx, of, name); err != nil {
			return load.Result{}, err
		}
	}
	return load.Measure(ctx, of, name, s.plan(senders))
}

// declare declares the application that is sent to, and puts its instances into the mode.
func (s *settings) declare(ctx context.Context, of *sends, name string) error {
	c, err := client.New(client.Config{Addresses: of.processes.Addresses(), Logger: quiet})
	if err != nil {
		return err
	}
	defer c.Close()
	declaration := s.declaration
	declaration.Name, declaration.Limits = name, unbounded.Limits
	if _, err := c.Applications().Apply(ctx, declaration); err != nil || of.mode == client.ModeNormal {
		return err
	}
	return s.atOnce(ctx, s.instances, 1, func(ctx context.Context, n, _ int) error {
		_, err := c.Instances().EnterRecovery(ctx, client.InstanceID{Application: name, Key: strconv.Itoa(n)}, client.EnterRecovery{Cause: "measured"})
		return err
	})
}

func (s *sends) Processes() *process.Cluster { return s.processes }

func (s *sends) Elections(ctx context.Context) (uint64, bool, error) {
	if s.Cluster == nil {
		return 0, false, nil
	}
	return s.Cluster.Elections(ctx)
}

// Open connects the senders; there are no workers.
func (s *sends) Open(_ context.Context, job load.Job) (load.Line, error) {
	l := &sendLine{job: job, wanted: client.DispositionAccepted}
	if s.mode == client.ModeRecovery {
		l.wanted = client.DispositionDeferred
	}
	for i := range (job.Senders + peer.SendersPerClient - 1) / peer.SendersPerClient {
		c, err := client.New(client.Config{Addresses: []string{s.processes.From(i), s.processes.From(i + 1), s.processes.From(i + 2)}, Logger: quiet})
		if err != nil {
			_ = l.Close()
			return nil, err
		}
		l.clients = append(l.clients, c)
	}
	return l, nil
}

type sendLine struct {
	job     load.Job
	clients []*client.Client
	wanted  client.Disposition
}

// Send counts the message as settled once it is receipted.
func (l *sendLine) Send(ctx context.Context, sender, instance int, data []byte) error {
	receipt, err := l.clients[sender/peer.SendersPerClient].Send(ctx, client.Message{Application: l.job.Name, Instance: strconv.Itoa(instance), Type: "measured", Data: data})
	switch {
	case err != nil:
		return err
	case receipt.Disposition != l.wanted:
		return fmt.Errorf("message %s was %s, not %s", receipt.MessageID, receipt.Disposition, l.wanted)
	}
	l.job.Settled(data)
	return nil
}

func (l *sendLine) Close() error {
	for _, c := range l.clients {
		c.Close()
	}
	return nil
}

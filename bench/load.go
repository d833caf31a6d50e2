//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/client"
)

const (
	// sendersPerClient is how many senders share a client and its connections.
	sendersPerClient = 64
	// slotBytes is how much of the data says whose message it is.
	slotBytes = 4
)

// load is a number of senders at work, each with one message, or one job, under way at a time.
type load struct {
	s           *settings
	application string
	clients     []*client.Client
	// waits, of a job, waits until the message of a sender is settled.
	waits func(ctx context.Context, sender int) error

	// counting is set while latencies are recorded.
	counting  atomic.Bool
	latencies [][]time.Duration // by sender
}

// measureLoad measures one part with a number of senders.
func (s *settings) measureLoad(ctx context.Context, n *nodes, part string, senders int) (sample, error) {
	l := &load{s: s, application: fmt.Sprintf("%s-%d", part, senders), latencies: make([][]time.Duration, senders)}
	defer func() {
		for _, c := range l.clients {
			c.Close()
		}
	}()
	for i := range (senders + sendersPerClient - 1) / sendersPerClient {
		c, err := client.New(client.Config{Addresses: n.from(i), Logger: quiet})
		if err != nil {
			return sample{}, err
		}
		l.clients = append(l.clients, c)
	}
	if part != "bare" {
		declaration := s.declaration
		declaration.Name = l.application
		if _, err := l.clients[0].Applications().Apply(ctx, declaration); err != nil {
			return sample{}, err
		}
	}
	if part == "bare" {
		return l.run(ctx, n, part)
	}
	before, err := l.term(ctx)
	if err != nil {
		return sample{}, err
	}
	var got sample
	if part == "job" {
		w, err := l.startWorkers(ctx, n)
		if err != nil {
			return sample{}, err
		}
		got, err = l.run(ctx, n, part)
		if err := errors.Join(err, w.stop(ctx)); err != nil {
			return sample{}, err
		}
	} else if got, err = l.run(ctx, n, part); err != nil {
		return sample{}, err
	}
	after, err := l.term(ctx)
	got.elections = after - before
	return got, err
}

// term is raft's: it grows with each election, also with one that its leader wins again.
func (l *load) term(ctx context.Context) (uint64, error) {
	status, err := l.clients[0].Cluster().Status(ctx)
	return status.Term, err
}

// from gives one node's address: a client's senders stay with it, and clients take the nodes in turn.
func (n *nodes) from(i int) []string { return []string{n.all[i%len(n.all)].address} }

// run sends for the length of a measurement and counts what came back in it.
func (l *load) run(ctx context.Context, n *nodes, part string) (got sample, err error) {
	sending, stop := context.WithCancel(ctx)
	defer stop()
	senders, sending := errgroup.WithContext(sending)
	for i := range l.latencies {
		senders.Go(func() error { return l.send(sending, i) })
	}
	var before, after usage
	err = errors.Join(pause(sending, l.s.warm), func() (err error) { before, err = n.usage(); return err }())
	l.counting.Store(true)
	err = errors.Join(err, pause(sending, l.s.seconds))
	l.counting.Store(false)
	after, failed := n.usage()
	stop()
	if err := errors.Join(senders.Wait(), err, failed); err != nil {
		return sample{}, err
	}
	return newSample(part, slices.Concat(l.latencies...), len(l.latencies), before, after), nil
}

// send sends one message after the other.
func (l *load) send(ctx context.Context, sender int) error {
	c := l.clients[sender/sendersPerClient]
	data := make([]byte, l.s.payload)
	if _, err := rand.Read(data); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(data, uint32(sender))
	for n := sender; ; n += len(l.latencies) {
		m := client.Message{Application: l.application, Instance: strconv.Itoa(n % l.s.instances), Type: "measured", Data: data}
		began := time.Now()
		_, err := c.Send(ctx, m)
		if err == nil && l.waits != nil {
			err = l.waits(ctx, sender)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if l.counting.Load() {
			l.latencies[sender] = append(l.latencies[sender], time.Since(began))
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

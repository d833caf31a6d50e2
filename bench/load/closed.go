//go:build linux

package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/bench/process"
)

// closed is a closed loop: each sender waits until its job is settled before it begins the next.
type closed struct {
	counts
	plan  Plan
	line  Line
	slots []slot
	// counting is set while latencies are recorded; ending makes senders stop after their job.
	counting, ending atomic.Bool
}

// slot is one sender's.
type slot struct {
	// waits is the token of the job under way, 0 once it is settled. Tokens begin at 1.
	waits     atomic.Uint64
	settled   chan struct{}
	latencies []time.Duration
}

func closedLoop(ctx context.Context, c Cluster, job Job, plan Plan) (res Result, err error) {
	l := &closed{plan: plan, slots: make([]slot, plan.Senders)}
	for i := range l.slots {
		l.slots[i].settled = make(chan struct{}, 1)
	}
	job.Settled = l.settle
	if l.line, err = c.Open(ctx, job); err != nil {
		return res, err
	}
	res, err = l.run(ctx, c.Processes())
	return res, errors.Join(err, l.line.Close())
}

// run sends for the length of the measurement. At its end senders finish their jobs: none is left in doubt.
func (l *closed) run(ctx context.Context, nodes *process.Cluster) (res Result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	senders, sending := errgroup.WithContext(ctx)
	for i := range l.slots {
		senders.Go(func() error { return l.send(sending, i) })
	}
	err = Pause(sending, l.plan.Warm)
	before, failed := nodes.Usage()
	l.counting.Store(true)
	err = errors.Join(err, failed, Pause(sending, l.plan.Length))
	l.counting.Store(false)
	after, failed := nodes.Usage()
	l.ending.Store(true)
	lost := time.AfterFunc(process.ReadyWithin, cancel)
	defer lost.Stop()
	if err := errors.Join(senders.Wait(), err, failed); err != nil {
		return res, errors.Join(err, l.whole())
	}
	var all [][]time.Duration
	for i := range l.slots {
		all = append(all, l.slots[i].latencies)
	}
	res = Result{Latencies: slices.Concat(all...), Before: before, After: after, Sent: l.sent.Load(), Settled: l.settled.Load(), Repeated: l.repeated.Load()}
	return res, l.whole()
}

// send does one job after the other.
func (l *closed) send(ctx context.Context, sender int) error {
	data, err := noise(l.plan.Payload)
	if err != nil {
		return err
	}
	mine := &l.slots[sender]
	for n := sender; !l.ending.Load(); n += len(l.slots) {
		token := uint64(n) + 1
		// A slow client may still hold the last message's data.
		data := slices.Clone(data)
		binary.BigEndian.PutUint64(data, token)
		mine.waits.Store(token)
		began := time.Now()
		if err := l.line.Send(ctx, sender, n%l.plan.Instances, data); err != nil {
			return fmt.Errorf("sender %d: %w", sender, err)
		}
		l.sent.Add(1)
		select {
		case <-mine.settled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if l.counting.Load() {
			mine.latencies = append(mine.latencies, time.Since(began))
		}
	}
	return nil
}

// settle wakes the sender whose message was settled.
func (l *closed) settle(data []byte) {
	token, ok := Token(data)
	if !ok || token == 0 {
		return
	}
	owner := &l.slots[(token-1)%uint64(len(l.slots))]
	if !owner.waits.CompareAndSwap(token, 0) {
		l.repeated.Add(1)
		return
	}
	l.settled.Add(1)
	owner.settled <- struct{}{}
}

//go:build linux

package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/bench/process"
)

// underWayMax bounds the jobs of an open loop that are not settled. Past it the schedule waits, and what it waits
// counts as latency like everything else.
const underWayMax = 16_384

// open is an open loop: jobs begin by a schedule, whether or not those before them have ended, and a job's latency
// counts from the moment it was meant to begin. So a stall shows in every job that it held up, not in one a sender.
type open struct {
	counts
	plan     Plan
	line     Line
	schedule schedule
	// done and latencies are by job.
	done      []atomic.Bool
	latencies []time.Duration
	room      chan struct{}
	failed    chan error
}

// schedule says when jobs are meant to begin.
type schedule struct {
	start time.Time
	every float64 // nanoseconds
	// first and end bound the jobs that are counted, end those that are begun.
	first, end int
}

func newSchedule(start time.Time, plan Plan) schedule {
	s := schedule{start: start, every: 1e9 / plan.Rate}
	s.first = int(plan.Warm.Seconds() * plan.Rate)
	s.end = s.first + max(1, int(plan.Length.Seconds()*plan.Rate))
	return s
}

// at is when a job is meant to begin.
func (s schedule) at(job int) time.Time {
	return s.start.Add(time.Duration(float64(job) * s.every))
}

// due is how many jobs should have begun at a moment.
func (s schedule) due(now time.Time) int {
	if now.Before(s.start) {
		return 0
	}
	return min(s.end, int(float64(now.Sub(s.start))/s.every)+1)
}

func openLoop(ctx context.Context, c Cluster, job Job, plan Plan) (res Result, err error) {
	l := &open{plan: plan, room: make(chan struct{}, underWayMax), failed: make(chan error, 1)}
	shape := newSchedule(time.Time{}, plan)
	l.done, l.latencies = make([]atomic.Bool, shape.end), make([]time.Duration, shape.end)
	job.Settled = l.settle
	if l.line, err = c.Open(ctx, job); err != nil {
		return res, err
	}
	res, err = l.run(ctx, c.Processes())
	return res, errors.Join(err, l.line.Close())
}

func (l *open) run(ctx context.Context, nodes *process.Cluster) (res Result, err error) {
	l.schedule = newSchedule(time.Now(), l.plan)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var sends sync.WaitGroup
	begun, err := l.begin(ctx, &sends, 0, l.schedule.first)
	var failed error
	if err == nil {
		res.Before, err = nodes.Usage()
	}
	if err == nil {
		begun, err = l.begin(ctx, &sends, begun, l.schedule.end)
		res.After, failed = nodes.Usage()
	}
	if err != nil {
		cancel() // what is under way need not end
	}
	lost := time.AfterFunc(process.ReadyWithin, cancel)
	defer lost.Stop()
	for range cap(l.room) { // whoever has all the room is alone
		select {
		case l.room <- struct{}{}:
			continue
		case <-ctx.Done():
		case failure := <-l.failed:
			err = errors.Join(err, failure)
		}
		cancel()
		break
	}
	sends.Wait()
	if err := errors.Join(err, failed); err != nil {
		return res, fmt.Errorf("%d of %d jobs were begun: %w", begun, l.schedule.end, err)
	}
	res.Latencies = slices.Clone(l.latencies[l.schedule.first:])
	res.Sent, res.Settled, res.Repeated = l.sent.Load(), l.settled.Load(), l.repeated.Load()
	return res, l.whole()
}

// begin begins the jobs up to an end, each when it is due.
func (l *open) begin(ctx context.Context, sends *sync.WaitGroup, from, end int) (int, error) {
	data, err := noise(l.plan.Payload)
	if err != nil {
		return from, err
	}
	for n := from; n < end; {
		if err := Pause(ctx, time.Until(l.schedule.at(n))); err != nil {
			return n, err
		}
		for due := min(end, l.schedule.due(time.Now())); n < due; n++ {
			select {
			case l.room <- struct{}{}:
			case err := <-l.failed:
				return n, err
			case <-ctx.Done():
				return n, context.Cause(ctx)
			}
			job, mine := n, slices.Clone(data)
			sends.Go(func() { l.send(ctx, job, mine) })
		}
	}
	return end, nil
}

func (l *open) send(ctx context.Context, n int, data []byte) {
	binary.BigEndian.PutUint64(data, uint64(n)+1)
	// Counted before the send: the settlement may overtake the receipt.
	l.sent.Add(1)
	if err := l.line.Send(ctx, n%l.plan.Senders, n%l.plan.Instances, data); err != nil {
		select {
		case l.failed <- fmt.Errorf("job %d: %w", n, err):
		default: // one is enough
		}
	}
}

// settle records how long a job took since it was meant to begin.
func (l *open) settle(data []byte) {
	token, ok := Token(data)
	if !ok || token == 0 || token > uint64(len(l.done)) {
		return
	}
	n := int(token) - 1
	if l.done[n].Swap(true) {
		l.repeated.Add(1)
		return
	}
	l.latencies[n] = time.Since(l.schedule.at(n))
	l.settled.Add(1)
	<-l.room
}

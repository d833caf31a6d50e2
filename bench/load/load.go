//go:build linux

// Package load drives whole jobs against a cluster, whoever made it: send with a durable receipt, deliver, settle with
// a durable acknowledgement. It counts what was sent and what was settled, and fails if a job was lost.
package load

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"sluice/bench/process"
)

// TokenBytes is how much of a message's data says which job it belongs to; what follows is noise.
const TokenBytes = 8

// Workers is how many workers, each with a client of its own, take the messages of a job.
const Workers = 2

// Peer is a system that can do the job.
type Peer interface {
	// Name is what tables and flags call it.
	Name() string
	// Start starts three nodes, or as many as the system has, with their data below dir, and returns once they serve.
	Start(ctx context.Context, dir string) (Cluster, error)
}

// Cluster is the running nodes of a peer.
type Cluster interface {
	// Processes are its nodes.
	Processes() *process.Cluster
	// Open makes everything ready for jobs: what must be declared, senders' clients, two workers that wait.
	Open(ctx context.Context, job Job) (Line, error)
	// Elections grows with every election; known is false if the system does not tell.
	Elections(ctx context.Context) (count uint64, known bool, err error)
	// Leader is the node that leads.
	Leader(ctx context.Context) (*process.Node, error)
	// Stop ends the nodes and removes their data.
	Stop() error
}

// Restarter is a cluster whose nodes can be killed and started again on their data.
type Restarter interface {
	// Restart starts a node that has ended, and returns once it serves.
	Restart(ctx context.Context, node *process.Node) error
}

// Job says what a line is for.
type Job struct {
	// Name is used by no other line of the cluster: letters, digits and hyphens.
	Name string
	// Senders is how many callers of Send there are, Instances how many instances messages are spread over.
	Senders, Instances int
	// Settled is called once the settlement of a message is durable and acknowledged, from any goroutine. It does not
	// block.
	Settled func(data []byte)
	// Failover: nodes will be killed, so a client knows all of them, and gives a call up soon. Otherwise each stays with one, and
	// clients take the nodes in turn, unless the peer's own client chooses.
	Failover bool
}

// Line is a cluster made ready for jobs.
type Line interface {
	// Send sends one message and returns once it is durable. A sender has one call under way; in an open loop, many.
	Send(ctx context.Context, sender, instance int, data []byte) error
	// Close ends the workers and closes the clients. It tells what went wrong in the background.
	Close() error
}

// Plan is one measurement.
type Plan struct {
	// Senders, Instances and Payload, in bytes: what is sent by how many to how many.
	Senders, Instances, Payload int
	// Warm passes before anything is counted, then Length is measured.
	Warm, Length time.Duration
	// Rate is jobs a second of an open loop; 0: a closed loop, in which each sender has one job under way.
	Rate float64
}

// Result is what a measurement found.
type Result struct {
	// Latencies are those of the jobs that were counted.
	Latencies []time.Duration
	// Before and After frame what was counted.
	Before, After process.Usage
	// Sent and Settled count all jobs, also those before and after what was measured; Repeated is how many
	// settlements came again.
	Sent, Settled, Repeated int64
	// Elections is how many there were meanwhile; nil: unknown.
	Elections *uint64
}

// Measure opens a line, drives it as the plan says, and closes it.
func Measure(ctx context.Context, c Cluster, name string, plan Plan) (res Result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if plan.Payload < TokenBytes {
		return res, fmt.Errorf("a payload of %d bytes: at least %d are needed", plan.Payload, TokenBytes)
	}
	job := Job{Name: name, Senders: plan.Senders, Instances: plan.Instances}
	watched := &electionWatch{Cluster: c, opened: make(chan struct{})}
	before := watched.begin(ctx, plan.Warm/2)
	if plan.Rate > 0 {
		res, err = openLoop(ctx, watched, job, plan)
	} else {
		res, err = closedLoop(ctx, watched, job, plan)
	}
	if err != nil {
		return res, err
	}
	from := <-before
	if from.err != nil {
		return res, from.err
	}
	to, known, err := c.Elections(ctx)
	if known && from.known {
		res.Elections = new(to - from.count)
	}
	return res, err
}

// electionWatch counts elections from the warm-up of a line on: those by which what it declares first finds its leaders
// are none of the load's.
type electionWatch struct {
	Cluster
	opened chan struct{} // closed by Open
}

// elections are what a cluster told of them.
type elections struct {
	count uint64
	known bool
	err   error
}

// begin asks some time after the line was opened, beside the load, which must not wait for the answer.
func (w *electionWatch) begin(ctx context.Context, after time.Duration) <-chan elections {
	told := make(chan elections, 1)
	go func() {
		select {
		case <-w.opened:
		case <-ctx.Done():
			return
		}
		var e elections
		if e.err = Pause(ctx, after); e.err == nil {
			e.count, e.known, e.err = w.Elections(ctx)
		}
		told <- e
	}()
	return told
}

// Open opens a line, and lets the watch begin.
func (w *electionWatch) Open(ctx context.Context, job Job) (Line, error) {
	line, err := w.Cluster.Open(ctx, job)
	if err == nil {
		close(w.opened)
	}
	return line, err
}

// noise is the data of a message, without its token.
func noise(size int) ([]byte, error) {
	data := make([]byte, size)
	_, err := rand.Read(data)
	return data, err
}

// Token reads which job a message belongs to; false: none that was measured here.
func Token(data []byte) (uint64, bool) {
	if len(data) < TokenBytes {
		return 0, false
	}
	return binary.BigEndian.Uint64(data), true
}

// counts are kept by both loops.
type counts struct{ sent, settled, repeated atomic.Int64 }

// whole says whether every job that was sent was settled.
func (n *counts) whole() error {
	if sent, settled := n.sent.Load(), n.settled.Load(); sent != settled {
		return fmt.Errorf("%d jobs were sent and %d settled within %v", sent, settled, process.ReadyWithin)
	}
	return nil
}

// Pause waits, or answers why ctx ended.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

package world

import (
	"context"
	"fmt"
	"time"

	"sluice/client"
	"sluice/jepsen/history"
)

// World is a running cluster and all that can be done to it. Its methods may be called by many goroutines; Close once,
// at the end, when nothing else is under way.
type World interface {
	// Name is "sim" or "proc".
	Name() string
	// Nodes are the places of nodes, in order: n1, n2, … A place keeps its name and address when the node in it is
	// replaced (DiskLoss), mostly by one of another id.
	Nodes() []string
	// Leader is the place of the node that leads, as far as the world can tell; empty: it cannot.
	Leader(ctx context.Context) string

	// Has says why the world cannot do a kind of fault; nil: it can. The answer is the same throughout a run.
	Has(kind Kind) error
	// Inject begins a fault. It returns when the fault is in force, and whatever has been done of one that fails is
	// undone. Heal is never nil; it is called once. Faults whose Kind, nodes and cuts differ may overlap, but a node
	// has at most one fault at a time of those that stop it or hurt its disk.
	Inject(ctx context.Context, f Fault) (Heal, error)

	// Client makes a client that knows all nodes. The name stands for who asks, in logs. The caller closes it.
	Client(ctx context.Context, name string) (*client.Client, error)
	// StartWorker starts a worker as a thing of its own that can be killed and paused: a process in jepsen/proc.
	// It runs the function of the workload that the world was made with, and runs until Close or a WorkerKill.
	StartWorker(ctx context.Context, w Worker) error
	// StopWorkers ends all workers in good order, and waits for them.
	StopWorkers(ctx context.Context) error

	// Now is the world's time, since the run began. Every row of the history is told in it.
	Now() time.Duration
	// Wait waits for a span of the world's time; its error is ctx's.
	Wait(ctx context.Context, d time.Duration) error

	// History takes what happens.
	History() *history.Log
	// Close stops workers and nodes, brings what nodes and workers noted by themselves into the history, and leaves
	// nothing behind on the machine.
	Close() error
}

// Heal ends a fault. It returns when all that was hurt has been put right, as far as it is the world's to do: a stopped
// node has been started again (not: has caught up).
type Heal func(ctx context.Context) error

// Worker says which worker to start.
type Worker struct {
	// Name is unique in a run.
	Name string `json:"name"`
	// Application whose instances it hosts.
	Application string `json:"application"`
	// TTL of its sessions.
	TTL time.Duration `json:"ttl"`
	// Capacity is how many instances it owns at most.
	Capacity int `json:"capacity"`
	// Seed of whatever is left to chance in its handlers.
	Seed uint64 `json:"seed"`
	// Outside is a folder that all workers of a run share: the world outside Sluice, where their effects are.
	Outside string `json:"outside"`
}

// RunWorker is what a worker does: workload.Work is one. It ends when ctx ends, in good order.
type RunWorker func(ctx context.Context, c *client.Client, w Worker, h *history.Log) error

// Missing is the error of Has: a kind of fault that the world cannot do.
type Missing struct {
	Kind Kind
	// Why is a sentence for a person: what is not there.
	Why string
}

// Error says which kind is missing, and why.
func (m *Missing) Error() string { return fmt.Sprintf("no %s: %s", m.Kind, m.Why) }

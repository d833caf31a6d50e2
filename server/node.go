package server

import (
	"context"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"

	"sluice/cluster"
	"sluice/fsm"
)

// Node is what the services ask of the cluster. Its errors are *reason.Error or trouble of the node's own.
type Node interface {
	Propose(ctx context.Context, cmd *logv1.Command) (*logv1.Outcome, error)
	// Read gives the replicated state: linearizable, or this node's own, which may be old.
	Read(ctx context.Context, stale bool) (View, Staleness, error)
	OpenSession(ctx context.Context, req *sluicev1.OpenSessionRequest, actor string) (*sluicev1.OpenSessionResponse, error)
	KeepAlive(ctx context.Context, sessionID string) (time.Duration, error)
	CloseSession(ctx context.Context, sessionID string) (*sluicev1.CloseSessionResponse, error)
	Poll(ctx context.Context, req *sluicev1.PollRequest, afresh bool) (*sluicev1.PollResponse, error)
	PollStream(ctx context.Context, req *sluicev1.PollRequest, stream string, afresh bool) (*sluicev1.PollResponse, error)
	Settle(ctx context.Context, req *sluicev1.SettleRequest) (*sluicev1.SettleResponse, error)
	StartOperation(ctx context.Context, req *sluicev1.StartOperationRequest, actor string) (*sluicev1.StartOperationResponse, error)
	Quiesced(ctx context.Context, id fsm.InstanceID) (bool, error)
	Await(ctx context.Context, id fsm.InstanceID, messageID string) (*sluicev1.MessageStatus, error)
	Status(ctx context.Context) (*sluicev1.StatusResponse, error)
	TransferLeadership(ctx context.Context, nodeID string) (string, error)
	Join(ctx context.Context, req *sluicev1.JoinRequest) (*sluicev1.JoinResponse, error)
	Remove(ctx context.Context, nodeID string) error
	Ready() []cluster.Check
	// LeaderAddress is the address of the node that leads, as this one knows it; empty: it knows of none.
	LeaderAddress() string
	// EventNews is closed when this node next applies an event.
	EventNews() <-chan struct{}
	// Reached waits until this node has applied an index.
	Reached(ctx context.Context, index uint64) error
}

// View is the part of the replicated state that the services show.
type View interface {
	Application(name string) (*sluicev1.Application, error)
	Applications() ([]*sluicev1.Application, error)
	Instance(id fsm.InstanceID) (*sluicev1.Instance, error)
	Instances(req *sluicev1.ListInstancesRequest) (*sluicev1.ListInstancesResponse, error)
	Explain(id fsm.InstanceID, quiesced bool) (*sluicev1.Explanation, error)
	Message(id fsm.InstanceID, messageID string) (*sluicev1.MessageStatus, error)
	Messages(req *sluicev1.ListMessagesRequest) (*sluicev1.ListMessagesResponse, error)
	DeadLetters(req *sluicev1.ListDeadLettersRequest) (*sluicev1.ListDeadLettersResponse, error)
	DeadLetterGroups(req *sluicev1.GroupDeadLettersRequest) (*sluicev1.GroupDeadLettersResponse, error)
	History(id fsm.InstanceID) (*sluicev1.HistoryResponse, error)
	Transaction(id fsm.InstanceID, transaction string) (*sluicev1.Transaction, error)
	Transactions(req *sluicev1.ListTransactionsRequest) (*sluicev1.ListTransactionsResponse, error)
	Operation(id string) (*sluicev1.Operation, error)
	Operations(application string) ([]*sluicev1.Operation, error)
	Events(since fsm.EventPlace, limit int, filter fsm.EventFilter) (*fsm.EventPage, error)
	OperationItems(req *sluicev1.ListOperationItemsRequest) (*sluicev1.ListOperationItemsResponse, error)
}

// Staleness tells how old a view is: the index it has reached, and its age. Both are zero of a linearizable one.
type Staleness struct {
	Index uint64
	Age   time.Duration
}

// clusterNode is a *cluster.Node as the services see it.
type clusterNode struct{ *cluster.Node }

// Read is View with this package's types.
func (n clusterNode) Read(ctx context.Context, stale bool) (View, Staleness, error) {
	view, info, err := n.View(ctx, stale)
	if err != nil {
		return nil, Staleness{}, err
	}
	if !stale {
		return view, Staleness{}, nil
	}
	return view, Staleness{Index: info.Index, Age: info.Age}, nil
}

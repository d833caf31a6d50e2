package client

import (
	"context"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// OperationState is where an operation stands.
type OperationState string

// The states of an operation.
const (
	OperationRunning   OperationState = "running"
	OperationPaused    OperationState = "paused"
	OperationDone      OperationState = "done"
	OperationCancelled OperationState = "cancelled"
	// OperationSelecting: its set is being written down; it has not begun.
	OperationSelecting OperationState = "selecting"
)

var operationStates = []OperationState{"", OperationRunning, OperationPaused, OperationDone, OperationCancelled, OperationSelecting}

// Operation is long work of the leader over many instances.
type Operation struct {
	// Kind is "enter-recovery" or "complete-recovery".
	ID, Kind, Application string
	State                 OperationState
	// Total counts instances, of which so many are done, were passed over because they need a recovery handler or an
	// operator, or failed.
	Total, Done, PassedOver, Failed uint64
	// Rate is instances a second; 0: as fast as the cluster allows.
	Rate               float64
	StartTime, EndTime time.Time
	Duplicate          bool
	// Cause and Actor: why, and who began it.
	Cause, Actor string
	// Selector chose the set of an operation over one, at FrozenIndex of the log; instances that it named one by one
	// are not repeated here. FrozenIndex 0: the operation has no set.
	Selector    Selector
	FrozenIndex uint64
}

// Ended tells that an operation goes no further.
func (o Operation) Ended() bool { return o.State == OperationDone || o.State == OperationCancelled }

// Operations shows and steers operations.
type Operations struct{ c *Client }

// Operations are the calls that concern operations.
func (c *Client) Operations() Operations { return Operations{c} }

// Get shows one operation.
func (o Operations) Get(ctx context.Context, id string) (Operation, error) {
	return o.call(ctx, sluicev1connect.OperationServiceGetProcedure, id)
}

// List shows the operations of one application, or all if it is empty.
func (o Operations) List(ctx context.Context, application string) ([]Operation, error) {
	res, err := Call[sluicev1.ListOperationsRequest, sluicev1.ListOperationsResponse](ctx, o.c,
		sluicev1connect.OperationServiceListProcedure, &sluicev1.ListOperationsRequest{Application: application})
	if err != nil {
		return nil, err
	}
	out := make([]Operation, len(res.GetOperations()))
	for i, op := range res.GetOperations() {
		out[i], _ = operationOf(op, nil)
	}
	return out, nil
}

// Cancel ends an operation; what it did stays done.
func (o Operations) Cancel(ctx context.Context, id string) (Operation, error) {
	return o.call(ctx, sluicev1connect.OperationServiceCancelProcedure, id)
}

// Pause holds an operation until Resume.
func (o Operations) Pause(ctx context.Context, id string) (Operation, error) {
	return o.call(ctx, sluicev1connect.OperationServicePauseProcedure, id)
}

// Resume goes on with a paused operation.
func (o Operations) Resume(ctx context.Context, id string) (Operation, error) {
	return o.call(ctx, sluicev1connect.OperationServiceResumeProcedure, id)
}

func (o Operations) call(ctx context.Context, procedure, id string) (Operation, error) {
	return operationOf(Call[sluicev1.GetOperationRequest, sluicev1.Operation](ctx, o.c, procedure, &sluicev1.GetOperationRequest{Id: id}))
}

func operationOf(o *sluicev1.Operation, err error) (Operation, error) {
	if err != nil {
		return Operation{}, err
	}
	return Operation{
		ID: o.GetId(), Kind: o.GetKind(), Application: o.GetApplication(), State: word(operationStates, o.GetState()),
		Total: o.GetTotal(), Done: o.GetDone(), PassedOver: o.GetPassedOver(), Failed: o.GetFailed(), Rate: o.GetRate(),
		StartTime: timeOf(o.GetStartTime()), EndTime: timeOf(o.GetEndTime()), Duplicate: o.GetDuplicate(),
		Cause: o.GetCause(), Actor: o.GetActor(), Selector: selectorOf(o.GetSelector()), FrozenIndex: o.GetFrozenIndex(),
	}, nil
}

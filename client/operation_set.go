package client

import (
	"context"
	"iter"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// Selector chooses instances of one application. All that is given must hold, and something must be given.
type Selector struct {
	// Mode is the effective one.
	Mode Mode
	// Prefix of the instances' keys.
	Prefix string
	// Owner is a session's id.
	Owner string
	// Instances names keys one by one, at most 10,000. Those that are unknown are told by the operation's items.
	Instances []string
	// MinDeferred messages, at least.
	MinDeferred uint64
}

func (s Selector) proto() (*sluicev1.Selector, error) {
	mode, err := value[sluicev1.Mode](modes, s.Mode)
	return &sluicev1.Selector{Mode: mode, Prefix: s.Prefix, Owner: s.Owner, Instances: s.Instances, MinDeferred: s.MinDeferred}, err
}

func selectorOf(s *sluicev1.Selector) Selector {
	return Selector{Mode: word(modes, s.GetMode()), Prefix: s.GetPrefix(), Owner: s.GetOwner(), Instances: s.GetInstances(), MinDeferred: s.GetMinDeferred()}
}

// StartOperation says what an operation over a set is to do.
type StartOperation struct {
	Application string
	Selector    Selector
	// Cause is recorded in the history of each instance.
	Cause string
	// Until, for Hold alone: the recoveries complete by themselves then, as that of a single instance does.
	Until time.Time
	// Rate is instances a second; 0: as fast as the cluster allows.
	Rate float64
	// DryRun: nothing is done.
	DryRun bool
	// RequestID; empty: one is made.
	RequestID string
}

// Started is an operation that began, or, of a dry run, would begin: then it has no id.
type Started struct {
	Operation Operation
	// First of the set, at most 100 keys in order.
	First []string
}

// Hold puts the instances that a selector chooses now into recovery, in the background: at most 100,000, which are
// frozen as the operation's set. Those that are in recovery already are passed over.
func (o Operations) Hold(ctx context.Context, s StartOperation) (Started, error) {
	return o.start(ctx, s, sluicev1.OperationKind_OPERATION_KIND_ENTER_RECOVERY)
}

// Release completes the recoveries of the instances that a selector chooses now, in the background: at most 100,000.
// It passes over those with something in doubt or pending, and those whose recovery handler is at work.
func (o Operations) Release(ctx context.Context, s StartOperation) (Started, error) {
	return o.start(ctx, s, sluicev1.OperationKind_OPERATION_KIND_COMPLETE_RECOVERY)
}

func (o Operations) start(ctx context.Context, s StartOperation, kind sluicev1.OperationKind) (Started, error) {
	if err := checkApplication(s.Application); err != nil {
		return Started{}, err
	}
	selector, err := s.Selector.proto()
	if err != nil {
		return Started{}, err
	}
	res, err := Call[sluicev1.StartOperationRequest, sluicev1.StartOperationResponse](ctx, o.c, sluicev1connect.OperationServiceStartProcedure, &sluicev1.StartOperationRequest{
		Application: s.Application, Kind: kind, Selector: selector, Cause: s.Cause, Until: timestamp(s.Until), Rate: s.Rate, DryRun: s.DryRun, RequestId: orNewID(s.RequestID),
	})
	if err != nil {
		return Started{}, err
	}
	op, err := operationOf(res.GetOperation(), nil)
	return Started{Operation: op, First: res.GetInstances()}, err
}

// ItemState is what became of one instance of an operation's set.
type ItemState string

// The states of an item.
const (
	ItemPending    ItemState = "pending"
	ItemDone       ItemState = "done"
	ItemPassedOver ItemState = "passed-over"
	ItemFailed     ItemState = "failed"
)

var itemStates = []ItemState{"", ItemPending, ItemDone, ItemPassedOver, ItemFailed}

// OperationItem is one instance of an operation's set.
type OperationItem struct {
	// Instance is its key.
	Instance string
	State    ItemState
	// Detail says why it was passed over or failed.
	Detail string
}

// Items iterates over what became of each instance of an operation's set, in the order of the keys; of those in one
// state, or of all if it is empty. An error ends the iteration.
func (o Operations) Items(ctx context.Context, id string, state ItemState) iter.Seq2[OperationItem, error] {
	return pages(func(token string) ([]OperationItem, string, error) {
		want, err := value[sluicev1.ItemState](itemStates, state)
		if err != nil {
			return nil, "", err
		}
		res, err := Call[sluicev1.ListOperationItemsRequest, sluicev1.ListOperationItemsResponse](ctx, o.c,
			sluicev1connect.OperationServiceListItemsProcedure, &sluicev1.ListOperationItemsRequest{Id: id, State: want, PageSize: pageSize, PageToken: token})
		out := make([]OperationItem, len(res.GetItems()))
		for k, i := range res.GetItems() {
			out[k] = OperationItem{Instance: i.GetInstance(), State: word(itemStates, i.GetState()), Detail: i.GetDetail()}
		}
		return out, res.GetNextPageToken(), err
	})
}

// Wait waits until an operation has ended, done or cancelled, or ctx has. An operation that is paused does not end.
func (o Operations) Wait(ctx context.Context, id string) (Operation, error) {
	return waitUntil(ctx, func() (Operation, error) { return o.Get(ctx, id) }, Operation.Ended)
}

// waitEvery is how often waitUntil looks.
const waitEvery = 200 * time.Millisecond

// waitUntil looks at something until it is as wanted, or ctx ends; either way it tells what was seen last.
func waitUntil[T any](ctx context.Context, look func() (T, error), wanted func(T) bool) (T, error) {
	for {
		seen, err := look()
		if err != nil || wanted(seen) {
			return seen, err
		}
		timer := time.NewTimer(waitEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return seen, ctx.Err()
		}
	}
}

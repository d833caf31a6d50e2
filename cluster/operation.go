package cluster

import (
	"context"
	"errors"
	"time"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

const (
	// selectionsMax is how many selections may be under way at a node at once: each looks at a whole application.
	selectionsMax = 2
	// shownItems is how many of a set are shown with an answer.
	shownItems = 100
	// writeWithin bounds the writing down of a set, which goes on when the caller has gone.
	writeWithin = 30 * time.Second
)

// StartOperation chooses a set of instances from one linearizable view, off the path of Apply, and begins an operation
// over it: the set is frozen then. It answers when the set is written down and the operation runs. With dry_run it
// answers what it would begin, without an id. A repeat of a request id answers the operation as it is by now.
func (n *Node) StartOperation(ctx context.Context, req *sluicev1.StartOperationRequest, actor string) (*sluicev1.StartOperationResponse, error) {
	set, err := n.choose(ctx, req)
	if err != nil {
		return nil, err
	}
	shown := set.Instances[:min(len(set.Instances), shownItems)]
	if req.DryRun {
		return &sluicev1.StartOperationResponse{Operation: dryRun(req, set, actor), Instances: shown}, nil
	}
	begin := &logv1.BeginOperation{Request: req, Total: uint64(len(set.Instances)), FrozenIndex: set.Index}
	out, err := n.Propose(ctx, &logv1.Command{Actor: actor, Kind: &logv1.Command_BeginOperation{BeginOperation: begin}})
	op, err := outcomeOf(out, err, (*logv1.Outcome).GetOperation)
	if err != nil {
		return nil, err
	}
	if op.Duplicate {
		return n.begun(ctx, op)
	}
	if op, err = n.writeSet(ctx, op, set.Instances, actor); err != nil {
		return nil, err
	}
	return &sluicev1.StartOperationResponse{Operation: op, Instances: shown}, nil
}

// choose evaluates a selector.
func (n *Node) choose(ctx context.Context, req *sluicev1.StartOperationRequest) (*fsm.Selection, error) {
	select {
	case n.selecting <- struct{}{}:
		defer func() { <-n.selecting }()
	default:
		return nil, reason.Overloaded.Errorf("%d selections are under way at node %s: try again later", selectionsMax, n.cfg.NodeID)
	}
	v, _, err := n.View(ctx, false)
	if err != nil {
		return nil, err
	}
	return v.Select(req)
}

// dryRun is the operation that a request would begin. Like one that was begun, it does not repeat named instances.
func dryRun(req *sluicev1.StartOperationRequest, set *fsm.Selection, actor string) *sluicev1.Operation {
	s := req.Selector
	return &sluicev1.Operation{
		Kind: fsm.KindOf(req.Kind), Application: req.Application, State: sluicev1.OperationState_OPERATION_SELECTING, Total: uint64(len(set.Instances)),
		Rate: req.Rate, Cause: req.Cause, Actor: actor, FrozenIndex: set.Index,
		Selector: &sluicev1.Selector{Mode: s.Mode, Prefix: s.Prefix, Owner: s.Owner, MinDeferred: s.MinDeferred},
	}
}

// begun answers a repeat: the operation as it is by now, and the first of its set.
func (n *Node) begun(ctx context.Context, first *sluicev1.Operation) (*sluicev1.StartOperationResponse, error) {
	v, _, err := n.View(ctx, false)
	if err != nil {
		return nil, err
	}
	op, err := v.Operation(first.Id)
	if errors.Is(err, reason.UnknownOperation) { // it has been dropped from the record since
		return &sluicev1.StartOperationResponse{Operation: first}, nil
	}
	if err != nil {
		return nil, err
	}
	op.Duplicate = true
	items, err := v.OperationItems(&sluicev1.ListOperationItemsRequest{Id: op.Id, PageSize: shownItems})
	if err != nil {
		return nil, err
	}
	resp := &sluicev1.StartOperationResponse{Operation: op}
	for _, i := range items.Items {
		resp.Instances = append(resp.Instances, i.Instance)
	}
	return resp, nil
}

// writeSet writes a set down in parts. A part whose outcome is unknown is written again, which has no second effect.
func (n *Node) writeSet(ctx context.Context, op *sluicev1.Operation, set []string, actor string) (*sluicev1.Operation, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeWithin)
	defer cancel()
	for place := 0; place < len(set); {
		part := set[place:min(place+fsm.MaxPart, len(set))]
		add := &logv1.AddOperationItems{Id: op.Id, Place: uint64(place), Instances: part}
		out, err := n.Propose(ctx, &logv1.Command{Actor: actor, Kind: &logv1.Command_AddOperationItems{AddOperationItems: add}})
		if retriable(err) && n.rest(ctx) {
			continue
		}
		if op, err = outcomeOf(out, err, (*logv1.Outcome).GetOperation); err != nil {
			return nil, givenUp(add.Id, err)
		}
		place += len(part)
	}
	op.Duplicate = false // the last part may have been written twice; the operation was begun once
	return op, nil
}

func retriable(err error) bool {
	return errors.Is(err, reason.OutcomeUnknown) || errors.Is(err, reason.Overloaded)
}

// rest waits a little; false: the time is over, or the node stops.
func (n *Node) rest(ctx context.Context) bool {
	timer := time.NewTimer(retryPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-n.stopped:
	}
	return false
}

// givenUp says what becomes of an operation whose set could not be written down.
func givenUp(id string, err error) error {
	var refusal *reason.Error
	if !errors.As(err, &refusal) {
		return err
	}
	return refusal.Reason.Errorf("operation %s began, but its set was not written down: it does nothing, and is cancelled by itself within two minutes: %s", id, refusal.Message)
}

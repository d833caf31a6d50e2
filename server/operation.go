package server

import (
	"context"

	"connectrpc.com/connect"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

// operationService shows and steers the leader's long work.
type operationService struct{ node Node }

// List shows the operations of an application, or of all.
func (s *operationService) List(ctx context.Context, req *connect.Request[sluicev1.ListOperationsRequest]) (*connect.Response[sluicev1.ListOperationsResponse], error) {
	application := req.Msg.GetApplication()
	if application != "" {
		if err := checkApplication(application); err != nil {
			return nil, err
		}
	}
	return read(ctx, s.node, func(v View) (*sluicev1.ListOperationsResponse, error) {
		all, err := v.Operations(application)
		return &sluicev1.ListOperationsResponse{Operations: all}, err
	})
}

// Get shows an operation.
func (s *operationService) Get(ctx context.Context, req *connect.Request[sluicev1.GetOperationRequest]) (*connect.Response[sluicev1.Operation], error) {
	if err := checkRequired("id", req.Msg.GetId()); err != nil {
		return nil, err
	}
	return read(ctx, s.node, func(v View) (*sluicev1.Operation, error) { return v.Operation(req.Msg.GetId()) })
}

// Cancel ends an operation where it stands.
func (s *operationService) Cancel(ctx context.Context, req *connect.Request[sluicev1.GetOperationRequest]) (*connect.Response[sluicev1.Operation], error) {
	return s.steer(ctx, req.Msg.GetId(), sluicev1.OperationState_OPERATION_CANCELLED)
}

// Pause holds an operation.
func (s *operationService) Pause(ctx context.Context, req *connect.Request[sluicev1.GetOperationRequest]) (*connect.Response[sluicev1.Operation], error) {
	return s.steer(ctx, req.Msg.GetId(), sluicev1.OperationState_OPERATION_PAUSED)
}

// Resume lets a paused operation go on.
func (s *operationService) Resume(ctx context.Context, req *connect.Request[sluicev1.GetOperationRequest]) (*connect.Response[sluicev1.Operation], error) {
	return s.steer(ctx, req.Msg.GetId(), sluicev1.OperationState_OPERATION_RUNNING)
}

func (s *operationService) steer(ctx context.Context, id string, to sluicev1.OperationState) (*connect.Response[sluicev1.Operation], error) {
	if err := checkRequired("id", id); err != nil {
		return nil, err
	}
	cmd := &logv1.Command{Kind: &logv1.Command_SteerOperation{SteerOperation: &logv1.SteerOperation{Id: id, State: to}}}
	return change(ctx, s.node, cmd, (*logv1.Outcome).GetOperation)
}

// Start begins an operation over the instances that a selector chooses now.
func (s *operationService) Start(ctx context.Context, req *connect.Request[sluicev1.StartOperationRequest]) (*connect.Response[sluicev1.StartOperationResponse], error) {
	m := req.Msg
	err := first(checkApplication(m.GetApplication()), checkKind(m.GetKind()), checkRate(m.GetRate()), checkOptional("request_id", m.GetRequestId()),
		checkEnumValue("selector.mode", m.GetSelector().GetMode()), checkOptional("selector.prefix", m.GetSelector().GetPrefix()), checkOptional("selector.owner", m.GetSelector().GetOwner()),
		checkCount("selector.instances", len(m.GetSelector().GetInstances()), selectorInstancesMax))
	if err != nil {
		return nil, err
	}
	started, err := s.node.StartOperation(ctx, m, actorOf(ctx))
	return answerOr(started, err)
}

// selectorInstancesMax bounds the instances that a selector names one by one.
const selectorInstancesMax = 10_000

func checkKind(kind sluicev1.OperationKind) error {
	if kind == sluicev1.OperationKind_OPERATION_KIND_UNSPECIFIED {
		return reason.BadField.Errorf("kind is missing: want one of %s", allowedNames(kind.Descriptor()))
	}
	return checkEnumValue("kind", kind)
}

// ListItems tells what became of each instance of an operation's set, page by page.
func (s *operationService) ListItems(ctx context.Context, req *connect.Request[sluicev1.ListOperationItemsRequest]) (*connect.Response[sluicev1.ListOperationItemsResponse], error) {
	m := req.Msg
	if err := first(checkRequired("id", m.GetId()), checkEnumValue("state", m.GetState()), checkPage(m.GetPageSize()), checkOptional("page_token", m.GetPageToken())); err != nil {
		return nil, err
	}
	return read(ctx, s.node, func(v View) (*sluicev1.ListOperationItemsResponse, error) { return v.OperationItems(m) })
}

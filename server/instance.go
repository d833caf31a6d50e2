package server

import (
	"context"

	"connectrpc.com/connect"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
	"sluice/cluster"
	"sluice/fsm"
)

// pageSizeMax bounds a page of any listing.
const pageSizeMax = 1000

// instanceService shows instances and changes their mode.
type instanceService struct{ node Node }

// Get shows an instance: as of now, or as this node knows it.
func (s *instanceService) Get(ctx context.Context, req *connect.Request[sluicev1.GetInstanceRequest]) (*connect.Response[sluicev1.Instance], error) {
	_, instance, err := s.look(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(instance), nil
}

// look reads an instance, and gives the view in which it was found.
func (s *instanceService) look(ctx context.Context, m *sluicev1.GetInstanceRequest) (View, *sluicev1.Instance, error) {
	if err := checkInstance(m.GetApplication(), m.GetInstance()); err != nil {
		return nil, nil, err
	}
	view, old, err := s.node.Read(ctx, m.GetStale())
	if err != nil {
		return nil, nil, err
	}
	instance, err := view.Instance(fsm.InstanceID{Application: m.GetApplication(), Key: m.GetInstance()})
	if err != nil {
		return nil, nil, err
	}
	if m.GetStale() {
		instance.StaleIndex, instance.StaleAgeMs = old.Index, uint64(max(old.Age.Milliseconds(), 0))
	} else {
		s.tellQuiesced(ctx, instance)
	}
	return view, instance, nil
}

// Explain tells what holds an instance: as of now, or as this node knows it.
func (s *instanceService) Explain(ctx context.Context, req *connect.Request[sluicev1.GetInstanceRequest]) (*connect.Response[sluicev1.Explanation], error) {
	view, instance, err := s.look(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	explained, err := view.Explain(fsm.InstanceID{Application: instance.GetApplication(), Key: instance.GetKey()}, instance.GetQuiesced())
	if err != nil {
		return nil, err
	}
	explained.Instance.StaleIndex, explained.Instance.StaleAgeMs = instance.GetStaleIndex(), instance.GetStaleAgeMs()
	return connect.NewResponse(explained), nil
}

// tellQuiesced asks the leader whether an instance in recovery is quiesced. Without an owner nobody can be at work,
// and nobody need be asked: a page of a listing may hold a thousand of those. A leader that cannot be asked knows of
// nothing, so the answer stays no.
func (s *instanceService) tellQuiesced(ctx context.Context, instance *sluicev1.Instance) {
	if instance.GetMode() != sluicev1.Mode_MODE_RECOVERY {
		return
	}
	if instance.GetOwner() == "" {
		instance.Quiesced = true
		return
	}
	quiesced, err := s.node.Quiesced(ctx, fsm.InstanceID{Application: instance.GetApplication(), Key: instance.GetKey()})
	instance.Quiesced = err == nil && quiesced
}

// List shows the instances of an application, page by page.
func (s *instanceService) List(ctx context.Context, req *connect.Request[sluicev1.ListInstancesRequest]) (*connect.Response[sluicev1.ListInstancesResponse], error) {
	m := req.Msg
	err := first(checkApplication(m.GetApplication()), checkEnumValue("mode", m.GetMode()), checkOptional("prefix", m.GetPrefix()), checkPage(m.GetPageSize()))
	if err != nil {
		return nil, err
	}
	listed, err := read(ctx, s.node, func(v View) (*sluicev1.ListInstancesResponse, error) { return v.Instances(m) })
	if err != nil {
		return nil, err
	}
	for _, instance := range listed.Msg.GetInstances() {
		s.tellQuiesced(ctx, instance)
	}
	return listed, nil
}

// EnterRecovery puts an instance into recovery.
func (s *instanceService) EnterRecovery(ctx context.Context, req *connect.Request[sluicev1.EnterRecoveryRequest]) (*connect.Response[sluicev1.Instance], error) {
	m := req.Msg
	err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkOptional("request_id", m.GetRequestId()), checkOptional("session_id", m.GetSessionId()))
	if err != nil {
		return nil, err
	}
	return s.changeMode(ctx, &logv1.Command{Kind: &logv1.Command_EnterRecovery{EnterRecovery: m}})
}

// CompleteRecovery ends a recovery.
func (s *instanceService) CompleteRecovery(ctx context.Context, req *connect.Request[sluicev1.CompleteRecoveryRequest]) (*connect.Response[sluicev1.Instance], error) {
	m := req.Msg
	err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkOptional("request_id", m.GetRequestId()), checkOptional("session_id", m.GetSessionId()))
	if err != nil {
		return nil, err
	}
	if id := m.GetSessionId(); id != "" { // a worker's own completion, which is judged by its session
		ctx = withActor(ctx, cluster.SessionActor(id))
	}
	return s.changeMode(ctx, &logv1.Command{Kind: &logv1.Command_CompleteRecovery{CompleteRecovery: m}})
}

// Terminate ends an instance: what is unsettled is dead-lettered.
func (s *instanceService) Terminate(ctx context.Context, req *connect.Request[sluicev1.TerminateRequest]) (*connect.Response[sluicev1.Instance], error) {
	m := req.Msg
	if err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkOptional("request_id", m.GetRequestId())); err != nil {
		return nil, err
	}
	return s.changeMode(ctx, &logv1.Command{Kind: &logv1.Command_Terminate{Terminate: m}})
}

func (s *instanceService) changeMode(ctx context.Context, cmd *logv1.Command) (*connect.Response[sluicev1.Instance], error) {
	changed, err := change(ctx, s.node, cmd, (*logv1.Outcome).GetInstance)
	if err == nil && !changed.Msg.GetDuplicate() {
		s.tellQuiesced(ctx, changed.Msg)
	}
	return changed, err
}

// ListMessages shows what is in an instance's lanes, or its dead letters, page by page.
func (s *instanceService) ListMessages(ctx context.Context, req *connect.Request[sluicev1.ListMessagesRequest]) (*connect.Response[sluicev1.ListMessagesResponse], error) {
	m := req.Msg
	err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkEnumValue("lane", m.GetLane()), checkEnumValue("settlement", m.GetSettlement()), checkPage(m.GetPageSize()))
	if err != nil {
		return nil, err
	}
	return read(ctx, s.node, func(v View) (*sluicev1.ListMessagesResponse, error) { return v.Messages(m) })
}

// ResolveMessage is the operator's hand on one message.
func (s *instanceService) ResolveMessage(ctx context.Context, req *connect.Request[sluicev1.ResolveMessageRequest]) (*connect.Response[sluicev1.MessageStatus], error) {
	m := req.Msg
	err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkAction(m.GetAction()), checkEnumValue("lane", m.GetLane()), checkOptional("request_id", m.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return change(ctx, s.node, &logv1.Command{Kind: &logv1.Command_ResolveMessage{ResolveMessage: m}}, (*logv1.Outcome).GetMessageStatus)
}

func checkAction(action sluicev1.ResolveAction) error {
	if action == sluicev1.ResolveAction_ACTION_UNSPECIFIED {
		return reason.BadField.Errorf("action is missing: want one of %s", allowedNames(action.Descriptor()))
	}
	return checkEnumValue("action", action)
}

// History shows how the mode of an instance changed.
func (s *instanceService) History(ctx context.Context, req *connect.Request[sluicev1.HistoryRequest]) (*connect.Response[sluicev1.HistoryResponse], error) {
	if err := checkInstance(req.Msg.GetApplication(), req.Msg.GetInstance()); err != nil {
		return nil, err
	}
	id := fsm.InstanceID{Application: req.Msg.GetApplication(), Key: req.Msg.GetInstance()}
	return read(ctx, s.node, func(v View) (*sluicev1.HistoryResponse, error) { return v.History(id) })
}

func checkPage(size uint32) error {
	if size > pageSizeMax {
		return reason.BadField.Errorf("page_size is %d: want 1 to %d, or 0 for 100", size, pageSizeMax)
	}
	return nil
}

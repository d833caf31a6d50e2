package server

import (
	"context"

	"connectrpc.com/connect"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
)

// ListDeadLetters shows dead letters over the instances of an application, page by page.
func (s *instanceService) ListDeadLetters(ctx context.Context, req *connect.Request[sluicev1.ListDeadLettersRequest]) (*connect.Response[sluicev1.ListDeadLettersResponse], error) {
	m := req.Msg
	err := first(checkApplication(m.GetApplication()), checkOptional("instance", m.GetInstance()), checkOptional("prefix", m.GetPrefix()), checkOptional("fingerprint", m.GetFingerprint()), checkPage(m.GetPageSize()))
	if err != nil {
		return nil, err
	}
	return read(ctx, s.node, func(v View) (*sluicev1.ListDeadLettersResponse, error) { return v.DeadLetters(m) })
}

// GroupDeadLetters counts the dead letters of an application that failed alike.
func (s *instanceService) GroupDeadLetters(ctx context.Context, req *connect.Request[sluicev1.GroupDeadLettersRequest]) (*connect.Response[sluicev1.GroupDeadLettersResponse], error) {
	m := req.Msg
	err := first(checkApplication(m.GetApplication()), checkOptional("instance", m.GetInstance()), checkOptional("prefix", m.GetPrefix()))
	if err != nil {
		return nil, err
	}
	return read(ctx, s.node, func(v View) (*sluicev1.GroupDeadLettersResponse, error) { return v.DeadLetterGroups(m) })
}

// PutBack returns dead letters of one instance to their old place.
func (s *instanceService) PutBack(ctx context.Context, req *connect.Request[sluicev1.PutBackRequest]) (*connect.Response[sluicev1.PutBackResponse], error) {
	m := req.Msg
	err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkEnumValue("lane", m.GetLane()), checkOptional("fingerprint", m.GetFingerprint()), checkOptional("request_id", m.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return change(ctx, s.node, &logv1.Command{Kind: &logv1.Command_PutBack{PutBack: m}}, (*logv1.Outcome).GetPutBack)
}

package server

import (
	"context"
	"math"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

// applicationService declares applications and turns whole applications to recovery and back.
type applicationService struct {
	node   Node
	limits Limits
}

// Apply creates an application or replaces its declaration. What only answers carry is not taken from the caller.
func (s *applicationService) Apply(ctx context.Context, req *connect.Request[sluicev1.Application]) (*connect.Response[sluicev1.Application], error) {
	m := req.Msg
	if err := checkApplication(m.GetName()); err != nil {
		return nil, err
	}
	if size := proto.Size(m); size > declarationBytesMax {
		return nil, reason.BadField.Errorf("the declaration has %d bytes: want at most %d", size, declarationBytesMax)
	}
	if most := uint64(s.limits.MessageBytes); m.GetLimits().GetMaxMessageBytes() > most {
		return nil, reason.BadField.Errorf("limits.max_message_bytes is %d; allowed are 1 to %d, or 0: as much as a node takes", m.GetLimits().GetMaxMessageBytes(), most)
	}
	m.Version, m.RecoveryGeneration, m.Counts, m.Duplicate, m.Recovery = 0, 0, nil, false, nil
	return change(ctx, s.node, &logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: m}}, (*logv1.Outcome).GetApplication)
}

// declarationBytesMax bounds an application's declaration: it is kept in memory on every node.
const declarationBytesMax = 1 << 20

// Get shows an application.
func (s *applicationService) Get(ctx context.Context, req *connect.Request[sluicev1.GetApplicationRequest]) (*connect.Response[sluicev1.Application], error) {
	if err := checkApplication(req.Msg.GetName()); err != nil {
		return nil, err
	}
	return read(ctx, s.node, func(v View) (*sluicev1.Application, error) { return v.Application(req.Msg.GetName()) })
}

// List shows all applications.
func (s *applicationService) List(ctx context.Context, _ *connect.Request[sluicev1.ListApplicationsRequest]) (*connect.Response[sluicev1.ListApplicationsResponse], error) {
	return read(ctx, s.node, func(v View) (*sluicev1.ListApplicationsResponse, error) {
		all, err := v.Applications()
		return &sluicev1.ListApplicationsResponse{Applications: all}, err
	})
}

// EnterRecovery puts every instance of an application into recovery.
func (s *applicationService) EnterRecovery(ctx context.Context, req *connect.Request[sluicev1.EnterApplicationRecoveryRequest]) (*connect.Response[sluicev1.Application], error) {
	m := req.Msg
	if err := first(checkApplication(m.GetApplication()), checkOptional("request_id", m.GetRequestId())); err != nil {
		return nil, err
	}
	return change(ctx, s.node, &logv1.Command{Kind: &logv1.Command_EnterApplicationRecovery{EnterApplicationRecovery: m}}, (*logv1.Outcome).GetApplication)
}

// CompleteRecovery starts the completion of the recovery that EnterRecovery began.
func (s *applicationService) CompleteRecovery(ctx context.Context, req *connect.Request[sluicev1.CompleteApplicationRecoveryRequest]) (*connect.Response[sluicev1.Operation], error) {
	m := req.Msg
	if err := first(checkApplication(m.GetApplication()), checkOptional("request_id", m.GetRequestId()), checkRate(m.GetRate())); err != nil {
		return nil, err
	}
	return change(ctx, s.node, &logv1.Command{Kind: &logv1.Command_CompleteApplicationRecovery{CompleteApplicationRecovery: m}}, (*logv1.Outcome).GetOperation)
}

func checkRate(rate float64) error {
	if math.IsNaN(rate) || math.IsInf(rate, 0) || rate < 0 {
		return reason.BadField.Errorf("rate is %v: want instances a second, or 0 for as fast as the cluster allows", rate)
	}
	return nil
}

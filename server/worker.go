package server

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

const (
	// pollCountMax bounds the deliveries of one Poll, settleCountMax the settlements of one Settle.
	pollCountMax   = 1024
	settleCountMax = 1024

	pollWaitMax = time.Minute

	sessionTTLMin  = time.Second
	sessionTTLMax  = time.Hour
	capacityMax    = 65536
	creditCountMax = 65536
)

// workerService hands messages to workers and takes their settlements.
type workerService struct {
	*lifetime
	node Node
}

// OpenSession begins a worker's lease.
func (s *workerService) OpenSession(ctx context.Context, req *connect.Request[sluicev1.OpenSessionRequest]) (*connect.Response[sluicev1.OpenSessionResponse], error) {
	if err := checkSession(req.Msg); err != nil {
		return nil, err
	}
	opened, err := s.node.OpenSession(ctx, req.Msg, actorOf(ctx))
	return answerOr(opened, err)
}

func checkSession(m *sluicev1.OpenSessionRequest) error {
	if m.GetCapacity() > capacityMax {
		return reason.BadField.Errorf("capacity is %d: want 1 to %d, or 0 for the default", m.GetCapacity(), capacityMax)
	}
	ttl, err := checkSpan("ttl", m.GetTtl(), sessionTTLMin, sessionTTLMax)
	if err == nil && ttl < sessionTTLMin {
		err = reason.BadField.Errorf("ttl is %v: want %v to %v, or none for the default", ttl, sessionTTLMin, sessionTTLMax)
	}
	return first(checkApplication(m.GetApplication()), checkOptional("name", m.GetName()), err)
}

// KeepAlive renews a lease.
func (s *workerService) KeepAlive(ctx context.Context, req *connect.Request[sluicev1.KeepAliveRequest]) (*connect.Response[sluicev1.KeepAliveResponse], error) {
	if err := checkSessionID(req.Msg.GetSessionId()); err != nil {
		return nil, err
	}
	ttl, err := s.node.KeepAlive(ctx, req.Msg.GetSessionId())
	return answerOr(&sluicev1.KeepAliveResponse{Ttl: durationpb.New(ttl)}, err)
}

// CloseSession hands the worker's instances back in good order.
func (s *workerService) CloseSession(ctx context.Context, req *connect.Request[sluicev1.CloseSessionRequest]) (*connect.Response[sluicev1.CloseSessionResponse], error) {
	if err := checkSessionID(req.Msg.GetSessionId()); err != nil {
		return nil, err
	}
	closed, err := s.node.CloseSession(ctx, req.Msg.GetSessionId())
	return answerOr(closed, err)
}

// Poll waits for deliveries and renews the lease.
func (s *workerService) Poll(ctx context.Context, req *connect.Request[sluicev1.PollRequest]) (*connect.Response[sluicev1.PollResponse], error) {
	m := req.Msg
	_, err := checkSpan("wait", m.GetWait(), 0, pollWaitMax)
	if err := first(checkSessionID(m.GetSessionId()), checkPollMax(m.GetMax()), err, checkOptional("request_id", m.GetRequestId())); err != nil {
		return nil, err
	}
	m.Max = max(m.GetMax(), 1)
	wait, cancel := s.untilEnd(ctx)
	defer cancel()
	polled, err := s.node.Poll(wait, m, false)
	return answerOr(polled, s.waitError(wait, err))
}

func checkPollMax(count uint32) error {
	if count > pollCountMax {
		return reason.BadField.Errorf("max is %d: want 1 to %d", count, pollCountMax)
	}
	return nil
}

// Settle takes settlements in order.
func (s *workerService) Settle(ctx context.Context, req *connect.Request[sluicev1.SettleRequest]) (*connect.Response[sluicev1.SettleResponse], error) {
	if err := first(checkSessionID(req.Msg.GetSessionId()), checkCount("settlements", len(req.Msg.GetSettlements()), settleCountMax)); err != nil {
		return nil, err
	}
	settled, err := s.node.Settle(ctx, req.Msg)
	return answerOr(settled, err)
}

func checkSessionID(id string) error { return checkRequired("session_id", id) }

// answerOr is a method's answer, or its error alone.
func answerOr[T any](answer *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(answer), nil
}

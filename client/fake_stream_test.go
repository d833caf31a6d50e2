package client

import (
	"context"
	"sync"
	"time"

	"connectrpc.com/connect"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// leaderlessStands is how long a node without a leader lets a call stand.
const leaderlessStands = 20 * time.Millisecond

func standsAWhile(ctx context.Context) error {
	stands := time.NewTimer(leaderlessStands)
	defer stands.Stop()
	select {
	case <-stands.C:
	case <-ctx.Done():
	}
	return fail(reason.NoLeader)
}

func (f *fake) Work(ctx context.Context, stream *connect.BidiStream[sluicev1.WorkRequest, sluicev1.WorkResponse]) error {
	if f.noStreams {
		return connect.NewError(connect.CodeUnimplemented, reason.NotImplemented)
	}
	hello, err := stream.Receive()
	if err != nil {
		return err
	}
	if f.leaderless {
		return standsAWhile(ctx)
	}
	session := hello.GetSessionId()
	if err := f.known(session); err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var sending sync.Mutex
	credit := int(hello.GetCredit())
	f.change(func() {
		f.breakers = append(f.breakers, end)
		for _, i := range f.instances {
			if i.owner == session {
				i.given = map[string]bool{}
			}
		}
	})
	var parts sync.WaitGroup
	parts.Go(func() {
		for ctx.Err() == nil {
			out := f.waitOffer(ctx, session, f.creditOf(&credit))
			if len(out) == 0 {
				continue
			}
			f.change(func() { credit -= len(out) })
			sending.Lock()
			_ = stream.Send(&sluicev1.WorkResponse{Deliveries: out})
			sending.Unlock()
		}
	})
	requests := make(chan *sluicev1.WorkRequest)
	go receive(ctx, stream, requests, end)
	defer parts.Wait()
	for {
		select {
		case req := <-requests:
			f.change(func() { credit += int(req.GetCredit()) })
			if len(req.GetSettlements()) == 0 {
				continue
			}
			results := f.settleAll(session, req.GetSettlements())
			if f.after != nil {
				if err := f.after(sluicev1connect.WorkerServiceWorkProcedure); err != nil {
					end(err)
					return err
				}
			}
			sending.Lock()
			err := stream.Send(&sluicev1.WorkResponse{SettleId: req.GetSettleId(), Results: results})
			sending.Unlock()
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Ingest is Send, request by request; the hooks are asked for each.
func (f *fake) Ingest(_ context.Context, stream *connect.BidiStream[sluicev1.SendRequest, sluicev1.SendResponse]) error {
	const procedure = sluicev1connect.MessageServiceIngestProcedure
	if f.noStreams {
		f.change(func() { f.calls[procedure]++ })
		return connect.NewError(connect.CodeUnimplemented, reason.NotImplemented)
	}
	f.change(func() { f.calls[procedure]++; f.ingests++ })
	defer f.change(func() { f.ingests-- })
	stream.ResponseHeader().Set(leaderHeader, f.leader)
	for {
		req, err := stream.Receive()
		if err != nil {
			return nil // the caller has ended it
		}
		if f.before != nil {
			if err := f.before(procedure); err != nil {
				return err
			}
		}
		res := f.take(req)
		if f.after != nil {
			if err := f.after(procedure); err != nil {
				return err
			}
		}
		if err := stream.Send(res); err != nil {
			return err
		}
	}
}

// receive hands requests on until the stream or its context ends.
func receive(ctx context.Context, stream *connect.BidiStream[sluicev1.WorkRequest, sluicev1.WorkResponse], requests chan<- *sluicev1.WorkRequest, end context.CancelCauseFunc) {
	for {
		req, err := stream.Receive()
		if err != nil {
			end(nil)
			return
		}
		select {
		case requests <- req:
		case <-ctx.Done():
			return
		}
	}
}

func (f *fake) creditOf(credit *int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *credit
}

type fakeInstances struct {
	sluicev1connect.UnimplementedInstanceServiceHandler
	f *fake
}

func (s fakeInstances) EnterRecovery(_ context.Context, req *connect.Request[sluicev1.EnterRecoveryRequest]) (*connect.Response[sluicev1.Instance], error) {
	f := s.f
	m := req.Msg
	var err error
	out := &sluicev1.Instance{Application: "app", Key: m.GetInstance()}
	f.change(func() {
		i := f.instance(m.GetInstance())
		if m.GetSessionId() != "" && (m.GetEpoch() != i.epoch || m.GetSessionId() != i.owner) {
			err = fail(reason.StaleEpoch)
			return
		}
		f.enter(i, m.GetCause())
		out.Epoch, out.Mode = i.epoch, sluicev1.Mode_MODE_RECOVERY
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

func (s fakeInstances) CompleteRecovery(_ context.Context, req *connect.Request[sluicev1.CompleteRecoveryRequest]) (*connect.Response[sluicev1.Instance], error) {
	f := s.f
	m := req.Msg
	var err error
	out := &sluicev1.Instance{Application: "app", Key: m.GetInstance(), Mode: sluicev1.Mode_MODE_NORMAL}
	f.change(func() {
		i := f.instance(m.GetInstance())
		switch {
		case !i.inRecovery:
			err = fail(reason.NotInRecovery)
		case m.GetEpoch() != i.epoch:
			err = fail(reason.StaleEpoch)
		case len(i.lanes[sluicev1.Lane_LANE_RECOVERY]) > 0:
			err = fail(reason.PendingRecoveryMessages)
		default:
			i.completions = append(i.completions, m)
			i.inRecovery, i.epoch, i.given = false, f.epoch(), map[string]bool{}
			for q := i.lanes[sluicev1.Lane_LANE_NORMAL]; len(q) > 0 && q[0].Seq <= m.GetProcessedThrough(); q = q[1:] {
				i.lanes[sluicev1.Lane_LANE_NORMAL] = q[1:]
			}
			if m.GetSetState() {
				i.state = m.GetState()
			}
			out.Epoch = i.epoch
		}
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// streamFlights is how many batches of settlements are under way on a stream at once: a node takes them in order.
const streamFlights = 4

// pollWait is how long one Poll waits at the node.
const pollWait = 20 * time.Second

// barrenMax is how many streams in a row may end before they carried anything: then streams cannot be had on the way
// to the cluster, and the worker polls.
const barrenMax = 5

// link carries deliveries in and settlements out until ctx ends or the session is lost.
func (s *tenure) link(ctx context.Context) {
	barren := 0
	for failures := 0; ctx.Err() == nil; {
		if s.cfg.UsePoll || barren >= barrenMax {
			s.poll(ctx)
			return
		}
		alive, err := s.stream(ctx)
		s.broken()
		if alive {
			barren, failures = 0, 0
		}
		switch {
		case ctx.Err() != nil:
			return
		case err.Reason == ErrUnknownSession:
			s.lose()
			return
		case err.Code == "unimplemented":
			barren = barrenMax
			continue
		case !alive && err.Reason != ErrUnreachable && err.Reason != ErrNoLeader:
			barren++
		}
		s.disconnected(err)
		sleep(ctx, nil, min(jitter(s.client.cfg.Retry.Initial<<min(failures, 8)), s.client.cfg.Retry.Max))
		failures++
	}
}

func (s *tenure) disconnected(err *Error) {
	s.mu.Lock()
	defer s.unlock()
	s.log.Info("the stream of deliveries ended; a new one is made", "session", s.id, "error", err.Error())
	s.tell(Event{Kind: EventDisconnected, Err: err})
}

// workStream is the client's side of a Work call.
type workStream = connect.BidiStreamForClient[sluicev1.WorkRequest, sluicev1.WorkResponse]

// stream is one Work call, to the leader if it is known; alive says that it carried something, or stood
// for a while.
func (s *tenure) stream(ctx context.Context) (alive bool, failure *Error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := time.Now()
	n := s.client.leaderOrAny(ctx)
	stream := method[sluicev1.WorkRequest, sluicev1.WorkResponse](s.client, n, sluicev1connect.WorkerServiceWorkProcedure).CallBidiStream(ctx)
	over := make(chan struct{})
	var received error // alive and received are set before over is closed
	go func() {
		defer close(over)
		alive, received = s.receive(stream, n)
	}()
	written := s.write(ctx, stream, over)
	// Why a stream broke comes in from the other side, if it comes at all.
	select {
	case <-over:
	case <-ctx.Done():
	case <-time.After(s.ttl / 10):
	}
	// A cancelled call notices it only once its request has ended, too; the errors are those of a cancelled call.
	cancel()
	_ = stream.CloseRequest()
	<-over
	_ = stream.CloseResponse()
	if connect.IsWireError(received) || written == nil {
		written = received
	}
	e := attemptError(context.Background(), written, n.address)
	if alive { // a node that let the call stand and brought nothing may have no leader
		s.client.nodes.note(n, false, time.Now())
	} else {
		s.client.nodes.judge(n, e, time.Now())
	}
	return alive || time.Since(begun) > s.ttl/3, e
}

// leaderOrAny is the leader's node, as the next node in turn knows it, or the next node that knows a leader, or else the
// next node: a worker at the leader saves a hop with everything that it does, and one at a node that is out of touch with
// its cluster waits in vain.
func (c *Client) leaderOrAny(ctx context.Context) *node {
	if len(c.nodes.all) == 1 {
		return c.nodes.all[0]
	}
	for range c.nodes.all {
		n := c.nodes.pick(time.Now())
		status, err := attempt[sluicev1.StatusRequest, sluicev1.StatusResponse](ctx, c, n,
			sluicev1connect.ClusterServiceStatusProcedure, &sluicev1.StatusRequest{}, time.Second)
		if err != nil || status.GetLeaderAddress() == "" {
			continue
		}
		if leader := c.nodes.find(status.GetLeaderAddress(), time.Now()); leader != nil {
			return leader
		}
		return n
	}
	return c.nodes.pick(time.Now())
}

// receive takes what comes in until the stream ends.
func (s *tenure) receive(stream *workStream, n *node) (alive bool, err error) {
	for {
		res, err := stream.Receive()
		if err != nil {
			return alive, err
		}
		if !alive {
			alive = true
			s.client.nodes.note(n, false, time.Now())
		}
		if len(res.GetResults()) > 0 && !s.answered(res.GetSettleId(), res.GetResults(), n.address) {
			return alive, errors.New("the node answered with a wrong number of results")
		}
		s.arrive(s.id, res.GetDeliveries())
	}
}

// write sends credit and settlements as they come, and a heartbeat, until the stream is over, breaks, or ctx ends.
func (s *tenure) write(ctx context.Context, stream *workStream, over <-chan struct{}) error {
	if err := stream.Send(&sluicev1.WorkRequest{SessionId: s.id, Credit: s.openCredit()}); err != nil {
		return err
	}
	heartbeat := time.NewTicker(s.ttl / 3)
	defer heartbeat.Stop()
	for {
		if err := s.writePending(stream); err != nil {
			return err
		}
		select {
		case <-s.changed:
		case <-heartbeat.C:
			if err := stream.Send(&sluicev1.WorkRequest{}); err != nil {
				return err
			}
		case <-over:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// writePending sends what there is to send.
func (s *tenure) writePending(stream *workStream) error {
	for {
		id, batch, credit := s.outgoing(streamFlights)
		if len(batch) == 0 && credit == 0 {
			return nil
		}
		if err := stream.Send(&sluicev1.WorkRequest{SettleId: id, Settlements: batch, Credit: uint32(credit)}); err != nil {
			return err
		}
	}
}

// openCredit is a new stream's: what is out is offered again there, what is in hand among it, so at least one.
func (h *host) openCredit() uint32 {
	h.mu.Lock()
	defer h.unlock()
	h.due = 0
	if h.stopping {
		return 0
	}
	return uint32(max(h.cfg.Prefetch-h.held, 1))
}

// poll carries by Poll and Settle what a stream would.
func (s *tenure) poll(ctx context.Context) {
	room := make(chan struct{}, 1)
	polling, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	parts.Go(func() { s.settleByCall(ctx, room) })
	parts.Go(func() {
		s.pollByCall(polling, room)
		cancel()
	})
	select {
	case <-s.stopped: // a Poll that waits is broken off; what was settled is still to be told
		cancel()
	case <-polling.Done():
	}
	parts.Wait()
}

// pollByCall polls while there is room for messages in hand.
func (s *tenure) pollByCall(ctx context.Context, room <-chan struct{}) {
	request := NewID()
	for {
		count := s.roomInHand()
		if count == 0 {
			select {
			case <-room:
				continue
			case <-ctx.Done():
				return
			}
		}
		res, err := s.pollOnce(ctx, request, count)
		switch {
		case err == nil:
			request = NewID()
			s.arrive(s.id, res.GetDeliveries())
		case ctx.Err() != nil:
			return
		case asError(err).Reason == ErrUnknownSession:
			s.lose()
			return
		default: // with the same request id, so that what was given away is given again
			s.log.Warn("a poll failed", "session", s.id, "error", err)
			sleep(ctx, nil, jitter(s.client.cfg.Retry.Max))
		}
	}
}

// pollOnce is one Poll.
func (s *tenure) pollOnce(ctx context.Context, request string, count int) (*sluicev1.PollResponse, error) {
	wait := min(pollWait, s.ttl/3)
	return call[sluicev1.PollRequest, sluicev1.PollResponse](ctx, s.client, sluicev1connect.WorkerServicePollProcedure,
		&sluicev1.PollRequest{SessionId: s.id, Max: uint32(count), Wait: durationpb.New(wait), RequestId: request},
		how{timeout: wait + s.client.cfg.CallTimeout})
}

// roomInHand is how many deliveries to ask for.
func (h *host) roomInHand() int {
	h.mu.Lock()
	defer h.unlock()
	return max(h.cfg.Prefetch-h.held, 0)
}

// settleByCall settles batch after batch.
func (s *tenure) settleByCall(ctx context.Context, room chan struct{}) {
	for {
		id, batch, credit := s.outgoing(1)
		if credit > 0 {
			poke(room)
		}
		if len(batch) == 0 {
			select {
			case <-s.changed:
				continue
			case <-ctx.Done():
				s.broken()
				return
			}
		}
		res, err := Call[sluicev1.SettleRequest, sluicev1.SettleResponse](ctx, s.client, sluicev1connect.WorkerServiceSettleProcedure,
			&sluicev1.SettleRequest{SessionId: s.id, Settlements: batch})
		switch {
		case err == nil && s.answered(id, res.GetResults(), ""):
		case ctx.Err() != nil: // what waits is for nobody any more
			s.broken()
			return
		case err == nil || asError(err).unsettled() || asError(err).Reason == ErrClosed:
			s.broken()
			sleep(ctx, nil, jitter(s.client.cfg.Retry.Initial))
		default:
			s.refused(id, asError(err))
		}
	}
}

package server

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/proto"

	sluicev1 "sluice/api/sluice/v1"
)

// ingestQueueMax bounds the requests of one Ingest that were received and wait for the ones before them.
const ingestQueueMax = 64

// Ingest is Send, pipelined. While one proposal is under way the next requests gather; together they are the next
// proposal. So the messages reach the log in the order of the stream, and the answers leave in that order, however
// many requests are under way. What may be under way is bounded in number and bytes; then the stream is read no
// further. A failure ends the stream: nothing that followed it was proposed. What was judged before it within the same
// proposal is answered, as by Send.
func (s *messageService) Ingest(ctx context.Context, stream *connect.BidiStream[sluicev1.SendRequest, sluicev1.SendResponse]) error {
	return s.ingest(ctx, stream.Receive, stream.Send)
}

func (s *messageService) ingest(ctx context.Context, receive func() (*sluicev1.SendRequest, error), send func(*sluicev1.SendResponse) error) error {
	wait, cancel := s.untilEnd(ctx)
	defer cancel()
	requests := make(chan *sluicev1.SendRequest, ingestQueueMax)
	in := &ingest{
		service:  s,
		requests: requests,
		budget:   semaphore.NewWeighted(int64(s.limits.CallBytes)),
		queue:    gatherer[*sluicev1.SendRequest]{from: requests, weight: func(r *sluicev1.SendRequest) int { return proposalWeight(len(r.GetMessages()), r) }, most: commandBytesMax},
	}
	go in.receive(wait, receive)
	for {
		batch, err := in.queue.next(wait)
		switch {
		case err != nil:
			return s.waitError(wait, err)
		case len(batch) == 0:
			return in.trouble
		}
		if err := in.serve(ctx, batch, send); err != nil {
			return err
		}
	}
}

// ingest is one Ingest stream at work.
type ingest struct {
	service *messageService
	// requests is closed by the reader when it ends; trouble says why, set before that, nil for the caller's own end.
	requests chan *sluicev1.SendRequest
	trouble  error
	queue    gatherer[*sluicev1.SendRequest]
	budget   *semaphore.Weighted // bytes of what was received and not answered
}

// receive reads requests until the caller ends its side or sends what cannot be served. What came before is served.
func (in *ingest) receive(ctx context.Context, next func() (*sluicev1.SendRequest, error)) {
	defer close(in.requests)
	for {
		req, err := next()
		if err == nil {
			err = checkCount("messages", len(req.GetMessages()), sendCountMax)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				in.trouble = err
			}
			return
		}
		if in.budget.Acquire(ctx, in.weight(req)) != nil {
			in.trouble = context.Cause(ctx)
			return
		}
		select {
		case in.requests <- req:
		case <-ctx.Done():
			in.trouble = context.Cause(ctx)
			return
		}
	}
}

// weight is what a request holds of the budget: never more than there is.
func (in *ingest) weight(req *sluicev1.SendRequest) int64 {
	return min(int64(proto.Size(req)), int64(in.service.limits.CallBytes))
}

// serve proposes the messages of several requests at once and answers each request.
func (in *ingest) serve(ctx context.Context, batch []*sluicev1.SendRequest, send func(*sluicev1.SendResponse) error) error {
	var (
		messages []*sluicev1.Message
		weight   int64
	)
	for _, req := range batch {
		weight += in.weight(req)
		messages = append(messages, req.GetMessages()...)
	}
	results, failure := in.service.send(ctx, messages)
	if results == nil {
		return failure
	}
	for _, req := range batch {
		n := len(req.GetMessages())
		if err := send(&sluicev1.SendResponse{Results: results[:n:n]}); err != nil {
			return err
		}
		results = results[n:]
	}
	in.budget.Release(weight)
	return failure
}

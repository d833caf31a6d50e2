package server

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

const (
	// workQueueMax bounds the requests of a Work stream that wait to be settled; then the stream is read no further.
	workQueueMax = 64
	// workPollMax bounds the deliveries in one answer: they are in memory together.
	workPollMax = 64
	// workWaitMax bounds how long one of the stream's polls waits.
	workWaitMax = 10 * time.Second
)

// Work is Poll and Settle as one stream. The first request names the session. Credit adds up: a delivery uses one.
// Results come in the order of the settlements. An empty request is a heartbeat; a worker that is silent for longer
// than its lease is polled for no more, so that the lease of a process that hangs runs out though its connection
// stands. After the worker's own end of the stream, what it settled before is still answered. A refusal of a whole
// call ends the stream; a new one is offered afresh all that is out.
func (s *workerService) Work(ctx context.Context, stream *connect.BidiStream[sluicev1.WorkRequest, sluicev1.WorkResponse]) error {
	return s.work(ctx, stream.Receive, stream.Send)
}

func (s *workerService) work(ctx context.Context, receive func() (*sluicev1.WorkRequest, error), send func(*sluicev1.WorkResponse) error) error {
	hello, err := receive()
	if err != nil {
		return endOfStream(err)
	}
	if err := first(checkSessionID(hello.GetSessionId()), checkWork(hello)); err != nil {
		return err
	}
	ttl, err := s.node.KeepAlive(ctx, hello.GetSessionId())
	if err != nil {
		return err
	}
	wait, cancel := s.untilEnd(ctx)
	defer cancel()
	w := newWork(s.node, hello.GetSessionId(), ttl, send)
	group, groupCtx := errgroup.WithContext(wait)
	go w.receive(groupCtx, hello, receive)
	group.Go(func() error { return w.deliver(groupCtx) })
	group.Go(func() error { return w.settle(ctx, groupCtx) })
	return s.waitError(wait, endOfStream(group.Wait()))
}

// errWorkerEnded ends the parts of a stream whose worker has ended its side.
var errWorkerEnded = errors.New("the worker ended the stream")

func endOfStream(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, errWorkerEnded) {
		return nil
	}
	return err
}

func checkWork(req *sluicev1.WorkRequest) error {
	if req.GetCredit() > creditCountMax {
		return reason.BadField.Errorf("credit is %d: want at most %d", req.GetCredit(), creditCountMax)
	}
	return checkCount("settlements", len(req.GetSettlements()), settleCountMax)
}

// work is one Work stream. Three goroutines share it: the reader, which takes requests; the deliverer, which polls
// while there is credit; and the settler. They meet in the fields that say so.
type work struct {
	node    Node
	session string
	name    string // of the stream, unlike that of any other
	ttl     time.Duration

	sending sync.Mutex // held around send: deliverer and settler both answer
	send    func(*sluicev1.WorkResponse) error

	// requests go from the reader to the settler: settlements, and heartbeats. The reader closes it when it ends;
	// trouble says why, set before that, nil for the worker's own end.
	requests chan *sluicev1.WorkRequest
	trouble  error
	queue    gatherer[*sluicev1.WorkRequest]

	mu     sync.Mutex
	credit int           // guarded by mu: deliveries that may still be sent
	heard  time.Time     // guarded by mu: when the worker last said something
	news   chan struct{} // holds a token when credit or heard changed
}

func newWork(node Node, session string, ttl time.Duration, send func(*sluicev1.WorkResponse) error) *work {
	requests := make(chan *sluicev1.WorkRequest, workQueueMax)
	return &work{
		node: node, session: session, name: uuid.NewString(), ttl: ttl, send: send, requests: requests, news: make(chan struct{}, 1),
		queue: gatherer[*sluicev1.WorkRequest]{from: requests, weight: func(r *sluicev1.WorkRequest) int { return proposalWeight(len(r.GetSettlements()), r) }, most: commandBytesMax},
	}
}

// receive takes the worker's requests, the first of which was read already.
func (w *work) receive(ctx context.Context, req *sluicev1.WorkRequest, next func() (*sluicev1.WorkRequest, error)) {
	defer close(w.requests)
	for {
		if err := w.take(ctx, req); err != nil {
			w.trouble = err
			return
		}
		var err error
		if req, err = next(); err != nil {
			w.trouble = endOfStream(err)
			return
		}
	}
}

func (w *work) take(ctx context.Context, req *sluicev1.WorkRequest) error {
	if err := checkWork(req); err != nil {
		return err
	}
	if id := req.GetSessionId(); id != "" && id != w.session {
		return reason.BadField.Errorf("session_id is another than the stream's first: one stream serves one session")
	}
	if err := w.grant(int(req.GetCredit())); err != nil {
		return err
	}
	if req.GetCredit() > 0 && len(req.GetSettlements()) == 0 {
		return nil
	}
	select {
	case w.requests <- req:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// grant notes that the worker was heard, and its credit.
func (w *work) grant(credit int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.credit += credit; w.credit > creditCountMax {
		return reason.BadField.Errorf("credit adds up to %d: want at most %d unused", w.credit, creditCountMax)
	}
	w.heard = time.Now()
	select {
	case w.news <- struct{}{}:
	default:
	}
	return nil
}

// deliver polls and hands out, as far as the credit goes.
func (w *work) deliver(ctx context.Context) error {
	for afresh := true; ; {
		count, err := w.due(ctx)
		if err != nil {
			return err
		}
		wait := min(max(w.ttl/3, time.Millisecond), workWaitMax)
		req := &sluicev1.PollRequest{SessionId: w.session, Max: uint32(count), Wait: durationpb.New(wait)}
		polled, err := w.node.PollStream(ctx, req, w.name, afresh)
		if err != nil {
			return err
		}
		afresh = false
		if len(polled.GetDeliveries()) == 0 {
			continue
		}
		w.spend(len(polled.GetDeliveries()))
		if err := w.answer(&sluicev1.WorkResponse{Deliveries: polled.GetDeliveries()}); err != nil {
			return err
		}
	}
}

// due waits until the worker has credit and was heard within its lease, and tells how many deliveries to ask for.
func (w *work) due(ctx context.Context) (int, error) {
	for {
		w.mu.Lock()
		count, silent := min(w.credit, workPollMax), time.Since(w.heard) > w.ttl
		w.mu.Unlock()
		if count > 0 && !silent {
			return count, ctx.Err()
		}
		select {
		case <-w.news:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (w *work) spend(count int) {
	w.mu.Lock()
	w.credit -= count
	w.mu.Unlock()
}

func (w *work) answer(response *sluicev1.WorkResponse) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	return w.send(response)
}

// settle settles what the reader took, several requests at once where they wait, and answers each of them.
// Settlements outlive the stream's waiting: they are finished with the call's own context.
func (w *work) settle(call, wait context.Context) error {
	for {
		batch, err := w.queue.next(wait)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			return firstOr(w.trouble, errWorkerEnded)
		}
		if err := w.settleBatch(call, batch); err != nil {
			return err
		}
	}
}

func firstOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (w *work) settleBatch(ctx context.Context, batch []*sluicev1.WorkRequest) error {
	var all []*sluicev1.Settlement
	for _, req := range batch {
		all = append(all, req.GetSettlements()...)
	}
	if len(all) == 0 {
		_, err := w.node.KeepAlive(ctx, w.session)
		return err
	}
	settled, err := w.node.Settle(ctx, &sluicev1.SettleRequest{SessionId: w.session, Settlements: all})
	if err != nil {
		return err
	}
	results := settled.GetResults()
	if len(results) != len(all) {
		return errOutcomeKind
	}
	for _, req := range batch {
		n := len(req.GetSettlements())
		if n == 0 {
			continue
		}
		if err := w.answer(&sluicev1.WorkResponse{SettleId: req.GetSettleId(), Results: results[:n:n]}); err != nil {
			return err
		}
		results = results[n:]
	}
	return nil
}

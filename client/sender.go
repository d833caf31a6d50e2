package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	sluicev1 "sluice/api/sluice/v1"
)

// SenderConfig says how a Sender gathers.
type SenderConfig struct {
	// MaxPending is how many messages may wait for a request; a further Send waits for room. Default 16,384.
	MaxPending int
	// Requests is how many requests may be under way at once. Default 4. One that has taken a second counts no more: a node
	// that hangs holds up what it was sent, and nothing else.
	Requests int
}

// Sender gathers the messages of many goroutines into few requests. It never waits for company: a message goes as soon
// as a request is free, together with all that arrived meanwhile. Messages of one goroutine that waits for each
// receipt stay in order; between goroutines there is no order. Close ends it.
type Sender struct {
	client *Client
	room   chan struct{} // one token for each pending message
	free   chan struct{} // one token for each request under way
	closed chan struct{}

	mu      sync.Mutex
	pending []*sending // in order of arrival
	closing bool
	active  sync.WaitGroup // Sends and requests; Add only under mu while not closing
}

// sending is one message on its way. done is closed once result is set.
type sending struct {
	ctx     context.Context
	message Message
	result  Result
	done    chan struct{}
}

// NewSender makes a sender; it has goroutines only while requests are under way.
func (c *Client) NewSender(cfg SenderConfig) (*Sender, error) {
	cfg.MaxPending = orDefault(cfg.MaxPending, 16*MaxBatch)
	cfg.Requests = orDefault(cfg.Requests, 4)
	if cfg.MaxPending < 1 || cfg.Requests < 1 {
		return nil, fmt.Errorf("client: MaxPending is %d and Requests %d; neither may be negative", cfg.MaxPending, cfg.Requests)
	}
	return &Sender{
		client: c, room: make(chan struct{}, cfg.MaxPending),
		free: make(chan struct{}, cfg.Requests), closed: make(chan struct{}),
	}, nil
}

// Send is Client.Send, gathered. When ctx ends while a request is under way the outcome is unknown.
func (s *Sender) Send(ctx context.Context, m Message) (Receipt, error) {
	if m.ID == "" {
		m.ID = NewID()
	}
	if err := checkMessage(&m); err != nil {
		return Receipt{}, withMessageID(err, m.ID)
	}
	if err := s.enter(ctx); err != nil {
		return Receipt{}, withMessageID(err, m.ID)
	}
	defer s.leave()
	w := &sending{ctx: ctx, message: m, done: make(chan struct{})}
	s.put(w)
	select {
	case <-w.done:
		return w.result.Receipt, withMessageID(w.result.Err, m.ID)
	case <-ctx.Done():
		return Receipt{}, s.abandon(w)
	}
}

// enter waits for room.
func (s *Sender) enter(ctx context.Context) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return &Error{Code: "canceled", Reason: ErrClosed, Message: "the sender is closed"}
	}
	s.active.Add(1)
	s.mu.Unlock()
	select {
	case s.room <- struct{}{}:
		return nil
	case <-s.closed:
		s.active.Done()
		return &Error{Code: "canceled", Reason: ErrClosed, Message: "the sender is closed"}
	case <-ctx.Done():
		s.active.Done()
		return &Error{Code: "canceled", Message: "not sent: " + ctx.Err().Error(), cause: ctx.Err()}
	}
}

func (s *Sender) leave() {
	<-s.room
	s.active.Done()
}

// put queues a message, and starts a request if one is free.
func (s *Sender) put(w *sending) {
	s.mu.Lock()
	s.pending = append(s.pending, w)
	s.mu.Unlock()
	select {
	case s.free <- struct{}{}:
		s.active.Add(1) // within the Send that is active itself
		go s.run()
	default:
	}
}

// busy says that there is a request to go behind.
func (s *Sender) busy() bool { return len(s.free) > 0 }

// run makes requests of what is pending until nothing is.
func (s *Sender) run() {
	defer s.active.Done()
	for {
		batch := s.take()
		if len(batch) == 0 {
			<-s.free
			// What was put between the empty take and the token's return found no request free.
			if !s.again() {
				return
			}
			continue
		}
		s.begin(batch)
	}
}

// slowRequest is after how long a request is not waited for by what comes behind it.
const slowRequest = time.Second

// begin sends a batch, and returns once it is done or slow.
func (s *Sender) begin(batch []*sending) {
	done := make(chan struct{})
	s.active.Add(1) // within the run that is active itself
	go func() {
		defer s.active.Done()
		s.request(batch)
		close(done)
	}()
	slow := time.NewTimer(slowRequest)
	defer slow.Stop()
	select {
	case <-done:
	case <-slow.C:
	}
}

// again takes a token back if something is pending.
func (s *Sender) again() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		return false
	}
	select {
	case s.free <- struct{}{}:
		return true
	default:
		return false
	}
}

// take removes what goes in the next request, and leaves out what nobody waits for any more.
func (s *Sender) take() []*sending {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batch []*sending
	bytes, n := 0, 0
	for _, w := range s.pending {
		bytes += len(w.message.Data)
		if len(batch) == MaxBatch || len(batch) > 0 && bytes > maxBatchBytes {
			break
		}
		n++
		if w.ctx.Err() == nil {
			batch = append(batch, w)
		}
	}
	clear(s.pending[:n])
	s.pending = s.pending[n:]
	return batch
}

// request sends a batch and hands out its results. A sender's own context ends its waiting, not the others' request.
func (s *Sender) request(batch []*sending) {
	messages := make([]*sluicev1.Message, len(batch))
	for i, w := range batch {
		messages[i] = w.message.proto()
	}
	results, err := s.client.sendGathered(messages)
	for i, w := range batch {
		if err != nil {
			w.result.Err = err
		} else {
			w.result = results[i]
		}
		close(w.done)
	}
}

// abandon is for a Send whose context ended: its message was still pending, or its outcome is unknown.
func (s *Sender) abandon(w *sending) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &Error{Code: "unknown", Reason: ErrOutcomeUnknown, MessageID: w.message.ID, Uncertain: true, cause: w.ctx.Err()}
	e.Message = fmt.Sprintf("the context ended while the message was on its way: %v", w.ctx.Err())
	for i, p := range s.pending {
		if p == w {
			s.pending = append(s.pending[:i:i], s.pending[i+1:]...)
			return &Error{Code: "canceled", Message: "not sent: " + w.ctx.Err().Error(), MessageID: w.message.ID, cause: w.ctx.Err()}
		}
	}
	return e
}

// Close refuses further Sends, waits for those under way, and ends the sender.
func (s *Sender) Close() {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		close(s.closed)
	}
	s.mu.Unlock()
	s.active.Wait()
}

package client

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

const (
	// ingestBusy is how soon one gathered request must follow another for a stream to be worth its while.
	ingestBusy = time.Second
	// ingestLasts is how long a stream takes requests. So a client that has nothing to send soon holds none, and one that has
	// much is told by the next stream's first answer who leads by now.
	ingestLasts = 10 * time.Second
	// ingestRest is how long no stream is made after one that broke; ingestBarren, where none seems to be had.
	ingestRest   = time.Second
	ingestBarren = 5 * time.Minute
)

// ingests carries requests of gathered Sends over Ingest streams to the leader, or another node while that is not known:
// one request at a time on each. So what hangs holds up nothing else, and as many proposals are under way as requests. What
// a stream does not answer goes by a call.
type ingests struct {
	client *Client

	// mu guards what follows; nothing waits under it.
	mu    sync.Mutex
	idle  []*ingest // streams without a request under way
	asked time.Time // when the last request was made, over a stream or by a call
	rest  time.Time // no stream is made before
	// barren counts streams, each begun after the one before broke at barrenAt, that broke before they answered anything, and
	// not because a node refused: those that hang side by side count once.
	barren   int
	barrenAt time.Time
}

// ingest is one Ingest stream. It is idle, or of the one who took it, and has no goroutine.
type ingest struct {
	node     *node
	call     *connect.BidiStreamForClient[sluicev1.SendRequest, sluicev1.SendResponse]
	cancel   context.CancelFunc
	answered bool // at least once
	begun    time.Time
	expiry   *time.Timer // ends it if it is idle then
}

// send carries one request over a stream, if one is to be had. Without an answer it is to be made by a call; uncertain
// says whether it may have taken effect already.
func (g *ingests) send(req *sluicev1.SendRequest) (res *sluicev1.SendResponse, uncertain bool) {
	s := g.take(time.Now())
	if s == nil {
		return nil, false
	}
	nodes := g.client.nodes
	nodes.ask(s.node, time.Now())
	res, err := s.exchange(req, g.client.cfg.CallTimeout)
	now := time.Now()
	nodes.heard(s.node, err == nil || connect.IsWireError(err), now)
	if err != nil {
		return nil, g.broke(s, err, now)
	}
	nodes.note(s.node, false, now)
	if !s.answered {
		s.answered = true
		nodes.lead(s.node, s.call.ResponseHeader().Get(leaderHeader))
	}
	g.put(s)
	return res, false
}

// take is a stream for one request, until put or broke; nil: the request is to be made by a call.
func (g *ingests) take(now time.Time) *ingest {
	g.mu.Lock()
	defer g.mu.Unlock()
	busy := now.Sub(g.asked) <= ingestBusy
	g.asked = now
	for len(g.idle) > 0 {
		s := g.idle[len(g.idle)-1]
		g.idle = g.idle[:len(g.idle)-1]
		if g.client.nodes.keeps(s.node, now) {
			return s
		}
		go g.end(s)
	}
	if !busy || now.Before(g.rest) || g.client.cfg.Spread || g.client.isClosed() {
		return nil
	}
	return g.open(now)
}

// open makes a stream; it goes out with its first request.
func (g *ingests) open(now time.Time) *ingest {
	ctx, cancel := context.WithCancel(context.Background())
	s := &ingest{node: g.client.nodes.prefer(now), cancel: cancel, begun: now}
	s.call = method[sluicev1.SendRequest, sluicev1.SendResponse](g.client, s.node, sluicev1connect.MessageServiceIngestProcedure).CallBidiStream(ctx)
	s.expiry = time.AfterFunc(ingestLasts, func() { g.expire(s) })
	return s
}

// expire ends a stream if it is idle; else put does.
func (g *ingests) expire(s *ingest) {
	g.mu.Lock()
	at := slices.Index(g.idle, s)
	if at >= 0 {
		g.idle = slices.Delete(g.idle, at, at+1)
	}
	g.mu.Unlock()
	if at >= 0 {
		g.end(s)
	}
}

// put is for a stream that has answered.
func (g *ingests) put(s *ingest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.barren = 0
	if time.Since(s.begun) < ingestLasts && !g.client.isClosed() {
		g.idle = append(g.idle, s)
		return
	}
	go g.end(s)
}

// broke is for a stream that has failed; uncertain says whether the request on it may have taken effect.
func (g *ingests) broke(s *ingest, err error, now time.Time) (uncertain bool) {
	s.expiry.Stop()
	s.stop()
	e := attemptError(context.Background(), err, s.node.address)
	g.client.nodes.judge(s.node, e, now)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rest = now.Add(ingestRest)
	switch {
	case e.Code == "unimplemented":
		g.barren = barrenMax
	case !s.answered && !connect.IsWireError(err) && e.Reason != ErrUnreachable && s.begun.After(g.barrenAt):
		g.barren++
		g.barrenAt = now
	}
	if g.barren >= barrenMax {
		g.rest = now.Add(ingestBarren)
	}
	return e.Uncertain
}

// close ends the streams that are idle; the others end with their answers.
func (g *ingests) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.idle {
		go g.end(s)
	}
	g.idle = nil
}

// end is the orderly end of a stream without a request under way.
func (g *ingests) end(s *ingest) {
	s.expiry.Stop()
	limit := time.AfterFunc(g.client.cfg.CallTimeout, s.stop)
	defer limit.Stop()
	_ = s.call.CloseRequest()
	_, _ = s.call.Receive() // the node ends its side, or something broke, which changes nothing
	_ = s.call.CloseResponse()
	s.cancel()
	if g.client.isClosed() {
		g.client.transport.CloseIdleConnections() // this one may not have been, when the client was closed
	}
}

// exchange sends a request and waits for its answer.
func (s *ingest) exchange(req *sluicev1.SendRequest, timeout time.Duration) (*sluicev1.SendResponse, error) {
	limit := time.AfterFunc(timeout, s.stop)
	defer limit.Stop()
	if err := s.call.Send(req); err != nil && !errors.Is(err, io.EOF) { // at an end of file the node has ended it, and says why
		return nil, err
	}
	return s.call.Receive()
}

// stop breaks a stream. The HTTP library notices a cancelled call only once its request has ended, and a request that waits
// for room only once the answer is closed. The errors are those of a call that has ended.
func (s *ingest) stop() {
	s.cancel()
	_ = s.call.CloseRequest()
	_ = s.call.CloseResponse()
}

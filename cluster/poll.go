package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	peerv1 "sluice/api/peer/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

const (
	pollMost    = 1024
	pollLongest = 60 * time.Second
	pollBytes   = 4 << 20
	// offerAtFirst bounds one look at an instance before messages have proved to be small, which is below smallDelivery; from
	// then on it may bring the instance's share, and at least offerAtLeast.
	offerAtFirst  = 2
	offerAtLeast  = 16
	smallDelivery = 128 << 10
	shortestWait  = 100 * time.Millisecond
	// creditLasts is how long a poll that did not wait counts as a wish for work.
	creditLasts = time.Second
)

// answeredPoll is what a poll with a request id was given, for its repeat.
type answeredPoll struct {
	requestID string
	outs      []*handOut
}

// pollResult is an answer on its way to the caller.
type pollResult struct {
	resp *sluicev1.PollResponse
	outs []*handOut
	size int
	// stream names the stream that the answer is part of; empty: none. It follows others of the stream, which arrived if
	// this one does.
	stream string
}

// poll answers a poll at the leader: first what is ready, else what comes within the wait.
func (l *leadership) poll(ctx context.Context, call *peerv1.PollRequest) (*sluicev1.PollResponse, error) {
	req := call.Poll
	if req == nil {
		return nil, reason.BadField.Errorf("the call of a peer holds no poll")
	}
	s, err := l.session(req.SessionId)
	if err != nil {
		return nil, err
	}
	if _, err := l.renewSession(s.id); err != nil {
		return nil, err
	}
	wait := min(max(req.Wait.AsDuration(), 0), pollLongest)
	most := int(min(max(req.Max, 1), pollMost))
	l.dispatch.begin(s, call.Afresh, time.Now())
	got := &pollResult{resp: &sluicev1.PollResponse{}, stream: call.Stream}
	if again := l.dispatch.repeated(s, req.RequestId); again != nil {
		if err := l.repeat(again, got); err != nil {
			return nil, err
		}
	}
	if len(got.resp.Deliveries) == 0 {
		if err := l.collectWithin(ctx, s, most, wait, got); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		l.dispatch.takeBack(got.outs)
		return nil, readRefusal(ctx.Err())
	}
	l.dispatch.answered(s, req.RequestId, got.outs)
	return got.resp, nil
}

// collectWithin collects, and waits for something to collect: until the wait is over, or the lease nearly is. A poll
// renews the lease when it begins; if nobody renews it since, the worker must come again, or it would be lost in waiting.
func (l *leadership) collectWithin(ctx context.Context, s *session, most int, wait time.Duration, got *pollResult) error {
	w := l.dispatch.waits(s, most)
	defer func() { l.dispatch.waitsNoMore(s, w, wait < shortestWait, time.Now()) }()
	end := time.Now().Add(wait)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := l.collect(s, most, got); err != nil || len(got.resp.Deliveries) > 0 {
			return err
		}
		l.dispatch.wish(s)
		left := min(time.Until(end), time.Until(l.dispatch.lapses(s)))
		if left <= 0 {
			return nil
		}
		timer.Reset(left)
		select {
		case <-w.wake:
			if l.dispatch.find(s.id) != s {
				return reason.UnknownSession.Errorf("session %s has ended", s.id)
			}
		case <-timer.C:
		case <-ctx.Done():
			return nil
		case <-l.ctx.Done():
			return l.node.notLeader()
		}
	}
}

// collect hands out what is ready, up to a number and a size.
func (l *leadership) collect(s *session, most int, got *pollResult) error {
	view := l.node.group.view()
	for len(got.resp.Deliveries) < most && got.size < pollBytes {
		now := time.Now()
		h, given, version := l.dispatch.pick(s, now)
		if h == nil {
			return nil
		}
		left := most - len(got.resp.Deliveries)
		room, others := l.dispatch.allowance(h, now)
		o, before, err := got.offer(view, h, l.dispatch.follows(h, got.stream), given, bounds{most: left, atOnce: got.atOnce(left, others), room: room})
		if errors.Is(err, reason.UnknownInstance) || errors.Is(err, reason.UnknownApplication) {
			o, err = &fsm.Offer{}, nil
		}
		if err != nil {
			l.dispatch.takeBack(append(got.outs, &handOut{held: h, version: version, before: given}))
			return err
		}
		got.add(l.dispatch.handed(h, version, got.stream, before, o, time.Now()), o)
	}
	return nil
}

// bounds are those of one look at an instance: for how many deliveries the caller has room in all, how many new ones the
// look may bring, and for how many there is room beside others' work.
type bounds struct{ most, atOnce, room int }

// offer looks at what is to be handed out next of an instance. Whether the answer of the poll before this one arrived,
// nobody knows: a node on its way may have died. So what that one brought and is still out goes along once more, ahead
// of what is new, or the worker would get the later without the earlier. It ignores what it holds. If this answer follows
// that one within a stream, nothing can be missing in between. before is what counts as given when the offer is to be
// made once more.
func (p *pollResult) offer(view *fsm.View, h *held, follows bool, given fsm.Given, b bounds) (o *fsm.Offer, before fsm.Given, err error) {
	o, err = view.Offer(h.id, given, min(b.most, b.atOnce, b.room))
	if err != nil || follows || p.has(h) || len(o.Deliveries) == 0 || given == (fsm.Given{}) {
		return o, given, err
	}
	whole, err := view.Offer(h.id, given.Again(), b.most)
	if err == nil && b.room < b.most && whole.Epoch == o.Epoch {
		last := o.Deliveries[len(o.Deliveries)-1].Seq
		if n := countUpTo(whole.Deliveries, last); n < len(whole.Deliveries) { // there is no room for more
			whole, err = view.Offer(h.id, given.Again(), n)
		}
	}
	if err != nil {
		return nil, given, err
	}
	switch n := len(whole.Deliveries); {
	case n == 0 || whole.Epoch != o.Epoch:
		return o, given, nil
	case whole.Deliveries[n-1].Seq >= o.Deliveries[0].Seq:
		return whole, given.Again(), nil
	case n >= b.most:
		return o, given, nil // the caller does not take so many at once that it would reach what is new
	}
	// They are too large to go together: what is new waits until some of them are settled, which makes it ready again.
	whole.Deliveries, whole.More, whole.RecoveryTaken = nil, false, false
	return whole, given, nil
}

// countUpTo is how many of the deliveries of an offer come up to a sequence number.
func countUpTo(of []*sluicev1.Delivery, seq uint64) int {
	n := slices.IndexFunc(of, func(d *sluicev1.Delivery) bool { return d.Seq > seq })
	if n < 0 {
		return len(of)
	}
	return n
}

// has tells that this very poll brings something of an instance already.
func (p *pollResult) has(h *held) bool {
	return slices.ContainsFunc(p.outs, func(o *handOut) bool { return o.held == h })
}

func (p *pollResult) add(out *handOut, o *fsm.Offer) {
	if out == nil {
		return
	}
	p.outs = append(p.outs, out)
	for _, d := range o.Deliveries {
		p.resp.Deliveries = append(p.resp.Deliveries, d)
		p.size += proto.Size(d)
	}
}

// atOnce is how many deliveries one look may bring, of so many that are left to give, while others wait to be looked at: so
// few that an answer does not outgrow its bound by much and that they get a share, but enough to pay for the look.
func (p *pollResult) atOnce(left, others int) int {
	if n := len(p.resp.Deliveries); n > 0 && p.size/n < smallDelivery {
		return max(offerAtLeast, left/(others+1))
	}
	return offerAtFirst
}

// repeat offers once more what an earlier poll was given, as far as it is still out: neither less nor more.
func (l *leadership) repeat(last *answeredPoll, got *pollResult) error {
	view := l.node.group.view()
	for _, out := range last.outs {
		version, ok := l.dispatch.current(out.held)
		if !ok {
			continue
		}
		o, err := view.Offer(out.held.id, out.before, out.count)
		if err == nil && o.Epoch == out.epoch {
			same := 0
			for same < len(o.Deliveries) && out.identities[identityOf(o.Deliveries[same])] {
				same++
			}
			if same == 0 {
				continue
			}
			if same < len(o.Deliveries) {
				o, err = view.Offer(out.held.id, out.before, same)
			}
		}
		if err != nil && !errors.Is(err, reason.UnknownInstance) {
			return err
		}
		if err == nil && o.Epoch == out.epoch {
			got.add(l.dispatch.handed(out.held, version, got.stream, out.before, o, time.Now()), o)
		}
	}
	return nil
}

// current answers the version of a held instance; false if it is held no more.
func (d *dispatcher) current(h *held) (version uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return h.version, d.owner[h.id] == h
}

// repeated is the session's last poll, if this is its request id again.
func (d *dispatcher) repeated(s *session, requestID string) *answeredPoll {
	d.mu.Lock()
	defer d.mu.Unlock()
	if requestID == "" || s.last == nil || s.last.requestID != requestID {
		return nil
	}
	return s.last
}

func (d *dispatcher) answered(s *session, requestID string, outs []*handOut) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.last = nil
	if requestID != "" {
		s.last = &answeredPoll{requestID, outs}
	}
}

func (d *dispatcher) waits(s *session, most int) *waitingPoll {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &waitingPoll{max: most, wake: newBell()}
	s.polls[w] = struct{}{}
	return w
}

// waitsNoMore ends a poll's wait. One that hardly waited leaves its wish behind for a while: else no instance would
// ever be assigned to a worker that only looks in.
func (d *dispatcher) waitsNoMore(s *session, w *waitingPoll, lookedIn bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(s.polls, w)
	s.credit = 0
	if lookedIn {
		s.credit, s.creditEnds = w.max, now.Add(creditLasts)
	}
	if s.ready.Len() > 0 {
		s.wake()
	}
}

// wish tells the planner that a session could take more.
func (d *dispatcher) wish(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hungry[s.application] {
		d.planning.ring()
	}
}

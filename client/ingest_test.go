package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

const (
	sendProcedure   = sluicev1connect.MessageServiceSendProcedure
	ingestProcedure = sluicev1connect.MessageServiceIngestProcedure
)

// sendNext sends one message as a Sender does, after which the client counts as busy.
func sendNext(t *testing.T, c *Client, id string) Receipt {
	t.Helper()
	m := message(id)
	results, err := c.sendGathered([]*sluicev1.Message{m.proto()})
	if err != nil || results[0].Err != nil || results[0].Receipt.MessageID != id {
		t.Fatalf("%s: got %+v, %v", id, results, err)
	}
	return results[0].Receipt
}

// rested lets a client try streams again that rests for a moment, not one that has given them up.
func rested(c *Client) {
	if time.Until(c.ingests.rest) <= ingestRest {
		c.ingests.rest = time.Time{}
	}
}

// awaitStreams waits until so many streams of sends stand at a fake.
func awaitStreams(t *testing.T, f *fake, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		f.mu.Lock()
		n, changed := f.ingests, f.changed
		f.mu.Unlock()
		if n == want {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%d streams stand, want %d", n, want)
		}
	}
}

// sendMany sends from many goroutines, one message in fifty of which is refused, and counts the duplicates.
func sendMany(t *testing.T, f *fake, c *Client) (duplicates int) {
	t.Helper()
	const senders, each = 50, 20
	var group sync.WaitGroup
	var again atomic.Int32
	for g := range senders {
		group.Go(func() {
			for n := range each {
				m := message(fmt.Sprint(g, "-", n))
				if n == 7 {
					m.Type = "refuse"
				}
				receipt, err := c.Send(t.Context(), m)
				switch {
				case n == 7 && (!errors.Is(err, ErrNotSuitable) || asError(err).MessageID != m.ID || asError(err).Uncertain):
					t.Errorf("%s: want NOT_SUITABLE, got %+v", m.ID, err)
				case n != 7 && (err != nil || receipt.MessageID != m.ID):
					t.Errorf("%s: got %+v, %v", m.ID, receipt, err)
				}
				if receipt.Duplicate {
					again.Add(1)
				}
			}
		})
	}
	group.Wait()
	if got, want := len(f.inbox.ids), senders*(each-1); got != want {
		t.Errorf("%d messages were accepted, want %d", got, want)
	}
	return int(again.Load())
}

func TestGatheredSendsGoOverStreams(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	if n := sendMany(t, f, f.client()); n > 0 {
		t.Errorf("%d messages were sent twice", n)
	}
	if n := f.count(ingestProcedure); n == 0 || n > sendsGathered {
		t.Errorf("%d streams were made, want 1 or %d", n, sendsGathered)
	}
}

// What a stream leaves without an answer is repeated by a call, with the same ids.
func TestAStreamThatBreaksLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var answers atomic.Int32
	f.after = func(procedure string) error {
		if procedure == ingestProcedure && answers.Add(1) == 3 {
			return fail(reason.OutcomeUnknown)
		}
		return nil
	}
	if n := sendMany(t, f, f.client()); n == 0 {
		t.Error("no message was sent twice")
	}
}

func TestTheOutcomeOnAStreamCounts(t *testing.T) {
	t.Parallel()
	for onStream, want := range map[Reason]Reason{ErrNoLeader: ErrNoLeader, ErrOutcomeUnknown: ErrOutcomeUnknown} {
		f := newFake(t)
		c := f.client(func(cfg *Config) { cfg.Retry.Attempts = 2 })
		sendNext(t, c, "first")
		f.before = func(procedure string) error {
			if procedure == ingestProcedure {
				return fail(onStream)
			}
			return fail(reason.NoLeader)
		}
		m := message("m")
		_, err := c.sendGathered([]*sluicev1.Message{m.proto()})
		if !errors.Is(err, want) || asError(err).Uncertain != (want == ErrOutcomeUnknown) {
			t.Errorf("%s on the stream, then NO_LEADER: want %s, got %+v", onStream, want, err)
		}
		if n := f.count(ingestProcedure); n != 1 {
			t.Errorf("%d streams were made, want 1", n)
		}
	}
}

// A request that may have taken effect when its client was closed is not told of as not done.
func TestAStreamThatBreaksUnderAClosedClientLeavesTheOutcomeOpen(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client()
	sendNext(t, c, "first")
	f.after = func(procedure string) error {
		if procedure != ingestProcedure {
			return nil
		}
		c.Close()
		return fail(reason.OutcomeUnknown)
	}
	m := message("m")
	_, err := c.sendGathered([]*sluicev1.Message{m.proto()})
	if !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrClosed) || !asError(err).Uncertain {
		t.Errorf("got %+v, want %s", err, ErrOutcomeUnknown)
	}
}

// A node that hangs holds a request no longer than an attempt may take, also after it has answered others.
func TestAStreamThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, answered := range []bool{false, true} {
		t.Run(fmt.Sprint("answered ", answered), func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			open := make(chan struct{})
			defer close(open)
			var hangs atomic.Bool
			f.before = func(procedure string) error {
				if procedure == ingestProcedure && hangs.Load() {
					<-open
				}
				return nil
			}
			c := f.client(func(cfg *Config) { cfg.CallTimeout = 100 * time.Millisecond })
			sendNext(t, c, "first")
			if answered {
				sendNext(t, c, "second")
			}
			hangs.Store(true)
			sendNext(t, c, "third")
			if calls := f.count(sendProcedure); calls != 2 {
				t.Errorf("%d calls were made, want the first request and the one that hung", calls)
			}
			if len(c.ingests.idle) > 0 {
				t.Error("the stream is kept")
			}
		})
	}
}

func TestStreamsMoveToTheLeader(t *testing.T) {
	t.Parallel()
	one, other := newFake(t), newFake(t)
	c := one.client(func(cfg *Config) { cfg.Addresses = []string{one.url, other.url} })
	first, second := c.nodes.all[0], c.nodes.all[1]
	one.leader, other.leader = first.address, second.address
	sendNext(t, c, "a")
	sendNext(t, c, "b")
	awaitStreams(t, one, 1)
	c.nodes.lead(first, second.address) // as an answer to any call would tell
	sendNext(t, c, "c")
	awaitStreams(t, other, 1)
	awaitStreams(t, one, 0)
	if len(one.inbox.ids) != 2 || len(other.inbox.ids) != 1 {
		t.Errorf("one has %q, the other %q", one.inbox.ids, other.inbox.ids)
	}
}

// What a stream's first answer says of the leader is heeded like that of a call.
func TestAStreamsAnswerNamesTheLeader(t *testing.T) {
	t.Parallel()
	one, other := newFake(t), newFake(t)
	c := one.client(func(cfg *Config) { cfg.Addresses = []string{one.url, other.url} })
	c.ingests.asked = time.Now()
	one.leader = c.nodes.all[1].address
	sendNext(t, c, "a")
	if n := c.nodes.prefer(time.Now()); n != c.nodes.all[1] || one.count(ingestProcedure) != 1 {
		t.Errorf("%s is called next, after %d streams", n.address, one.count(ingestProcedure))
	}
}

func TestWithoutStreamsSendsGoByCalls(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.noStreams = true
	c := f.client()
	for n := range 5 {
		sendNext(t, c, fmt.Sprint(n))
		rested(c)
	}
	if streams, calls := f.count(ingestProcedure), f.count(sendProcedure); streams != 1 || calls != 5 {
		t.Errorf("%d streams were tried and %d calls made, want 1 and 5", streams, calls)
	}
}

func TestStreamsThatNeverAnswerAreNotTriedForEver(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	open := make(chan struct{})
	defer close(open)
	f.before = func(procedure string) error {
		if procedure == ingestProcedure {
			<-open
		}
		return nil
	}
	c := f.client(func(cfg *Config) { cfg.CallTimeout = 100 * time.Millisecond })
	c.ingests.asked = time.Now()
	var outage sync.WaitGroup
	for n := range barrenMax {
		outage.Go(func() {
			m := message(fmt.Sprint("outage", n))
			if _, err := c.sendGathered([]*sluicev1.Message{m.proto()}); err != nil {
				t.Error(err)
			}
		})
	}
	outage.Wait()
	if n := c.ingests.barren; n != 1 {
		t.Errorf("the streams of one outage count %d times, want once", n)
	}
	before := f.count(ingestProcedure)
	for n := range barrenMax + 3 {
		rested(c)
		sendNext(t, c, fmt.Sprint(n))
	}
	if n := f.count(ingestProcedure) - before; n != barrenMax-1 {
		t.Errorf("%d more streams were tried, want %d", n, barrenMax-1)
	}
}

func TestStreamsAreForThoseWhoSendMuch(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client()
	for n := range 3 {
		sendNext(t, c, fmt.Sprint(n))
		c.ingests.asked = c.ingests.asked.Add(-2 * ingestBusy)
	}
	spread := f.client(func(cfg *Config) { cfg.Spread = true })
	for n := range 3 {
		sendNext(t, spread, fmt.Sprint("spread", n))
	}
	if n := f.count(ingestProcedure); n > 0 {
		t.Errorf("%d streams were made", n)
	}
}

func TestIdleStreamsEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Client){
		"expired":       func(c *Client) { c.ingests.expire(c.ingests.idle[0]) },
		"client closed": (*Client).Close,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			c := f.client()
			sendNext(t, c, "a")
			sendNext(t, c, "b")
			awaitStreams(t, f, 1)
			end(c)
			awaitStreams(t, f, 0)
			if len(c.ingests.idle) > 0 {
				t.Error("the stream is kept")
			}
		})
	}
}

// A stream that was under way when its time was over, or its client was closed, answers and ends.
func TestAStreamUnderWayEndsWithItsAnswer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client()
	sendNext(t, c, "a")
	f.after = func(string) error { c.Close(); return nil }
	sendNext(t, c, "b")
	awaitStreams(t, f, 0)
	m := message("c")
	if _, err := c.sendGathered([]*sluicev1.Message{m.proto()}); !errors.Is(err, ErrClosed) {
		t.Errorf("want CLOSED, got %v", err)
	}
}

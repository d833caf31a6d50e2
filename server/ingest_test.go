package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

func startIngest(ctx context.Context, node Node) (*line[*sluicev1.SendRequest, *sluicev1.SendResponse], *lifetime) {
	l := &line[*sluicev1.SendRequest, *sluicev1.SendResponse]{in: make(chan *sluicev1.SendRequest, 10000), out: make(chan *sluicev1.SendResponse, 10000), end: make(chan error, 1)}
	service := &messageService{lifetime: newLifetime(), node: node, limits: testConfig().Limits}
	go func() { l.end <- service.ingest(ctx, l.receive, l.send) }()
	return l, service.lifetime
}

func aMessage(id string) *sluicev1.Message {
	return &sluicev1.Message{Application: "a", Instance: "i", Type: "t", Id: id}
}

func TestIngestAnswersInOrderAndGathersWhileItWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var commands, last int
		node := &fakeNode{propose: func(ctx context.Context, cmd *logv1.Command) (*logv1.Outcome, error) {
			<-time.After(time.Millisecond) // virtual: a quorum's disks
			commands++
			for _, m := range cmd.GetSend().GetMessages() {
				if want := fmt.Sprint(last); m.GetId() != want {
					t.Errorf("in the log: want message %s next, got %s", want, m.GetId())
				}
				last++
			}
			return acceptAll(ctx, cmd)
		}}
		l, _ := startIngest(t.Context(), node)
		const requests = 1000
		id := 0
		for n := range requests {
			req := &sluicev1.SendRequest{}
			for range n % 4 {
				req.Messages = append(req.Messages, aMessage(fmt.Sprint(id)))
				id++
			}
			l.in <- req
		}
		close(l.in)
		if err := <-l.end; err != nil {
			t.Fatalf("want a plain end, got %v", err)
		}
		next := 0
		for n := range requests {
			answer := <-l.out
			if len(answer.GetResults()) != n%4 {
				t.Fatalf("answer %d: want %d results, got %d", n, n%4, len(answer.GetResults()))
			}
			for _, r := range answer.GetResults() {
				if want := fmt.Sprint(next); r.GetReceipt().GetMessageId() != want {
					t.Fatalf("answer %d: want the receipt of %s, got %v", n, want, r)
				}
				next++
			}
		}
		if commands > requests/10 {
			t.Errorf("%d requests took %d commands: want far fewer", requests, commands)
		}
	})
}

func TestIngestEndsAtTheFirstFailureAndProposesNothingAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		proposed := 0
		node := &fakeNode{propose: func(ctx context.Context, cmd *logv1.Command) (*logv1.Outcome, error) {
			if proposed++; proposed == 2 {
				return nil, reason.OutcomeUnknown.Errorf("leader lost")
			}
			return acceptAll(ctx, cmd)
		}}
		l, _ := startIngest(t.Context(), node)
		for n := range 3 {
			l.in <- &sluicev1.SendRequest{Messages: []*sluicev1.Message{aMessage(fmt.Sprint(n))}}
			synctest.Wait()
		}
		close(l.in)
		if err := <-l.end; !errors.Is(err, reason.OutcomeUnknown) {
			t.Errorf("want OUTCOME_UNKNOWN, got %v", err)
		}
		if proposed != 2 || len(l.out) != 1 {
			t.Errorf("want 2 proposals and 1 answer, got %d and %d", proposed, len(l.out))
		}
	})
}

// A proposal of several commands may fail at a later one: what the first ones judged is done, and was told to nobody.
func TestIngestAnswersWhatWasJudgedBeforeAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		proposed := 0
		node := &fakeNode{propose: func(ctx context.Context, cmd *logv1.Command) (*logv1.Outcome, error) {
			if proposed++; proposed == 2 {
				return nil, reason.NoLeader.Errorf("gone")
			}
			return acceptAll(ctx, cmd)
		}}
		l, _ := startIngest(t.Context(), node)
		req := &sluicev1.SendRequest{}
		for n := range 5 {
			m := aMessage(fmt.Sprint(n))
			m.Data = make([]byte, 1<<20)
			req.Messages = append(req.Messages, m)
		}
		l.in <- req
		if err := <-l.end; !errors.Is(err, reason.NoLeader) {
			t.Errorf("want NO_LEADER, got %v", err)
		}
		if len(l.out) != 1 {
			t.Fatalf("want an answer, got %d", len(l.out))
		}
		for n, r := range (<-l.out).GetResults() {
			if n < 3 && r.GetReceipt().GetMessageId() != fmt.Sprint(n) || n >= 3 && r.GetError().GetReason() != "NO_LEADER" {
				t.Errorf("result %d: got %v", n, r)
			}
		}
		close(l.in)
	})
}

func TestIngestServesWhatCameBeforeABadRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := startIngest(t.Context(), &fakeNode{propose: acceptAll})
		l.in <- &sluicev1.SendRequest{Messages: []*sluicev1.Message{aMessage("a")}}
		l.in <- &sluicev1.SendRequest{Messages: make([]*sluicev1.Message, sendCountMax+1)}
		if err := <-l.end; !errors.Is(err, reason.BadField) {
			t.Errorf("want BAD_FIELD, got %v", err)
		}
		if len(l.out) != 1 {
			t.Errorf("want the request before it answered, got %d answers", len(l.out))
		}
		close(l.in)
	})
}

func TestIngestEndsWhenTheServerStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, life := startIngest(t.Context(), &fakeNode{propose: acceptAll})
		synctest.Wait()
		life.end()
		if err := <-l.end; !errors.Is(err, reason.Overloaded) {
			t.Errorf("want OVERLOADED, got %v", err)
		}
		close(l.in)
	})
}

func TestSendIsSplitIntoBearableCommands(t *testing.T) {
	t.Parallel()
	var sizes []int
	service := &messageService{lifetime: newLifetime(), limits: testConfig().Limits, node: &fakeNode{propose: func(ctx context.Context, cmd *logv1.Command) (*logv1.Outcome, error) {
		if sizes = append(sizes, len(cmd.GetSend().GetMessages())); len(sizes) == 3 {
			return nil, reason.NoLeader.Errorf("gone")
		}
		return acceptAll(ctx, cmd)
	}}}
	var messages []*sluicev1.Message
	for n := range 10 {
		m := aMessage(fmt.Sprint(n))
		m.Data = make([]byte, 1<<20)
		messages = append(messages, m)
	}
	messages[4].Type = ""
	results, err := service.send(t.Context(), messages)
	if !errors.Is(err, reason.NoLeader) || len(results) != 10 {
		t.Fatalf("want NO_LEADER and 10 results, got %v and %d", err, len(results))
	}
	if fmt.Sprint(sizes) != "[3 3 3]" {
		t.Errorf("messages a command: want [3 3 3], got %v", sizes)
	}
	for n, r := range results {
		switch {
		case n == 4 && r.GetError().GetReason() != "BAD_FIELD", n > 6 && r.GetError().GetReason() != "NO_LEADER",
			n != 4 && n <= 6 && r.GetReceipt().GetMessageId() != fmt.Sprint(n):
			t.Errorf("result %d: got %v", n, r)
		}
	}
}

func TestSendOfWhatIsTooLargeForAnyLog(t *testing.T) {
	t.Parallel()
	service := &messageService{lifetime: newLifetime(), limits: testConfig().Limits, node: &fakeNode{propose: acceptAll}}
	m := aMessage("big")
	m.Data = make([]byte, service.limits.MessageBytes+1)
	results, err := service.send(t.Context(), []*sluicev1.Message{m, aMessage("small")})
	if err != nil || results[0].GetError().GetReason() != "LIMIT_MESSAGE_BYTES" || results[0].GetError().GetCode() != "resource_exhausted" || results[1].GetReceipt() == nil {
		t.Errorf("want LIMIT_MESSAGE_BYTES and a receipt, got %v %v", results, err)
	}
}

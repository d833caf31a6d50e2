package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

// line is one side of a stream without a network.
type line[In, Out any] struct {
	in  chan In
	out chan Out
	end chan error // the handler's error
}

func (l *line[In, Out]) receive() (In, error) {
	in, ok := <-l.in
	if !ok {
		return in, io.EOF
	}
	return in, nil
}

func (l *line[In, Out]) send(out Out) error {
	l.out <- out
	return nil
}

func startWork(ctx context.Context, node Node) (*line[*sluicev1.WorkRequest, *sluicev1.WorkResponse], *lifetime) {
	l := &line[*sluicev1.WorkRequest, *sluicev1.WorkResponse]{in: make(chan *sluicev1.WorkRequest, 1000), out: make(chan *sluicev1.WorkResponse, 1000), end: make(chan error, 1)}
	life := newLifetime()
	service := &workerService{lifetime: life, node: node}
	go func() { l.end <- service.work(ctx, l.receive, l.send) }()
	return l, life
}

// busyNode always has deliveries, numbered from 1, and settles everything.
func busyNode() (*fakeNode, *[]*sluicev1.PollRequest, *[]bool) {
	var seq uint64
	polls, fresh := &[]*sluicev1.PollRequest{}, &[]bool{}
	return &fakeNode{
		keepAlive: func(string) (time.Duration, error) { return 10 * time.Second, nil },
		poll: func(_ context.Context, req *sluicev1.PollRequest, afresh bool) (*sluicev1.PollResponse, error) {
			*polls, *fresh = append(*polls, req), append(*fresh, afresh)
			answer := &sluicev1.PollResponse{}
			for range req.GetMax() {
				seq++
				answer.Deliveries = append(answer.Deliveries, &sluicev1.Delivery{Seq: seq})
			}
			return answer, nil
		},
		settle: func(req *sluicev1.SettleRequest) (*sluicev1.SettleResponse, error) {
			answer := &sluicev1.SettleResponse{}
			for _, s := range req.GetSettlements() {
				answer.Results = append(answer.Results, &sluicev1.SettleResult{Error: &sluicev1.Fault{Message: fmt.Sprint(s.GetSeq())}})
			}
			return answer, nil
		},
	}, polls, fresh
}

func TestWorkHandsOutWhatCreditAllows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node, polls, fresh := busyNode()
		l, _ := startWork(t.Context(), node)
		l.in <- &sluicev1.WorkRequest{SessionId: "s", Credit: 3}
		synctest.Wait()
		if got := len(l.out); got != 1 {
			t.Fatalf("want one answer, got %d", got)
		}
		if got := len((<-l.out).GetDeliveries()); got != 3 {
			t.Errorf("want 3 deliveries, got %d", got)
		}
		l.in <- &sluicev1.WorkRequest{Credit: 100}
		synctest.Wait()
		total := 0
		for len(l.out) > 0 {
			total += len((<-l.out).GetDeliveries())
		}
		if total != 100 {
			t.Errorf("want 100 more, got %d", total)
		}
		if want := []bool{true, false, false}; !slices.Equal(*fresh, want) {
			t.Errorf("afresh: want %v, got %v", want, *fresh)
		}
		for _, p := range *polls {
			if p.GetMax() > workPollMax || p.GetSessionId() != "s" || p.GetWait().AsDuration() <= 0 || p.GetWait().AsDuration() > workWaitMax {
				t.Errorf("odd poll %v", p)
			}
		}
		close(l.in)
		if err := <-l.end; err != nil {
			t.Errorf("want a plain end, got %v", err)
		}
	})
}

func TestWorkAnswersSettlementsInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node, _, _ := busyNode()
		l, _ := startWork(t.Context(), node)
		l.in <- &sluicev1.WorkRequest{SessionId: "s"}
		for id := range uint64(200) {
			l.in <- &sluicev1.WorkRequest{SettleId: id + 1, Settlements: []*sluicev1.Settlement{{Seq: 2 * id}, {Seq: 2*id + 1}}}
		}
		close(l.in)
		if err := <-l.end; err != nil {
			t.Fatalf("want a plain end, got %v", err)
		}
		for id := range uint64(200) {
			got := <-l.out
			want := []string{fmt.Sprint(2 * id), fmt.Sprint(2*id + 1)}
			if got.GetSettleId() != id+1 || len(got.GetResults()) != 2 || got.GetResults()[0].GetError().GetMessage() != want[0] || got.GetResults()[1].GetError().GetMessage() != want[1] {
				t.Fatalf("answer %d: want %v, got %v", id+1, want, got)
			}
		}
	})
}

func TestWorkPollsNoMoreForAWorkerThatIsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		renewed := 0
		node, _, _ := busyNode()
		node.keepAlive = func(string) (time.Duration, error) { renewed++; return 3 * time.Second, nil }
		polled := 0
		node.poll = func(ctx context.Context, req *sluicev1.PollRequest, _ bool) (*sluicev1.PollResponse, error) {
			polled++
			select {
			case <-time.After(req.GetWait().AsDuration()):
				return &sluicev1.PollResponse{}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		l, _ := startWork(t.Context(), node)
		l.in <- &sluicev1.WorkRequest{SessionId: "s", Credit: 1}
		<-time.After(time.Minute) // virtual
		synctest.Wait()
		if polled < 3 || polled > 5 {
			t.Errorf("polls of a second each for a lease of 3 s: want about 4, got %d", polled)
		}
		before := polled
		l.in <- &sluicev1.WorkRequest{}
		synctest.Wait()
		if polled != before+1 || renewed != 2 {
			t.Errorf("after a heartbeat: want one more poll and a renewal, got %d polls, %d renewals", polled-before, renewed-1)
		}
		close(l.in)
		if err := <-l.end; err != nil {
			t.Errorf("want a plain end, got %v", err)
		}
	})
}

func TestWorkEndsWithWhatWentWrong(t *testing.T) {
	t.Parallel()
	unknown := reason.UnknownSession.Errorf("no session")
	for name, c := range map[string]struct {
		change func(*fakeNode)
		say    []*sluicev1.WorkRequest
		want   reason.Reason
	}{
		"no session id":          {say: []*sluicev1.WorkRequest{{Credit: 1}}, want: reason.BadField},
		"unknown session":        {func(n *fakeNode) { n.keepAlive = func(string) (time.Duration, error) { return 0, unknown } }, []*sluicev1.WorkRequest{{SessionId: "s"}}, reason.UnknownSession},
		"too much credit":        {say: []*sluicev1.WorkRequest{{SessionId: "s", Credit: creditCountMax + 1}}, want: reason.BadField},
		"another session":        {say: []*sluicev1.WorkRequest{{SessionId: "s"}, {SessionId: "t"}}, want: reason.BadField},
		"too many settlements":   {say: []*sluicev1.WorkRequest{{SessionId: "s", Settlements: make([]*sluicev1.Settlement, settleCountMax+1)}}, want: reason.BadField},
		"session ends at a poll": {func(n *fakeNode) { n.poll = pollFails(unknown) }, []*sluicev1.WorkRequest{{SessionId: "s", Credit: 1}}, reason.UnknownSession},
		"session ends at a settlement": {func(n *fakeNode) {
			n.settle = func(*sluicev1.SettleRequest) (*sluicev1.SettleResponse, error) { return nil, unknown }
		}, []*sluicev1.WorkRequest{{SessionId: "s", Settlements: make([]*sluicev1.Settlement, 1)}}, reason.UnknownSession},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				node, _, _ := busyNode()
				if c.change != nil {
					c.change(node)
				}
				l, _ := startWork(t.Context(), node)
				for _, req := range c.say {
					l.in <- req
				}
				if err := <-l.end; !errors.Is(err, c.want) {
					t.Errorf("want %s, got %v", c.want, err)
				}
				close(l.in)
			})
		})
	}
}

func pollFails(err error) func(context.Context, *sluicev1.PollRequest, bool) (*sluicev1.PollResponse, error) {
	return func(context.Context, *sluicev1.PollRequest, bool) (*sluicev1.PollResponse, error) { return nil, err }
}

func TestWorkEndsWhenTheServerStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node, _, _ := busyNode()
		l, life := startWork(t.Context(), node)
		l.in <- &sluicev1.WorkRequest{SessionId: "s"}
		synctest.Wait()
		life.end()
		if err := <-l.end; !errors.Is(err, reason.Overloaded) {
			t.Errorf("want OVERLOADED, got %v", err)
		}
		close(l.in)
	})
}

func TestWorkEndsWhenTheWorkerIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node, _, _ := busyNode()
		node.poll = func(ctx context.Context, _ *sluicev1.PollRequest, _ bool) (*sluicev1.PollResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		l, _ := startWork(ctx, node)
		l.in <- &sluicev1.WorkRequest{SessionId: "s", Credit: 1}
		synctest.Wait()
		cancel()
		if err := <-l.end; !errors.Is(err, context.Canceled) {
			t.Errorf("want canceled, got %v", err)
		}
		close(l.in)
	})
}

package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// inbox accepts what is sent to it, each id once.
type inbox struct {
	mu  sync.Mutex
	ids []string
}

func (b *inbox) accept(id string) (seq uint64, duplicate bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n, known := range b.ids {
		if known == id {
			return uint64(n + 1), true
		}
	}
	b.ids = append(b.ids, id)
	return uint64(len(b.ids)), false
}

func (f *fake) Send(_ context.Context, req *connect.Request[sluicev1.SendRequest]) (*connect.Response[sluicev1.SendResponse], error) {
	res := connect.NewResponse(f.take(req.Msg))
	res.Header().Set(leaderHeader, f.leader)
	return res, nil
}

// take judges messages.
func (f *fake) take(req *sluicev1.SendRequest) *sluicev1.SendResponse {
	res := &sluicev1.SendResponse{}
	for _, m := range req.GetMessages() {
		if m.GetType() == "refuse" {
			res.Results = append(res.Results, &sluicev1.SendResult{Error: reason.NotSuitable.Fault("not now")})
			continue
		}
		seq, duplicate := f.inbox.accept(m.GetId())
		res.Results = append(res.Results, &sluicev1.SendResult{Receipt: &sluicev1.Receipt{
			MessageId: m.GetId(), Seq: seq, Duplicate: duplicate, Disposition: sluicev1.Disposition_DISPOSITION_ACCEPTED, Mode: sluicev1.Mode_MODE_NORMAL,
		}})
	}
	return res
}

// Get tells what became of a message: settled if it is in no lane.
func (f *fake) Get(_ context.Context, req *connect.Request[sluicev1.GetMessageRequest]) (*connect.Response[sluicev1.MessageStatus], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &sluicev1.MessageStatus{MessageId: req.Msg.GetId(), Status: sluicev1.Status_MESSAGE_STATUS_SETTLED, Settlement: sluicev1.SettlementKind_SETTLEMENT_DEAD_LETTERED}
	for _, lane := range f.instance(req.Msg.GetInstance()).lanes {
		for _, d := range lane {
			if d.GetMessage().GetId() == req.Msg.GetId() {
				out.Status, out.Settlement = sluicev1.Status_MESSAGE_STATUS_QUEUED, 0
			}
		}
	}
	return connect.NewResponse(out), nil
}

// Await answers "not yet" the first time, and then as the message's id says.
func (f *fake) Await(_ context.Context, req *connect.Request[sluicev1.AwaitRequest]) (*connect.Response[sluicev1.MessageStatus], error) {
	out := &sluicev1.MessageStatus{MessageId: req.Msg.GetId(), Status: sluicev1.Status_MESSAGE_STATUS_IN_FLIGHT}
	if f.count(sluicev1connect.MessageServiceAwaitProcedure) > 1 {
		out.Status, out.Settlement = sluicev1.Status_MESSAGE_STATUS_SETTLED, sluicev1.SettlementKind_SETTLEMENT_COMPLETED
		out.Reply = []byte("done")
		if req.Msg.GetId() == "bad" {
			out.Settlement, out.Reply = sluicev1.SettlementKind_SETTLEMENT_DEAD_LETTERED, nil
			out.DeadLetter = &sluicev1.DeadLetter{Reason: "REJECTED", LastError: "no such thing"}
		}
	}
	return connect.NewResponse(out), nil
}

func message(id string) Message {
	return Message{Application: "app", Instance: "i", ID: id, Type: "t", Data: []byte("x")}
}

func TestSendRepeatsWhatWasNotDoneWithTheSameID(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var calls atomic.Int32
	f.before = func(string) error {
		if calls.Add(1) <= 2 {
			return fail(reason.NoLeader)
		}
		return nil
	}
	receipt, err := f.client().Send(t.Context(), message(""))
	if err != nil || receipt.Duplicate || receipt.Seq != 1 || receipt.MessageID == "" || receipt.Disposition != DispositionAccepted || receipt.Mode != ModeNormal {
		t.Fatalf("want the first receipt, got %+v, %v", receipt, err)
	}
	if calls.Load() != 3 {
		t.Errorf("want 3 attempts, got %d", calls.Load())
	}
}

func TestSendOfUnknownOutcomeIsRepeatedAndTakesEffectOnce(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var calls atomic.Int32
	f.after = func(string) error {
		if calls.Add(1) == 1 {
			return fail(reason.OutcomeUnknown)
		}
		return nil
	}
	receipt, err := f.client().Send(t.Context(), message(""))
	if err != nil || !receipt.Duplicate || receipt.Seq != 1 || len(f.inbox.ids) != 1 {
		t.Fatalf("want the first receipt again, got %+v, %v; accepted %q", receipt, err, f.inbox.ids)
	}
}

func TestRefusalIsNotRepeated(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.before = func(string) error { return fail(reason.UnknownApplication) }
	_, err := f.client().Send(t.Context(), message("m"))
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrUnknownApplication) || e.Code != "not_found" || e.Uncertain || e.Node == "" || e.MessageID != "m" {
		t.Fatalf("want UNKNOWN_APPLICATION, got %#v", err)
	}
	if n := f.count(sluicev1connect.MessageServiceSendProcedure); n != 1 {
		t.Errorf("want 1 attempt, got %d", n)
	}
}

func TestBudgetEndsAndTellsWhetherTheOutcomeIsKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, then, want Reason
	}{
		"never done":       {ErrNoLeader, ErrNoLeader, ErrNoLeader},
		"may be done":      {ErrOutcomeUnknown, ErrNoLeader, ErrOutcomeUnknown},
		"unknown to last":  {ErrOutcomeUnknown, ErrOutcomeUnknown, ErrOutcomeUnknown},
		"refused after it": {ErrOutcomeUnknown, ErrNotSuitable, ErrNotSuitable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			var calls atomic.Int32
			f.before = func(string) error {
				if calls.Add(1) == 1 {
					return fail(c.first)
				}
				return fail(c.then)
			}
			_, err := f.client(func(cfg *Config) { cfg.Retry.Attempts = 4 }).Send(t.Context(), message("m"))
			if !errors.Is(err, c.want) || asError(err).Uncertain != (c.first == ErrOutcomeUnknown) {
				t.Errorf("want %v, got %+v", c.want, err)
			}
			if want := int32(4); c.then != ErrNotSuitable && calls.Load() != want {
				t.Errorf("want %d attempts, got %d", want, calls.Load())
			}
		})
	}
}

func TestEndedContextEndsTheCall(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.before = func(string) error { cancel(); return fail(reason.NoLeader) }
	_, err := f.client().Send(ctx, message("m"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("want context.Canceled, got %v", err)
	}
	if _, err = f.client().Send(ctx, message("m")); !errors.Is(err, context.Canceled) || asError(err).Uncertain {
		t.Errorf("want a call that was never tried, got %+v", err)
	}
}

func TestNodeThatIsDownIsPassedOver(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	c := f.client(func(cfg *Config) { cfg.Addresses = []string{dead, f.url} })
	for range 20 {
		if _, err := c.Send(t.Context(), message("")); err != nil {
			t.Fatal(err)
		}
	}
	down := f.client(func(cfg *Config) { cfg.Addresses, cfg.Retry.Attempts = []string{dead}, 2 })
	if _, err := down.Send(t.Context(), message("m")); !errors.Is(err, ErrUnreachable) || asError(err).Uncertain {
		t.Errorf("want UNREACHABLE, nothing done; got %+v", err)
	}
	if _, err := Dial(t.Context(), down.cfg); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Dial: want UNREACHABLE, got %v", err)
	}
}

func TestPenaltyGrowsAndEndsWithSuccess(t *testing.T) {
	t.Parallel()
	ns, err := newNodes(Config{Addresses: []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1"}})
	if err != nil || len(ns.all) != 2 {
		t.Fatalf("want two nodes, got %d, %v", len(ns.all), err)
	}
	now := time.Unix(1000, 0)
	bad, good := ns.all[0], ns.all[1]
	for range 20 {
		ns.note(bad, true, now)
	}
	for range 3 {
		if n := ns.pick(now.Add(time.Second)); n != good {
			t.Fatalf("picked the node that failed")
		}
	}
	if bad.until.After(now.Add(penaltyMax)) || ns.find(bad.address, now) != nil {
		t.Errorf("the penalty ends %v, and the node was found", bad.until)
	}
	ns.note(bad, false, now)
	if one, other := ns.pick(now), ns.pick(now); one == other {
		t.Errorf("both are well, and one was picked twice")
	}
	ns.note(good, true, now)
	ns.note(good, true, now)
	ns.note(bad, true, now)
	if n := ns.pick(now); n != bad {
		t.Errorf("want the one whose penalty ends first")
	}
}

func TestSendBatchKeepsPlacesAndSplits(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client()
	messages := make([]Message, 3000)
	for i := range messages {
		messages[i] = message(fmt.Sprint("m", i))
	}
	messages[7].Type = "refuse"
	messages[1500].Instance = "line\nbreak"
	results, err := c.SendBatch(t.Context(), messages)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		switch i {
		case 7:
			if !errors.Is(r.Err, ErrNotSuitable) || asError(r.Err).MessageID != "m7" {
				t.Errorf("7: want NOT_SUITABLE of m7, got %v", r.Err)
			}
		case 1500:
			if !errors.Is(r.Err, ErrBadName) {
				t.Errorf("1500: want BAD_NAME, got %v", r.Err)
			}
		default:
			if r.Err != nil || r.Receipt.MessageID != messages[i].ID {
				t.Fatalf("%d: got %+v", i, r)
			}
		}
	}
	if n := f.count(sluicev1connect.MessageServiceSendProcedure); n != 3 {
		t.Errorf("want 3 requests, got %d", n)
	}
}

func TestRequestLength(t *testing.T) {
	t.Parallel()
	big := &sluicev1.Message{Data: make([]byte, maxBatchBytes)}
	small := &sluicev1.Message{Data: []byte("x")}
	for want, messages := range map[int][]*sluicev1.Message{
		1: {big, small},
		2: {small, small},
		3: {small, small, small, big},
	} {
		if n := requestLength(messages); n != want {
			t.Errorf("want %d, got %d", want, n)
		}
	}
}

func TestAwait(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client()
	id := InstanceID{"app", "i"}
	status, err := c.Await(t.Context(), id, "good")
	if err != nil || string(status.Reply) != "done" || status.Settlement != SettlementCompleted || !status.HasReply {
		t.Errorf("want the reply, got %+v, %v", status, err)
	}
	status, err = c.Await(t.Context(), id, "bad")
	var settled *SettledError
	if !errors.Is(err, ErrDeadLettered) || errors.Is(err, ErrSkipped) || !errors.As(err, &settled) || status.DeadLetter == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("want a dead letter, got %+v, %v", status, err)
	}
}

// What goes wrong after the receipt must not look like a message that may not have been accepted.
func TestAnErrorAfterTheReceiptIsNotOneOfSending(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	refuse := map[string]error{sluicev1connect.MessageServiceAwaitProcedure: fail(reason.Terminated)}
	f.before = func(procedure string) error { return refuse[procedure] }
	c := f.client()
	_, p, err := c.Ask(t.Context(), message("refused"), nil)
	if p == nil || !errors.Is(err, ErrEndUnknown) || !errors.Is(err, ErrTerminated) || errors.Is(err, ErrOutcomeUnknown) || !strings.Contains(err.Error(), "message refused was accepted (seq 1, accepted)") {
		t.Errorf("refused while waiting: %v, %v", p, err)
	}
	refuse = map[string]error{sluicev1connect.MessageServiceAwaitProcedure: fail(reason.OutcomeUnknown)}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, p, err = c.Ask(ctx, message("late"), nil)
	if p == nil || !errors.Is(err, ErrEndUnknown) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) || asError(err).MessageID != "late" {
		t.Errorf("no answer while waiting: %v, %v", p, err)
	}
	if _, err := c.Attach(InstanceID{"app", "i"}, "late").Await(ctx); errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("attached: %v", err)
	}
	refuse = map[string]error{sluicev1connect.MessageServiceSendProcedure: fail(reason.OutcomeUnknown)}
	_, p, err = c.Ask(t.Context(), message("sent"), nil)
	if p != nil || !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrEndUnknown) {
		t.Errorf("no answer to the sending: %v, %v", p, err)
	}
}

func TestSenderGathers(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s, err := f.client().NewSender(SenderConfig{Requests: 1, MaxPending: 500})
	if err != nil {
		t.Fatal(err)
	}
	const senders, each = 100, 20
	var group sync.WaitGroup
	for range senders {
		group.Go(func() {
			for range each {
				if _, err := s.Send(t.Context(), message("")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	s.Close()
	if n := len(f.inbox.ids); n != senders*each {
		t.Errorf("want %d accepted, got %d", senders*each, n)
	}
	if n := f.count(sluicev1connect.MessageServiceSendProcedure); n > senders*each/2 {
		t.Errorf("%d messages took %d requests", senders*each, n)
	}
	if _, err := s.Send(t.Context(), message("")); !errors.Is(err, ErrClosed) {
		t.Errorf("want CLOSED, got %v", err)
	}
}

// A node that hangs holds up the message that it was sent, and not those that could go to others.
func TestASlowRequestHoldsUpNobody(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	arrived, open := make(chan struct{}), make(chan struct{})
	var hangs atomic.Bool
	f.before = func(string) error {
		if hangs.CompareAndSwap(false, true) {
			close(arrived)
			<-open
		}
		return nil
	}
	s, err := f.client().NewSender(SenderConfig{Requests: 1})
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { _, err := s.Send(t.Context(), message("first")); first <- err }()
	<-arrived
	if _, err := s.Send(t.Context(), message("second")); err != nil {
		t.Errorf("behind a request that hangs: %v", err)
	}
	select {
	case err := <-first:
		t.Errorf("the first has ended: %v", err)
	default:
	}
	close(open)
	if err := <-first; err != nil {
		t.Error(err)
	}
	s.Close()
}

func TestSenderLetsAMessageGoWhoseContextEnded(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	arrived, open := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.before = func(string) error {
		once.Do(func() { close(arrived); <-open })
		return nil
	}
	s, err := f.client().NewSender(SenderConfig{Requests: 1})
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	onTheWay, cancelFirst := context.WithCancel(t.Context())
	go func() { _, err := s.Send(onTheWay, message("first")); first <- err }()
	<-arrived
	pending, cancelSecond := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() { _, err := s.Send(pending, message("second")); second <- err }()
	cancelSecond()
	if err := <-second; !errors.Is(err, context.Canceled) || asError(err).Uncertain {
		t.Errorf("pending: want it not sent, got %+v", err)
	}
	cancelFirst()
	if err := <-first; !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("on its way: want the outcome unknown, got %+v", err)
	}
	close(open)
	s.Close()
	if ids := f.inbox.ids; len(ids) != 1 || ids[0] != "first" {
		t.Errorf("accepted %q", ids)
	}
}

func TestClosedClient(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := f.client()
	c.Close()
	if _, err := c.Send(t.Context(), message("")); !errors.Is(err, ErrClosed) {
		t.Errorf("want CLOSED, got %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"no address":        {},
		"plain text abroad": {Addresses: []string{"10.0.0.1:7631"}},
		"no port":           {Addresses: []string{"127.0.0.1"}},
		"other scheme":      {Addresses: []string{"ftp://127.0.0.1:1"}},
		"half a pair":       {Addresses: []string{"127.0.0.1:1"}, TLS: &TLS{CertFile: "x"}},
		"no such authority": {Addresses: []string{"127.0.0.1:1"}, TLS: &TLS{CAFile: "/nonexistent"}},
		"negative":          {Addresses: []string{"127.0.0.1:1"}, CallTimeout: -1},
		"too many":          {Addresses: make([]string, MaxAddresses+1)},
	} {
		if c, err := New(cfg); err == nil {
			c.Close()
			t.Errorf("%s: want an error", name)
		}
	}
	for _, address := range []string{"localhost:1", "[::1]:1", "https://10.0.0.1:1", "http://127.0.0.1:1"} {
		c, err := New(Config{Addresses: []string{address}})
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		c.Close()
	}
}

func TestNamesAreChecked(t *testing.T) {
	t.Parallel()
	for id, want := range map[InstanceID]Reason{
		{"app", "key"}:                    "",
		{"app", "schlüssel 1/2"}:          "",
		{"App", "key"}:                    ErrBadName,
		{"", "key"}:                       ErrBadName,
		{"app", ""}:                       ErrBadName,
		{"app", strings.Repeat("k", 257)}: ErrBadName,
		{"app", "a\u0085b"}:               ErrBadName,
		{"app", "\xff"}:                   ErrBadName,
	} {
		if err := checkInstance(id); (want == "") != (err == nil) || want != "" && !errors.Is(err, want) {
			t.Errorf("%v: want %q, got %v", id, want, err)
		}
	}
	if id, err := ParseInstanceID("app/a/b"); err != nil || id.Key != "a/b" || id.String() != "app/a/b" {
		t.Errorf("got %v, %v", id, err)
	}
	if _, err := ParseInstanceID("app"); !errors.Is(err, ErrBadName) {
		t.Errorf("want BAD_NAME, got %v", err)
	}
}

func TestApplicationSurvivesTheWire(t *testing.T) {
	t.Parallel()
	app := Application{
		Name:     "app",
		Patterns: []Pattern{{Name: "p", Types: []MessageType{{Name: "a", Suitable: SuitableBoth, After: []string{""}, Opens: true, Closes: true}}}},
		Limits:   Limits{MaxDeferredMessages: 5, MaxStateBytes: NoLimit},
		Delivery: DeliveryPolicy{
			Window: 8, MaxAttempts: NoLimit, BackoffInitial: time.Second, BackoffMax: time.Minute,
			OnMaxAttempts: PolicyDeadLetter, OnOwnerLost: PolicyRedeliver,
		},
		Retention: Retention{DedupWindow: time.Hour, HistoryLimit: 3}, Supervision: Supervision{HeldAfter: NoLimit}, FreezeExpiry: true,
	}
	wire, err := app.proto()
	if err != nil {
		t.Fatal(err)
	}
	if *wire.Limits.MaxStateBytes != 0 || wire.Limits.MaxMessageBytes != nil || *wire.Delivery.MaxAttempts != 0 {
		t.Errorf("limits on the wire: %v", wire)
	}
	back, err := applicationOf(wire, nil)
	if err != nil || fmt.Sprint(back) != fmt.Sprint(app) {
		t.Errorf("want %+v, got %+v, %v", app, back, err)
	}
	app.Delivery.OnOwnerLost = "nonsense"
	if _, err := app.proto(); !errors.Is(err, ErrBadField) {
		t.Errorf("want BAD_FIELD, got %v", err)
	}
}

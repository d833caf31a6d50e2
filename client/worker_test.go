package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

const (
	normal   = sluicev1.Lane_LANE_NORMAL
	recovery = sluicev1.Lane_LANE_RECOVERY
)

// running is a worker at work.
type running struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error
	events chan Event
}

// work starts a worker on the fake; it ends with the test, in good order unless stop was called.
func (f *fake) work(cfg WorkerConfig, change ...func(*Config)) *running {
	f.t.Helper()
	cfg.Application = "app"
	r := &running{t: f.t, ended: make(chan error, 1), events: make(chan Event, 10_000)}
	cfg.OnEvent = func(e Event) { r.events <- e }
	w, err := f.client(change...).NewWorker(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- w.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		select {
		case err := <-r.ended:
			r.ended <- err
		case <-time.After(20 * time.Second):
			f.t.Error("the worker did not end")
		}
	})
	return r
}

// stop ends the worker and returns what Run returned.
func (r *running) stop() error {
	r.t.Helper()
	r.cancel()
	err := take(r.t, r.ended)
	r.ended <- err
	return err
}

// await waits for an event.
func (r *running) await(kind EventKind) Event {
	r.t.Helper()
	for {
		if e := take(r.t, r.events); e.Kind == kind {
			return e
		}
	}
}

func take[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("waited too long")
		panic("unreachable")
	}
}

// links runs a test over the stream and over Poll.
func links(t *testing.T, test func(t *testing.T, cfg WorkerConfig)) {
	t.Parallel()
	for name, usePoll := range map[string]bool{"stream": false, "poll": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, WorkerConfig{UsePoll: usePoll, TTL: 30 * time.Second})
		})
	}
}

func TestMessagesAreHandledInOrderAndOnce(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.window = 4
		const instances, each = 5, 40
		for n := range each {
			for i := range instances {
				f.put(fmt.Sprint("i", i), normal, fmt.Sprint(n))
			}
		}
		var mu sync.Mutex
		busy, got := map[string]bool{}, map[string][]string{}
		cfg.Concurrency = 3
		cfg.Handler = func(_ context.Context, d *Delivery) error {
			mu.Lock()
			if busy[d.Instance.Key] {
				t.Errorf("%v: two handlers at once", d.Instance)
			}
			busy[d.Instance.Key] = true
			got[d.Instance.Key] = append(got[d.Instance.Key], string(d.Message.Data))
			mu.Unlock()
			defer func() {
				mu.Lock()
				busy[d.Instance.Key] = false
				mu.Unlock()
			}()
			return nil
		}
		f.work(cfg)
		f.until("all is settled", f.settledCount(instances*each))
		mu.Lock()
		defer mu.Unlock()
		for key, data := range got {
			for n, d := range data {
				if d != fmt.Sprint(n) {
					t.Fatalf("%s: number %d was %s", key, n, d)
				}
			}
		}
	})
}

func TestEffectsGoWithTheSettlement(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.window = 3
		for range 3 {
			f.put("i", normal, "x")
		}
		states := make(chan string, 3)
		cfg.Handler = func(_ context.Context, d *Delivery) error {
			states <- string(d.State())
			d.SetState(append(slices.Clone(d.State()), 'a'))
			d.Send(Message{Application: "other", Instance: "o", Type: "t"})
			d.Reply(nil, "text/plain")
			return nil
		}
		f.work(cfg)
		f.until("all is settled", f.settledCount(3))
		for _, want := range []string{"", "a", "aa"} {
			if s := take(t, states); s != want {
				t.Errorf("want state %q, got %q", want, s)
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.outgoing) != 3 || f.outgoing[0].GetApplication() != "other" || string(f.instances["i"].state) != "aaa" || f.replies[0] == nil {
			t.Errorf("outgoing %v, state %q, replies %q", f.outgoing, f.instances["i"].state, f.replies)
		}
	})
}

func TestFailureIsTriedAgainBeforeWhatIsBehindIt(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.window = 3
		for _, data := range []string{"bad", "b", "c"} {
			f.put("i", normal, data)
		}
		var mu sync.Mutex
		var order []string
		cfg.Handler = func(_ context.Context, d *Delivery) error {
			mu.Lock()
			order = append(order, fmt.Sprint(string(d.Message.Data), d.Attempt))
			mu.Unlock()
			switch {
			case string(d.Message.Data) == "bad" && d.Attempt == 1:
				return RetryAfter(errors.New("not now"), time.Hour)
			case string(d.Message.Data) == "b":
				return Reject(errors.New("never"))
			}
			return nil
		}
		f.work(cfg)
		f.until("the head waits", f.waits("i"))
		f.retry("i")
		f.until("all is settled", f.settledCount(4))
		mu.Lock()
		defer mu.Unlock()
		if want := "[bad1 bad2 b1 c1]"; fmt.Sprint(order) != want {
			t.Errorf("want %s, got %v", want, order)
		}
		want := "[i LANE_NORMAL 1 OUTCOME_FAILED i LANE_NORMAL 1 OUTCOME_COMPLETED i LANE_NORMAL 2 OUTCOME_REJECTED i LANE_NORMAL 3 OUTCOME_COMPLETED]"
		if fmt.Sprint(f.log) != want || f.errors[0] != "not now" || f.errors[2] != "never" {
			t.Errorf("log %v, errors %q", f.log, f.errors)
		}
	})
}

func TestParkedMessagesGoOnWhenTheirHeadWasSettledOtherwise(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.window = 3
		f.put("i", normal, "bad")
		f.put("i", normal, "good")
		cfg.Handler = func(_ context.Context, d *Delivery) error {
			if string(d.Message.Data) == "bad" {
				return errors.New("no")
			}
			return nil
		}
		f.work(cfg)
		f.until("the head waits", f.waits("i"))
		f.change(func() { // dead-lettered: nothing more is said of it
			i := f.instance("i")
			i.waiting, i.lanes[normal] = false, i.lanes[normal][1:]
		})
		f.until("the next is settled", f.settledCount(2))
	})
}

func TestPanicIsAFailure(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.put("i", normal, "x")
	f.work(WorkerConfig{Handler: func(context.Context, *Delivery) error { panic("oh") }})
	f.until("the failure is told", f.settledCount(1))
	if !strings.Contains(f.errors[0], "panicked: oh") {
		t.Errorf("error text %q", f.errors[0])
	}
}

func TestRefusedEffectsAreAFailure(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.put("i", normal, "x")
		cfg.Handler = func(_ context.Context, d *Delivery) error {
			d.SetState(make([]byte, 1000))
			return nil
		}
		w := f.work(cfg)
		f.until("the failure is told", f.settledCount(1))
		if !strings.Contains(f.errors[0], "BAD_FIELD") || !strings.Contains(f.log[0], "FAILED") {
			t.Errorf("log %v, error text %q", f.log, f.errors[0])
		}
		if e := w.await(EventRefused); !errors.Is(e.Err, ErrBadField) {
			t.Errorf("got %+v", e)
		}
	})
}

func TestEnteringRecoveryFencesTheHandler(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.put("i", normal, "x")
		f.put("i", normal, "y")
		begun, cause := make(chan Epoch, 1), make(chan error, 1)
		recovered := make(chan *Recovery, 1)
		var handlers atomic.Int32
		cfg.Handler = func(ctx context.Context, d *Delivery) error {
			if handlers.Add(1) == 1 {
				begun <- d.Epoch
				<-ctx.Done()
				cause <- context.Cause(ctx)
			}
			return nil
		}
		cfg.OnRecovery = func(_ context.Context, r *Recovery) error {
			r.SetState([]byte("mended"))
			r.ProcessedThrough(1)
			recovered <- r
			return nil
		}
		w := f.work(cfg)
		epoch := take(t, begun)
		f.recover("i", "operator")
		if err := take(t, cause); !errors.Is(err, ErrFenced) {
			t.Errorf("want FENCED, got %v", err)
		}
		r := take(t, recovered)
		if r.Cause != "operator" || r.Epoch <= epoch || len(r.InDoubt) != 1 || r.InDoubt[0].Seq != 1 || string(r.InDoubt[0].Message.Data) != "x" || r.DeferredMessages != 2 {
			t.Errorf("got %+v", r)
		}
		w.await(EventRecoveryCompleted)
		f.until("the rest is settled", f.settledCount(1))
		if f.log[0] != "i LANE_NORMAL 2 OUTCOME_COMPLETED" || string(f.instances["i"].state) != "mended" {
			t.Errorf("log %q, state %q", f.log, f.instances["i"].state)
		}
		if c := f.instances["i"].completions; len(c) != 1 || c[0].GetProcessedThrough() != 1 || c[0].GetSessionId() == "" {
			t.Errorf("completions %v", c)
		}
	})
}

func TestSettlementUnderAnOldEpochIsDropped(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.put("i", normal, "x")
		var once sync.Once
		begun, goOn := make(chan struct{}), make(chan struct{})
		cfg.Handler = func(context.Context, *Delivery) error { // deaf to its context
			once.Do(func() { close(begun); <-goOn })
			return nil
		}
		returned := make(chan struct{})
		cfg.OnRecovery = func(context.Context, *Recovery) error {
			select {
			case <-returned:
			default:
				t.Error("the recovery began while an earlier handler was at work")
			}
			return nil
		}
		w := f.work(cfg)
		take(t, begun)
		f.recover("i", "operator")
		w.await(EventFenced)
		close(returned)
		close(goOn)
		w.await(EventRecoveryCompleted)
		f.until("it is settled once", f.settledCount(1))
		if len(f.log) != 1 {
			t.Errorf("log %q", f.log)
		}
	})
}

func TestRecoveryHandlerTakesRecoveryMessages(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.window = 2
		f.put("i", normal, "held")
		f.recover("i", "operator")
		var mu sync.Mutex
		var seen []string
		note := func(s string) { mu.Lock(); seen = append(seen, s); mu.Unlock() }
		waiting := make(chan struct{})
		cfg.Handler = func(_ context.Context, d *Delivery) error {
			note(fmt.Sprintf("%s:%s", d.Lane, d.Message.Data))
			return nil
		}
		cfg.OnRecovery = func(ctx context.Context, r *Recovery) error {
			close(waiting)
			for {
				d, err := r.Next(ctx)
				if err != nil {
					return err
				}
				note("next:" + string(d.Message.Data))
				d.SetState([]byte("s"))
				switch string(d.Message.Data) {
				case "reject":
					if err := r.Settle(ctx, Reject(errors.New("no"))); err != nil {
						return err
					}
				case "enough":
					return nil
				}
			}
		}
		w := f.work(cfg)
		take(t, waiting)
		for _, data := range []string{"one", "reject", "enough", "left"} {
			f.put("i", recovery, data)
		}
		w.await(EventRecoveryCompleted)
		f.until("all is settled", f.settledCount(5))
		mu.Lock()
		defer mu.Unlock()
		if want := "[next:one next:reject next:enough recovery:left normal:held]"; fmt.Sprint(seen) != want {
			t.Errorf("want %s, got %v", want, seen)
		}
		if !strings.Contains(f.log[1], "REJECTED") || string(f.instances["i"].state) != "s" {
			t.Errorf("log %q", f.log)
		}
	})
}

func TestFailedRecoveryIsReportedAndComesAgain(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.put("i", recovery, "r")
		f.recover("i", "operator")
		cfg.Handler = func(context.Context, *Delivery) error { return nil }
		cfg.OnRecovery = func(ctx context.Context, r *Recovery) error {
			if r.Attempt < 3 {
				if _, err := r.Next(ctx); err != nil {
					return err
				}
				return errors.New("not yet")
			}
			return nil
		}
		w := f.work(cfg)
		w.await(EventRecoveryCompleted)
		if want := "[i LANE_RECOVERY 0 OUTCOME_FAILED i LANE_RECOVERY 0 OUTCOME_FAILED i LANE_RECOVERY 1 OUTCOME_COMPLETED]"; fmt.Sprint(f.log) != want {
			t.Errorf("want %s, got %v", want, f.log)
		}
	})
}

func TestWithoutRecoveryHandlerTheInstanceStaysInRecovery(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.put("i", normal, "x")
	f.recover("i", "operator")
	w := f.work(WorkerConfig{Handler: func(context.Context, *Delivery) error { return nil }})
	if e := w.await(EventRecoveryUnhandled); e.Instance.Key != "i" {
		t.Errorf("got %+v", e)
	}
	f.put("other", normal, "x")
	f.until("another instance is served", f.settledCount(1))
	if !f.instances["i"].inRecovery || strings.HasPrefix(f.log[0], "i ") {
		t.Errorf("log %q", f.log)
	}
}

func TestHandlerAsksForRecovery(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.put("i", normal, "x")
		cfg.Handler = func(context.Context, *Delivery) error { return Recover(errors.New("lost my way")) }
		causes := make(chan string, 1)
		cfg.OnRecovery = func(_ context.Context, r *Recovery) error {
			r.ProcessedThrough(r.InDoubt[0].Seq)
			causes <- r.Cause
			return nil
		}
		w := f.work(cfg)
		w.await(EventRecoveryCompleted)
		if c := take(t, causes); c != "lost my way" || len(f.log) != 0 {
			t.Errorf("cause %q, log %q", c, f.log)
		}
	})
}

func TestLostAnswersAreRepeatedAndIgnored(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.window = 8
		const total = 50
		for range total {
			f.put("i", normal, "x")
		}
		var answers atomic.Int32
		f.after = func(procedure string) error {
			if procedure == sluicev1connect.WorkerServiceOpenSessionProcedure {
				return nil
			}
			if answers.Add(1)%3 == 0 {
				return fail(reason.OutcomeUnknown)
			}
			return nil
		}
		var handled atomic.Int32
		cfg.Handler = func(context.Context, *Delivery) error { handled.Add(1); return nil }
		f.work(cfg)
		f.until("all is settled", f.settledCount(total))
		if n := handled.Load(); n != total || len(f.log) != total {
			t.Errorf("want %d handled and settled, got %d and %d", total, n, len(f.log))
		}
	})
}

func TestLostSessionFencesEverythingAndANewOneIsOpened(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.put("i", normal, "x")
		begun, causes := make(chan struct{}, 1), make(chan error, 1)
		var handlers atomic.Int32
		cfg.Handler = func(ctx context.Context, d *Delivery) error {
			if handlers.Add(1) == 1 {
				begun <- struct{}{}
				<-ctx.Done()
				causes <- context.Cause(ctx)
			}
			return nil
		}
		cfg.OnRecovery = func(context.Context, *Recovery) error { return nil }
		cfg.TTL = time.Second
		w := f.work(cfg)
		session := w.await(EventSessionOpened).Session
		take(t, begun)
		f.expire(session)
		if err := take(t, causes); !errors.Is(err, ErrFenced) {
			t.Errorf("want FENCED, got %v", err)
		}
		w.await(EventSessionLost)
		if s := w.await(EventSessionOpened).Session; s == session {
			t.Errorf("the lost session was opened again")
		}
		f.until("the message is settled", f.settledCount(1))
		if len(f.log) != 1 {
			t.Errorf("log %q", f.log)
		}
	})
}

func TestWorkerThatCannotRenewItsLeaseInterruptsItsHandlers(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.put("i", normal, "x")
		var blocked atomic.Bool
		f.keepAlive = func() error {
			if blocked.Load() {
				return fail(reason.NoLeader)
			}
			return nil
		}
		begun, causes := make(chan struct{}, 1), make(chan error, 1)
		var handlers atomic.Int32
		cfg.Handler = func(ctx context.Context, d *Delivery) error {
			if handlers.Add(1) > 1 {
				return nil
			}
			begun <- struct{}{}
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return context.Cause(ctx)
		}
		cfg.TTL = time.Second
		w := f.work(cfg)
		take(t, begun)
		blocked.Store(true)
		if err := take(t, causes); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("want LEASE_LOST, got %v", err)
		}
		w.await(EventLeaseLapsed)
		f.until("the failed attempt is told", f.waits("i"))
		f.retry("i")
		blocked.Store(false)
		w.await(EventLeaseKept)
		f.until("it is settled", f.settledCount(2))
	})
}

func TestWorkerGoesOnByPollWhereNoStreamCanBeHad(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.noStreams = true
	f.put("i", normal, "x")
	f.work(WorkerConfig{Handler: func(context.Context, *Delivery) error { return nil }})
	f.until("it is settled", f.settledCount(1))
	if f.count(sluicev1connect.WorkerServicePollProcedure) == 0 {
		t.Error("nothing was polled")
	}
}

func TestBrokenStreamIsMadeAnew(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var handled atomic.Int32
	w := f.work(WorkerConfig{TTL: 30 * time.Second, Handler: func(context.Context, *Delivery) error { handled.Add(1); return nil }})
	for n := range 5 {
		f.put("i", normal, "x")
		f.until("it is settled", f.settledCount(n+1))
		f.change(func() { f.breakStreams(fail(reason.NoLeader)) })
		w.await(EventDisconnected)
	}
	if handled.Load() != 5 {
		t.Errorf("handled %d", handled.Load())
	}
}

func TestStopLetsHandlersFinishAndHandsBack(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.window = 3
		for range 3 {
			f.put("i", normal, "x")
		}
		begun, goOn := make(chan struct{}, 3), make(chan struct{})
		cfg.Handler = func(context.Context, *Delivery) error {
			begun <- struct{}{}
			<-goOn
			return nil
		}
		w := f.work(cfg)
		take(t, begun)
		w.cancel()
		close(goOn)
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		if len(f.log) != 1 || len(f.closedIDs) != 1 || f.instances["i"].owner != "" || f.instances["i"].inRecovery {
			t.Errorf("log %q, closed %q, owner %q", f.log, f.closedIDs, f.instances["i"].owner)
		}
		w.await(EventSessionClosed)
	})
}

func TestStopInterruptsAfterTheGraceTime(t *testing.T) {
	links(t, func(t *testing.T, cfg WorkerConfig) {
		f := newFake(t)
		f.put("i", normal, "x")
		f.put("j", normal, "x")
		begun := make(chan struct{}, 2)
		cfg.Grace = time.Millisecond
		cfg.Handler = func(ctx context.Context, d *Delivery) error {
			begun <- struct{}{}
			<-ctx.Done()
			if d.Instance.Key == "j" {
				return nil // it had finished after all
			}
			return context.Cause(ctx)
		}
		w := f.work(cfg)
		take(t, begun)
		take(t, begun)
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(f.log) != "[j LANE_NORMAL 1 OUTCOME_COMPLETED]" || len(f.closedIDs) != 1 {
			t.Errorf("log %q, closed %q", f.log, f.closedIDs)
		}
	})
}

func TestStopSendsAnInstanceIntoRecoveryWhoseHandlerHangs(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.put("i", normal, "x")
	begun, goOn := make(chan struct{}), make(chan struct{})
	w := f.work(WorkerConfig{Grace: time.Millisecond, Handler: func(context.Context, *Delivery) error {
		close(begun)
		<-goOn
		return nil
	}})
	take(t, begun)
	err := w.stop()
	close(goOn)
	if err != nil || !f.instances["i"].inRecovery || len(f.instances["i"].inDoubt) != 1 || len(f.closedIDs) != 1 {
		t.Errorf("%v; %+v; closed %q", err, f.instances["i"], f.closedIDs)
	}
}

func TestStopBreaksOffARecoveryThatWaits(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.recover("i", "operator")
	waiting, causes := make(chan struct{}), make(chan error, 1)
	w := f.work(WorkerConfig{
		Handler: func(context.Context, *Delivery) error { return nil },
		OnRecovery: func(ctx context.Context, r *Recovery) error {
			close(waiting)
			_, err := r.Next(ctx)
			causes <- err
			return err
		},
	})
	take(t, waiting)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if err := take(t, causes); !errors.Is(err, ErrStopped) || len(f.log) != 0 || len(f.closedIDs) != 1 {
		t.Errorf("%v; log %q", err, f.log)
	}
}

func TestIdleInstancesMakeRoom(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	cfg := WorkerConfig{Application: "app", Capacity: 3, Handler: func(context.Context, *Delivery) error { return nil }}.withDefaults(f.client())
	h := newHost(f.client(), cfg)
	h.session = "s"
	for n := range 100 {
		key := fmt.Sprint("i", n)
		h.arrive("s", []*sluicev1.Delivery{{Application: "app", Instance: key, Epoch: 1, Kind: sluicev1.DeliveryKind_DELIVERY_MESSAGE, Lane: normal, Seq: 1, Attempt: 1, Message: &sluicev1.Message{}}})
		for h.waitQuietOnce() {
			id, batch, _ := h.outgoing(1)
			if len(batch) > 0 {
				h.answered(id, make([]*sluicev1.SettleResult, len(batch)), "")
			}
		}
	}
	if len(h.table) > 2*cfg.Capacity || h.held != 0 {
		t.Errorf("%d instances are kept, %d messages held", len(h.table), h.held)
	}
}

// waitQuietOnce waits for a sign of life; false: all is quiet.
func (h *host) waitQuietOnce() bool {
	h.mu.Lock()
	quiet := h.running == 0 && h.out.empty()
	h.mu.Unlock()
	if quiet {
		return false
	}
	select {
	case <-h.quiet:
	case <-h.changed:
	}
	return true
}

func TestWorkerConfigIsChecked(t *testing.T) {
	t.Parallel()
	c := newFake(t).client()
	handler := func(context.Context, *Delivery) error { return nil }
	for name, cfg := range map[string]WorkerConfig{
		"no handler":  {Application: "app"},
		"bad name":    {Application: "App", Handler: handler},
		"short lease": {Application: "app", Handler: handler, TTL: time.Millisecond},
		"capacity":    {Application: "app", Handler: handler, Capacity: 1 << 20},
		"prefetch":    {Application: "app", Handler: handler, Prefetch: 5000},
		"concurrency": {Application: "app", Handler: handler, Concurrency: -1},
		"grace":       {Application: "app", Handler: handler, Grace: -1},
		"worker name": {Application: "app", Handler: handler, Name: "a\nb"},
	} {
		if _, err := c.NewWorker(cfg); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

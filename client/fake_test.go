package client

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// fake is a cluster of one, in memory: enough of the contract for a client and a worker to be tried on, and hooks to
// go wrong at any point. It judges settlements by epoch, owner, order and attempt, as the real one does.
type fake struct {
	sluicev1connect.UnimplementedMessageServiceHandler
	sluicev1connect.UnimplementedInstanceServiceHandler
	sluicev1connect.UnimplementedClusterServiceHandler
	t     *testing.T
	url   string
	inbox inbox
	// before may refuse a call before it is carried out, after may lose its answer. Set before use, nil: neither.
	before, after func(procedure string) error

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at each change
	window    int
	epochs    uint64
	instances map[string]*fakeInstance
	sessions  map[string]time.Duration
	opened    int
	calls     map[string]int
	log       []string // of settlements that took effect: "key lane seq outcome"
	errors    []string // error texts of settlements that took effect
	replies   [][]byte
	outgoing  []*sluicev1.Message
	noStreams bool
	// leaderless: it is out of touch with its cluster. A stream stands there, and ends without having brought anything.
	leaderless bool
	leader     string                    // that it names in answers to sends
	ingests    int                       // streams of sends that stand
	breakers   []context.CancelCauseFunc // of the streams that stand
	keepAlive  func() error
	closedIDs  []string
	lastPoll   map[string]*sluicev1.PollResponse // by session and request id
}

type fakeInstance struct {
	key         string
	epoch       uint64
	owner       string
	inRecovery  bool
	cause       string
	lanes       map[sluicev1.Lane][]*sluicev1.Delivery // unsettled, in order
	given       map[string]bool                        // identities handed out to the owner's present link
	waiting     bool                                   // the head is in its backoff
	state       []byte
	next        uint64
	attempt     uint32 // of the recovery
	settled     map[uint64]*sluicev1.Settlement
	inDoubt     []*sluicev1.InDoubt
	completions []*sluicev1.CompleteRecoveryRequest
}

func newFake(t *testing.T) *fake {
	f := &fake{
		t: t, changed: make(chan struct{}), window: 1, instances: map[string]*fakeInstance{},
		sessions: map[string]time.Duration{}, calls: map[string]int{}, lastPoll: map[string]*sluicev1.PollResponse{},
	}
	mux := http.NewServeMux()
	options := connect.WithInterceptors(f)
	mux.Handle(sluicev1connect.NewMessageServiceHandler(f, options))
	mux.Handle(sluicev1connect.NewClusterServiceHandler(fakeCluster{f: f}, options))
	mux.Handle(sluicev1connect.NewInstanceServiceHandler(fakeInstances{f: f}, options))
	mux.Handle(sluicev1connect.NewWorkerServiceHandler(f, options))
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// client is a client of the fake with short pauses.
func (f *fake) client(change ...func(*Config)) *Client {
	cfg := Config{
		Addresses: []string{f.url}, CallTimeout: 5 * time.Second,
		Retry: Retry{Initial: time.Millisecond, Max: 5 * time.Millisecond, Total: 10 * time.Second},
	}
	for _, c := range change {
		c(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

// fail makes a refusal as a node does.
func fail(r reason.Reason) error {
	codes := map[string]connect.Code{"unavailable": connect.CodeUnavailable, "unknown": connect.CodeUnknown,
		"not_found": connect.CodeNotFound, "failed_precondition": connect.CodeFailedPrecondition, "invalid_argument": connect.CodeInvalidArgument}
	e := connect.NewError(codes[r.Code()], r.Errorf("as the test wants it"))
	d, err := connect.NewErrorDetail(&sluicev1.ErrorDetail{Reason: string(r), Message: "as the test wants it"})
	if err == nil {
		e.AddDetail(d)
	}
	return e
}

// WrapUnary counts calls and lets the hooks refuse them or lose their answers.
func (f *fake) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		procedure := req.Spec().Procedure
		f.mu.Lock()
		f.calls[procedure]++
		f.mu.Unlock()
		if f.before != nil {
			if err := f.before(procedure); err != nil {
				return nil, err
			}
		}
		res, err := next(ctx, req)
		if f.after != nil {
			if err := f.after(procedure); err != nil {
				return nil, err
			}
		}
		return res, err
	}
}

func (f *fake) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (f *fake) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func (f *fake) count(procedure string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[procedure]
}

// change does something under the lock and tells all that wait.
func (f *fake) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

// instance is made at first use. Under the lock.
func (f *fake) instance(key string) *fakeInstance {
	i := f.instances[key]
	if i == nil {
		i = &fakeInstance{key: key, epoch: f.epoch(), lanes: map[sluicev1.Lane][]*sluicev1.Delivery{}, given: map[string]bool{}, settled: map[uint64]*sluicev1.Settlement{}}
		f.instances[key] = i
	}
	return i
}

func (f *fake) epoch() uint64 {
	f.epochs++
	return f.epochs
}

// put puts a message in a lane.
func (f *fake) put(key string, lane sluicev1.Lane, data string) (seq uint64) {
	f.change(func() {
		i := f.instance(key)
		i.next++
		seq = i.next
		i.lanes[lane] = append(i.lanes[lane], &sluicev1.Delivery{
			Application: "app", Instance: key, Kind: sluicev1.DeliveryKind_DELIVERY_MESSAGE, Lane: lane, Seq: seq, Attempt: 1,
			Message: &sluicev1.Message{Application: "app", Instance: key, Id: fmt.Sprintf("m%d", seq), Type: "t", Data: []byte(data)},
		})
	})
	return seq
}

func (f *fake) enter(i *fakeInstance, cause string) {
	i.inDoubt = nil
	for _, d := range i.lanes[sluicev1.Lane_LANE_NORMAL] {
		if i.given[identity(d)] {
			i.inDoubt = append(i.inDoubt, &sluicev1.InDoubt{Lane: d.Lane, Seq: d.Seq, Message: d.Message})
		}
	}
	i.epoch, i.inRecovery, i.cause, i.attempt, i.given, i.waiting = f.epoch(), true, cause, 1, map[string]bool{}, false
}

func identity(d *sluicev1.Delivery) string {
	return fmt.Sprintf("%d/%d/%d/%d", d.Epoch, d.Lane, d.Seq, d.Attempt)
}

// offer is what a session is to be given now, at most so much. Under the lock.
func (f *fake) offer(session string, most int) (out []*sluicev1.Delivery) {
	for _, i := range f.instances {
		if i.owner == "" {
			i.owner = session
		}
		if i.owner != session || i.waiting {
			continue
		}
		lane := sluicev1.Lane_LANE_NORMAL
		if i.inRecovery {
			lane = sluicev1.Lane_LANE_RECOVERY
			out = append(out, i.give(&sluicev1.Delivery{
				Application: "app", Instance: i.key, Kind: sluicev1.DeliveryKind_DELIVERY_RECOVERY, Lane: lane, Attempt: i.attempt,
				Recovery: &sluicev1.RecoveryWork{Cause: i.cause, InDoubt: i.inDoubt, DeferredMessages: uint64(len(i.lanes[sluicev1.Lane_LANE_NORMAL]))},
			})...)
		}
		for n, d := range i.lanes[lane] {
			if n < f.window && len(out) < most {
				out = append(out, i.give(d)...)
			}
		}
	}
	return out
}

func (i *fakeInstance) give(d *sluicev1.Delivery) []*sluicev1.Delivery {
	d.Epoch = i.epoch
	if i.given[identity(d)] {
		return nil
	}
	c := proto.CloneOf(d)
	if len(i.given) == 0 && i.state != nil {
		c.State, c.HasState = i.state, true
	}
	i.given[identity(d)] = true
	return []*sluicev1.Delivery{c}
}

// settle judges one settlement. Under the lock.
func (f *fake) settle(session string, s *sluicev1.Settlement) *sluicev1.SettleResult {
	refuse := func(r reason.Reason) *sluicev1.SettleResult {
		return &sluicev1.SettleResult{Error: r.Fault("seq %d", s.Seq)}
	}
	i := f.instance(s.Instance)
	if past := i.settled[s.Seq]; past != nil && proto.Equal(past, s) {
		return &sluicev1.SettleResult{Duplicate: true}
	}
	queue := i.lanes[s.Lane]
	switch {
	case s.Epoch != i.epoch:
		return refuse(reason.StaleEpoch)
	case i.owner != session:
		return refuse(reason.NotOwner)
	case i.settled[s.Seq] != nil:
		return refuse(reason.AlreadySettled)
	case len(s.State) > 100:
		return refuse(reason.BadField)
	case s.Seq != 0 && (len(queue) == 0 || queue[0].Seq != s.Seq):
		return refuse(reason.OutOfOrder)
	case i.waiting || s.Seq != 0 && queue[0].Attempt != s.Attempt:
		return refuse(reason.NotInFlight)
	}
	f.log = append(f.log, fmt.Sprintf("%s %v %d %v", s.Instance, s.Lane, s.Seq, s.Outcome))
	f.errors = append(f.errors, s.ErrorText)
	switch {
	case s.Seq == 0:
		i.attempt++
	case s.Outcome == sluicev1.Outcome_OUTCOME_FAILED:
		i.waiting = true
	default:
		i.lanes[s.Lane], i.settled[s.Seq] = queue[1:], s
		if s.SetState {
			i.state = s.State
		}
		f.outgoing = append(f.outgoing, s.Outgoing...)
		f.replies = append(f.replies, s.Reply)
	}
	return &sluicev1.SettleResult{}
}

type fakeCluster struct {
	sluicev1connect.UnimplementedClusterServiceHandler
	f *fake
}

func (c fakeCluster) Status(context.Context, *connect.Request[sluicev1.StatusRequest]) (*connect.Response[sluicev1.StatusResponse], error) {
	status := &sluicev1.StatusResponse{Cluster: "fake"}
	if !c.f.leaderless {
		status.LeaderAddress = c.f.url[len("http://"):]
	}
	return connect.NewResponse(status), nil
}

func (f *fake) OpenSession(_ context.Context, req *connect.Request[sluicev1.OpenSessionRequest]) (*connect.Response[sluicev1.OpenSessionResponse], error) {
	var id string
	f.change(func() {
		f.opened++
		id = fmt.Sprintf("session-%d", f.opened)
		f.sessions[id] = req.Msg.GetTtl().AsDuration()
	})
	return connect.NewResponse(&sluicev1.OpenSessionResponse{SessionId: id, Ttl: req.Msg.GetTtl()}), nil
}

// known refuses an unknown session.
func (f *fake) known(session string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.sessions[session]; !ok {
		return fail(reason.UnknownSession)
	}
	return nil
}

func (f *fake) KeepAlive(_ context.Context, req *connect.Request[sluicev1.KeepAliveRequest]) (*connect.Response[sluicev1.KeepAliveResponse], error) {
	if f.keepAlive != nil {
		if err := f.keepAlive(); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&sluicev1.KeepAliveResponse{Ttl: durationpb.New(time.Second)}), f.known(req.Msg.GetSessionId())
}

func (f *fake) CloseSession(_ context.Context, req *connect.Request[sluicev1.CloseSessionRequest]) (*connect.Response[sluicev1.CloseSessionResponse], error) {
	if err := f.known(req.Msg.GetSessionId()); err != nil {
		return nil, err
	}
	f.change(func() {
		delete(f.sessions, req.Msg.GetSessionId())
		f.closedIDs = append(f.closedIDs, req.Msg.GetSessionId())
		for _, i := range f.instances {
			if i.owner == req.Msg.GetSessionId() {
				i.owner, i.epoch, i.given = "", f.epoch(), map[string]bool{}
			}
		}
	})
	return connect.NewResponse(&sluicev1.CloseSessionResponse{}), nil
}

func (f *fake) Poll(ctx context.Context, req *connect.Request[sluicev1.PollRequest]) (*connect.Response[sluicev1.PollResponse], error) {
	key := req.Msg.GetSessionId() + " " + req.Msg.GetRequestId()
	f.mu.Lock()
	again := f.lastPoll[key]
	f.mu.Unlock()
	if again != nil {
		return connect.NewResponse(again), nil
	}
	ctx, cancel := context.WithTimeout(ctx, req.Msg.GetWait().AsDuration())
	defer cancel()
	res := &sluicev1.PollResponse{}
	for len(res.Deliveries) == 0 && ctx.Err() == nil {
		if err := f.known(req.Msg.GetSessionId()); err != nil {
			return nil, err
		}
		res.Deliveries = f.waitOffer(ctx, req.Msg.GetSessionId(), int(req.Msg.GetMax()))
	}
	f.mu.Lock()
	f.lastPoll[key] = res
	f.mu.Unlock()
	return connect.NewResponse(res), nil
}

// waitOffer is an offer, or none after a change.
func (f *fake) waitOffer(ctx context.Context, session string, most int) []*sluicev1.Delivery {
	f.mu.Lock()
	out, changed := f.offer(session, most), f.changed
	f.mu.Unlock()
	if len(out) == 0 {
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return out
}

func (f *fake) Settle(_ context.Context, req *connect.Request[sluicev1.SettleRequest]) (*connect.Response[sluicev1.SettleResponse], error) {
	if err := f.known(req.Msg.GetSessionId()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&sluicev1.SettleResponse{Results: f.settleAll(req.Msg.GetSessionId(), req.Msg.GetSettlements())}), nil
}

func (f *fake) settleAll(session string, all []*sluicev1.Settlement) (out []*sluicev1.SettleResult) {
	f.change(func() {
		for _, s := range all {
			out = append(out, f.settle(session, s))
		}
	})
	return out
}

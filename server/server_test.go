package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"

	"sluice/cluster"
)

// realServer is a cluster of one node with all that belongs to it.
type realServer struct {
	*Server
	url    string
	h1, h2 *http.Client
	stop   context.CancelFunc
	ended  chan error
}

func quick(c *cluster.Config) {
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
}

func startReal(t *testing.T, dir string, change ...func(*Config)) *realServer {
	t.Helper()
	cfg := Config{NodeID: "n1", DataDir: dir, Listen: "127.0.0.1:0", BootstrapExpect: 1, Version: "test", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Tune: quick}
	for _, c := range change {
		c(&cfg)
	}
	server, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &realServer{Server: server, url: "http://" + server.Addr().String(), h1: newClient(t, false), h2: newClient(t, true), stop: stop, ended: make(chan error, 1)}
	go func() { s.ended <- server.Run(ctx) }()
	t.Cleanup(func() { s.halt(t) })
	wait, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := server.WaitReady(wait); err != nil {
		t.Fatalf("WaitReady: %v", err)
	}
	return s
}

// halt stops the server, once, and tells how it ended.
func (s *realServer) halt(t *testing.T) {
	t.Helper()
	s.stop()
	if s.ended == nil {
		return
	}
	if err := <-s.ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	s.ended = nil
}

// must wants a call to succeed, and gives its answer without the spaces that protojson puts in at random.
func (s *realServer) must(t *testing.T, method, body string) string {
	t.Helper()
	got := post(t, s.h1, s.url, method, body)
	if got.status != http.StatusOK {
		t.Fatalf("%s %s: got %d %s", method, body, got.status, got.body)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(got.body)); err != nil {
		t.Fatal(err)
	}
	return compact.String()
}

// protocols are the ways to speak to the services.
func protocols() map[string]connect.ClientOption {
	return map[string]connect.ClientOption{
		"connect": connect.WithClientOptions(), "json": connect.WithProtoJSON(), "grpc": connect.WithGRPC(), "grpc-web": connect.WithGRPCWeb(),
		"grpc-json": connect.WithClientOptions(connect.WithGRPC(), connect.WithProtoJSON()), "gzip": connect.WithClientOptions(connect.WithSendGzip(), connect.WithGRPC()),
	}
}

func TestTheWholeWayOfAMessageInEveryProtocol(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	for name, option := range protocols() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := "app-" + name
			wholeWay(t, s, app, option)
		})
	}
}

// wholeWay sends messages, has them delivered, settles them and awaits the reply, first by calls, then by streams.
func wholeWay(t *testing.T, s *realServer, app string, option connect.ClientOption) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	messages := sluicev1connect.NewMessageServiceClient(s.h2, s.url, option)
	workers := sluicev1connect.NewWorkerServiceClient(s.h2, s.url, option)
	must(t)(sluicev1connect.NewApplicationServiceClient(s.h2, s.url, option).Apply(ctx, connect.NewRequest(&sluicev1.Application{Name: app})))
	sent, err := messages.Send(ctx, connect.NewRequest(&sluicev1.SendRequest{Messages: []*sluicev1.Message{
		{Application: app, Instance: "i", Id: "one", Type: "step", Data: []byte("1"), AwaitReply: true}, {Application: app, Instance: "i", Type: "step"}, {Application: app},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	results := sent.Msg.GetResults()
	if results[0].GetReceipt().GetSeq() != 1 || len(results[1].GetReceipt().GetMessageId()) != 36 || results[2].GetError().GetReason() != "BAD_NAME" {
		t.Fatalf("Send: got %v", results)
	}
	opened, err := workers.OpenSession(ctx, connect.NewRequest(&sluicev1.OpenSessionRequest{Application: app, Name: "w", Ttl: durationpb.New(30 * time.Second)}))
	if err != nil {
		t.Fatal(err)
	}
	session := opened.Msg.GetSessionId()
	polled, err := workers.Poll(ctx, connect.NewRequest(&sluicev1.PollRequest{SessionId: session, Max: 1, Wait: durationpb.New(20 * time.Second)}))
	if err != nil || len(polled.Msg.GetDeliveries()) != 1 {
		t.Fatalf("Poll: got %v %v", polled, err)
	}
	d := polled.Msg.GetDeliveries()[0]
	settled, err := workers.Settle(ctx, connect.NewRequest(&sluicev1.SettleRequest{SessionId: session, Settlements: []*sluicev1.Settlement{
		{Application: app, Instance: d.GetInstance(), Epoch: d.GetEpoch(), Seq: d.GetSeq(), Lane: d.GetLane(), Attempt: d.GetAttempt(), Outcome: sluicev1.Outcome_OUTCOME_COMPLETED, Reply: []byte("done")},
	}}))
	if err != nil || settled.Msg.GetResults()[0].GetError() != nil {
		t.Fatalf("Settle: got %v %v", settled, err)
	}
	status, err := messages.Await(ctx, connect.NewRequest(&sluicev1.AwaitRequest{Application: app, Instance: "i", Id: "one"}))
	if err != nil || string(status.Msg.GetReply()) != "done" {
		t.Fatalf("Await: got %v %v", status, err)
	}
	byStreams(ctx, t, messages, workers, app, session)
	if _, err := workers.CloseSession(ctx, connect.NewRequest(&sluicev1.CloseSessionRequest{SessionId: session})); err != nil {
		t.Fatal(err)
	}
	_, err = workers.KeepAlive(ctx, connect.NewRequest(&sluicev1.KeepAliveRequest{SessionId: session}))
	wantError(t, "KeepAlive after the end", err, connect.CodeNotFound, "UNKNOWN_SESSION")
}

func byStreams(ctx context.Context, t *testing.T, messages sluicev1connect.MessageServiceClient, workers sluicev1connect.WorkerServiceClient, app, session string) {
	t.Helper()
	const count = 200
	ingest := messages.Ingest(ctx)
	for n := range count {
		if err := ingest.Send(&sluicev1.SendRequest{Messages: []*sluicev1.Message{{Application: app, Instance: "j", Id: fmt.Sprint(n), Type: "step"}}}); err != nil {
			t.Fatalf("Ingest: %v", err)
		}
	}
	if err := ingest.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	for n := range count {
		got, err := ingest.Receive()
		if err != nil || got.GetResults()[0].GetReceipt().GetMessageId() != fmt.Sprint(n) || got.GetResults()[0].GetReceipt().GetSeq() != uint64(n+1) {
			t.Fatalf("Ingest: answer %d is %v %v", n, got, err)
		}
	}
	work := workers.Work(ctx)
	if err := work.Send(&sluicev1.WorkRequest{SessionId: session, Credit: 10}); err != nil {
		t.Fatal(err)
	}
	settled, asked := 0, uint64(0)
	for settled < count {
		got, err := work.Receive()
		if err != nil {
			t.Fatalf("Work: after %d: %v", settled, err)
		}
		for _, r := range got.GetResults() {
			if r.GetError() != nil {
				t.Fatalf("Work: settlement %d: %v", got.GetSettleId(), r.GetError())
			}
			settled++
		}
		req := &sluicev1.WorkRequest{Credit: uint32(len(got.GetDeliveries()))}
		for _, d := range got.GetDeliveries() {
			if d.GetInstance() == "j" {
				req.Settlements = append(req.Settlements, &sluicev1.Settlement{Application: app, Instance: "j", Epoch: d.GetEpoch(), Seq: d.GetSeq(), Lane: d.GetLane(), Outcome: sluicev1.Outcome_OUTCOME_COMPLETED})
			}
		}
		asked++
		req.SettleId = asked
		if len(got.GetDeliveries()) > 0 {
			if err := work.Send(req); err != nil {
				t.Fatalf("Work: %v", err)
			}
		}
	}
	if err := work.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := work.Receive(); err != nil {
			if !strings.Contains(err.Error(), "EOF") {
				t.Errorf("Work: want a plain end, got %v", err)
			}
			return
		}
	}
}

func must(t *testing.T) func(any, error) {
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestMetricsCarryTheServersRaftsAndBoltsSeries(t *testing.T) {
	t.Parallel()
	// The log itself is kept in bolt here: of the stable values alone bolt has little to tell.
	s := startReal(t, t.TempDir(), func(c *Config) { c.LogStore = "bolt" })
	s.must(t, "ApplicationService/Apply", `{"name": "a"}`)
	s.must(t, "MessageService/Send", `{"messages": [{"application": "a", "instance": "i", "type": "t"}]}`)
	_, body := get(t, s.url+"/metrics")
	for _, series := range []string{"raft_", "raft_boltdb_", "go_goroutines", "process_cpu_seconds_total", `sluice_server_calls_total{code="ok",method="MessageService/Send"} 1`} {
		if !strings.Contains(body, "\n"+series) {
			t.Errorf("want %s in /metrics, got:\n%s", series, body)
		}
	}
}

func TestStopAndStartAgainKeepsEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startReal(t, dir)
	s.must(t, "ApplicationService/Apply", `{"name": "a"}`)
	s.must(t, "MessageService/Send", `{"messages": [{"application": "a", "instance": "i", "type": "t", "id": "kept", "data": "AAAA"}]}`)
	s.halt(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := s.h1.Do(req); err == nil {
		resp.Body.Close()
		t.Error("a stopped server still answers")
	}
	again := startReal(t, dir)
	if got := again.must(t, "MessageService/Get", `{"application": "a", "instance": "i", "id": "kept"}`); !strings.Contains(got, "MESSAGE_STATUS_QUEUED") {
		t.Errorf("after the restart: got %s", got)
	}
}

func TestStreamsEndWhenTheServerStops(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	s.must(t, "ApplicationService/Apply", `{"name": "a"}`)
	workers := sluicev1connect.NewWorkerServiceClient(s.h2, s.url, connect.WithGRPC())
	opened, err := workers.OpenSession(t.Context(), connect.NewRequest(&sluicev1.OpenSessionRequest{Application: "a", Name: "w"}))
	if err != nil {
		t.Fatal(err)
	}
	work := workers.Work(t.Context())
	if err := work.Send(&sluicev1.WorkRequest{SessionId: opened.Msg.GetSessionId(), SettleId: 1, Settlements: []*sluicev1.Settlement{{}}}); err != nil {
		t.Fatal(err)
	}
	if got, err := work.Receive(); err != nil || got.GetSettleId() != 1 {
		t.Fatalf("Work: got %v %v", got, err)
	}
	s.halt(t)
	_, err = work.Receive()
	wantError(t, "Work", err, connect.CodeUnavailable, "OVERLOADED")
}

func TestConfigurationsThatCannotServe(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	good := func() Config {
		return Config{NodeID: "n1", DataDir: t.TempDir(), Listen: "127.0.0.1:0", BootstrapExpect: 1, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	}
	for want, change := range map[string]func(*Config){
		"node id":               func(c *Config) { c.NodeID = "" },
		"data folder":           func(c *Config) { c.DataDir = "" },
		"address to listen":     func(c *Config) { c.Listen = "" },
		"go together":           func(c *Config) { c.CertFile = "x" },
		"log store":             func(c *Config) { c.LogStore = "tape" },
		"from 100ms to 1m0s":    func(c *Config) { c.ElectionTimeout = 99 * time.Millisecond },
		"timeout, 1m1s":         func(c *Config) { c.ElectionTimeout = 61 * time.Second },
		"address already in u":  func(c *Config) { c.Listen = s.Addr().String() },
		"loopback":              func(c *Config) { c.Listen = "0.0.0.0:0" },
		"not within 1 and 1024": func(c *Config) { c.DrainBeside = 1025 },
		"gossip":                func(c *Config) { c.BootstrapExpect = 3 },
	} {
		cfg := good()
		change(&cfg)
		server, err := New(cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
		if err == nil {
			must(t)(nil, server.Close())
		}
	}
	server, err := New(good())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Errorf("Close of a server that never ran: %v", err)
	}
}

func TestAnOperationOverASetIsServed(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	s.must(t, "ApplicationService/Apply", `{"name": "a"}`)
	for _, key := range []string{"eu-1", "eu-2", "us-1"} {
		s.must(t, "MessageService/Send", `{"messages": [{"application": "a", "instance": "`+key+`", "type": "t"}]}`)
	}
	body := `{"application": "a", "kind": "OPERATION_KIND_ENTER_RECOVERY", "selector": {"prefix": "eu-"}, "cause": "fire", "requestId": "q"`
	if got := s.must(t, "OperationService/Start", body+`, "dryRun": true}`); !strings.Contains(got, `"instances":["eu-1","eu-2"]`) || strings.Contains(got, `"id"`) {
		t.Errorf("dry run: got %s", got)
	}
	var started struct {
		Operation struct{ ID, State, Actor string }
	}
	must(t)(nil, json.Unmarshal([]byte(s.must(t, "OperationService/Start", body+`}`)), &started))
	if id := started.Operation.ID; id == "" || !strings.HasPrefix(started.Operation.Actor, "anonymous@") {
		t.Fatalf("started: %+v", started)
	}
	if got := s.must(t, "OperationService/Start", body+`}`); !strings.Contains(got, started.Operation.ID) || !strings.Contains(got, `"duplicate":true`) {
		t.Errorf("repeated: got %s", got)
	}
	for !strings.Contains(s.must(t, "OperationService/Get", `{"id": "`+started.Operation.ID+`"}`), "OPERATION_DONE") {
	}
	got := s.must(t, "OperationService/ListItems", `{"id": "`+started.Operation.ID+`", "state": "ITEM_DONE"}`)
	if got != `{"items":[{"instance":"eu-1","state":"ITEM_DONE"},{"instance":"eu-2","state":"ITEM_DONE"}]}` {
		t.Errorf("items: got %s", got)
	}
}

package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"

	"sluice/cluster"
	"sluice/fsm"
	"sluice/web"
)

// fakeNode answers as its fields say; a method without a field panics, which the tests would see.
type fakeNode struct {
	Node
	propose   func(context.Context, *logv1.Command) (*logv1.Outcome, error)
	view      View
	staleness Staleness
	keepAlive func(string) (time.Duration, error)
	poll      func(context.Context, *sluicev1.PollRequest, bool) (*sluicev1.PollResponse, error)
	settle    func(*sluicev1.SettleRequest) (*sluicev1.SettleResponse, error)
	quiesced  func(fsm.InstanceID) (bool, error)
	await     func(context.Context, fsm.InstanceID, string) (*sluicev1.MessageStatus, error)
	status    *sluicev1.StatusResponse
	checks    []cluster.Check
	leader    string
}

func (f *fakeNode) Propose(ctx context.Context, cmd *logv1.Command) (*logv1.Outcome, error) {
	return f.propose(ctx, cmd)
}

func (f *fakeNode) Read(_ context.Context, stale bool) (View, Staleness, error) {
	if !stale {
		return f.view, Staleness{}, nil
	}
	return f.view, f.staleness, nil
}

func (f *fakeNode) KeepAlive(_ context.Context, id string) (time.Duration, error) {
	return f.keepAlive(id)
}

func (f *fakeNode) Poll(ctx context.Context, req *sluicev1.PollRequest, afresh bool) (*sluicev1.PollResponse, error) {
	return f.poll(ctx, req, afresh)
}

func (f *fakeNode) PollStream(ctx context.Context, req *sluicev1.PollRequest, _ string, afresh bool) (*sluicev1.PollResponse, error) {
	return f.poll(ctx, req, afresh)
}

func (f *fakeNode) Settle(_ context.Context, req *sluicev1.SettleRequest) (*sluicev1.SettleResponse, error) {
	return f.settle(req)
}

func (f *fakeNode) Quiesced(_ context.Context, id fsm.InstanceID) (bool, error) {
	return f.quiesced(id)
}

func (f *fakeNode) Await(ctx context.Context, id fsm.InstanceID, message string) (*sluicev1.MessageStatus, error) {
	return f.await(ctx, id, message)
}

func (f *fakeNode) Status(context.Context) (*sluicev1.StatusResponse, error) { return f.status, nil }

func (f *fakeNode) Ready() []cluster.Check { return f.checks }

func (f *fakeNode) LeaderAddress() string { return f.leader }

// fakeView answers with what its fields hold.
type fakeView struct {
	View
	instance  *sluicev1.Instance
	instances []*sluicev1.Instance
}

func (v fakeView) Instance(fsm.InstanceID) (*sluicev1.Instance, error) { return v.instance, nil }

func (v fakeView) Instances(*sluicev1.ListInstancesRequest) (*sluicev1.ListInstancesResponse, error) {
	return &sluicev1.ListInstancesResponse{Instances: v.instances}, nil
}

// fakeServer serves a fake node over real HTTP, HTTP/1.1 and h2c.
type fakeServer struct {
	*lifetime
	node *fakeNode
	url  string
	// h1 and h2 speak the two protocols.
	h1, h2 *http.Client
}

func testConfig() Config {
	return Config{NodeID: "n1", DataDir: "-", Listen: "-", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Profiles: true}.Defaults()
}

func serveFake(t testing.TB, node *fakeNode, change ...func(*Config)) *fakeServer {
	t.Helper()
	cfg := testConfig()
	for _, c := range change {
		c(&cfg)
	}
	life := newLifetime()
	t.Cleanup(life.end)
	calls := newCallMetrics()
	p := &pages{lifetime: life, node: node, profiles: cfg.Profiles, about: web.About{NodeID: cfg.NodeID, Cluster: cfg.Cluster},
		registry: newRegistry(calls, prometheus.NewGauge(prometheus.GaugeOpts{Name: "node_gauge"}))}
	server := httptest.NewUnstartedServer(nil)
	server.Config = newHTTP(cfg, cfg.Logger, newHandler(cfg, cfg.Logger, life, node, calls, p))
	server.Start()
	t.Cleanup(server.Close)
	return &fakeServer{lifetime: life, node: node, url: server.URL, h1: newClient(t, false), h2: newClient(t, true)}
}

// newClient makes a client of HTTP/1.1 or of HTTP/2 in plain text.
func newClient(t testing.TB, two bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!two)
	protocols.SetUnencryptedHTTP2(two)
	carrier := &http.Transport{Protocols: protocols}
	t.Cleanup(carrier.CloseIdleConnections)
	return &http.Client{Transport: carrier}
}

// acceptAll is a gate that accepts every message.
func acceptAll(_ context.Context, cmd *logv1.Command) (*logv1.Outcome, error) {
	answer := &sluicev1.SendResponse{}
	for _, m := range cmd.GetSend().GetMessages() {
		answer.Results = append(answer.Results, &sluicev1.SendResult{Receipt: &sluicev1.Receipt{MessageId: m.GetId()}})
	}
	return &logv1.Outcome{Result: &logv1.Outcome_Send{Send: answer}}, nil
}

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// syncedLogger writes into a buffer that is read once everything was written.
func syncedLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

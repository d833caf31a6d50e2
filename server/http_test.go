package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"

	"sluice/api/reason"
	"sluice/cluster"
	"sluice/fsm"
)

// answer is what came back for a plain POST, as curl would see it.
type answer struct {
	status  int
	body    string
	Code    string
	Message string
	Details []struct{ Type string }
}

func (s *fakeServer) post(t *testing.T, client *http.Client, method, body string, headers ...string) answer {
	t.Helper()
	return post(t, client, s.url, method, body, headers...)
}

func post(t *testing.T, client *http.Client, url, method, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/sluice.v1."+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("POST %s: %v", method, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("POST %s: %v", method, err)
	}
	got := answer{status: resp.StatusCode, body: string(text)}
	if resp.StatusCode != http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("POST %s: %v in %s", method, err, text)
		}
	}
	return got
}

func (a answer) want(t *testing.T, code, why string) {
	t.Helper()
	if a.Code != code || !strings.HasPrefix(a.Message, "["+why+"] ") || len(a.Details) != 1 || a.Details[0].Type != "sluice.v1.ErrorDetail" {
		t.Errorf("want %s [%s] with a detail, got %d %.300s", code, why, a.status, a.body)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestAnOversizeCallIsRefusedByItsLimit(t *testing.T) {
	t.Parallel()
	s := serveFake(t, &fakeNode{propose: acceptAll}, func(c *Config) { c.Limits.CallBytes = 1 << 20 })
	huge := `{"messages": [{"data": "` + strings.Repeat("AAAA", 1<<19) + `"}]}`
	for _, client := range []*http.Client{s.h1, s.h2} {
		got := s.post(t, client, "MessageService/Send", huge)
		got.want(t, "resource_exhausted", "LIMIT_MESSAGE_BYTES")
		if !strings.Contains(got.Message, "1048576 bytes (1 MiB)") {
			t.Errorf("want the limit named, got %q", got.Message)
		}
	}
	small := pack(t, `{"messages": [{}]}`)
	s.post(t, s.h1, "MessageService/Send", pack(t, huge), "Content-Encoding", "gzip").want(t, "resource_exhausted", "LIMIT_MESSAGE_BYTES")
	s.post(t, s.h1, "MessageService/Send", "no gzip", "Content-Encoding", "gzip").want(t, "invalid_argument", "BAD_FIELD")
	s.post(t, s.h1, "MessageService/Send", small[:len(small)-9], "Content-Encoding", "gzip").want(t, "invalid_argument", "BAD_FIELD")
	if got := s.post(t, s.h1, "MessageService/Send", small, "Content-Encoding", "gzip"); got.status != http.StatusOK {
		t.Errorf("a packed call: want it taken, got %d %s", got.status, got.body)
	}

	at := `{"messages": [{}` + strings.Repeat(" ", 1<<20-18) + `]}`
	if got := s.post(t, s.h1, "MessageService/Send", at); got.status != http.StatusOK || len(at) != 1<<20 {
		t.Errorf("a call of exactly the limit: want it taken, got %d %.200s", got.status, got.body)
	}
	for name, option := range map[string]connect.ClientOption{"grpc": connect.WithGRPC(), "grpc-web": connect.WithGRPCWeb(), "connect": connect.WithClientOptions()} {
		client := sluicev1connect.NewMessageServiceClient(s.h2, s.url, option)
		_, err := client.Send(t.Context(), connect.NewRequest(&sluicev1.SendRequest{Messages: []*sluicev1.Message{{Data: make([]byte, 2<<20)}}}))
		wantError(t, name, err, connect.CodeResourceExhausted, "LIMIT_MESSAGE_BYTES")
		ok, err := client.Send(t.Context(), connect.NewRequest(&sluicev1.SendRequest{Messages: []*sluicev1.Message{aMessage("x")}}))
		if err != nil || ok.Msg.GetResults()[0].GetReceipt().GetMessageId() != "x" {
			t.Errorf("%s: want a receipt afterwards, got %v %v", name, ok, err)
		}
		stream := client.Ingest(t.Context())
		if err := stream.Send(&sluicev1.SendRequest{Messages: []*sluicev1.Message{{Data: make([]byte, 2<<20)}}}); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
		_, err = stream.Receive()
		wantError(t, name+" stream", err, connect.CodeResourceExhausted, "LIMIT_MESSAGE_BYTES")
	}
}

func pack(t *testing.T, text string) string {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.String()
}

func wantError(t *testing.T, what string, err error, code connect.Code, why string) {
	t.Helper()
	var wire *connect.Error
	if !errors.As(err, &wire) || wire.Code() != code || !strings.HasPrefix(wire.Message(), "["+why+"] ") {
		t.Errorf("%s: want %v [%s], got %v", what, code, why, err)
		return
	}
	if len(wire.Details()) != 1 {
		t.Errorf("%s: want a detail, got %d", what, len(wire.Details()))
	}
}

func TestAMethodThatDoesNotExistIsUnimplemented(t *testing.T) {
	t.Parallel()
	s := serveFake(t, &fakeNode{})
	for _, method := range []string{"MessageService/Explode", "NoService/Send", "MessageService/Send/"} {
		s.post(t, s.h1, method, "{}").want(t, "unimplemented", "NOT_IMPLEMENTED")
	}
	client := connect.NewClient[sluicev1.StatusRequest, sluicev1.StatusResponse](s.h2, s.url+"/sluice.v1.ClusterService/Explode", connect.WithGRPC())
	_, err := client.CallUnary(t.Context(), connect.NewRequest(&sluicev1.StatusRequest{}))
	wantError(t, "grpc", err, connect.CodeUnimplemented, "NOT_IMPLEMENTED")
	if got := s.post(t, s.h1, "MessageService/Send", "hello", "Content-Type", "text/plain"); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: want 415, got %d", got.status)
	}
	if status, _ := get(t, s.url+"/sluice.v1.MessageService/Send"); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: want 405, got %d", status)
	}
	if status, _ := get(t, s.url+"/nothing/here"); status != http.StatusNotFound {
		t.Errorf("GET of no page: want 404, got %d", status)
	}
}

func TestMethodsOfALaterVersionSayThatTheyAreNotServed(t *testing.T) {
	t.Parallel()
	s := serveFake(t, &fakeNode{})
	client := sluicev1connect.NewClusterServiceClient(s.h2, s.url, connect.WithGRPC())
	backup, err := client.Backup(t.Context(), connect.NewRequest(&sluicev1.BackupRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	backup.Receive()
	wantError(t, "Backup", backup.Err(), connect.CodeUnimplemented, "NOT_IMPLEMENTED")
	_, err = client.Restore(t.Context()).CloseAndReceive()
	wantError(t, "Restore", err, connect.CodeUnimplemented, "NOT_IMPLEMENTED")
}

func TestAPanicFailsTheCallAlone(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := serveFake(t, &fakeNode{propose: func(context.Context, *logv1.Command) (*logv1.Outcome, error) { panic("ouch") }}, func(c *Config) { c.Logger = syncedLogger(&log) })
	one := `{"messages": [{"application": "a", "instance": "i", "type": "t"}]}`
	s.post(t, s.h1, "MessageService/Send", one).want(t, "internal", "INTERNAL")
	stream := sluicev1connect.NewMessageServiceClient(s.h2, s.url).Ingest(t.Context())
	if err := stream.Send(&sluicev1.SendRequest{Messages: []*sluicev1.Message{aMessage("x")}}); err != nil {
		t.Fatal(err)
	}
	_, err := stream.Receive()
	wantError(t, "Ingest", err, connect.CodeInternal, "INTERNAL")
	if status, _ := get(t, s.url+"/livez"); status != http.StatusOK {
		t.Errorf("livez afterwards: want 200, got %d", status)
	}
	if text := log.String(); !strings.Contains(text, "ouch") || !strings.Contains(text, "message.go") {
		t.Errorf("want the panic and its stack in the log, got %s", text)
	}
}

func TestTheActorIsWhoTheHeaderSays(t *testing.T) {
	t.Parallel()
	actors := make(chan string, 3)
	s := serveFake(t, &fakeNode{propose: func(ctx context.Context, cmd *logv1.Command) (*logv1.Outcome, error) {
		actors <- cmd.GetActor()
		return acceptAll(ctx, cmd)
	}})
	one := `{"messages": [{"application": "a", "instance": "i", "type": "t"}]}`
	s.post(t, s.h1, "MessageService/Send", one)
	if got := <-actors; got != "anonymous@127.0.0.1" {
		t.Errorf("without a header: got %q", got)
	}
	s.post(t, s.h2, "MessageService/Send", one, "Sluice-Actor", "жанна")
	if got := <-actors; got != "жанна" {
		t.Errorf("with a header: got %q", got)
	}
	s.post(t, s.h1, "MessageService/Send", one, "Sluice-Actor", strings.Repeat("x", 257)).want(t, "invalid_argument", "BAD_FIELD")
	s.post(t, s.h1, "MessageService/Send", one, "Sluice-Actor", "a\xff").want(t, "invalid_argument", "BAD_FIELD")

	secure := httpRequest(t, "Sluice-Actor", "me")
	if got, err := identify(secure, true); err != nil || !strings.HasPrefix(got, "anonymous@") {
		t.Errorf("with TLS a header counts for nothing: got %q %v", got, err)
	}
}

func httpRequest(t *testing.T, header, value string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.RemoteAddr = "10.0.0.7:99"
	r.Header.Set(header, value)
	return r
}

func TestAStoppingServerTakesNoCallsAndEndsWaits(t *testing.T) {
	t.Parallel()
	waiting := make(chan struct{})
	s := serveFake(t, &fakeNode{
		checks: []cluster.Check{{Name: "leader known", OK: true, Text: "n1"}},
		await: func(ctx context.Context, _ fsm.InstanceID, _ string) (*sluicev1.MessageStatus, error) {
			close(waiting)
			<-ctx.Done()
			return &sluicev1.MessageStatus{Status: sluicev1.Status_MESSAGE_STATUS_QUEUED}, nil
		}})
	if status, body := get(t, s.url+"/readyz?verbose"); status != http.StatusOK || body != "[ok] serving: takes calls\n[ok] leader known: n1\nready\n" {
		t.Errorf("readyz: got %d %q", status, body)
	}
	awaited := make(chan answer, 1)
	go func() {
		awaited <- s.post(t, s.h1, "MessageService/Await", `{"application": "a", "instance": "i", "id": "m", "timeout": "60s"}`)
	}()
	<-waiting
	s.end()
	got := <-awaited
	got.want(t, "unavailable", "OVERLOADED")
	s.post(t, s.h1, "MessageService/Send", "{}").want(t, "unavailable", "OVERLOADED")
	if status, _ := get(t, s.url+"/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("readyz: want 503, got %d", status)
	}
	if status, _ := get(t, s.url+"/livez"); status != http.StatusOK {
		t.Errorf("livez: want 200, got %d", status)
	}
}

func TestAwaitGivesTheStatusSoFarAtItsTimeout(t *testing.T) {
	t.Parallel()
	s := serveFake(t, &fakeNode{await: func(ctx context.Context, id fsm.InstanceID, message string) (*sluicev1.MessageStatus, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 10*time.Millisecond {
			t.Errorf("want a deadline of 10 ms, got %v", time.Until(deadline))
		}
		<-ctx.Done()
		return &sluicev1.MessageStatus{MessageId: message, Status: sluicev1.Status_MESSAGE_STATUS_QUEUED}, nil
	}})
	got := s.post(t, s.h1, "MessageService/Await", `{"application": "a", "instance": "i", "id": "m", "timeout": "0.01s"}`)
	if got.status != http.StatusOK || !strings.Contains(got.body, "MESSAGE_STATUS_QUEUED") {
		t.Errorf("want the status so far, got %d %s", got.status, got.body)
	}
	s.post(t, s.h1, "MessageService/Await", `{"application": "a", "instance": "i", "id": "m", "timeout": "301s"}`).want(t, "invalid_argument", "BAD_FIELD")
	s.post(t, s.h1, "MessageService/Await", `{"application": "a", "instance": "i", "id": "m", "timeout": "-1s"}`).want(t, "invalid_argument", "BAD_FIELD")
}

func TestMoreCallsThanAllowedAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	inside, goOn := make(chan struct{}), make(chan struct{})
	s := serveFake(t, &fakeNode{propose: func(ctx context.Context, cmd *logv1.Command) (*logv1.Outcome, error) {
		close(inside)
		<-goOn
		return acceptAll(ctx, cmd)
	}}, func(c *Config) { c.Limits.Calls = 1 })
	one := `{"messages": [{"application": "a", "instance": "i", "type": "t"}]}`
	done := make(chan answer, 1)
	go func() { done <- s.post(t, s.h1, "MessageService/Send", one) }()
	<-inside
	s.post(t, s.h1, "MessageService/Send", one).want(t, "unavailable", "OVERLOADED")
	close(goOn)
	if got := <-done; got.status != http.StatusOK {
		t.Errorf("the call that was in: want it served, got %d %s", got.status, got.body)
	}
}

func TestQuiescedIsAskedOfTheLeaderAndStaleReadsSayHowOld(t *testing.T) {
	t.Parallel()
	asked := 0
	recovering := func(key, owner string) *sluicev1.Instance {
		return &sluicev1.Instance{Application: "a", Key: key, Owner: owner, Mode: sluicev1.Mode_MODE_RECOVERY}
	}
	node := &fakeNode{
		view:      fakeView{instance: recovering("i", "s"), instances: []*sluicev1.Instance{recovering("i", "s"), recovering("j", ""), {Key: "k", Mode: sluicev1.Mode_MODE_NORMAL}}},
		staleness: Staleness{Index: 7, Age: 1500 * time.Millisecond},
		quiesced:  func(fsm.InstanceID) (bool, error) { asked++; return true, nil },
	}
	s := &instanceService{node}
	got, err := s.Get(t.Context(), connect.NewRequest(&sluicev1.GetInstanceRequest{Application: "a", Instance: "i"}))
	if err != nil || !got.Msg.GetQuiesced() || got.Msg.GetStaleIndex() != 0 {
		t.Errorf("Get: want it quiesced, got %v %v", got, err)
	}
	listed, err := s.List(t.Context(), connect.NewRequest(&sluicev1.ListInstancesRequest{Application: "a"}))
	if err != nil || asked != 2 || !listed.Msg.GetInstances()[0].GetQuiesced() || !listed.Msg.GetInstances()[1].GetQuiesced() || listed.Msg.GetInstances()[2].GetQuiesced() {
		t.Errorf("List: want the leader asked of one instance and two quiesced, got %d, %v %v", asked-1, listed, err)
	}
	node.quiesced = func(fsm.InstanceID) (bool, error) { return true, reason.NoLeader.Errorf("none") }
	if got, err = s.Get(t.Context(), connect.NewRequest(&sluicev1.GetInstanceRequest{Application: "a", Instance: "i"})); err != nil || got.Msg.GetQuiesced() {
		t.Errorf("without a leader: want it not known to be quiesced, got %v %v", got, err)
	}
	got, err = s.Get(t.Context(), connect.NewRequest(&sluicev1.GetInstanceRequest{Application: "a", Instance: "i", Stale: true}))
	if err != nil || got.Msg.GetStaleIndex() != 7 || got.Msg.GetStaleAgeMs() != 1500 {
		t.Errorf("stale: want index 7 and 1500 ms, got %v %v", got, err)
	}
}

func TestPagesAreThere(t *testing.T) {
	t.Parallel()
	s := serveFake(t, &fakeNode{checks: []cluster.Check{{Name: "leader known", Text: "there is none"}}})
	s.post(t, s.h1, "MessageService/Get", "{}")
	s.post(t, s.h1, "MessageService/Explode", "{}")
	for path, want := range map[string]string{
		"/":              "node <b>n1</b>",
		"/metrics":       `sluice_server_calls_total{code="invalid_argument",method="MessageService/Get"} 1`,
		"/debug/pprof/":  "goroutine",
		"/readyz":        "[no] leader known: there is none",
		"/debug/pprof/x": "Unknown profile",
	} {
		if _, body := get(t, s.url+path); !strings.Contains(body, want) {
			t.Errorf("%s: want %q in it, got %.300s", path, want, body)
		}
	}
	if _, body := get(t, s.url+"/metrics"); !strings.Contains(body, `sluice_server_calls_refused_total{reason="NOT_IMPLEMENTED"} 1`) {
		t.Errorf("want the refused call counted, got %s", body)
	}
	stranger := loopbackOnly(func(w http.ResponseWriter, _ *http.Request) { t.Error("a stranger was shown a profile") })
	w := newRecorder()
	stranger(w, httpRequest(t, "X", "x"))
	if w.Code != http.StatusForbidden {
		t.Errorf("profile for a stranger: want 403, got %d", w.Code)
	}
	plain := serveFake(t, &fakeNode{}, func(c *Config) { c.Profiles = false })
	if status, _ := get(t, plain.url+"/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("profiles that were not asked for: want 404, got %d", status)
	}
}

// Every answer names the leader that the node knows, also one that refuses, and one that the call did not get through to.
func TestAnswersNameTheLeader(t *testing.T) {
	t.Parallel()
	node := &fakeNode{propose: acceptAll, leader: "10.0.0.1:7631"}
	s := serveFake(t, node)
	leader := func(body string, headers ...string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/sluice.v1.MessageService/Send", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := s.h2.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.Header.Get(leaderHeader)
	}
	one := `{"messages": [{"application": "a", "instance": "i", "type": "t"}]}`
	for name, got := range map[string]string{
		"done": leader(one), "refused": leader(`{"messages": [{}]}`), "not let in": leader(one, "Sluice-Actor", strings.Repeat("x", 257)),
	} {
		if got != node.leader {
			t.Errorf("%s: the answer names %q, want %q", name, got, node.leader)
		}
	}
}

//go:build linux

package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	restate "github.com/restatedev/sdk-go"
	"github.com/restatedev/sdk-go/server"

	"sluice/bench/load"
	"sluice/bench/process"
)

// Restate is one node of Restate: an instance is a virtual object, whose exclusive handler runs for one message after
// the other. A job is one call: the server stores the invocation, has the handler run in one of two services, stores its
// end, and answers then. So a message costs one request instead of a send and a settlement.
type Restate struct {
	// Binary is restate-server.
	Binary string
}

// restateService is the object's name; there is one for each worker.
const restateService = "Worker"

// Name is "restate".
func (Restate) Name() string { return "restate" }

// restateCluster is one node and the endpoints of the two services.
type restateCluster struct {
	processes process.Cluster
	endpoints []*http.Server
}

// Start starts the node and registers the services.
func (p Restate) Start(ctx context.Context, dir string) (load.Cluster, error) {
	ports, err := process.FreePorts(3)
	if err != nil {
		return nil, err
	}
	c := &restateCluster{}
	if c.processes.Dir, err = os.MkdirTemp(dir, "restate-"); err != nil {
		return nil, err
	}
	n, err := process.Launch(process.Program{
		Name: "n1", Address: ports[0], Log: filepath.Join(c.processes.Dir, "n1.log"), Path: p.Binary, Args: []string{"--no-logo", "--listen-mode", "tcp"},
		Env: []string{
			"RESTATE_BASE_DIR=" + filepath.Join(c.processes.Dir, "n1"), "RESTATE_NODE_NAME=n1", "RESTATE_DISABLE_TELEMETRY=true", "RUST_LOG=warn",
			"RESTATE_INGRESS__BIND_ADDRESS=" + ports[0], "RESTATE_ADMIN__BIND_ADDRESS=" + ports[1], "RESTATE_BIND_ADDRESS=" + ports[2],
			"RESTATE_ADVERTISED_ADDRESS=http://" + ports[2],
		},
	})
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	c.processes.All = append(c.processes.All, n)
	for _, page := range []string{"http://" + ports[1] + "/health", "http://" + ports[0] + "/restate/health"} {
		if err := c.processes.Up(ctx, func(*process.Node) func(context.Context) error { return process.Answers(page) }); err != nil {
			return nil, err
		}
	}
	for i := range load.Workers {
		if err := c.serve(ctx, fmt.Sprintf("%s%d", restateService, i), ports[1]); err != nil {
			return nil, errors.Join(err, c.Stop())
		}
	}
	return c, nil
}

// serve makes the endpoint of a worker's service, and registers it with the node.
func (c *restateCluster) serve(ctx context.Context, name, admin string) error {
	work := func(restate.ObjectContext, []byte) ([]byte, error) { return nil, nil }
	object := restate.NewObject(name).Handler("Work", restate.NewObjectHandler(work, restate.WithBinary))
	handler, err := server.NewRestate().WithLogger(slog.DiscardHandler, false).Bind(object).Handler()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	endpoint := &http.Server{Handler: handler, Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1 << 14}}
	endpoint.Protocols.SetUnencryptedHTTP2(true)
	c.endpoints = append(c.endpoints, endpoint)
	go func() { _ = endpoint.Serve(listener) }() // it ends when it is closed
	body, err := json.Marshal(map[string]string{"uri": "http://" + listener.Addr().String()})
	if err != nil {
		return err
	}
	return call(ctx, http.DefaultClient, "http://"+admin+"/deployments", "application/json", body)
}

// call posts, and wants success.
func call(ctx context.Context, client *http.Client, url, kind string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", kind)
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s answers %s: %s", url, answer.Status, strings.TrimSpace(string(text)))
	}
	return err
}

func (c *restateCluster) Processes() *process.Cluster { return &c.processes }

func (c *restateCluster) Stop() error {
	err := c.processes.Stop()
	for _, endpoint := range c.endpoints {
		err = errors.Join(err, endpoint.Close())
	}
	return err
}

// Elections are none: there is one node.
func (c *restateCluster) Elections(context.Context) (uint64, bool, error) { return 0, true, nil }

// Leader is the only node.
func (c *restateCluster) Leader(context.Context) (*process.Node, error) {
	return c.processes.All[0], nil
}

// Open connects the senders.
func (c *restateCluster) Open(_ context.Context, job load.Job) (load.Line, error) {
	l := &restateLine{job: job, address: c.processes.From(0)}
	for range (job.Senders + SendersPerClient - 1) / SendersPerClient {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		l.clients = append(l.clients, &http.Client{Transport: transport})
	}
	return l, nil
}

// restateLine is the senders' clients. The instances of lines have keys of their own.
type restateLine struct {
	job     load.Job
	address string
	clients []*http.Client
}

// Send calls the handler of an instance. The job is done when the call is answered.
func (l *restateLine) Send(ctx context.Context, sender, instance int, data []byte) error {
	url := fmt.Sprintf("http://%s/%s%d/%s-%d/Work", l.address, restateService, instance%load.Workers, l.job.Name, instance)
	err := call(ctx, l.clients[sender/SendersPerClient], url, "application/octet-stream", data)
	if err == nil {
		l.job.Settled(data)
	}
	return err
}

func (l *restateLine) Close() error {
	for _, one := range l.clients {
		one.CloseIdleConnections()
	}
	return nil
}

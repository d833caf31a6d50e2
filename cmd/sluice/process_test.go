package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/client"
	"sluice/cmd/sluice/replay"
)

// processes are nodes that run as processes of their own.
type processes struct {
	t         *testing.T
	bin, dir  string
	addresses []string
	gossip    []string
	cmds      []*exec.Cmd
	logs      []*lockedBuffer
}

// lockedBuffer keeps what a process says.
type lockedBuffer struct {
	mu   sync.Mutex
	kept bytes.Buffer
	news chan struct{} // poked when there is more; nil: nobody waits
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.news <- struct{}{}:
	default:
	}
	return b.kept.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept.String()
}

func (b *lockedBuffer) tail() string {
	text := b.text()
	return text[max(0, len(text)-4000):]
}

// startProcesses starts nodes and waits until all are ready.
func startProcesses(t *testing.T, n int) *processes {
	t.Helper()
	p := &processes{t: t, bin: binary(t), dir: t.TempDir(), addresses: make([]string, n), gossip: make([]string, n), cmds: make([]*exec.Cmd, n), logs: make([]*lockedBuffer, n)}
	t.Cleanup(p.end)
	for i := range n {
		p.start(i)
		p.addresses[i], p.gossip[i] = p.bound(i)
	}
	p.ready(2 * time.Minute)
	return p
}

const anyPort = "127.0.0.1:0"

var serving = regexp.MustCompile(`msg=serving .*address=(\S+) gossip=(\S+)`)

// bound is where a node says that it listens.
func (p *processes) bound(i int) (address, gossip string) {
	p.t.Helper()
	limit := time.After(time.Minute)
	for {
		if m := serving.FindStringSubmatch(p.logs[i].text()); m != nil {
			return m[1], m[2]
		}
		select {
		case <-p.logs[i].news:
		case <-limit:
			p.t.Fatalf("n%d does not say where it listens:\n%s", i+1, p.logs[i].tail())
		}
	}
}

func (p *processes) start(i int) {
	p.t.Helper()
	args := []string{"server", "--node-id", fmt.Sprintf("n%d", i+1), "--data-dir", filepath.Join(p.dir, fmt.Sprint(i)), "--listen", cmp.Or(p.addresses[i], anyPort), "--gossip", cmp.Or(p.gossip[i], anyPort), "--bootstrap-expect", fmt.Sprint(len(p.cmds))}
	for _, g := range p.gossip {
		if g != "" {
			args = append(args, "--join", g)
		}
	}
	cmd := exec.Command(p.bin, args...)
	p.logs[i] = &lockedBuffer{news: make(chan struct{}, 1)}
	cmd.Stdout, cmd.Stderr = p.logs[i], p.logs[i]
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.cmds[i] = cmd
}

// ready waits until every node says that it is.
func (p *processes) ready(limit time.Duration) {
	p.t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i, address := range p.addresses {
		for !answersReady(address) {
			if <-tick.C; time.Now().After(deadline) {
				p.t.Fatalf("n%d is not ready after %v:\n%s", i+1, limit, p.logs[i].tail())
			}
		}
	}
}

func answersReady(address string) bool {
	res, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// kill is kill -9 of one node.
func (p *processes) kill(i int) {
	if p.cmds[i] == nil {
		return
	}
	_ = p.cmds[i].Process.Kill() // it may have ended, which Wait shows
	_ = p.cmds[i].Wait()         // killed: that it did not end well is known
	p.cmds[i] = nil
}

func (p *processes) end() {
	for i := range p.cmds {
		p.kill(i)
	}
}

// leader is the number of the node that leads.
func (p *processes) leader(ctx context.Context, c *client.Client) int {
	p.t.Helper()
	status, err := c.Cluster().Status(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, address := range p.addresses {
		if address == status.LeaderAddress {
			return i
		}
	}
	p.t.Fatalf("nobody leads: %+v", status)
	return -1
}

// writeLog makes a log of cases that run side by side, one event of each every second.
func writeLog(t *testing.T, cases, events int) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("<log>\n")
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for c := range cases {
		fmt.Fprintf(&b, `<trace><string key="concept:name" value="case %d"/>`, c)
		for e := range events {
			fmt.Fprintf(&b, `<event><string key="concept:name" value="step %d"/><date key="time:timestamp" value="%s"/><string key="note" value="%d of %d"/></event>`,
				e%5, begin.Add(time.Duration(e)*time.Second+time.Duration(c)*time.Millisecond).Format(time.RFC3339Nano), e, c)
		}
		b.WriteString("</trace>\n")
	}
	b.WriteString("</log>\n")
	path := filepath.Join(t.TempDir(), "made.xes")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestReplayThroughALeaderThatIsKilled replays a log on three processes, kills the leader -9 in the middle, and has the
// replay prove that every case came out right.
func TestReplayThroughALeaderThatIsKilled(t *testing.T) {
	t.Parallel()
	const cases, events = 60, 30
	p := startProcesses(t, 3)
	log := writeLog(t, cases, events)
	var out, stderr lockedBuffer
	// Ten seconds of the log take one: it runs for three at least, so that the kill falls into it.
	cmd := exec.Command(p.bin, "replay", log, "--app", "made", "--recover", "20%", "--speed", "10", "--workers", "2", "--verify", "-o", "json", "--addr", strings.Join(p.addresses, ","))
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{Addresses: p.addresses})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waitForCases(ctx, t, c, cases/2)
	first := p.leader(ctx, c)
	p.kill(first)
	p.start(first)

	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		err = ctx.Err()
	}
	var report replay.Report
	if jsonErr := json.Unmarshal([]byte(out.tail()), &report); err != nil || jsonErr != nil {
		t.Fatalf("the replay ended with %v, %v\n%s\n%s", err, jsonErr, out.tail(), stderr.tail())
	}
	if report.Sent != cases*events || report.Delivered != cases*events || report.Entered != cases/5 || !report.Verified || report.Wrong != 0 {
		t.Errorf("the report is %+v", report)
	}
	if report.Deferred == 0 || report.Drained != report.Deferred {
		t.Errorf("%d were deferred and %d drained", report.Deferred, report.Drained)
	}
	p.ready(time.Minute)
}

// waitForCases waits until so many instances exist.
func waitForCases(ctx context.Context, t *testing.T, c *client.Client, most int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		app, err := c.Applications().Get(ctx, "made")
		if n := app.Counts; err == nil && int(n.Normal+n.Recovery+n.Draining) >= most {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the replay does not begin: %+v, %v", app.Counts, err)
		}
	}
}

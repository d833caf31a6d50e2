package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

// late is what a paused worker would do if it were let.
const late = "late"

// pausedWorker is the worker that TestAPausedWorkerIsFenced stops and wakes, a process of its own: the address of a
// node is its argument. Its handler waits for a line on standard input, and then settles with a state, an outgoing
// message and a reply, by a call of its own as well as by its return. It says on standard output how it goes.
func pausedWorker() {
	c, err := client.New(client.Config{Addresses: os.Args[1:2]})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	sessions := make(chan string, 10)
	worker, err := c.NewWorker(client.WorkerConfig{
		Application: "app", TTL: time.Second, Logger: slog.New(slog.DiscardHandler),
		Handler: func(_ context.Context, d *client.Delivery) error {
			session := <-sessions
			fmt.Println("begun")
			_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // its end is as good
			fmt.Println("settled", settleLate(c, d, session))
			d.SetState([]byte(late))
			d.Send(client.Message{Application: "app", Instance: "target", ID: "returned", Type: "t"})
			d.Reply([]byte(late), "text/plain")
			return nil
		},
		OnEvent: func(e client.Event) {
			switch e.Kind {
			case client.EventSessionOpened:
				sessions <- e.Session
			case client.EventSessionLost, client.EventCompleted:
				fmt.Println(e.Kind)
			}
		},
	})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	_ = worker.Run(context.Background()) // until it is killed
}

// settleLate completes a message by a call, without the SDK's own precautions, and tells the refusal.
func settleLate(c *client.Client, d *client.Delivery, session string) string {
	res, err := client.Call[sluicev1.SettleRequest, sluicev1.SettleResponse](context.Background(), c, sluicev1connect.WorkerServiceSettleProcedure,
		&sluicev1.SettleRequest{SessionId: session, Settlements: []*sluicev1.Settlement{{
			Application: d.Instance.Application, Instance: d.Instance.Key, Epoch: uint64(d.Epoch), Seq: uint64(d.Seq), Lane: sluicev1.Lane_LANE_NORMAL,
			Attempt: uint32(d.Attempt), Outcome: sluicev1.Outcome_OUTCOME_COMPLETED, SetState: true, State: []byte(late), Reply: []byte(late),
			Outgoing: []*sluicev1.Message{{Application: "app", Instance: "target", Id: "called", Type: "t"}},
		}}})
	switch {
	case err != nil:
		return err.Error()
	case res.GetResults()[0].GetError() == nil:
		return "it took effect"
	}
	return res.GetResults()[0].GetError().GetReason()
}

// paused is the process of a pausedWorker.
type paused struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

func startPaused(t *testing.T, address string) *paused {
	t.Helper()
	path, err := exec.LookPath("pausedworker")
	if err != nil {
		t.Fatal(err)
	}
	p := &paused{cmd: exec.Command(path, address)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.lines = make(chan string, 100)
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it runs until then
		_ = p.cmd.Wait()         // killed: that it did not end well is known
	})
	return p
}

// says waits until lines were said that begin so, in any order, and tells the rest of the first one's.
func (p *paused) says(ctx context.Context, t *testing.T, words ...string) (rest string) {
	t.Helper()
	for missing := slices.Clone(words); len(missing) > 0; {
		select {
		case line, more := <-p.lines:
			if !more {
				t.Fatalf("the paused worker ended before it said %q", missing)
			}
			missing = slices.DeleteFunc(missing, func(word string) bool {
				after, said := strings.CutPrefix(line, word)
				if said && word == words[0] {
					rest = strings.TrimSpace(after)
				}
				return said
			})
		case <-ctx.Done():
			t.Fatalf("the paused worker never said %q", missing)
		}
	}
	return rest
}

func (p *paused) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// TestAPausedWorkerIsFenced stops a worker's process in the middle of a message, for longer than its lease, and lets it
// go on when another worker has handled the message: nothing of what it does then has an effect.
func TestAPausedWorkerIsFenced(t *testing.T) {
	t.Parallel()
	address := startNode(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{Addresses: []string{address}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Applications().Apply(ctx, client.Application{Name: "app"}); err != nil {
		t.Fatal(err)
	}
	p := startPaused(t, address)
	asked, err := c.Request(ctx, client.Message{Application: "app", Instance: "i", ID: "m", Type: "t"})
	if err != nil {
		t.Fatal(err)
	}
	p.says(ctx, t, "begun")
	p.signal(t, syscall.SIGSTOP)
	stop := handleAgain(t, c)
	defer stop()
	if status, err := asked.Await(ctx); err != nil || string(status.Reply) != "in time" {
		t.Errorf("%+v, %v", status, err)
	}
	if _, err := io.WriteString(p.in, "go on\n"); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGCONT)
	if refusal := p.says(ctx, t, "settled", string(client.EventSessionLost)); refusal != string(client.ErrUnknownSession) {
		t.Errorf("the late settlement: %s", refusal)
	}

	next, err := c.Request(ctx, client.Message{Application: "app", Instance: "i", ID: "n", Type: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := next.Await(ctx); err != nil || string(status.Reply) != "state: in time" {
		t.Errorf("the state afterwards: %q, %v", status.Reply, err)
	}
	if status, err := asked.Await(ctx); err != nil || string(status.Reply) != "in time" {
		t.Errorf("the reply afterwards: %q, %v", status.Reply, err)
	}
	target, err := c.Instances().Get(ctx, client.InstanceID{Application: "app", Key: "target"})
	if err != nil || target.NextSeq != 2 {
		t.Errorf("the target of outgoing messages: next seq %d, want 2, %v", target.NextSeq, err)
	}
}

// handleAgain is the worker that takes over; stop hands its instances back.
func handleAgain(t *testing.T, c *client.Client) (stop func()) {
	t.Helper()
	worker, err := c.NewWorker(client.WorkerConfig{
		Application: "app", Logger: slog.New(slog.DiscardHandler),
		Handler: func(_ context.Context, d *client.Delivery) error {
			if d.Message.ID == "n" {
				d.Reply([]byte("state: "+string(d.State())), "text/plain")
				return nil
			}
			if d.Instance.Key == "i" {
				d.SetState([]byte("in time"))
				d.Send(client.Message{Application: "app", Instance: "target", ID: "in time", Type: "t"})
				d.Reply([]byte("in time"), "text/plain")
			}
			return nil
		},
		OnRecovery: func(context.Context, *client.Recovery) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	return func() { cancel(); <-ended }
}

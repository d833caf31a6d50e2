package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"sluice/client"
)

func (s *story) id(order string) client.InstanceID {
	return client.InstanceID{Application: application, Key: order}
}

// send sends one message, its type being its id, and tells what the receipt says.
func (s *story) send(ctx context.Context, order, kind string) error {
	s.say("send %s to order %s", kind, order)
	r, err := s.client.Send(ctx, client.Message{Application: application, Instance: order, ID: kind, Type: kind, Data: []byte(order)})
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", kind, order, err)
	}
	s.say("  receipt: seq %d, %s, mode %s", r.Seq, strings.ToUpper(string(r.Disposition)), r.Mode)
	return nil
}

// show prints an instance as it stands.
func (s *story) show(ctx context.Context, order string) error {
	i, err := s.client.Instances().Get(ctx, s.id(order))
	if err != nil {
		return err
	}
	s.say("order %s: mode %s, epoch %d, %d deferred, cause: %s", order, i.Mode, i.Epoch, i.DeferredMessages, i.Cause)
	return nil
}

// wait looks at an instance until it is in a mode, and tells every change on the way.
func (s *story) wait(ctx context.Context, order string, mode client.Mode) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last client.Instance
	for {
		i, err := s.client.Instances().Get(ctx, s.id(order))
		if err != nil {
			return err
		}
		if i.Mode != last.Mode || i.DeferredMessages != last.DeferredMessages {
			s.say("order %s: mode %s, %d deferred%s", order, i.Mode, i.DeferredMessages, because(i))
		}
		if last = i; i.Mode == mode {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("order %s did not come to mode %s: %w", order, mode, ctx.Err())
		}
	}
}

func because(i client.Instance) string {
	if i.Mode != client.ModeRecovery {
		return ""
	}
	return ", cause: " + i.Cause
}

// process is a worker's process.
type process struct {
	cmd   *exec.Cmd
	words chan string // what it says on its standard output, a line each
	gone  chan struct{}
	once  sync.Once
}

// startWorker starts this program again as a worker, and returns when it is ready.
func (s *story) startWorker(ctx context.Context, name, fate string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "worker", s.addr, s.ledger, fate)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, words: make(chan string, 100), gone: make(chan struct{})}
	go p.listen(out, func(line string) { s.say("worker %s: %s", name, line) })
	return p, p.until(ctx, "ready")
}

// listen passes on what the worker says, until it is gone.
func (p *process) listen(out io.Reader, tell func(string)) {
	defer close(p.gone)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, text, _ := strings.Cut(lines.Text(), " ")
		tell(text)
		p.words <- word
	}
	_ = p.cmd.Wait() // how it ended is no news: it was killed, or told to stop
}

// until waits for the worker to say a word.
func (p *process) until(ctx context.Context, word string) error {
	for {
		select {
		case said := <-p.words:
			if said == word {
				return nil
			}
		case <-p.gone:
			return fmt.Errorf("the worker ended before it said %q", word)
		case <-ctx.Done():
			return fmt.Errorf("the worker never said %q: %w", word, ctx.Err())
		}
	}
}

// kill is kill -9; a second time it does nothing.
func (p *process) kill() {
	p.once.Do(func() { _ = p.cmd.Process.Kill() }) // it may be gone already
	<-p.gone
}

// stop asks the worker to end in good order, and waits for it.
func (p *process) stop(ctx context.Context) error {
	p.once.Do(func() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }) // it may be gone already
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the worker did not stop: %w", ctx.Err())
	}
}

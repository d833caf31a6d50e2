package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// exitRetry is the exit code by which a program asks for its message again later: EX_TEMPFAIL of sysexits.
const exitRetry = 75

// program is a command that is run once per message.
type program struct {
	argv    []string
	environ []string  // the worker's own environment
	stderr  io.Writer // where the program's standard error goes, beside the tail that is kept
	most    int       // bytes of standard output that are taken
}

// outcome is what became of one run.
type outcome struct {
	code   int
	stdout []byte
	tail   string // the end of standard error
}

// errTooMuch is a program that wrote more than is taken.
var errTooMuch = errors.New("the program wrote more to its standard output than a reply may have")

// run runs the program with input on standard input. When ctx ends, the program and its children are killed: its
// instance belongs to another by then. An error means that the program could not be run or did not end by itself.
func (p *program) run(ctx context.Context, variables []string, input []byte) (outcome, error) {
	cmd := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	cmd.Env = append(append([]string(nil), p.environ...), variables...)
	cmd.Stdin = bytes.NewReader(input)
	out, tail := &capped{most: p.most}, &tailWriter{next: p.stderr}
	cmd.Stdout, cmd.Stderr = out, tail
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	// On Linux the child is killed when the thread that started it ends, which Go may let happen at any time to a thread
	// that is not locked: it would take a healthy command along.
	runtime.LockOSThread()
	err := cmd.Run()
	runtime.UnlockOSThread()
	result := outcome{code: cmd.ProcessState.ExitCode(), stdout: out.kept.Bytes(), tail: tail.last()}
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well, and left a child that holds its output open
		err = nil
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return result, context.Cause(ctx)
	case out.over:
		return result, errTooMuch
	case errors.As(err, &exit) && exit.Exited():
		return result, nil
	case err != nil:
		return result, fmt.Errorf("run %s: %w", p.argv[0], err)
	}
	return result, nil
}

// why says in one line why a run failed.
func (o outcome) why() string {
	text := fmt.Sprintf("exit %d", o.code)
	if o.tail != "" {
		text += ": " + o.tail
	}
	return text
}

// capped keeps what is written up to a limit, and notices more.
type capped struct {
	kept bytes.Buffer
	most int
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	room := c.most - c.kept.Len()
	c.over = c.over || len(p) > room
	c.kept.Write(p[:min(len(p), max(room, 0))])
	return len(p), nil
}

// tailWriter passes on what is written and keeps the end of it.
type tailWriter struct {
	next io.Writer
	kept []byte
}

const tailMost = 1024

func (t *tailWriter) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if len(t.kept) > tailMost {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-tailMost:]...)
	}
	return t.next.Write(p)
}

// last is the last line that says something.
func (t *tailWriter) last() string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(t.kept), ""))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

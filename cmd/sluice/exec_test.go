package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"sluice/client"
)

func shProgram(line string) *program {
	return &program{argv: []string{"sh", "-c", line}, environ: []string{"PATH=/usr/bin:/bin"}, stderr: io.Discard, most: 100}
}

func TestAProgramGetsItsInputAndVariables(t *testing.T) {
	t.Parallel()
	d := &client.Delivery{
		Message:  client.Message{ID: "m1", Type: "order.placed", Data: []byte("content"), Headers: map[string]string{"trace-id": "t 1", "nul": "\x00"}},
		Instance: client.InstanceID{Application: "orders", Key: "47 11"}, Epoch: 7, Seq: 9, Attempt: 2, Deferred: true, Lane: client.LaneNormal,
	}
	p := shProgram(`printf '%s|' "$SLUICE_APPLICATION" "$SLUICE_INSTANCE" "$SLUICE_MESSAGE_ID" "$SLUICE_TYPE" "$SLUICE_SEQ" "$SLUICE_EPOCH" "$SLUICE_ATTEMPT" "$SLUICE_DEFERRED" "$SLUICE_IN_DOUBT" "$SLUICE_HEADER_TRACE_ID" "${SLUICE_HEADER_NUL-unset}"; cat`)
	got, err := p.run(context.Background(), messageVariables(d), d.Message.Data)
	if want := "orders|47 11|m1|order.placed|9|7|2|true|false|t 1|unset|content"; err != nil || string(got.stdout) != want || got.code != 0 {
		t.Errorf("got %q, exit %d, %v; want %q", got.stdout, got.code, err, want)
	}
}

func TestHowAProgramMayEnd(t *testing.T) {
	t.Parallel()
	run := func(line string) (outcome, error) { return shProgram(line).run(context.Background(), nil, nil) }
	if got, err := run("echo first >&2; echo the disk is gone >&2; exit 3"); err != nil || got.why() != "exit 3: the disk is gone" {
		t.Errorf("a failure: %q, %v", got.why(), err)
	}
	if got, err := run("exit 75"); err != nil || got.code != exitRetry {
		t.Errorf("a retry: %d, %v", got.code, err)
	}
	if _, err := run("kill -9 $$"); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("a program that was killed: %v", err)
	}
	if _, err := run("yes | head -c 101"); !errors.Is(err, errTooMuch) {
		t.Errorf("a program that writes too much: %v", err)
	}
	if got, err := run("yes | head -c 100"); err != nil || len(got.stdout) != 100 {
		t.Errorf("a program that writes as much as it may: %d, %v", len(got.stdout), err)
	}
	if _, err := (&program{argv: []string{"/nonexistent"}, stderr: io.Discard}).run(context.Background(), nil, nil); err == nil {
		t.Error("a program that does not exist ran")
	}
}

// signalWriter tells when something is written.
type signalWriter chan struct{}

func (s signalWriter) Write(p []byte) (int, error) {
	s <- struct{}{}
	return len(p), nil
}

func TestAProgramAndItsChildrenAreKilledWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	started := make(signalWriter, 1)
	p := shProgram("sleep 1000 & echo started >&2; wait")
	p.stderr = started
	go func() {
		<-started
		cancel(client.ErrFenced)
	}()
	begun := time.Now()
	_, err := p.run(ctx, nil, nil)
	if !errors.Is(err, client.ErrFenced) || time.Since(begun) > 30*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}

func TestWhatARecoveryProgramSays(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]client.Seq{"": 0, "\n": 0, "17\n": 17} {
		if got, err := processedThrough([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	if _, err := processedThrough([]byte("all of them")); err == nil {
		t.Error("a text was taken for a number")
	}
}

func TestAWorkerWhoseClusterIsGoneSaysThatNothingWasHandedBack(t *testing.T) {
	t.Parallel()
	node := start(t, "dev", "--listen", "127.0.0.1:0")
	address := node.line(t, `^  nodes +(\S+)$`)
	node.line(t, `^  stop`)
	sh, _, stderr := testShell()
	sh.in = strings.NewReader("name: gone")
	if code := run(t.Context(), []string{"app", "apply", "-f", "-", "--addr", address}, sh); code != 0 {
		t.Fatal(stderr.String())
	}
	sh, _, _ = testShell()
	from, to := io.Pipe()
	sh.err = to
	ctx, stop := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"worker", "exec", "--app", "gone", "--addr", address, "--lease", "1s", "--", "true"}, sh)
		to.Close()
	}()
	lines := bufio.NewScanner(from)
	for lines.Scan() && !strings.Contains(lines.Text(), "worker: ready") {
	}
	node.end(t)
	stop()
	var rest strings.Builder
	for lines.Scan() {
		rest.WriteString(lines.Text() + "\n")
	}
	if got := <-code; got == 0 || !strings.Contains(rest.String(), "could not be handed back: they are recovered when its lease of 1s ends") {
		t.Errorf("exit %d, said %s", got, rest.String())
	}
}

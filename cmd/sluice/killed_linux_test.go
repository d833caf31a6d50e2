package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/client"
)

// TestAHandlerDiesWithItsWorker kills a worker -9 while its command runs: the instance will be given to another worker,
// and the command must not go on beside that one's.
func TestAHandlerDiesWithItsWorker(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{Addresses: []string{startNode(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Applications().Apply(ctx, client.Application{Name: "killed"}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pid")
	var stderr lockedBuffer
	worker := exec.Command(binary(t), "worker", "exec", "--app", "killed", "--addr", c.Addresses()[0], "--", "sh", "-c", `echo $$ > "$0.new" && mv "$0.new" "$0" && exec sleep 600`, file)
	worker.Stderr = &stderr
	worker.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(ctx, client.Message{Application: "killed", Instance: "1", Type: "t"}); err != nil {
		t.Fatal(err)
	}
	handler := 0
	until(ctx, t, func() bool {
		text, err := os.ReadFile(file)
		handler, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil && handler > 0
	}, &stderr)
	if !lives(handler) {
		t.Fatalf("the handler does not run: %s", stderr.tail())
	}
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = worker.Wait() // killed: that it did not end well is known
	until(ctx, t, func() bool { return !lives(handler) }, &stderr)
}

// lives says whether a process runs; one that has ended and that nobody has waited for does not.
func lives(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// until looks again and again until something is so.
func until(ctx context.Context, t *testing.T, so func() bool, said *lockedBuffer) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it does not come about: %s", said.tail())
		}
	}
}

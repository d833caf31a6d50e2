package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sluice/server"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sluice": main, "pausedworker": pausedWorker})
}

// TestScripts runs the transcripts in testdata/script against one node in this process. Each has an application of its
// own, so they do not meet.
func TestScripts(t *testing.T) {
	t.Parallel()
	address := startNode(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", Cmds: commands, RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("SLUICE_ADDR", address)
			return nil
		},
	})
}

// TestScriptsAlone runs the transcripts in testdata/alone, for which no node is there.
func TestScriptsAlone(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/alone", Cmds: commands, RequireExplicitExec: true})
}

// commands are those that the transcripts know beside testscript's own.
var commands = map[string]func(*testscript.TestScript, bool, []string){
	// exits CODE COMMAND…: the command must end with just that exit code.
	"exits": func(ts *testscript.TestScript, _ bool, args []string) {
		if len(args) < 2 {
			ts.Fatalf("usage: exits CODE COMMAND…")
		}
		want, err := strconv.Atoi(args[0])
		ts.Check(err)
		got := 0
		var exit *exec.ExitError
		if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
			got = exit.ExitCode()
		} else {
			ts.Check(err)
		}
		if got != want {
			ts.Fatalf("exit %d, want %d", got, want)
		}
	},
}

// startNode runs a node in this process until the test is over, and gives its address.
func startNode(t *testing.T, change ...func(*server.Config)) string {
	t.Helper()
	cfg := server.Config{
		NodeID: "n1", DataDir: t.TempDir(), Listen: "127.0.0.1:0", BootstrapExpect: 1, Version: "test", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	node, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- node.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the node ended with %v", err)
		}
	})
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := node.WaitReady(ready); err != nil {
		t.Fatal(err)
	}
	return node.Addr().String()
}

// binary is a path under which this test runs as the sluice command; see TestMain.
func binary(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sluice")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
	"sluice/server"
)

// leaderless runs a node that belongs to no cluster, until the test is over, and gives its address.
func leaderless(t *testing.T) string {
	t.Helper()
	node, err := server.New(server.Config{
		NodeID: "n1", DataDir: t.TempDir(), Listen: "127.0.0.1:0", Version: "test", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
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
	return node.Addr().String()
}

// Where nobody leads a command says so, and does not take the end of its time for an answer.
func TestWithoutALeaderCommandsSayThatNobodyAnswered(t *testing.T) {
	t.Parallel()
	address := leaderless(t)
	for _, args := range [][]string{
		{"worker", "exec", "--app", "a", "--timeout", "1s", "--addr", address, "--", "true"},
		{"instance", "watch", "a/b", "--timeout", "1s", "--addr", address},
		{"await", "a/b", "--id", "m", "--timeout", "1s", "--addr", address},
	} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			sh, out, said := testShell()
			if code := run(context.Background(), args, sh); code != exitUnavailable || strings.Contains(said.String(), "not normal yet") {
				t.Errorf("exit %d\n%s%s", code, out.String(), said.String())
			}
		})
	}
}

// Events are read at a node alone, so those of one application are, too.
func TestEventsOfAnApplicationNeedNoLeader(t *testing.T) {
	t.Parallel()
	address := leaderless(t)
	sh, out, said := testShell()
	if code := run(context.Background(), []string{"events", "--app", "a", "--addr", address}, sh); code != exitDone {
		t.Errorf("exit %d\n%s%s", code, out.String(), said.String())
	}
}

// A call that the user ended is not one that nobody answered.
func TestAnInterruptedCallIsSaidToBeOne(t *testing.T) {
	t.Parallel()
	c, err := client.New(client.Config{Addresses: []string{leaderless(t)}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = ask[sluicev1.GetInstanceRequest, sluicev1.Instance](ctx, c, sluicev1connect.InstanceServiceGetProcedure, &sluicev1.GetInstanceRequest{Application: "a", Instance: "b"})
	if !errors.Is(err, errInterrupted) {
		t.Error(err)
	}
}

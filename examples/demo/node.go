package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"sluice/server"
)

// startNode starts the embedded node: that of a binary, or one in this process. stop ends it.
func (s *story) startNode(ctx context.Context, dir, binary string) (stop func() error, err error) {
	if binary != "" {
		s.title("%s dev: an embedded node starts", binary)
		stop, err = s.startBinary(ctx, dir, binary)
	} else {
		s.title("A node starts in this process")
		stop, err = s.startServer(ctx, dir)
	}
	if err == nil {
		s.say("ready after %v at %s; its data lies in %s", time.Since(s.begun).Round(time.Millisecond), s.addr, dir)
	}
	return stop, err
}

// startServer runs a node in this process.
func (s *story) startServer(ctx context.Context, dir string) (stop func() error, err error) {
	node, err := server.New(server.Config{
		NodeID: "demo", Cluster: "demo", DataDir: dir, Listen: "127.0.0.1:0", BootstrapExpect: 1, Version: "demo",
		Logger: slog.New(slog.DiscardHandler), // what stops it, Run says
	})
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- node.Run(run) }()
	stop = func() error {
		cancel()
		return <-done
	}
	ready, over := context.WithTimeout(ctx, 30*time.Second)
	defer over()
	if err := node.WaitReady(ready); err != nil {
		return nil, fmt.Errorf("%w (%w)", err, stop())
	}
	s.addr = node.Addr().String()
	return stop, nil
}

// startBinary runs "sluice dev" and reads from its banner where it is.
func (s *story) startBinary(ctx context.Context, dir, binary string) (stop func() error, err error) {
	cmd := exec.CommandContext(ctx, binary, "dev", "--listen", "127.0.0.1:0", "--data-dir", dir)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	address := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if fields := strings.Fields(lines.Text()); len(fields) == 2 && fields[0] == "nodes" {
				address <- fields[1]
			}
		}
	}()
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended, which Wait tells
		<-read
		return cmd.Wait()
	}
	select {
	case s.addr = <-address:
		return stop, nil
	case <-read:
		return nil, fmt.Errorf("%s dev ended before it was ready: %w", binary, cmd.Wait())
	}
}

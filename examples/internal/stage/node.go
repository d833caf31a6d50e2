package stage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"sluice/server"
)

// startMax is how long a node may take to be ready.
const startMax = 30 * time.Second

// StartNode runs a node in this process, on a free port.
func StartNode(ctx context.Context, dir string) (addr string, stop func() error, err error) {
	node, err := server.New(server.Config{
		NodeID: "example", Cluster: "example", DataDir: dir, Listen: "127.0.0.1:0", BootstrapExpect: 1, Version: "example",
		Logger: Quiet, // what stops it, Run says
	})
	if err != nil {
		return "", nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- node.Run(run) }()
	stop = func() error {
		cancel()
		return <-done
	}
	ready, over := context.WithTimeout(ctx, startMax)
	defer over()
	if err := node.WaitReady(ready); err != nil {
		return "", nil, fmt.Errorf("%w (%w)", err, stop())
	}
	return node.Addr().String(), stop, nil
}

// Binary starts a node with "sluice dev" of a binary, and reads from its banner where it is.
func Binary(binary string) func(ctx context.Context, dir string) (string, func() error, error) {
	return func(ctx context.Context, dir string) (addr string, stop func() error, err error) {
		cmd := exec.CommandContext(ctx, binary, "dev", "--listen", "127.0.0.1:0", "--data-dir", dir)
		cmd.Stderr = os.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 10 * time.Second
		out, err := cmd.StdoutPipe()
		if err != nil {
			return "", nil, err
		}
		if err := cmd.Start(); err != nil {
			return "", nil, err
		}
		address := make(chan string, 1)
		read := make(chan struct{})
		go func() {
			defer close(read)
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if addr := addressOf(lines.Text()); addr != "" {
					address <- addr
				}
			}
		}()
		stop = func() error {
			_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended, which Wait tells
			<-read
			return cmd.Wait()
		}
		select {
		case addr = <-address:
			return addr, stop, nil
		case <-read:
			return "", nil, errors.Join(fmt.Errorf("%s dev ended before it was ready", binary), cmd.Wait())
		}
	}
}

// addressOf is the first node's address in a line of the banner of "sluice dev"; empty: it is another line.
func addressOf(line string) string {
	if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "nodes" {
		return fields[1]
	}
	return ""
}

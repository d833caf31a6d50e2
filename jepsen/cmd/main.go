//go:build linux

// Command cmd runs scenarios against real processes of Sluice, and judges what came of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sluice/jepsen/proc"
	"sluice/jepsen/workload"
)

const usage = `usage: jepsen run -bin sluice [-scenario NAME] [-seed N] [-time 5m] [-hours N] [-log FILE.xes] [-dir DIR] [-plain] [-tls]
                  [-only NAME,NAME] [-faults KIND,KIND [-shape leader]] [-quiet 30s]
       jepsen check DIR…
       jepsen list`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "jepsen:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("say what is to be done\n%s", usage)
	}
	switch args[0] {
	case "run":
		return run(ctx, args[1:])
	case "check":
		if len(args) < 2 {
			return fmt.Errorf("check: say which folders of runs are to be judged\n%s", usage)
		}
		return judgeAll(args[1:])
	case "list":
		list()
		return nil
	case "worker": // a process of jepsen/proc
		if len(args) != 2 {
			return errors.New("worker takes a specification")
		}
		return proc.RunWorker(ctx, args[1], workload.Work)
	}
	return fmt.Errorf("there is no command %q\n%s", args[0], usage)
}

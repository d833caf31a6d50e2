// Command sluice is the whole of Sluice in one binary: nodes, and everything that talks to them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], system()))
}

// run carries out one command line and gives its exit code. The first interrupt asks the command to end in good order,
// the second ends the process.
func run(ctx context.Context, args []string, sh *shell) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot(sh)
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	return sh.report(command, err)
}

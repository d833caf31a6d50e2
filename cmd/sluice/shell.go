package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/spf13/cobra"
)

// defaultAddress is where a node listens and a command looks for one, unless told otherwise.
const defaultAddress = "127.0.0.1:7631"

// shell is what every command shares: its streams, its environment, and the global flags.
type shell struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	environ  func() []string
	now      func() time.Time

	addr     string
	output   string
	timeout  time.Duration
	noColor  bool
	insecure bool
	tls      tlsFlags

	started bool // flags and arguments were in order: what goes wrong from here on is not a wrong usage
	timed   bool // the user said --timeout
}

// tlsFlags name the files that secure a connection.
type tlsFlags struct{ ca, cert, key string }

func system() *shell {
	return &shell{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, environ: os.Environ, now: time.Now}
}

func newRoot(sh *shell) *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Holds messages back while an instance recovers, and lets them go in order after it",
		Long: `Sluice takes messages for instances of applications, keeps them on replicated disks, and hands them to workers:
one instance's messages one after the other, in order, each settled once. While an instance recovers, its normal
messages are deferred; they are drained in order when the recovery is completed. Other instances do not notice.`,
		Example: `  sluice dev                                          # a node to try things on
  sluice app apply -f orders.yaml                     # declare an application
  sluice send orders/4711 --type order.placed --data '{"total": 12}'
  sluice worker exec --app orders -- ./handle.sh      # run a program per message`,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.SetOut(sh.out)
	root.SetErr(sh.err)
	root.SetIn(sh.in)
	root.SetFlagErrorFunc(flagError)
	sh.globals(root)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		sh.timed = cmd.Flags().Changed("timeout")
		if err := sh.check(cmd); err != nil {
			return err
		}
		sh.started = true
		return nil
	}
	root.AddGroup(&cobra.Group{ID: "node", Title: "Nodes:"}, &cobra.Group{ID: "work", Title: "Messages and workers:"}, &cobra.Group{ID: "care", Title: "Operation:"})
	in := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	in("node", newDev(sh), newServer(sh), newCluster(sh))
	in("work", newApp(sh), newSend(sh), newRequest(sh), newAwait(sh), newWorker(sh), newReplay(sh))
	in("care", newInstance(sh), newDeadLetters(sh), newOperation(sh), newEvents(sh))
	root.AddCommand(newVersion(sh))
	return root
}

func (sh *shell) globals(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&sh.addr, "addr", "", "nodes to talk to, host:port, separated by commas (SLUICE_ADDR; default "+defaultAddress+")")
	f.StringVarP(&sh.output, "output", "o", "table", "how answers are printed: table, json or jsonl")
	f.DurationVar(&sh.timeout, "timeout", 30*time.Second, "give up after this time, 0 is never; request has --wait; watch, events -f, --wait, replay and workers go on without end unless it is given")
	f.BoolVar(&sh.noColor, "no-color", false, "no colours (NO_COLOR)")
	f.BoolVar(&sh.insecure, "insecure", false, "allow plain text to and on addresses other than loopback")
	f.StringVar(&sh.tls.ca, "tls-ca", "", "file of the authorities that certificates are checked against, PEM (SLUICE_TLS_CA)")
	f.StringVar(&sh.tls.cert, "tls-cert", "", "file of this side's certificate, PEM (SLUICE_TLS_CERT)")
	f.StringVar(&sh.tls.key, "tls-key", "", "file of the certificate's key, PEM (SLUICE_TLS_KEY)")
}

// wideOutput is the annotation of commands that know -o wide: a table of all that is known.
const wideOutput = "wide"

// check judges the global flags and fills in what the environment says.
func (sh *shell) check(cmd *cobra.Command) error {
	switch _, wide := cmd.Annotations[wideOutput]; {
	case sh.output == "table", sh.output == "json", sh.output == "jsonl", sh.output == "wide" && wide:
	case wide:
		return usagef("-o %s: the output is table, wide, json or jsonl", sh.output)
	default:
		return usagef("-o %s: the output is table, json or jsonl", sh.output)
	}
	if sh.timeout < 0 {
		return usagef("--timeout %v: a time is not negative", sh.timeout)
	}
	sh.addr = firstOf(sh.addr, sh.getenv("SLUICE_ADDR"), defaultAddress)
	sh.tls.ca = firstOf(sh.tls.ca, sh.getenv("SLUICE_TLS_CA"))
	sh.tls.cert = firstOf(sh.tls.cert, sh.getenv("SLUICE_TLS_CERT"))
	sh.tls.key = firstOf(sh.tls.key, sh.getenv("SLUICE_TLS_KEY"))
	return nil
}

// firstOf is the first text that is not empty.
func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// addresses are the nodes of --addr.
func (sh *shell) addresses() []string {
	var all []string
	for _, a := range strings.Split(sh.addr, ",") {
		if a = strings.TrimSpace(a); a != "" {
			all = append(all, a)
		}
	}
	return all
}

// bounded gives a short command its time; zero is without end.
func (sh *shell) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if sh.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, sh.timeout)
}

// patient gives a long command its time: without end, unless the user said otherwise.
func (sh *shell) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if !sh.timed {
		return context.WithCancel(ctx)
	}
	return sh.bounded(ctx)
}

// colored tells whether out is a terminal that wants colours.
func (sh *shell) colored() bool {
	return !sh.noColor && sh.getenv("NO_COLOR") == "" && sh.getenv("TERM") != "dumb" && isTerminal(sh.out)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// actor names who runs the command, for histories.
func (sh *shell) actor() string {
	name := firstOf(sh.getenv("USER"), "unknown")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// say prints a line for people, which is not part of the answer.
func (sh *shell) say(format string, args ...any) { fmt.Fprintf(sh.err, format+"\n", args...) }

// logger writes what the SDK has to say to standard error: warnings and worse.
func (sh *shell) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(sh.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// group makes a command that only holds others.
func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("say which: %s", strings.Join(names(cmd), ", "))
		}
		return unknownCommand(cmd, args[0])
	}}
	c.FParseErrWhitelist.UnknownFlags = true // they are those of a command that there is not, which is to be told of
	c.AddCommand(commands...)
	return c
}

func unknownCommand(of *cobra.Command, name string) error {
	return usagef("unknown command %q for %q; there are: %s", name, of.CommandPath(), strings.Join(names(of), ", "))
}

// noArgs judges the arguments of a command that has flags alone.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes flags alone, and was given %q", cmd.CommandPath(), args[0])
	}
	return nil
}

func names(cmd *cobra.Command) []string {
	var all []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, c.Name())
		}
	}
	return all
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/client"
)

// firstWord is after how long without a session a worker says so.
const firstWord = 3 * time.Second

// maxReply is how much of a program's standard output is taken as the reply.
const maxReply = 1 << 20

func newWorker(sh *shell) *cobra.Command {
	return group("worker", "Handle an application's messages", "  sluice worker exec --app orders -- ./handle.sh", newWorkerExec(sh))
}

// execution is what "worker exec" is told.
type execution struct {
	app, name, recovery, onRecovery, contentType string
	concurrency                                  int
	lease, limit, retryAfter                     time.Duration
}

func newWorkerExec(sh *shell) *cobra.Command {
	var e execution
	c := &cobra.Command{
		Use: "exec --app APP [flags] -- COMMAND [ARGUMENT]…", Short: "Run a command once per message",
		Long: `Runs COMMAND once for each message, one instance's messages one after the other. The content is on its standard input;
what it writes to standard output is the reply. Exit 0 completes the message, 75 asks for it again after --retry-after,
anything else is a failure: it comes again after the application's backoff. Either counts as an attempt; after the last
one the instance goes into recovery, or as the application says. What fails is told on standard error.

Variables: SLUICE_APPLICATION, SLUICE_INSTANCE, SLUICE_MESSAGE_ID, SLUICE_TYPE, SLUICE_TRANSACTION, SLUICE_SEQ,
SLUICE_EPOCH, SLUICE_LANE, SLUICE_ATTEMPT, SLUICE_DEFERRED, SLUICE_IN_DOUBT, SLUICE_CONTENT_TYPE, and SLUICE_HEADER_NAME
for each header. (instance, epoch) fences, (instance, lane, seq) tells a repeat from a new message.

An instance in recovery is handled by --recovery COMMAND, a line for sh: its standard input is a JSON object with cause,
inDoubt and deferredMessages; exit 0 completes the recovery; a number on its standard output says up to which seq the
messages in doubt took effect. Its variables are SLUICE_APPLICATION, SLUICE_INSTANCE, SLUICE_EPOCH, SLUICE_ATTEMPT,
SLUICE_CAUSE and SLUICE_IN_DOUBT_COUNT. Recovery messages go to the COMMAND for messages, before the recovery is completed.
Without --recovery, --on-recovery says what becomes of a recovery:
  wait        leave it to an operator (sluice instance complete)
  redeliver   complete it; what is in doubt is delivered again
  processed   complete it; what is in doubt counts as done`,
		Example: `  sluice worker exec --app orders -- ./handle.sh
  sluice worker exec --app orders --concurrency 16 --on-recovery redeliver -- python3 handle.py
  sluice worker exec --app orders --recovery './reconcile.sh' -- ./handle.sh`,
	}
	f := c.Flags()
	f.SetInterspersed(false) // what follows COMMAND is its own, with -- before it or without
	f.StringVar(&e.app, "app", "", "application whose messages are handled (required)")
	f.StringVar(&e.name, "name", "exec", "name of the worker, for people")
	f.IntVar(&e.concurrency, "concurrency", 4, "how many commands run at once, for different instances")
	f.StringVar(&e.recovery, "recovery", "", "command line that handles an instance in recovery")
	f.StringVar(&e.onRecovery, "on-recovery", "wait", "without --recovery: wait, redeliver or processed")
	f.StringVar(&e.contentType, "reply-content-type", "", "content type of the replies")
	f.DurationVar(&e.lease, "lease", 15*time.Second, "how long the cluster waits for a worker that is silent, before its instances go into recovery")
	f.DurationVar(&e.retryAfter, "retry-after", time.Second, "when a message comes again whose command ended with 75")
	f.DurationVar(&e.limit, "limit", 0, "kill a command that runs longer, and count the attempt as failed; 0 is no limit")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("which command? give it after --, as in: sluice worker exec --app orders -- ./handle.sh")
		}
		if e.recovery != "" && cmd.Flags().Changed("on-recovery") {
			return usagef("--recovery and --on-recovery: one of them; the command decides, or the word does")
		}
		if err := e.check(); err != nil {
			return err
		}
		ctx, cancel := sh.patient(cmd.Context())
		defer cancel()
		return sh.execWorker(ctx, e, args)
	}
	return c
}

func (e *execution) check() error {
	switch {
	case e.app == "":
		return usagef("which application? give it with --app APP")
	case e.concurrency < 1 || e.concurrency > 1024:
		return usagef("--concurrency %d: it can be 1 to 1024", e.concurrency)
	case e.lease < time.Second || e.lease > time.Hour:
		return usagef("--lease %v: it can be 1s to 1h", e.lease)
	case e.limit < 0:
		return usagef("--limit %v: a time is not negative", e.limit)
	case e.retryAfter < 0:
		return usagef("--retry-after %v: a time is not negative", e.retryAfter)
	}
	switch e.onRecovery {
	case "wait", "redeliver", "processed":
		return nil
	}
	return usagef("--on-recovery %s: it is wait, redeliver or processed", e.onRecovery)
}

// execWorker runs a worker until ctx ends; then it hands its instances back.
func (sh *shell) execWorker(ctx context.Context, e execution, argv []string) error {
	if _, err := exec.LookPath(argv[0]); err != nil {
		return hint(fmt.Errorf("there is no command %s to run: %w", argv[0], errors.Unwrap(err)), "give the path of an executable file, as in ./handle.sh, or the name of a command in PATH")
	}
	if err := checkLine(ctx, e.recovery); err != nil {
		return err
	}
	dialing := sh.clientConfig()
	dialing.Retry.Total = min(dialing.Retry.Total, e.lease) // after the lease there is nothing left to hand back
	c, err := sh.linkBy(ctx, dialing)
	if err != nil {
		return err
	}
	defer c.Close()
	x := &executor{execution: e, handler: sh.program(argv...), say: sh.say}
	var opened atomic.Bool
	tell := time.AfterFunc(firstWord, func() {
		if !opened.Load() {
			sh.say("worker: no session yet, it is tried again; see: sluice cluster status")
		}
	})
	defer tell.Stop()
	cfg := client.WorkerConfig{
		Application: e.app, Name: e.name, TTL: e.lease, Capacity: max(64, 2*e.concurrency), Concurrency: e.concurrency,
		Handler: x.handle, OnRecoveryMessage: x.handle, Logger: sh.logger(), OnEvent: func(e client.Event) {
			if e.Kind == client.EventSessionOpened {
				opened.Store(true)
			}
			sh.tellEvent(e)
		},
	}
	switch {
	case e.recovery != "":
		x.reconciler = sh.program("sh", "-c", e.recovery)
		cfg.OnRecovery = x.reconcile
	case e.onRecovery != "wait":
		cfg.OnRecovery = x.decide
	}
	w, err := c.NewWorker(cfg)
	if err != nil {
		return err
	}
	err = w.Run(ctx)
	if err == nil && !opened.Load() && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &client.Error{Code: client.ErrNoLeader.Code(), Reason: client.ErrNoLeader, Message: "no session could be opened in time"}
	}
	if err != nil && ctx.Err() != nil {
		return hint(fmt.Errorf("the worker stopped and its instances could not be handed back: they are recovered when its lease of %v ends: %w", e.lease, err),
			"see what they wait for: sluice instance list --app %s --mode recovery", e.app)
	}
	return err
}

// checkLine tells, as far as that can be told without running it, whether sh can run the line of --recovery: whether it
// is well-formed, and whether the command that it begins with is there.
func checkLine(ctx context.Context, line string) error {
	if line == "" {
		return nil
	}
	out, err := exec.CommandContext(ctx, "sh", "-n", "-c", line).CombinedOutput()
	if err != nil {
		return hint(fmt.Errorf("--recovery: sh cannot read the line: %s", firstOf(oneLine(strings.TrimSpace(string(out))), err.Error())), "try it by hand: sh -c '…'")
	}
	word := strings.Fields(line + " :")[0]
	if strings.ContainsFunc(word, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._/+-", r)
	}) {
		return nil // an assignment, a variable, a group: what it comes to is known when it runs
	}
	if strings.ContainsRune(word, '/') {
		_, err = exec.LookPath(word)
	} else if exec.CommandContext(ctx, "sh", "-c", "command -v "+word).Run() != nil {
		err = &exec.Error{Name: word, Err: exec.ErrNotFound}
	}
	if err != nil {
		return hint(fmt.Errorf("--recovery: there is no command %s to run: %w", word, errors.Unwrap(err)), "give the path of an executable file, as in ./reconcile.sh, or the name of a command in PATH")
	}
	return nil
}

// tellEvent says on standard error what the worker's people should know.
func (sh *shell) tellEvent(e client.Event) {
	switch e.Kind {
	case client.EventSessionOpened:
		sh.say("worker: ready, session %s", e.Session)
	case client.EventSessionClosed:
		sh.say("worker: stopped, the instances were handed back")
	case client.EventRecoveryUnhandled:
		d := doubt{at: target{e.Instance.Application, e.Instance.Key}, count: uint64(e.InDoubt), last: uint64(e.Seq)}
		sh.say("worker: %s waits for: %s   (or start the worker with --recovery or --on-recovery)", e.Instance, d.command())
	}
}

func (sh *shell) program(argv ...string) *program {
	return &program{argv: argv, environ: sh.environ(), stderr: sh.err, most: maxReply}
}

// executor runs programs for a worker.
type executor struct {
	execution
	handler, reconciler *program
	say                 func(format string, args ...any)
}

// limited gives a program its time.
func (x *executor) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if x.limit == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, x.limit, fmt.Errorf("it ran longer than %v", x.limit))
}

// handle handles a message by a program, and says on standard error what fails.
func (x *executor) handle(ctx context.Context, d *client.Delivery) error {
	err := x.try(ctx, d)
	if err == nil {
		return nil
	}
	if why := interrupted(err); why != "" { // no attempt is counted
		x.say("worker: %s seq %d: %s; the command was ended", d.Instance, d.Seq, why)
	} else {
		x.say("worker: %s seq %d, attempt %d failed: %s", d.Instance, d.Seq, d.Attempt, oneLine(err.Error()))
	}
	return err
}

// interrupted says why a command was ended whose outcome does not count, or nothing.
func interrupted(err error) string {
	switch {
	case errors.Is(err, client.ErrFenced):
		return "the instance was taken away"
	case errors.Is(err, client.ErrLeaseLost):
		return "the lease could not be renewed in time"
	case errors.Is(err, client.ErrStopped):
		return "the worker stops"
	}
	return ""
}

func (x *executor) try(ctx context.Context, d *client.Delivery) error {
	ctx, cancel := x.limited(ctx)
	defer cancel()
	result, err := x.handler.run(ctx, messageVariables(d), d.Message.Data)
	switch {
	case err != nil:
		return err
	case result.code == exitRetry:
		return client.RetryAfter(fmt.Errorf("asked for it again: %s", result.why()), x.retryAfter)
	case result.code != 0:
		return errors.New(result.why())
	}
	if len(result.stdout) > 0 {
		d.Reply(result.stdout, x.contentType)
	}
	return nil
}

// messageVariables are the variables that tell a program about its message.
func messageVariables(d *client.Delivery) []string {
	m := d.Message
	all := []string{
		"SLUICE_APPLICATION=" + d.Instance.Application, "SLUICE_INSTANCE=" + d.Instance.Key, "SLUICE_MESSAGE_ID=" + m.ID,
		"SLUICE_TYPE=" + m.Type, "SLUICE_TRANSACTION=" + m.Transaction, "SLUICE_CONTENT_TYPE=" + m.ContentType,
		fmt.Sprintf("SLUICE_SEQ=%d", d.Seq), fmt.Sprintf("SLUICE_EPOCH=%d", d.Epoch), "SLUICE_LANE=" + string(d.Lane),
		fmt.Sprintf("SLUICE_ATTEMPT=%d", d.Attempt), fmt.Sprintf("SLUICE_DEFERRED=%t", d.Deferred), fmt.Sprintf("SLUICE_IN_DOUBT=%t", d.InDoubt),
	}
	for name, value := range m.Headers {
		if !strings.ContainsRune(value, 0) {
			all = append(all, "SLUICE_HEADER_"+variableName(name)+"="+value)
		}
	}
	return all
}

// variableName makes a header's name one of a variable: upper case, anything but letters and digits an underscore.
func variableName(header string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(header))
}

// reconcile handles a recovery by a program.
func (x *executor) reconcile(ctx context.Context, r *client.Recovery) error {
	ctx, cancel := x.limited(ctx)
	defer cancel()
	work := &sluicev1.RecoveryWork{Cause: r.Cause, DeferredMessages: r.DeferredMessages}
	for _, d := range r.InDoubt {
		work.InDoubt = append(work.InDoubt, inDoubt(d))
	}
	input, err := protojson.Marshal(work)
	if err != nil {
		return fmt.Errorf("describe the recovery: %w", err)
	}
	result, err := x.reconciler.run(ctx, []string{
		"SLUICE_APPLICATION=" + r.Instance.Application, "SLUICE_INSTANCE=" + r.Instance.Key, "SLUICE_CAUSE=" + r.Cause,
		fmt.Sprintf("SLUICE_EPOCH=%d", r.Epoch), fmt.Sprintf("SLUICE_ATTEMPT=%d", r.Attempt), fmt.Sprintf("SLUICE_IN_DOUBT_COUNT=%d", len(r.InDoubt)),
	}, input)
	if err != nil {
		return err
	}
	if result.code != 0 {
		return errors.New(result.why())
	}
	through, err := processedThrough(result.stdout)
	r.ProcessedThrough(through)
	return err
}

func inDoubt(d client.InDoubt) *sluicev1.InDoubt {
	lane := sluicev1.Lane_LANE_NORMAL
	if d.Lane == client.LaneRecovery {
		lane = sluicev1.Lane_LANE_RECOVERY
	}
	m := d.Message
	return &sluicev1.InDoubt{Lane: lane, Seq: uint64(d.Seq), Message: &sluicev1.Message{
		Application: m.Application, Instance: m.Instance, Id: m.ID, Type: m.Type, Transaction: m.Transaction, Source: m.Source, ContentType: m.ContentType, Data: m.Data, Headers: m.Headers,
	}}
}

// processedThrough reads what a recovery program said: a number, or nothing.
func processedThrough(stdout []byte) (client.Seq, error) {
	text := strings.TrimSpace(string(stdout))
	if text == "" {
		return 0, nil
	}
	through, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the recovery command wrote %q where a sequence number should stand", text[:min(len(text), 80)])
	}
	return client.Seq(through), nil
}

// decide handles a recovery as --on-recovery says.
func (x *executor) decide(_ context.Context, r *client.Recovery) error {
	if x.onRecovery != "processed" {
		return nil
	}
	for _, d := range r.InDoubt {
		if d.Lane == client.LaneNormal {
			r.ProcessedThrough(d.Seq)
		}
	}
	return nil
}

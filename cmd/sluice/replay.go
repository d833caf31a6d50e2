package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"sluice/client"
	"sluice/cmd/sluice/replay"
)

func newReplay(sh *shell) *cobra.Command {
	var (
		cfg   replay.Config
		share string
	)
	c := &cobra.Command{
		Use: "replay FILE.xes[.gz]", Short: "Replay a recorded event log, with recoveries on the way, and prove that it came out right", Args: cobra.ExactArgs(1),
		Long: `Reads an event log in the XES standard (IEEE 1849) and sends it: a case is an instance and its transaction, an event a
message, its attributes the content as JSON. Cases are interleaved by time, each in its own order. Workers of the
replay's own handle the messages. With --recover, a share of the cases is put into recovery at a random moment and
completed at a later one; meanwhile their messages are deferred.

With --verify the replay proves at the end, from what its workers handled and from the cluster's own word, that each
case was settled in its own order, each event once and with its content, that nothing was handed to a handler under an
epoch of recovery, and that nothing is left. What is not so is listed, and the exit code is 1.

Nodes may be killed and started again on the way. A replay that was interrupted can be run again: it sends the same ids.`,
		Example: `  sluice replay incidents.xes.gz --verify
  sluice replay incidents.xes.gz --recover 10% --workers 2 --verify --addr 127.0.0.1:7631,127.0.0.1:7632,127.0.0.1:7633
  sluice replay incidents.xes.gz --speed 86400        # a day of the log takes a second`,
	}
	f := c.Flags()
	f.StringVar(&cfg.Application, "app", "", "application; created if it does not exist (default: the file's name)")
	f.Float64Var(&cfg.Speed, "speed", 0, "how much faster than it was recorded; 0 is as fast as it goes")
	f.IntVar(&cfg.Senders, "concurrency", 8, "how many send at once; the order within a case is kept")
	f.IntVar(&cfg.Workers, "workers", 2, "how many workers handle the messages")
	f.StringVar(&share, "recover", "0%", "share of the cases that is put into recovery on the way, as 10% or 0.1")
	f.Uint64Var(&cfg.Seed, "seed", 1, "what the random choices follow from")
	f.IntVar(&cfg.Cases, "cases", 0, "how many cases of the log; 0 is all")
	f.IntVar(&cfg.Batch, "batch", 100, "messages in one request, 1 to 1024")
	f.IntVar(&cfg.Window, "window", 8, "messages of an instance that are out at once, if the application is created")
	f.DurationVar(&cfg.Patience, "patience", time.Minute, "give up when nothing has moved for so long")
	f.DurationVar(&cfg.Lease, "lease", 15*time.Second, "the workers' lease")
	f.BoolVar(&cfg.Verify, "verify", false, "prove at the end that it came out right")
	c.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if cfg.Recover, err = parseShare(share); err != nil {
			return err
		}
		cfg.Application = firstOf(cfg.Application, applicationName(args[0]))
		if err := cfg.Validate(); err != nil {
			return usagef("%s", err)
		}
		return sh.replay(cmd.Context(), args[0], cfg)
	}
	return c
}

// parseShare reads 10% or 0.1.
func parseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	share, err := strconv.ParseFloat(number, 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, usagef("--recover %q: a share is written as 10%% or 0.1, from 0 to 100%%", text)
	}
	return share, nil
}

var notInName = regexp.MustCompile(`[^a-z0-9._-]+`)

// applicationName makes a file's name an application's.
func applicationName(file string) string {
	name := strings.ToLower(filepath.Base(file))
	for _, ending := range []string{".gz", ".xes", ".xml"} {
		name = strings.TrimSuffix(name, ending)
	}
	name = strings.TrimLeft(notInName.ReplaceAllString(name, "-"), "._-")
	return firstOf(name[:min(len(name), 63)], "replay")
}

func (sh *shell) replay(ctx context.Context, file string, cfg replay.Config) error {
	ctx, cancel := sh.patient(ctx)
	defer cancel()
	plan, err := readPlan(file, cfg.Cases)
	if err != nil {
		return err
	}
	c, tries, err := sh.patientLink(ctx, cfg.Patience)
	if err != nil {
		return err
	}
	defer c.Close()
	bar := sh.newBar("replay")
	defer bar.clear()
	cfg.Logger, cfg.Retries, cfg.Progress = sh.logger(), tries, func(p replay.Progress) {
		bar.name = p.Phase
		bar.show(uint64(p.Handled), uint64(p.Total), fmt.Sprintf("sent %d", p.Sent))
	}
	report, err := replay.Run(ctx, c, cfg, plan)
	bar.clear()
	if report != nil {
		if printErr := sh.printReport(report); printErr != nil {
			return printErr
		}
	}
	switch {
	case err != nil:
		return hint(fmt.Errorf("replay %s: %w", file, err), "run it again when the cluster is well: what was sent is not sent twice; see: sluice cluster status")
	case report.Wrong > 0:
		return quiet(exitError)
	}
	return nil
}

func readPlan(file string, cases int) (*replay.Plan, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	defer f.Close()
	plan, err := replay.Read(f, cases)
	if err != nil {
		return nil, hint(fmt.Errorf("%s: %w", file, err), "a log is an XES file (IEEE 1849), plain or gzip")
	}
	return plan, nil
}

// patientLink is a link that waits for an election as long as a replay does, and counts the calls that failed on the way.
func (sh *shell) patientLink(ctx context.Context, patience time.Duration) (*client.Client, func() uint64, error) {
	cfg := sh.clientConfig()
	cfg.Retry = client.Retry{Attempts: 1 << 20, Total: patience, Max: 500 * time.Millisecond}
	counter := &failureCounter{}
	sign := cfg.WrapTransport
	cfg.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		counter.next = sign(next)
		return counter
	}
	c, err := client.New(cfg)
	if err != nil {
		return nil, nil, usagef("%s", strings.TrimPrefix(err.Error(), "client: "))
	}
	if err := reachable(ctx, c.Addresses()); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, counter.failed.Load, nil
}

// failureCounter counts calls that came to nothing for now: the client makes each of them again.
type failureCounter struct {
	next   http.RoundTripper
	failed atomic.Uint64
}

func (f *failureCounter) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := f.next.RoundTrip(req)
	switch {
	case err != nil && !errors.Is(err, context.Canceled), err == nil && res.StatusCode >= http.StatusInternalServerError:
		f.failed.Add(1)
	}
	return res, err
}

func (sh *shell) printReport(r *replay.Report) error {
	if sh.output != "table" {
		encoder := json.NewEncoder(sh.out)
		if sh.output == "json" {
			encoder.SetIndent("", "  ")
		}
		return encoder.Encode(r)
	}
	t := &table{}
	t.row("application", r.Application)
	t.row("cases", r.Cases)
	t.row("events", r.Events)
	if r.Stray > 0 {
		t.row("left out", fmt.Sprintf("%d events that belong to no case", r.Stray))
	}
	t.row("sent", r.Sent)
	t.row("delivered", r.Delivered)
	t.row("deferred", r.Deferred)
	t.row("drained", r.Drained)
	t.row("put into recovery", r.Entered)
	t.row("recovered", r.Recovered)
	t.row("duplicates", r.Duplicates)
	t.row("fenced off", r.Fenced)
	t.row("retries", r.Retries)
	t.row("elapsed", r.Elapsed.Round(time.Millisecond))
	t.row("per second", fmt.Sprintf("%.0f", r.PerSecond))
	if r.Verified {
		t.row("verified", verdict(r))
	}
	if err := t.write(sh.out, sh.colored()); err != nil {
		return err
	}
	for _, v := range r.Violations {
		sh.say("violation: %s", v)
	}
	if r.Wrong > len(r.Violations) {
		sh.say("and %d more", r.Wrong-len(r.Violations))
	}
	return nil
}

func verdict(r *replay.Report) string {
	if r.Wrong > 0 {
		return fmt.Sprintf("NO: %d violations", r.Wrong)
	}
	return fmt.Sprintf("yes: each case in its own order, each event once, nothing handled in recovery, nothing left (%v)", r.Proof.Round(time.Millisecond))
}

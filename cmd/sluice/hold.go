package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

// holding is what "app hold" and "app release" were told.
type holding struct {
	prefix, mode, owner, instances, cause, requestID string

	minDeferred  uint64
	end          ending
	rate         float64
	dryRun, wait bool
}

func (h *holding) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&h.prefix, "prefix", "", "those whose keys begin so")
	f.StringVar(&h.mode, "mode", "", "those in this mode: normal, recovery or draining")
	f.StringVar(&h.owner, "owner", "", "those that this session owns")
	f.StringVar(&h.instances, "instances", "", "those with these keys, separated by commas; @FILE reads one a line, @- from standard input")
	f.Uint64Var(&h.minDeferred, "min-deferred", 0, "those that hold at least so many deferred messages")
	f.Float64Var(&h.rate, "rate", 0, "instances a second; 0 is as fast as the cluster allows")
	f.BoolVar(&h.dryRun, "dry-run", false, "change nothing: show how many there are, and the first of them")
	f.BoolVar(&h.wait, "wait", false, "wait until it is done, showing how far it is")
	requestIDFlag(c, &h.requestID)
}

func newAppHold(sh *shell) *cobra.Command {
	var h holding
	c := &cobra.Command{
		Use: "hold APP", Short: "Put chosen instances of an application into recovery, in the background", Args: cobra.ExactArgs(1),
		Long: `Chooses instances (all that is said must hold), at most 100,000, and puts each into recovery. Which ones is decided
once, when the command is taken: what comes later is not held. Those in recovery already are passed over. To hold all
instances of an application, whatever their number, say "app recover".`,
		Example: `  sluice app hold orders --prefix eu- --cause 'EU stock count' --dry-run
  sluice app hold orders --prefix eu- --cause 'EU stock count' --for 2h --wait
  sluice app hold orders --instances @suspects.txt --cause 'bad import' --rate 100`,
	}
	h.flags(c)
	c.Flags().StringVar(&h.cause, "cause", "operator", "why; it stands in each instance's history")
	h.end.flags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return sh.overSet(cmd, args[0], sluicev1.OperationKind_OPERATION_KIND_ENTER_RECOVERY, &h)
	}
	return c
}

func newAppRelease(sh *shell) *cobra.Command {
	var h holding
	c := &cobra.Command{
		Use: "release APP", Short: "Complete the recoveries of chosen instances, in the background", Args: cobra.ExactArgs(1),
		Long: `Chooses instances (all that is said must hold), at most 100,000, and completes the recovery of each, whatever began
it. Those with something in doubt, or recovery messages unsettled, or whose recovery handler is at work, are passed
over: they need a worker, or "instance complete" with --processed-through.`,
		Example: `  sluice app release orders --prefix eu- --rate 200 --wait
  sluice app release orders --mode recovery --dry-run`,
	}
	h.flags(c)
	c.Flags().StringVar(&h.cause, "cause", "operator", "why; it stands with the operation")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return sh.overSet(cmd, args[0], sluicev1.OperationKind_OPERATION_KIND_COMPLETE_RECOVERY, &h)
	}
	return c
}

// overSet starts an operation over a set.
func (sh *shell) overSet(cmd *cobra.Command, app string, kind sluicev1.OperationKind, h *holding) error {
	req, err := sh.startRequest(app, kind, h)
	if err != nil {
		return err
	}
	return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
		res, err := client.Call[sluicev1.StartOperationRequest, sluicev1.StartOperationResponse](ctx, c, sluicev1connect.OperationServiceStartProcedure, req)
		if err != nil {
			return repeatable(err, h.end.again(req.GetUntil()), h.requestID)
		}
		if h.dryRun {
			return sh.printDryRun(res)
		}
		return sh.begun(cmd.Context(), c, res.GetOperation(), h.wait)
	})
}

func (sh *shell) startRequest(app string, kind sluicev1.OperationKind, h *holding) (*sluicev1.StartOperationRequest, error) {
	s := &sluicev1.Selector{Prefix: h.prefix, Owner: h.owner, MinDeferred: h.minDeferred}
	if h.prefix == "" && h.mode == "" && h.owner == "" && h.instances == "" && h.minDeferred == 0 {
		return nil, usagef("which instances? say at least one of --prefix, --mode, --owner, --instances and --min-deferred; all of them: sluice app recover, sluice app complete")
	}
	var err error
	if h.mode != "" {
		if s.Mode, err = enum[sluicev1.Mode](h.mode, "--mode"); err != nil {
			return nil, err
		}
	}
	if s.Instances, err = sh.keys(h.instances); err != nil {
		return nil, err
	}
	until, err := h.end.time(sh, h.requestID)
	if err != nil {
		return nil, err
	}
	return &sluicev1.StartOperationRequest{Application: app, Kind: kind, Selector: s, Cause: h.cause, Rate: h.rate, DryRun: h.dryRun, RequestId: orNewID(&h.requestID), Until: until}, nil
}

// keys reads the keys of --instances: from the flag itself, a file or standard input.
func (sh *shell) keys(said string) ([]string, error) {
	from, isFile := strings.CutPrefix(said, "@")
	if said == "" {
		return nil, nil
	}
	split, text := ",", []byte(said)
	if isFile {
		const most = 4 << 20
		var err error
		if text, err = sh.readWhole(from, most); err != nil {
			return nil, fmt.Errorf("read instances: %w", err)
		}
		split = "\n"
	}
	var all []string
	for k := range strings.SplitSeq(string(text), split) {
		if k = strings.TrimSuffix(k, "\r"); k != "" {
			all = append(all, k)
		}
	}
	if len(all) == 0 {
		return nil, usagef("--instances %s: there is no key in it", said)
	}
	return all, nil
}

// ending says when a recovery is to complete by itself.
type ending struct {
	until string
	in    time.Duration
}

func (e *ending) flags(c *cobra.Command) {
	c.Flags().StringVar(&e.until, "until", "", "complete by itself at this time, RFC 3339, unless something is in doubt then")
	c.Flags().DurationVar(&e.in, "for", 0, "complete by itself after this time, as --until does; not with --request-id, for a repeat would name another time")
}

// time is when the recovery is to complete by itself; nil: it does not. A change with a request id must be the same
// each time that it is asked for.
func (e *ending) time(sh *shell, requestID string) (*timestamppb.Timestamp, error) {
	switch {
	case e.in < 0:
		return nil, usagef("--for %v: a time is not negative", e.in)
	case e.in > 0 && e.until != "":
		return nil, usagef("say --until or --for, not both")
	case e.in > 0 && requestID != "":
		return nil, hint(usagef("--for and --request-id: repeated, --for names another time, and the repeat would not be the same change"),
			"say the time itself, as in: --until %s", sh.now().Add(e.in).UTC().Format(time.RFC3339))
	case e.in > 0:
		return timestamppb.New(sh.now().Add(e.in)), nil
	case e.until == "":
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339, e.until)
	if err != nil {
		return nil, usagef("--until %s: a time is written as in 2026-05-04T18:30:00Z", e.until)
	}
	if now := sh.now(); requestID == "" && !at.After(now) { // a repeat may come late
		return nil, usagef("--until %s is over: it is %s now", e.until, now.UTC().Format(time.RFC3339))
	}
	return timestamppb.New(at), nil
}

// again is the flag under which the same change is asked for again: where --for was given, with the time that it named.
func (e *ending) again(until *timestamppb.Timestamp) string {
	if e.in == 0 {
		return "request-id"
	}
	return fmt.Sprintf("until %s (in place of --for) --request-id", until.AsTime().Format(time.RFC3339Nano))
}

// printDryRun shows what an operation would be about.
func (sh *shell) printDryRun(res *sluicev1.StartOperationResponse) error {
	op := res.GetOperation()
	err := sh.answer(res, func(t *table) {
		t.row("application", op.GetApplication())
		t.row("kind", op.GetKind())
		t.row("set", fmt.Sprintf("%s, as of index %d", selectorText(op.GetSelector()), op.GetFrozenIndex()))
		t.row("total", op.GetTotal())
		for _, key := range res.GetInstances() {
			t.row("instance", key)
		}
	})
	if err == nil && op.GetTotal() > uint64(len(res.GetInstances())) {
		sh.say("the first %d of %d are shown", len(res.GetInstances()), op.GetTotal())
	}
	if err == nil {
		sh.say("nothing was changed; leave --dry-run out to do it")
	}
	return err
}

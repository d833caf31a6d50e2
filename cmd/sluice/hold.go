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
	prefix, mode, owner, instances, cause, until, requestID string

	minDeferred  uint64
	in           time.Duration
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
	c.Flags().StringVar(&h.until, "until", "", "complete by themselves at this time, RFC 3339, unless something is in doubt then")
	c.Flags().DurationVar(&h.in, "for", 0, "the same, after this time")
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
			return repeatable(err, "request-id", h.requestID)
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
	req := &sluicev1.StartOperationRequest{Application: app, Kind: kind, Selector: s, Cause: h.cause, Rate: h.rate, DryRun: h.dryRun, RequestId: orNewID(&h.requestID)}
	req.Until, err = sh.untilTime(h)
	return req, err
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

// untilTime is when the recoveries are to complete by themselves; nil: they do not.
func (sh *shell) untilTime(h *holding) (*timestamppb.Timestamp, error) {
	switch {
	case h.in < 0:
		return nil, usagef("--for %v: a time is not negative", h.in)
	case h.in > 0 && h.until != "":
		return nil, usagef("say --until or --for, not both")
	case h.in > 0:
		return timestamppb.New(sh.now().Add(h.in)), nil
	case h.until == "":
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339, h.until)
	if err != nil {
		return nil, usagef("--until %s: a time is written as in 2026-05-04T18:30:00Z", h.until)
	}
	return timestamppb.New(at), nil
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

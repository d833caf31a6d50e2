package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

func newInstance(sh *shell) *cobra.Command {
	return group("instance", "See and change single instances: mode, inbox, history",
		"  sluice instance get orders/4711\n  sluice instance recover orders/4711 --cause 'stock count'\n  sluice instance complete orders/4711 --wait",
		newInstanceGet(sh), newInstanceExplain(sh), newInstanceList(sh), newInstanceRecover(sh), newInstanceComplete(sh),
		newInstanceMessages(sh), newInstancePeek(sh), newInstanceResolve(sh), newInstanceExport(sh), newInstanceImport(sh), newInstanceHistory(sh), newInstanceWatch(sh), newInstanceTerminate(sh))
}

func getInstance(ctx context.Context, c *client.Client, at target, stale bool) (*sluicev1.Instance, error) {
	return ask[sluicev1.GetInstanceRequest, sluicev1.Instance](ctx, c, sluicev1connect.InstanceServiceGetProcedure,
		&sluicev1.GetInstanceRequest{Application: at.app, Instance: at.key, Stale: stale})
}

func newInstanceGet(sh *shell) *cobra.Command {
	var stale bool
	c := onInstance("get", "Show an instance: its mode, epoch, owner, and what it holds",
		"  sluice instance get orders/4711\n  sluice instance get orders/4711 -o json\n  sluice instance get orders/4711 -o wide    # and what holds it\n  sluice instance get orders/4711 --stale    # the asked node's own knowledge, also without a majority",
		func(cmd *cobra.Command, at target) error {
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				if sh.output == "wide" {
					e, err := explainInstance(ctx, c, at, stale)
					if err != nil {
						return err
					}
					return sh.printExplained(e)
				}
				i, err := getInstance(ctx, c, at, stale)
				if err != nil {
					return err
				}
				return sh.printInstance(i)
			})
		})
	c.Annotations = map[string]string{wideOutput: ""}
	c.Flags().BoolVar(&stale, "stale", false, "read what the asked node knows by itself, and say how old it is")
	return c
}

func (sh *shell) printInstance(i *sluicev1.Instance) error {
	return sh.answer(i, func(t *table) { sh.fillInstance(t, i) })
}

func (sh *shell) fillInstance(t *table, i *sluicev1.Instance) {
	t.row("instance", i.GetApplication()+"/"+i.GetKey())
	t.row("mode", i.GetMode())
	t.row("cause", i.GetCause())
	t.row("for", sh.since(i.GetModeTime()))
	t.row("epoch", i.GetEpoch())
	t.row("owner", i.GetOwner())
	t.row("unsettled", i.GetNormalMessages())
	t.row("deferred", fmt.Sprintf("%d (%s)", i.GetDeferredMessages(), size(i.GetDeferredBytes())))
	if i.GetOldestDeferredTime() != nil {
		t.row("oldest deferred", sh.since(i.GetOldestDeferredTime())+" ago")
	}
	t.row("recovery lane", i.GetRecoveryMessages())
	t.row("in flight", i.GetInFlight())
	t.row("next seq", i.GetNextSeq())
	if i.GetMode() == sluicev1.Mode_MODE_RECOVERY {
		t.row("quiesced", i.GetQuiesced())
	}
	if i.GetTerminated() {
		t.row("terminated", true)
	}
	if i.GetDuplicate() {
		t.row("duplicate", true)
	}
	fillAsOf(t, i)
}

// fillAsOf says of a stale read how old it is.
func fillAsOf(t *table, i *sluicev1.Instance) {
	if i.GetStaleIndex() > 0 {
		t.row("as of", fmt.Sprintf("index %d, %v ago", i.GetStaleIndex(), time.Duration(i.GetStaleAgeMs())*time.Millisecond))
	}
}

// listing says which instances "instance list" shows.
type listing struct {
	app, mode, prefix string
	minDeferred       uint64
	limit             int
}

func newInstanceList(sh *shell) *cobra.Command {
	var l listing
	c := &cobra.Command{
		Use: "list --app APP", Short: "List the instances of an application", Args: noArgs,
		Example: "  sluice instance list --app orders --mode recovery\n  sluice instance list --app orders --min-deferred 100 -o jsonl",
	}
	f := c.Flags()
	f.StringVar(&l.app, "app", "", "application (required)")
	f.StringVar(&l.mode, "mode", "", "only those in this mode: normal, recovery or draining")
	f.StringVar(&l.prefix, "prefix", "", "only keys that begin so")
	f.Uint64Var(&l.minDeferred, "min-deferred", 0, "only those that hold at least so many deferred messages")
	f.IntVar(&l.limit, "limit", 1000, "at most so many; 0 is all")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		req, err := l.request()
		if err != nil {
			return err
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error { return sh.listInstances(ctx, c, req, l.limit) })
	}
	return c
}

func (l *listing) request() (*sluicev1.ListInstancesRequest, error) {
	if l.app == "" {
		return nil, usagef("which application? give it with --app APP")
	}
	req := &sluicev1.ListInstancesRequest{Application: l.app, Prefix: l.prefix, MinDeferred: l.minDeferred, PageSize: 1000}
	if l.limit > 0 {
		req.PageSize = uint32(min(l.limit, 1000))
	}
	if l.mode != "" {
		mode, err := enum[sluicev1.Mode](l.mode, "--mode")
		if err != nil {
			return nil, err
		}
		req.Mode = mode
	}
	return req, nil
}

func (sh *shell) listInstances(ctx context.Context, c *client.Client, req *sluicev1.ListInstancesRequest, limit int) error {
	whole := &sluicev1.ListInstancesResponse{}
	for {
		page, err := ask[sluicev1.ListInstancesRequest, sluicev1.ListInstancesResponse](ctx, c, sluicev1connect.InstanceServiceListProcedure, req)
		if err != nil {
			return err
		}
		whole.Instances = append(whole.Instances, page.GetInstances()...)
		whole.NextPageToken, req.PageToken = page.GetNextPageToken(), page.GetNextPageToken()
		if req.PageToken == "" || limit > 0 && len(whole.Instances) >= limit {
			break
		}
	}
	if limit > 0 && len(whole.Instances) > limit {
		whole.Instances = whole.Instances[:limit]
	}
	if err := list(sh, whole, whole.Instances, []string{"KEY", "MODE", "EPOCH", "UNSETTLED", "DEFERRED", "RECOVERY", "OWNER", "CAUSE"}, func(t *table, i *sluicev1.Instance) {
		t.row(i.GetKey(), i.GetMode(), i.GetEpoch(), i.GetNormalMessages(), i.GetDeferredMessages(), i.GetRecoveryMessages(), i.GetOwner(), i.GetCause())
	}); err != nil {
		return err
	}
	if whole.NextPageToken != "" {
		sh.say("there are more than %d; see them with --limit 0", limit)
	}
	return nil
}

func newInstanceRecover(sh *shell) *cobra.Command {
	var (
		req sluicev1.EnterRecoveryRequest
		end ending
	)
	c := onInstance("recover", "Put an instance into recovery: its normal messages are deferred from now on",
		"  sluice instance recover orders/4711 --cause 'stock count'\n  sluice instance recover orders/4711 --for 10m    # completes by itself then, if nothing is in doubt\n  sluice instance recover orders/4711 --until 2026-05-04T18:30:00Z",
		func(cmd *cobra.Command, at target) (err error) {
			if req.Until, err = end.time(sh, req.RequestId); err != nil {
				return err
			}
			req.Application, req.Instance = at.app, at.key
			orNewID(&req.RequestId)
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				i, err := client.Call[sluicev1.EnterRecoveryRequest, sluicev1.Instance](ctx, c, sluicev1connect.InstanceServiceEnterRecoveryProcedure, &req)
				if err != nil {
					return repeatable(err, end.again(req.Until), req.RequestId)
				}
				return sh.printInstance(i)
			})
		})
	c.Flags().StringVar(&req.Cause, "cause", "operator", "why; it stands in the instance's history")
	end.flags(c)
	requestIDFlag(c, &req.RequestId)
	return c
}

func newInstanceHistory(sh *shell) *cobra.Command {
	return onInstance("history", "Show the changes of an instance's mode, with cause and actor",
		"  sluice instance history orders/4711",
		func(cmd *cobra.Command, at target) error {
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				h, err := ask[sluicev1.HistoryRequest, sluicev1.HistoryResponse](ctx, c, sluicev1connect.InstanceServiceHistoryProcedure,
					&sluicev1.HistoryRequest{Application: at.app, Instance: at.key})
				if err != nil {
					return err
				}
				return list(sh, h, h.GetTransitions(), []string{"INDEX", "TIME", "FROM", "TO", "EPOCH", "CAUSE", "ACTOR"}, func(t *table, x *sluicev1.Transition) {
					t.row(x.GetIndex(), x.GetTime(), x.GetFrom(), x.GetTo(), x.GetEpoch(), x.GetCause(), x.GetActor())
				})
			})
		})
}

func newInstanceTerminate(sh *shell) *cobra.Command {
	var req sluicev1.TerminateRequest
	c := onInstance("terminate", "End an instance: what is unsettled is dead-lettered, and its name rests for the deduplication window",
		"  sluice instance terminate orders/4711 --reason 'test data' --yes",
		func(cmd *cobra.Command, at target) error {
			if yes, _ := cmd.Flags().GetBool("yes"); !yes {
				return usagef("terminating %s dead-letters everything that is unsettled in it and cannot be undone; say --yes if that is meant", at.String())
			}
			req.Application, req.Instance = at.app, at.key
			orNewID(&req.RequestId)
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				i, err := client.Call[sluicev1.TerminateRequest, sluicev1.Instance](ctx, c, sluicev1connect.InstanceServiceTerminateProcedure, &req)
				if err != nil {
					return repeatable(err, "request-id", req.RequestId)
				}
				return sh.printInstance(i)
			})
		})
	c.Flags().StringVar(&req.Reason, "reason", "operator", "why; it stands with the dead letters")
	c.Flags().Bool("yes", false, "it is meant")
	requestIDFlag(c, &req.RequestId)
	return c
}

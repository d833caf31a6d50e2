package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

func newOperation(sh *shell) *cobra.Command {
	return group("operation", "See and steer long work over many instances",
		"  sluice operation list --app orders\n  sluice operation wait op-00000000000000000042\n  sluice operation items op-00000000000000000042 --state passed-over",
		newOperationList(sh), newOperationGet(sh), newOperationItems(sh),
		newOperationSteer(sh, "pause", "Hold an operation until it is resumed", sluicev1connect.OperationServicePauseProcedure),
		newOperationSteer(sh, "resume", "Go on with a paused operation", sluicev1connect.OperationServiceResumeProcedure),
		newOperationSteer(sh, "cancel", "End an operation where it stands; what it did stays done", sluicev1connect.OperationServiceCancelProcedure),
		newOperationWait(sh))
}

func newOperationList(sh *shell) *cobra.Command {
	var app string
	c := &cobra.Command{
		Use: "list", Short: "List operations, oldest first", Args: noArgs,
		Example: "  sluice operation list\n  sluice operation list --app orders -o jsonl",
	}
	c.Flags().StringVar(&app, "app", "", "only those of this application")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			all, err := ask[sluicev1.ListOperationsRequest, sluicev1.ListOperationsResponse](ctx, c, sluicev1connect.OperationServiceListProcedure, &sluicev1.ListOperationsRequest{Application: app})
			if err != nil {
				return err
			}
			head := []string{"ID", "APPLICATION", "KIND", "STATE", "TOTAL", "DONE", "PASSED OVER", "FAILED", "CAUSE"}
			return list(sh, all, all.GetOperations(), head, func(t *table, o *sluicev1.Operation) {
				t.row(o.GetId(), o.GetApplication(), o.GetKind(), o.GetState(), o.GetTotal(), o.GetDone(), o.GetPassedOver(), o.GetFailed(), o.GetCause())
			})
		})
	}
	return c
}

func newOperationGet(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show an operation: what it is about, and how far it is", Args: cobra.ExactArgs(1),
		Example: "  sluice operation get op-00000000000000000042",
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				op, err := getOperation(ctx, c, args[0])
				if err != nil {
					return err
				}
				return sh.printOperation(op)
			})
		},
	}
}

func getOperation(ctx context.Context, c *client.Client, id string) (*sluicev1.Operation, error) {
	return ask[sluicev1.GetOperationRequest, sluicev1.Operation](ctx, c, sluicev1connect.OperationServiceGetProcedure, &sluicev1.GetOperationRequest{Id: id})
}

func (sh *shell) printOperation(op *sluicev1.Operation) error {
	return sh.answer(op, func(t *table) { fillOperation(t, op) })
}

func fillOperation(t *table, op *sluicev1.Operation) {
	t.row("operation", op.GetId())
	t.row("application", op.GetApplication())
	t.row("kind", op.GetKind())
	t.row("state", op.GetState())
	t.row("cause", op.GetCause())
	t.row("by", op.GetActor())
	if s := op.GetSelector(); s != nil {
		t.row("set", fmt.Sprintf("%s, as of index %d", selectorText(s), op.GetFrozenIndex()))
	}
	if op.GetRate() > 0 {
		t.row("rate", fmt.Sprintf("%v/s", op.GetRate()))
	}
	t.row("total", op.GetTotal())
	t.row("done", op.GetDone())
	t.row("passed over", op.GetPassedOver())
	t.row("failed", op.GetFailed())
	t.row("started", op.GetStartTime())
	t.row("ended", op.GetEndTime())
	if op.GetDuplicate() {
		t.row("duplicate", true)
	}
}

// selectorText says what chose a set.
func selectorText(s *sluicev1.Selector) string {
	var text string
	add := func(given bool, format string, value any) {
		if !given {
			return
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf(format, value)
	}
	add(s.GetPrefix() != "", "prefix %s", s.GetPrefix())
	add(s.GetMode() != 0, "mode %s", word(s.GetMode()))
	add(s.GetOwner() != "", "owner %s", s.GetOwner())
	add(s.GetMinDeferred() > 0, "at least %d deferred", s.GetMinDeferred())
	return firstOf(text, "named one by one")
}

func newOperationItems(sh *shell) *cobra.Command {
	var (
		state string
		limit int
	)
	c := &cobra.Command{
		Use: "items ID", Short: "Show what became of each instance of the set of a hold or a release", Args: cobra.ExactArgs(1),
		Example: "  sluice operation items op-00000000000000000042\n  sluice operation items op-00000000000000000042 --state failed --limit 0 -o jsonl",
	}
	c.Flags().StringVar(&state, "state", "", "only those that are pending, done, passed-over or failed")
	c.Flags().IntVar(&limit, "limit", 1000, "at most so many; 0 is all")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		req := &sluicev1.ListOperationItemsRequest{Id: args[0], PageSize: 1000}
		if limit > 0 {
			req.PageSize = uint32(min(limit, 1000))
		}
		if state != "" {
			want, err := enum[sluicev1.ItemState](state, "--state")
			if err != nil {
				return err
			}
			req.State = want
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			if err := sh.listItems(ctx, c, req, limit); err != nil {
				return err
			}
			op, err := getOperation(ctx, c, args[0])
			if err == nil && op.GetSelector() == nil {
				sh.say("the completion of a whole application keeps no list; see what it left: sluice instance list --app %s --mode recovery", op.GetApplication())
			}
			return err
		})
	}
	return c
}

func (sh *shell) listItems(ctx context.Context, c *client.Client, req *sluicev1.ListOperationItemsRequest, limit int) error {
	whole := &sluicev1.ListOperationItemsResponse{}
	for {
		page, err := ask[sluicev1.ListOperationItemsRequest, sluicev1.ListOperationItemsResponse](ctx, c, sluicev1connect.OperationServiceListItemsProcedure, req)
		if err != nil {
			return err
		}
		whole.Items = append(whole.Items, page.GetItems()...)
		whole.NextPageToken, req.PageToken = page.GetNextPageToken(), page.GetNextPageToken()
		if req.PageToken == "" || limit > 0 && len(whole.Items) >= limit {
			break
		}
	}
	if limit > 0 && len(whole.Items) > limit {
		whole.Items = whole.Items[:limit]
	}
	if err := list(sh, whole, whole.Items, []string{"INSTANCE", "STATE", "DETAIL"}, func(t *table, i *sluicev1.OperationItem) {
		t.row(i.GetInstance(), i.GetState(), i.GetDetail())
	}); err != nil {
		return err
	}
	if whole.NextPageToken != "" {
		sh.say("there are more than %d; see them with --limit 0", limit)
	}
	return nil
}

func newOperationSteer(sh *shell, use, short, procedure string) *cobra.Command {
	return &cobra.Command{
		Use: use + " ID", Short: short, Args: cobra.ExactArgs(1),
		Example: "  sluice operation " + use + " op-00000000000000000042",
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				op, err := client.Call[sluicev1.GetOperationRequest, sluicev1.Operation](ctx, c, procedure, &sluicev1.GetOperationRequest{Id: args[0]})
				if err != nil {
					return err
				}
				return sh.printOperation(op)
			})
		},
	}
}

func newOperationWait(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use: "wait ID", Short: "Wait until an operation has ended, showing how far it is", Args: cobra.ExactArgs(1),
		Long: `Waits until an operation is done, without end unless --timeout is given; interrupted, it leaves the operation to go on
in the cluster. An operation that was cancelled is an error.`,
		Example: "  sluice operation wait op-00000000000000000042 --timeout 10m",
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				op, err := getOperation(ctx, c, args[0])
				if err != nil {
					return err
				}
				return sh.waitFor(cmd.Context(), c, op)
			})
		},
	}
}

func newAppComplete(sh *shell) *cobra.Command {
	var (
		requestID string
		rate      float64
		wait      bool
	)
	c := &cobra.Command{
		Use: "complete APP", Short: "Complete the recovery of a whole application, in the background", Args: cobra.ExactArgs(1),
		Long: `Starts the completion of the recoveries that "app recover" began. The leader works through the instances; those with
something in doubt, or recovery messages unsettled, or whose recovery handler is at work, are passed over and counted.
What was put into recovery since for a reason of its own is left alone.`,
		Example: "  sluice app complete orders --rate 500 --wait",
	}
	c.Flags().Float64Var(&rate, "rate", 0, "instances a second; 0 is as fast as the cluster allows")
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is done, showing how far it is")
	requestIDFlag(c, &requestID)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			req := &sluicev1.CompleteApplicationRecoveryRequest{Application: args[0], RequestId: orNewID(&requestID), Rate: rate}
			op, err := client.Call[sluicev1.CompleteApplicationRecoveryRequest, sluicev1.Operation](ctx, c, sluicev1connect.ApplicationServiceCompleteRecoveryProcedure, req)
			if err != nil {
				if errors.Is(err, client.ErrNotInRecovery) {
					return hint(err, "see how the application stands: sluice app get %s; of single instances: sluice app release %s --mode recovery", args[0], args[0])
				}
				return repeatable(err, "request-id", requestID)
			}
			return sh.begun(cmd.Context(), c, op, wait)
		})
	}
	return c
}

// begun prints an operation that has begun, or waits for its end.
func (sh *shell) begun(ctx context.Context, c *client.Client, op *sluicev1.Operation, wait bool) error {
	if wait {
		return sh.waitFor(ctx, c, op)
	}
	if err := sh.printOperation(op); err != nil {
		return err
	}
	switch {
	case op.GetState() != sluicev1.OperationState_OPERATION_DONE:
		sh.say("it goes on in the cluster; wait for it: sluice operation wait %s", op.GetId())
	case op.GetTotal() == 0:
		sh.say("there was nothing to do: no instance is in its set")
	}
	return nil
}

// waitFor waits for the end of an operation, prints it, and says where to look for what was not done.
func (sh *shell) waitFor(ctx context.Context, c *client.Client, op *sluicev1.Operation) error {
	op, err := sh.follow(ctx, c, op)
	if err != nil {
		return err
	}
	if err := sh.printOperation(op); err != nil {
		return err
	}
	if op.GetState() == sluicev1.OperationState_OPERATION_CANCELLED {
		return fmt.Errorf("operation %s was cancelled with %d of %d done", op.GetId(), op.GetDone(), op.GetTotal())
	}
	switch left := op.GetPassedOver() + op.GetFailed(); {
	case left > 0 && op.GetSelector() != nil:
		sh.say("not done: %d; see why: sluice operation items %s", left, op.GetId())
	case left > 0:
		sh.say("not done: %d; see them: sluice instance list --app %s --mode recovery", left, op.GetApplication())
	}
	return nil
}

// follow waits for the end of an operation.
func (sh *shell) follow(ctx context.Context, c *client.Client, op *sluicev1.Operation) (*sluicev1.Operation, error) {
	ctx, cancel := sh.patient(ctx)
	defer cancel()
	bar := sh.newBar(op.GetKind())
	defer bar.clear()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for op.GetState() != sluicev1.OperationState_OPERATION_DONE && op.GetState() != sluicev1.OperationState_OPERATION_CANCELLED {
		note := ""
		if op.GetState() != sluicev1.OperationState_OPERATION_RUNNING {
			note = word(op.GetState())
		}
		bar.show(op.GetDone()+op.GetPassedOver()+op.GetFailed(), op.GetTotal(), note)
		select {
		case <-ctx.Done():
			return nil, goesOn(ctx, op)
		case <-tick.C:
		}
		now, err := getOperation(ctx, c, op.GetId())
		if ctx.Err() != nil {
			return nil, goesOn(ctx, op)
		}
		if err != nil {
			return nil, err
		}
		op = now
	}
	return op, nil
}

// errNotEnded is a wait that was over before its operation was.
var errNotEnded = errors.New("has not ended in time")

// goesOn says what becomes of an operation that is waited for no longer.
func goesOn(ctx context.Context, op *sluicev1.Operation) error {
	why := errNotEnded
	if errors.Is(ctx.Err(), context.Canceled) {
		why = errors.New("is waited for no longer: interrupted")
	}
	return hint(fmt.Errorf("the operation %s %w; it goes on in the cluster", op.GetId(), why), "see how far it is: sluice operation get %s", op.GetId())
}

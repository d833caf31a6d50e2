package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

// completing is what "instance complete" was told.
type completing struct {
	req   sluicev1.CompleteRecoveryRequest
	said  bool // --processed-through was given, be it 0
	named bool // --request-id was given
	wait  bool
}

func newInstanceComplete(sh *shell) *cobra.Command {
	var o completing
	c := onInstance("complete", "Complete an instance's recovery: what it holds is drained, in order",
		"  sluice instance complete orders/4711 --wait\n  sluice instance complete orders/4711 --processed-through 17    # up to seq 17 what is in doubt took effect\n  sluice instance complete orders/4711 --processed-through 0     # nothing of it did: all is delivered again",
		func(cmd *cobra.Command, at target) error {
			o.said, o.named = cmd.Flags().Changed("processed-through"), o.req.RequestId != ""
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				i, err := o.run(ctx, c, at)
				if err != nil {
					return err
				}
				if !o.wait {
					return sh.printInstance(i)
				}
				return sh.waitNormal(cmd.Context(), c, at)
			})
		})
	f := c.Flags()
	f.Uint64Var(&o.req.Epoch, "epoch", 0, "complete only if this is still the epoch; 0 is the current one")
	f.Uint64Var(&o.req.ProcessedThrough, "processed-through", 0, "messages in doubt up to this seq took effect, and the rest is delivered again; must be said while messages are in doubt, 0 is none of them")
	f.BoolVar(&o.req.DiscardRecoveryMessages, "discard-recovery-messages", false, "dead-letter what is unsettled in the recovery lane")
	f.BoolVar(&o.wait, "wait", false, "wait until everything deferred is drained, showing how far it is")
	requestIDFlag(c, &o.req.RequestId)
	return c
}

// run completes the recovery, unless what was said of the messages in doubt cannot be meant: what is delivered again
// without need, or counted as done by a slip, is not to be mended.
func (o *completing) run(ctx context.Context, c *client.Client, at target) (*sluicev1.Instance, error) {
	o.req.Application, o.req.Instance = at.app, at.key
	i, err := getInstance(ctx, c, at, false)
	if err != nil {
		return nil, err
	}
	flag := "request-id"
	if i.GetMode() == sluicev1.Mode_MODE_RECOVERY {
		d, err := readDoubt(ctx, c, i)
		if err != nil {
			return nil, err
		}
		if err := o.judge(d); err != nil {
			return nil, err
		}
		// What was looked at is what is completed. Under a name of the user's own the request must be the same each time.
		if o.req.Epoch == 0 && !o.named {
			o.req.Epoch = i.GetEpoch()
			flag = fmt.Sprintf("epoch %d --request-id", o.req.Epoch)
		}
	}
	orNewID(&o.req.RequestId)
	i, err = client.Call[sluicev1.CompleteRecoveryRequest, sluicev1.Instance](ctx, c, sluicev1connect.InstanceServiceCompleteRecoveryProcedure, &o.req)
	if err != nil {
		return nil, repeatable(err, flag, o.req.RequestId)
	}
	return i, nil
}

// judge refuses what cannot be meant: nothing said while messages are in doubt, or more than is in doubt.
func (o *completing) judge(d doubt) error {
	through := o.req.ProcessedThrough
	switch {
	case d.count > 0 && !o.said:
		err := fmt.Errorf("%w: %s in doubt, up to seq %d: say up to where they took effect: --processed-through %d (all), or 0 (none: they are delivered again)", errInDoubt, d.many(), d.last, d.last)
		return hint(err, "look at them: sluice instance messages %s --lane normal; then: %s", d.at.String(), d.command())
	case d.count > 0 && through > d.last:
		return hint(fmt.Errorf("%w: --processed-through %d is beyond the last message in doubt, seq %d", errInDoubt, through, d.last), "%s", d.command())
	case d.count == 0 && through > 0:
		return hint(fmt.Errorf("%w: --processed-through %d: no message of %s is in doubt", errInDoubt, through, d.at.String()), "%s", d.command())
	}
	return nil
}

// errInDoubt is a completion that does not fit what is in doubt.
var errInDoubt = errors.New("not completed")

// doubt is what is in doubt in an instance's normal lane, and what its completion needs.
type doubt struct {
	at          target
	count, last uint64
	pending     bool // recovery messages are unsettled
}

// readDoubt reads what is in doubt: a beginning of the normal lane.
func readDoubt(ctx context.Context, c *client.Client, i *sluicev1.Instance) (doubt, error) {
	d := doubt{at: target{i.GetApplication(), i.GetKey()}, pending: i.GetRecoveryMessages() > 0}
	req := &sluicev1.ListMessagesRequest{Application: d.at.app, Instance: d.at.key, Lane: sluicev1.Lane_LANE_NORMAL, PageSize: 1000}
	for {
		page, err := ask[sluicev1.ListMessagesRequest, sluicev1.ListMessagesResponse](ctx, c, sluicev1connect.InstanceServiceListMessagesProcedure, req)
		if err != nil {
			return doubt{}, err
		}
		for _, m := range page.GetMessages() {
			if !m.GetInDoubt() {
				return d, nil
			}
			d.count, d.last = d.count+1, m.GetSeq()
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return d, nil
		}
	}
}

func (d doubt) many() string {
	if d.count == 1 {
		return "1 message is"
	}
	return fmt.Sprintf("%d messages are", d.count)
}

// command is what an operator completes the recovery with, as "instance explain" tells it.
func (d doubt) command() string {
	text, through := "sluice instance complete "+d.at.String(), ""
	if d.count > 0 {
		text += fmt.Sprintf(" --processed-through %d", d.last)
		through = " if all that is in doubt took effect, --processed-through 0 if nothing did"
	}
	if d.pending {
		text += " --discard-recovery-messages"
	}
	return text + through
}

package workload

import (
	"context"
	"fmt"

	"sluice/client"
	"sluice/jepsen/history"
)

// overSet puts some instances into recovery by one operation, or completes the recoveries of some. Some operations are
// paused, and resumed or cancelled.
func (o *operator) overSet(ctx context.Context, application string) {
	s := client.StartOperation{Application: application, Cause: "a set", RequestID: o.request()}
	enters := o.random.IntN(2) == 0
	if enters && o.random.IntN(3) > 0 {
		s.Until = o.soon()
	}
	switch o.random.IntN(4) {
	case 0:
		s.Selector = client.Selector{Prefix: Instance(0)[:2]}
	case 1:
		s.Selector = client.Selector{MinDeferred: 1}
	case 2:
		s.Selector = client.Selector{Instances: []string{o.instance().Key, o.instance().Key, o.doomed()}}
	default:
		s.Selector = client.Selector{Mode: client.ModeRecovery}
		if enters {
			s.Selector.Mode = client.ModeDraining
		}
	}
	slow := o.random.IntN(3) == 0
	if slow {
		s.Rate = 2
	}
	started, err := o.start(ctx, s, enters)
	if err != nil || !slow {
		return
	}
	turn := []func(client.Operations, context.Context, string) (client.Operation, error){client.Operations.Pause, client.Operations.Resume}
	if o.random.IntN(3) == 0 {
		turn = append(turn, client.Operations.Cancel)
	}
	for _, to := range turn {
		if o.steer(ctx, started, to) != nil || wait(ctx, o.load.Pause) != nil {
			return
		}
	}
}

// start begins an operation over a set, and tells its id.
func (c *caller) start(ctx context.Context, s client.StartOperation, enters bool) (id string, err error) {
	begin, action := client.Operations.Release, "release"
	if enters {
		begin, action = client.Operations.Hold, "hold"
	}
	args := history.Args{Application: s.Application, Request: s.RequestID, Action: action, Data: fmt.Sprintf("%+v", s.Selector)}
	_, err = c.ask(history.StartOperation, args, func() (history.Answer, error) {
		started, err := begin(c.client.Operations(), ctx, s)
		id = started.Operation.ID
		return history.Answer{Duplicate: started.Operation.Duplicate}, err
	})
	return id, err
}

func (c *caller) steer(ctx context.Context, id string, to func(client.Operations, context.Context, string) (client.Operation, error)) error {
	_, err := c.ask(history.SteerOperation, history.Args{Data: id}, func() (history.Answer, error) {
		op, err := to(c.client.Operations(), ctx, id)
		return history.Answer{Duplicate: op.Duplicate, Status: string(op.State)}, err
	})
	return err
}

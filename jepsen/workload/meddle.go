package workload

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
	"sluice/jepsen/history"
)

// Bystanders is an application without instances: its sessions own nothing.
const Bystanders = "bystanders"

// meddle does what no worker of the SDK does, and what must be refused: it settles the head of a lane under an epoch
// that has passed, in the owner's name; settles it under the current epoch in the name of a session that owns nothing;
// and completes a recovery under an epoch that has passed.
func (o *operator) meddle(ctx context.Context, id client.InstanceID) {
	now, err := o.getInstance(ctx, id)
	if err != nil {
		return
	}
	before := o.epochs[id]
	o.epochs[id] = now.Epoch
	for m, err := range o.client.Instances().ListMessages(ctx, id, client.ListMessages{}) {
		if err != nil {
			return
		}
		if before != 0 && before < now.Epoch && now.Owner != "" {
			_, _ = o.settle(ctx, now.Owner, id, before, m.Lane, uint64(m.Seq))
		}
		if session := o.bystander(ctx); session != "" {
			_, _ = o.settle(ctx, session, id, now.Epoch, m.Lane, uint64(m.Seq))
		}
		break
	}
	if before != 0 && before < now.Epoch {
		_, _ = o.completeRecovery(ctx, id, client.CompleteRecovery{Epoch: client.Epoch(before), ProcessedThrough: 1, RequestID: o.request()})
	}
}

// overtake sends slow messages in a row to an instance with a window, and settles the last in the owner's name while the
// others are out before it: that must be refused. If they have been settled by then it is at the head, and is taken.
func (o *operator) overtake(ctx context.Context) {
	apps := Applications()
	id := client.InstanceID{Application: apps[len(apps)-1].Name, Key: Instance(o.random.IntN(o.load.Instances))}
	last := uint64(0)
	for range 3 {
		m := client.Message{Application: id.Application, Instance: id.Key, ID: o.request(), Type: TypeWork, Data: task{Take: 100}.data()}
		receipt, err := o.send(ctx, m)
		if err != nil {
			return
		}
		last = receipt.Seq
	}
	now, err := o.getInstance(ctx, id)
	if err == nil && now.Owner != "" {
		_, _ = o.settle(ctx, now.Owner, id, now.Epoch, client.LaneNormal, last)
	}
}

// bystander is a session that owns nothing, opened once; it outlives the run.
func (o *operator) bystander(ctx context.Context) string {
	if o.session == "" {
		opened, err := client.Call[sluicev1.OpenSessionRequest, sluicev1.OpenSessionResponse](ctx, o.client, sluicev1connect.WorkerServiceOpenSessionProcedure, &sluicev1.OpenSessionRequest{
			Application: Bystanders, Name: o.name, Ttl: &durationpb.Duration{Seconds: 3600},
		})
		if err == nil {
			o.session = opened.GetSessionId()
		}
	}
	return o.session
}

// settle settles a message as completed, past the SDK's worker.
func (c *caller) settle(ctx context.Context, session string, id client.InstanceID, epoch uint64, lane client.Lane, seq uint64) (history.Answer, error) {
	args := history.Args{Application: id.Application, Instance: id.Key, Session: session, Epoch: epoch, Lane: string(lane), Seq: seq}
	return c.ask(history.Settle, args, func() (history.Answer, error) {
		s := &sluicev1.Settlement{
			Application: id.Application, Instance: id.Key, Epoch: epoch, Seq: seq, Lane: sluicev1.Lane_LANE_NORMAL, Outcome: sluicev1.Outcome_OUTCOME_COMPLETED,
		}
		if lane == client.LaneRecovery {
			s.Lane = sluicev1.Lane_LANE_RECOVERY
		}
		r, err := client.Call[sluicev1.SettleRequest, sluicev1.SettleResponse](ctx, c.client, sluicev1connect.WorkerServiceSettleProcedure, &sluicev1.SettleRequest{
			SessionId: session, Settlements: []*sluicev1.Settlement{s},
		})
		if err != nil {
			return history.Answer{}, err
		}
		result := r.GetResults()[0]
		return history.Answer{Duplicate: result.GetDuplicate(), Reason: result.GetError().GetReason()}, nil
	})
}

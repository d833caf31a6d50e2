package client

import (
	"context"
	"iter"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// Instance is what is known of one instance.
type Instance struct {
	ID    InstanceID
	Mode  Mode
	Epoch Epoch
	// Owner is the session that hosts it; empty: none.
	Owner string
	// DeferredMessages and DeferredBytes count what is unsettled of what was deferred, in any mode.
	DeferredMessages, DeferredBytes uint64
	OldestDeferredTime              time.Time
	InFlight                        uint64
	// Quiesced: in recovery, and no handler of an earlier epoch that the cluster knows of is still at work.
	Quiesced bool
	NextSeq  Seq
	// Cause and ModeTime are those of the last transition.
	Cause      string
	ModeTime   time.Time
	StateBytes uint64
	Terminated bool
	// Duplicate: the same request was carried out before; mode and epoch are those of then.
	Duplicate bool
	// NormalMessages and RecoveryMessages count what is unsettled, by lane.
	NormalMessages, RecoveryMessages uint64
}

// Transition is one change of an instance's mode.
type Transition struct {
	// Index is the position in the log.
	Index    uint64
	Time     time.Time
	From, To Mode
	Cause    string
	Actor    string
	Epoch    Epoch
}

// Instances shows instances and changes their mode.
type Instances struct{ c *Client }

// Instances are the calls that concern instances.
func (c *Client) Instances() Instances { return Instances{c} }

// Get shows one instance, read linearizably.
func (i Instances) Get(ctx context.Context, id InstanceID) (Instance, error) {
	if err := checkInstance(id); err != nil {
		return Instance{}, err
	}
	return instanceOf(Call[sluicev1.GetInstanceRequest, sluicev1.Instance](ctx, i.c,
		sluicev1connect.InstanceServiceGetProcedure, &sluicev1.GetInstanceRequest{Application: id.Application, Instance: id.Key}))
}

// WaitUntil waits until an instance is as the caller wants it, or ctx ends, and tells how it is. It looks five times a
// second, so what lasts for less may be missed. An error of a look ends it: ErrUnknownInstance if there is none yet.
func (i Instances) WaitUntil(ctx context.Context, id InstanceID, wanted func(Instance) bool) (Instance, error) {
	return waitUntil(ctx, func() (Instance, error) { return i.Get(ctx, id) }, wanted)
}

// ListInstances selects instances of one application. Zero values select all.
type ListInstances struct {
	Application string
	Mode        Mode
	MinDeferred uint64
	// Prefix of the instances' keys.
	Prefix string
}

// List iterates over instances, page by page; an error ends the iteration.
func (i Instances) List(ctx context.Context, l ListInstances) iter.Seq2[Instance, error] {
	return pages(func(token string) ([]Instance, string, error) {
		mode, err := value[sluicev1.Mode](modes, l.Mode)
		if err != nil {
			return nil, "", err
		}
		res, err := Call[sluicev1.ListInstancesRequest, sluicev1.ListInstancesResponse](ctx, i.c,
			sluicev1connect.InstanceServiceListProcedure, &sluicev1.ListInstancesRequest{
				Application: l.Application, Mode: mode, MinDeferred: l.MinDeferred, Prefix: l.Prefix,
				PageSize: pageSize, PageToken: token,
			})
		out := make([]Instance, len(res.GetInstances()))
		for k, instance := range res.GetInstances() {
			out[k], _ = instanceOf(instance, nil)
		}
		return out, res.GetNextPageToken(), err
	})
}

// EnterRecovery says how an instance enters recovery.
type EnterRecovery struct {
	// Cause is recorded in the history.
	Cause string
	// Until, if set: the recovery completes by itself then, unless something is in doubt or a recovery message is
	// unsettled.
	Until time.Time
	// RequestID; empty: one is made.
	RequestID string
}

// EnterRecovery puts an instance into recovery: normal messages are deferred from then on.
func (i Instances) EnterRecovery(ctx context.Context, id InstanceID, e EnterRecovery) (Instance, error) {
	return i.enterRecovery(ctx, id, e, "", 0)
}

// enterRecovery is for operators without a session, for workers with session and epoch.
func (i Instances) enterRecovery(ctx context.Context, id InstanceID, e EnterRecovery, session string, epoch Epoch) (Instance, error) {
	if err := checkInstance(id); err != nil {
		return Instance{}, err
	}
	return instanceOf(Call[sluicev1.EnterRecoveryRequest, sluicev1.Instance](ctx, i.c,
		sluicev1connect.InstanceServiceEnterRecoveryProcedure, &sluicev1.EnterRecoveryRequest{
			Application: id.Application, Instance: id.Key, Cause: e.Cause, Until: timestamp(e.Until),
			RequestId: orNewID(e.RequestID), SessionId: session, Epoch: uint64(epoch),
		}))
}

// CompleteRecovery says how an instance leaves recovery.
type CompleteRecovery struct {
	// Epoch is refused unless current; 0: the current one.
	Epoch Epoch
	// ProcessedThrough: in-doubt messages up to it took effect and are settled as completed; the rest is delivered
	// again. 0: none took effect.
	ProcessedThrough Seq
	// SetState replaces the instance's state by State.
	SetState bool
	State    []byte
	// DiscardRecoveryMessages dead-letters unsettled recovery messages, which else refuse the completion.
	DiscardRecoveryMessages bool
	// RequestID; empty: one is made.
	RequestID string
}

// CompleteRecovery ends an instance's recovery by an operator's hand: it drains what was deferred and turns normal.
func (i Instances) CompleteRecovery(ctx context.Context, id InstanceID, r CompleteRecovery) (Instance, error) {
	return i.completeRecovery(ctx, id, r, "")
}

func (i Instances) completeRecovery(ctx context.Context, id InstanceID, r CompleteRecovery, session string) (Instance, error) {
	if err := checkInstance(id); err != nil {
		return Instance{}, err
	}
	return instanceOf(Call[sluicev1.CompleteRecoveryRequest, sluicev1.Instance](ctx, i.c,
		sluicev1connect.InstanceServiceCompleteRecoveryProcedure, &sluicev1.CompleteRecoveryRequest{
			Application: id.Application, Instance: id.Key, Epoch: uint64(r.Epoch), ProcessedThrough: uint64(r.ProcessedThrough),
			SessionId: session, SetState: r.SetState, State: r.State,
			DiscardRecoveryMessages: r.DiscardRecoveryMessages, RequestId: orNewID(r.RequestID),
		}))
}

// History are the last transitions of an instance, oldest first.
func (i Instances) History(ctx context.Context, id InstanceID) ([]Transition, error) {
	if err := checkInstance(id); err != nil {
		return nil, err
	}
	res, err := Call[sluicev1.HistoryRequest, sluicev1.HistoryResponse](ctx, i.c, sluicev1connect.InstanceServiceHistoryProcedure,
		&sluicev1.HistoryRequest{Application: id.Application, Instance: id.Key})
	out := make([]Transition, len(res.GetTransitions()))
	for k, t := range res.GetTransitions() {
		out[k] = Transition{
			Index: t.GetIndex(), Time: timeOf(t.GetTime()), From: word(modes, t.GetFrom()), To: word(modes, t.GetTo()),
			Cause: t.GetCause(), Actor: t.GetActor(), Epoch: Epoch(t.GetEpoch()),
		}
	}
	return out, err
}

// Terminate ends an instance: what is unsettled is dead-lettered, the owner released. The name is free again after the
// deduplication window. An empty request id is made.
func (i Instances) Terminate(ctx context.Context, id InstanceID, reason, requestID string) (Instance, error) {
	if err := checkInstance(id); err != nil {
		return Instance{}, err
	}
	return instanceOf(Call[sluicev1.TerminateRequest, sluicev1.Instance](ctx, i.c,
		sluicev1connect.InstanceServiceTerminateProcedure, &sluicev1.TerminateRequest{
			Application: id.Application, Instance: id.Key, Reason: reason, RequestId: orNewID(requestID),
		}))
}

func instanceOf(i *sluicev1.Instance, err error) (Instance, error) {
	if err != nil {
		return Instance{}, err
	}
	return Instance{
		ID: InstanceID{Application: i.GetApplication(), Key: i.GetKey()}, Mode: word(modes, i.GetMode()), Epoch: Epoch(i.GetEpoch()),
		Owner: i.GetOwner(), DeferredMessages: i.GetDeferredMessages(), DeferredBytes: i.GetDeferredBytes(),
		OldestDeferredTime: timeOf(i.GetOldestDeferredTime()), InFlight: i.GetInFlight(), Quiesced: i.GetQuiesced(),
		NextSeq: Seq(i.GetNextSeq()), Cause: i.GetCause(), ModeTime: timeOf(i.GetModeTime()), StateBytes: i.GetStateBytes(),
		Terminated: i.GetTerminated(), Duplicate: i.GetDuplicate(),
		NormalMessages: i.GetNormalMessages(), RecoveryMessages: i.GetRecoveryMessages(),
	}, nil
}

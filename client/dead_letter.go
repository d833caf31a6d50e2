package client

import (
	"context"
	"iter"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// ListDeadLetters selects dead letters of one application. Zero values select all.
type ListDeadLetters struct {
	Application string
	// Instance is the key of the only instance to look at; Prefix is how the keys of those looked at begin. One of them.
	Instance, Prefix string
	// Fingerprint selects those that failed alike: see DeadLetterGroup.
	Fingerprint string
}

// DeadLettered is a dead letter and the instance in which it lies.
type DeadLettered struct {
	Instance InstanceID
	ListedMessage
}

// ListDeadLetters iterates over dead letters by instance, lane and sequence number, page by page; an error ends the
// iteration.
func (i Instances) ListDeadLetters(ctx context.Context, l ListDeadLetters) iter.Seq2[DeadLettered, error] {
	return mapped(i.deadLetters(ctx, l), func(d *sluicev1.DeadLettered) DeadLettered {
		return DeadLettered{Instance: InstanceID{Application: l.Application, Key: d.GetInstance()}, ListedMessage: listedOf(d.GetMessage())}
	})
}

// deadLetters iterates over dead letters as the contract has them.
func (i Instances) deadLetters(ctx context.Context, l ListDeadLetters) iter.Seq2[*sluicev1.DeadLettered, error] {
	return pages(func(token string) ([]*sluicev1.DeadLettered, string, error) {
		res, err := Call[sluicev1.ListDeadLettersRequest, sluicev1.ListDeadLettersResponse](ctx, i.c,
			sluicev1connect.InstanceServiceListDeadLettersProcedure, &sluicev1.ListDeadLettersRequest{
				Application: l.Application, Instance: l.Instance, Prefix: l.Prefix, Fingerprint: l.Fingerprint, PageSize: pageSize, PageToken: token,
			})
		return res.GetDeadLetters(), res.GetNextPageToken(), err
	})
}

// DeadLetterGroup counts dead letters that failed alike.
type DeadLetterGroup struct {
	Fingerprint string
	Count       uint64
	// Reason and SampleError are those of one of them.
	Reason, SampleError string
	// FirstTime and LastTime are when the first and the last became one.
	FirstTime, LastTime time.Time
	// Instances in which they lie, at most 10.
	Instances []string
}

// DeadLetterGroups is what GroupDeadLetters found.
type DeadLetterGroups struct {
	// Groups are the largest first, at most 100.
	Groups []DeadLetterGroup
	// LookedAt dead letters, at most 100,000. Truncated: there are more.
	LookedAt  uint64
	Truncated bool
}

// GroupDeadLetters counts the dead letters of an application that failed alike. The fingerprint of the selection is not
// looked at.
func (i Instances) GroupDeadLetters(ctx context.Context, l ListDeadLetters) (DeadLetterGroups, error) {
	res, err := Call[sluicev1.GroupDeadLettersRequest, sluicev1.GroupDeadLettersResponse](ctx, i.c,
		sluicev1connect.InstanceServiceGroupDeadLettersProcedure, &sluicev1.GroupDeadLettersRequest{Application: l.Application, Instance: l.Instance, Prefix: l.Prefix})
	if err != nil {
		return DeadLetterGroups{}, err
	}
	out := DeadLetterGroups{LookedAt: res.GetLookedAt(), Truncated: res.GetTruncated()}
	for _, g := range res.GetGroups() {
		out.Groups = append(out.Groups, DeadLetterGroup{
			Fingerprint: g.GetFingerprint(), Count: g.GetCount(), Reason: g.GetReason(), SampleError: g.GetSampleError(),
			FirstTime: timeOf(g.GetFirstTime()), LastTime: timeOf(g.GetLastTime()), Instances: g.GetInstances(),
		})
	}
	return out, nil
}

// PutBack says which dead letters of an instance return to their old place: Seqs, at most 1,024, or all of a Fingerprint,
// the first 1,024 of them.
type PutBack struct {
	// Lane; empty: the normal lane. Dead letters of the recovery lane can be put back in recovery only.
	Lane        Lane
	Seqs        []Seq
	Fingerprint string
	// Reason is kept with each message, in its Edits; at most 4,096 bytes.
	Reason string
	// RequestID; empty: one is made.
	RequestID string
}

// PutBackResult is what became of one dead letter.
type PutBackResult struct {
	Seq       Seq
	MessageID string
	// Waiting: it is put back as soon as the messages that are out now are settled; until then it stays a dead letter.
	Waiting bool
	// Err is an *Error, nil if it is put back or will be: ErrUnknownMessage (it is no dead letter of the lane), ErrIDReused
	// (its id was forgotten and sent again since), ErrInFlight (1,024 wait already), or a limit of the application.
	Err error
}

// PutBackResults is what became of all of them, in the order of the request, or of their sequence numbers.
type PutBackResults struct {
	Results []PutBackResult
	// More dead letters of the fingerprint are left: call again.
	More bool
	// Duplicate: the same request was carried out before.
	Duplicate bool
}

// PutBack revokes that messages were dead-lettered: they are unsettled again, at their old place in the lane, under their
// old id, and not in doubt. In normal mode they come before what stands behind them in order, once what is out with a
// worker is settled. What became of each stands in its result; an error is that of the whole call, as ErrTerminated, or
// ErrNotInRecovery for the recovery lane.
func (i Instances) PutBack(ctx context.Context, id InstanceID, p PutBack) (PutBackResults, error) {
	if err := checkInstance(id); err != nil {
		return PutBackResults{}, err
	}
	if p.Lane == "" {
		p.Lane = LaneNormal
	}
	lane, err := value[sluicev1.Lane](lanes, p.Lane)
	if err != nil {
		return PutBackResults{}, err
	}
	req := &sluicev1.PutBackRequest{Application: id.Application, Instance: id.Key, Lane: lane, Fingerprint: p.Fingerprint, Reason: p.Reason, RequestId: orNewID(p.RequestID)}
	for _, s := range p.Seqs {
		req.Seqs = append(req.Seqs, uint64(s))
	}
	res, err := Call[sluicev1.PutBackRequest, sluicev1.PutBackResponse](ctx, i.c, sluicev1connect.InstanceServicePutBackProcedure, req)
	if err != nil {
		return PutBackResults{}, err
	}
	out := PutBackResults{More: res.GetMore(), Duplicate: res.GetDuplicate()}
	for _, r := range res.GetResults() {
		one := PutBackResult{Seq: Seq(r.GetSeq()), MessageID: r.GetMessageId(), Waiting: r.GetWaiting()}
		if e := faultError(r.GetError(), ""); e != nil {
			one.Err = e
		}
		out.Results = append(out.Results, one)
	}
	return out, nil
}

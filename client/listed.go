package client

import (
	"context"
	"iter"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// ListedMessage is one message of a list.
type ListedMessage struct {
	Message   Message
	Seq       Seq
	Lane      Lane
	Status    Status
	Attempts  int
	LastError string
	InDoubt   bool
	// DeadLetter is set for dead letters.
	DeadLetter *DeadLetter
	// AttemptHistory are the last attempts that failed, oldest first, at most 10.
	AttemptHistory []Attempt
	// Time of acceptance.
	Time time.Time
	// Version changes with the message's data, its failed attempts and what operators do to it: see ResolveMessage.
	Version string
	// Edits are what operators did to it, oldest first, at most 16.
	Edits []Edit
	// Replaced: its data was replaced; Original is the data as first sent.
	Replaced bool
	Original []byte
}

// Edit is one intervention of an operator in a message.
type Edit struct {
	Time time.Time
	// Action is what was done: "replaced", "skipped", "dead-lettered" or "put back".
	Action string
	// Actor did it, for Reason.
	Actor, Reason string
}

func editsOf(all []*sluicev1.Edit) (out []Edit) {
	for _, e := range all {
		out = append(out, Edit{Time: timeOf(e.GetTime()), Action: e.GetAction(), Actor: e.GetActor(), Reason: e.GetReason()})
	}
	return out
}

func listedOf(m *sluicev1.ListedMessage) ListedMessage {
	return ListedMessage{
		Message: messageOf(m.GetMessage()), Seq: Seq(m.GetSeq()), Lane: word(lanes, m.GetLane()),
		Status: word(statuses, m.GetStatus()), Attempts: int(m.GetAttempts()), LastError: m.GetLastError(),
		InDoubt: m.GetInDoubt(), DeadLetter: deadLetterOf(m.GetDeadLetter()),
		AttemptHistory: attemptsOf(m.GetAttemptHistory()), Time: timeOf(m.GetTime()),
		Version: m.GetVersion(), Edits: editsOf(m.GetEdits()), Replaced: m.OriginalData != nil, Original: m.GetOriginalData(),
	}
}

// ListMessages selects messages of one instance.
type ListMessages struct {
	// Lane; empty: both lanes of the inbox, and with DeadLetters LaneOutgoing, too.
	Lane Lane
	// DeadLetters selects the dead letters instead of the unsettled.
	DeadLetters bool
}

// ListMessages iterates over an instance's messages, lane by lane and in order, page by page; an error ends the iteration.
func (i Instances) ListMessages(ctx context.Context, id InstanceID, l ListMessages) iter.Seq2[ListedMessage, error] {
	return mapped(i.messages(ctx, id, l), listedOf)
}

// messages iterates over an instance's messages as the contract has them.
func (i Instances) messages(ctx context.Context, id InstanceID, l ListMessages) iter.Seq2[*sluicev1.ListedMessage, error] {
	return pages(func(token string) ([]*sluicev1.ListedMessage, string, error) {
		if err := checkInstance(id); err != nil {
			return nil, "", err
		}
		lane, err := value[sluicev1.Lane](lanes, l.Lane)
		if err != nil {
			return nil, "", err
		}
		req := &sluicev1.ListMessagesRequest{Application: id.Application, Instance: id.Key, Lane: lane, PageSize: pageSize, PageToken: token}
		if l.DeadLetters {
			req.Settlement = sluicev1.SettlementKind_SETTLEMENT_DEAD_LETTERED
		}
		res, err := Call[sluicev1.ListMessagesRequest, sluicev1.ListMessagesResponse](ctx, i.c, sluicev1connect.InstanceServiceListMessagesProcedure, req)
		return res.GetMessages(), res.GetNextPageToken(), err
	})
}

// Action is what an operator does with one message.
type Action string

// The actions.
const (
	ActionSkip       Action = "skip"
	ActionDeadLetter Action = "dead-letter"
	// ActionReplace replaces the data; order, id and sequence number stay. It is refused while in flight.
	ActionReplace Action = "replace"
)

var actions = []Action{"", ActionSkip, ActionDeadLetter, ActionReplace}

// ResolveMessage is an operator's decision about one message.
type ResolveMessage struct {
	Seq    Seq
	Lane   Lane
	Action Action
	// Data is for ActionReplace.
	Data []byte
	// Reason is kept with the message, in its Edits; at most 4,096 bytes.
	Reason string
	// Version, if set, is that of the ListedMessage on which the decision rests: refused with ErrChanged when the message
	// has another one by now.
	Version string
	// RequestID; empty: one is made.
	RequestID string
}

// ResolveMessage skips, dead-letters or replaces one unsettled message, and tells how it stands then. Errors, besides those
// of every call: ErrUnknownMessage, ErrAlreadySettled, ErrChanged (Version), ErrTerminated; of ActionReplace also
// ErrInFlight and ErrLimitMessageBytes.
func (i Instances) ResolveMessage(ctx context.Context, id InstanceID, r ResolveMessage) (MessageStatus, error) {
	if err := checkInstance(id); err != nil {
		return MessageStatus{}, err
	}
	lane, err := value[sluicev1.Lane](lanes, r.Lane)
	if err != nil {
		return MessageStatus{}, err
	}
	action, err := value[sluicev1.ResolveAction](actions, r.Action)
	if err != nil {
		return MessageStatus{}, err
	}
	res, err := Call[sluicev1.ResolveMessageRequest, sluicev1.MessageStatus](ctx, i.c,
		sluicev1connect.InstanceServiceResolveMessageProcedure, &sluicev1.ResolveMessageRequest{
			Application: id.Application, Instance: id.Key, Seq: uint64(r.Seq), Lane: lane, Action: action,
			Data: r.Data, Reason: r.Reason, Version: r.Version, RequestId: orNewID(r.RequestID),
		})
	if err != nil {
		return MessageStatus{}, err
	}
	return messageStatusOf(res), nil
}

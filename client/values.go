package client

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "sluice/api/sluice/v1"
)

// InstanceID names one instance: application/key.
type InstanceID struct {
	// Application is the name of the application: [a-z0-9][a-z0-9._-]{0,62}.
	Application string
	// Key names the instance within its application: 1 to 256 bytes of UTF-8 without control characters.
	Key string
}

// String is application/key.
func (id InstanceID) String() string { return id.Application + "/" + id.Key }

// ParseInstanceID takes application/key apart at the first slash.
func ParseInstanceID(s string) (InstanceID, error) {
	application, key, ok := strings.Cut(s, "/")
	id := InstanceID{Application: application, Key: key}
	if !ok {
		return id, refuse(ErrBadName, "an instance is written application/key, not %q", s)
	}
	return id, checkInstance(id)
}

// Epoch is an instance's fencing token. It only grows; what is done under an epoch that has passed has no effect.
type Epoch uint64

// Seq is a message's place in its instance, from 1, one counter for both lanes.
type Seq uint64

// Mode is the mode of an instance.
type Mode string

// The modes.
const (
	ModeNormal   Mode = "normal"
	ModeRecovery Mode = "recovery"
	ModeDraining Mode = "draining"
)

var modes = []Mode{"", ModeNormal, ModeRecovery, ModeDraining}

// Disposition is what the gate decided about an accepted message.
type Disposition string

// The dispositions.
const (
	// DispositionAccepted is a message that is delivered in its turn.
	DispositionAccepted Disposition = "accepted"
	// DispositionDeferred is a message that is held until its instance has recovered.
	DispositionDeferred Disposition = "deferred"
	// DispositionRecovery is a message in the recovery lane.
	DispositionRecovery Disposition = "recovery"
)

var dispositions = []Disposition{"", DispositionAccepted, DispositionDeferred, DispositionRecovery}

// Lane is one of the lanes of an instance's inbox.
type Lane string

// The lanes.
const (
	LaneNormal   Lane = "normal"
	LaneRecovery Lane = "recovery"
	// LaneOutgoing stands only in lists: outgoing messages that were refused at their target.
	LaneOutgoing Lane = "outgoing"
)

var lanes = []Lane{"", LaneNormal, LaneRecovery, LaneOutgoing}

// Status is where a message stands.
type Status string

// The places where a message can stand.
const (
	StatusQueued   Status = "queued"
	StatusDeferred Status = "deferred"
	StatusInFlight Status = "in-flight"
	StatusSettled  Status = "settled"
)

var statuses = []Status{"", StatusQueued, StatusDeferred, StatusInFlight, StatusSettled}

// Settlement is how a message's life ended.
type Settlement string

// The ends of a message's life.
const (
	SettlementCompleted    Settlement = "completed"
	SettlementSkipped      Settlement = "skipped"
	SettlementDeadLettered Settlement = "dead-lettered"
	SettlementExpired      Settlement = "expired"
)

var settlements = []Settlement{"", SettlementCompleted, SettlementSkipped, SettlementDeadLettered, SettlementExpired}

// word is the name of an enum's value; empty for none and for a value that this version does not know.
func word[E ~int32, W ~string](names []W, value E) W {
	if value < 0 || int(value) >= len(names) {
		return ""
	}
	return names[value]
}

// value is the enum's value of a name; empty is unspecified.
func value[E ~int32, W ~string](names []W, name W) (E, error) {
	for i, n := range names {
		if n == name {
			return E(i), nil
		}
	}
	return 0, refuse(ErrBadField, "%q is none of %q", name, names[1:])
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// Message is one message to an instance.
type Message struct {
	// Application and Instance name the instance that the message is for.
	Application string
	Instance    string
	// ID is unique within the instance; empty: the client makes one before it first sends.
	ID string
	// Type is judged by the pattern of the transaction.
	Type string
	// Transaction; empty: the instance's default transaction.
	Transaction string
	// Source says where the message comes from, in free text.
	Source      string
	ContentType string
	// Data is the content; its size is what limits count.
	Data    []byte
	Headers map[string]string
	// ExpireTime: after it the message is settled as expired unless it is out with a worker or in doubt. Zero: never.
	ExpireTime time.Time
	// AwaitReply keeps the reply for the deduplication window; without it a reply is kept until someone takes it.
	AwaitReply bool
}

// InstanceID is the instance that the message is for.
func (m Message) InstanceID() InstanceID {
	return InstanceID{Application: m.Application, Key: m.Instance}
}

func (m *Message) proto() *sluicev1.Message {
	return &sluicev1.Message{
		Application: m.Application, Instance: m.Instance, Id: m.ID, Type: m.Type, Transaction: m.Transaction,
		Source: m.Source, ContentType: m.ContentType, Data: m.Data, Headers: m.Headers,
		ExpireTime: timestamp(m.ExpireTime), AwaitReply: m.AwaitReply,
	}
}

func messageOf(m *sluicev1.Message) Message {
	return Message{
		Application: m.GetApplication(), Instance: m.GetInstance(), ID: m.GetId(), Type: m.GetType(),
		Transaction: m.GetTransaction(), Source: m.GetSource(), ContentType: m.GetContentType(), Data: m.GetData(),
		Headers: m.GetHeaders(), ExpireTime: timeOf(m.GetExpireTime()), AwaitReply: m.GetAwaitReply(),
	}
}

// Receipt says what became of a message that was accepted. A quorum's disks held it before the receipt was sent.
type Receipt struct {
	MessageID   string
	Seq         Seq
	Disposition Disposition
	// Duplicate: the message had been accepted before, possibly by an earlier attempt of this very call. The rest is
	// the first receipt again.
	Duplicate bool
	// Mode and Epoch are those of the instance when the message was judged.
	Mode  Mode
	Epoch Epoch
	// Ahead is how many messages stood before it in its lane.
	Ahead uint64
	// Index is the position in the log; the messages of one call may share it.
	Index uint64
}

func receiptOf(r *sluicev1.Receipt) Receipt {
	return Receipt{
		MessageID: r.GetMessageId(), Seq: Seq(r.GetSeq()), Disposition: word(dispositions, r.GetDisposition()),
		Duplicate: r.GetDuplicate(), Mode: word(modes, r.GetMode()), Epoch: Epoch(r.GetEpoch()),
		Ahead: r.GetAhead(), Index: r.GetIndex(),
	}
}

// DeadLetter says why a message was dead-lettered.
type DeadLetter struct {
	Reason     string
	FirstError string
	LastError  string
	// Fingerprint is the same for dead letters that failed alike: their reason and last error differ in numbers, ids and
	// quoted strings at most.
	Fingerprint string
	// Time is when it became one.
	Time time.Time
	// Attempts are the last that failed, oldest first, at most 10: of dead letters that are listed.
	Attempts []Attempt
}

// Attempt is one attempt to handle a message that ended without settlement.
type Attempt struct {
	// Number counts from 1 in its series; a completed recovery begins a new one.
	Number int
	Time   time.Time
	// Error is at most 1 KiB of the error's text.
	Error string
	Epoch Epoch
	// Session that had it.
	Session string
}

func attemptsOf(all []*sluicev1.Attempt) []Attempt {
	var out []Attempt
	for _, a := range all {
		out = append(out, Attempt{Number: int(a.GetNumber()), Time: timeOf(a.GetTime()), Error: a.GetError(), Epoch: Epoch(a.GetEpoch()), Session: a.GetSessionId()})
	}
	return out
}

func deadLetterOf(d *sluicev1.DeadLetter) *DeadLetter {
	if d == nil {
		return nil
	}
	return &DeadLetter{
		Reason: d.GetReason(), FirstError: d.GetFirstError(), LastError: d.GetLastError(),
		Fingerprint: d.GetFingerprint(), Time: timeOf(d.GetTime()), Attempts: attemptsOf(d.GetAttempts()),
	}
}

// MessageStatus is what is known of one message.
type MessageStatus struct {
	MessageID   string
	Seq         Seq
	Lane        Lane
	Status      Status
	Settlement  Settlement
	Disposition Disposition
	// Attempts counts the attempts that ended without settlement, in all.
	Attempts int
	// Duplicate: the request that this answers was carried out before.
	Duplicate bool
	// HasReply tells an empty reply from none.
	HasReply         bool
	Reply            []byte
	ReplyContentType string
	// DeadLetter is set for a dead-lettered message, and for one that has expired.
	DeadLetter *DeadLetter
	// Edits are what operators did to it, oldest first, at most 16.
	Edits []Edit
}

func messageStatusOf(s *sluicev1.MessageStatus) MessageStatus {
	return MessageStatus{
		MessageID: s.GetMessageId(), Seq: Seq(s.GetSeq()), Lane: word(lanes, s.GetLane()),
		Status: word(statuses, s.GetStatus()), Settlement: word(settlements, s.GetSettlement()),
		Disposition: word(dispositions, s.GetDisposition()), Attempts: int(s.GetAttempts()),
		Duplicate: s.GetDuplicate(), HasReply: s.Reply != nil, Reply: s.GetReply(),
		ReplyContentType: s.GetReplyContentType(), DeadLetter: deadLetterOf(s.GetDeadLetter()), Edits: editsOf(s.GetEdits()),
	}
}

// String is for logs: where the message stands and how it ended.
func (s MessageStatus) String() string {
	if s.Status == StatusSettled {
		return fmt.Sprintf("message %s (seq %d): %s", s.MessageID, s.Seq, s.Settlement)
	}
	return fmt.Sprintf("message %s (seq %d): %s", s.MessageID, s.Seq, s.Status)
}

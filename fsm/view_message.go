package fsm

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// Message shows the status of a message by its id.
func (v *View) Message(id InstanceID, messageID string) (out *sluicev1.MessageStatus, err error) {
	r := v.begin()
	defer r.end(&err)
	i, err := r.instance(id)
	if err != nil {
		return nil, err
	}
	if err := checkKey("id", messageID, reason.BadField); err != nil {
		return nil, err
	}
	meta, err := r.moment()
	if err != nil {
		return nil, err
	}
	return messageStatus(r, i, messageID, meta.ClockMs)
}

// messageStatus finds what is known of a message.
func messageStatus(r queue.Reader, i *instance, id string, now int64) (*sluicev1.MessageStatus, error) {
	lane, seq, err := queue.Unsettled(r, i.rec.Uid, id)
	if errors.Is(err, queue.ErrNotFound) {
		return settledStatus(r, i, id, now)
	}
	if err != nil {
		return nil, err
	}
	m, err := queue.Message(r, i.rec.Uid, lane, seq)
	if err != nil {
		return nil, err
	}
	l, err := look(r, i, lane)
	if err != nil {
		return nil, err
	}
	out := &sluicev1.MessageStatus{MessageId: id, Seq: seq, Lane: lane, Disposition: m.Disposition, Status: l.status(m), Edits: m.Edits}
	f, err := l.failure(m)
	out.Attempts = f.GetAttempts()
	return out, err
}

func settledStatus(r queue.Reader, i *instance, id string, now int64) (*sluicev1.MessageStatus, error) {
	s, err := i.memory().SettledByID(r, id)
	if errors.Is(err, queue.ErrNotFound) || err == nil && forgotten(s, i.app, now) {
		return nil, reason.UnknownMessage.Errorf("there is no message %q in %s; a settled one is forgotten after the deduplication window", cut(id), i.id())
	}
	if err != nil {
		return nil, err
	}
	return &sluicev1.MessageStatus{
		MessageId: id, Seq: s.Seq, Lane: s.Lane, Disposition: s.Disposition, Status: sluicev1.Status_MESSAGE_STATUS_SETTLED, Settlement: s.Settlement,
		Attempts: s.Attempts, Reply: s.Reply, ReplyContentType: s.ReplyContentType, DeadLetter: s.DeadLetter, Edits: s.Edits,
	}, nil
}

// lookout knows which messages of a lane are out, and which are in doubt.
type lookout struct {
	r   queue.Reader
	i   *instance
	out []uint64
}

func look(r queue.Reader, i *instance, l sluicev1.Lane) (*lookout, error) {
	o := &lookout{r: r, i: i}
	if l != i.working() {
		return o, nil
	}
	out, err := i.first(r, l, int(i.out()))
	o.out = out
	return o, err
}

func (o *lookout) status(m *logv1.MessageRecord) sluicev1.Status {
	_, out := slices.BinarySearch(o.out, m.Seq)
	switch {
	case out:
		return sluicev1.Status_MESSAGE_STATUS_IN_FLIGHT
	case m.Disposition == deferred:
		return sluicev1.Status_MESSAGE_STATUS_DEFERRED
	default:
		return sluicev1.Status_MESSAGE_STATUS_QUEUED
	}
}

func (o *lookout) failure(m *logv1.MessageRecord) (*logv1.FailureRecord, error) {
	return failureOf(o.r, o.i.rec, m)
}

// Messages lists the unsettled messages of an instance, or its dead letters: lane by lane, in order.
func (v *View) Messages(q *sluicev1.ListMessagesRequest) (out *sluicev1.ListMessagesResponse, err error) {
	r := v.begin()
	defer r.end(&err)
	i, err := r.instance(InstanceID{q.Application, q.Instance})
	if err != nil {
		return nil, err
	}
	size, err := pageSize(q.PageSize)
	if err != nil {
		return nil, err
	}
	lane, seq, err := parseToken(q.PageToken)
	if err != nil {
		return nil, err
	}
	lanes, dead, err := lanesOf(q)
	if err != nil {
		return nil, err
	}
	out = &sluicev1.ListMessagesResponse{}
	for _, l := range lanes {
		if l < lane {
			continue
		}
		from := q.FromSeq
		if l == lane {
			from = seq
		}
		if err := r.list(i, l, dead, from, size, out); err != nil || out.NextPageToken != "" {
			return out, err
		}
	}
	return out, nil
}

// lanesOf tells which lanes a list is about, and whether it is about dead letters.
func lanesOf(q *sluicev1.ListMessagesRequest) (lanes []sluicev1.Lane, dead bool, err error) {
	switch q.Settlement {
	case sluicev1.SettlementKind_SETTLEMENT_UNSPECIFIED:
		lanes = []sluicev1.Lane{normalLane, recoveryLane}
	case deadLettered:
		lanes, dead = []sluicev1.Lane{normalLane, recoveryLane, outgoingLane}, true
	default:
		return nil, false, reason.BadField.Errorf("settlement is %v; allowed are none (the unsettled) and SETTLEMENT_DEAD_LETTERED", q.Settlement)
	}
	switch {
	case q.Lane == sluicev1.Lane_LANE_UNSPECIFIED:
		return lanes, dead, nil
	case q.Lane == outgoingLane:
		return []sluicev1.Lane{outgoingLane}, true, nil
	case !slices.Contains(lanes, q.Lane):
		return nil, false, reason.BadField.Errorf("lane is %v; allowed are LANE_NORMAL, LANE_RECOVERY and LANE_OUTGOING", q.Lane)
	}
	return []sluicev1.Lane{q.Lane}, dead, nil
}

func parseToken(s string) (sluicev1.Lane, uint64, error) {
	if s == "" {
		return 0, 0, nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 9 {
		return 0, 0, reason.BadField.Errorf("page_token %q is not one that a list gave", cut(s))
	}
	return sluicev1.Lane(b[0]), binary.BigEndian.Uint64(b[1:]), nil
}

// mostPageBytes bounds what a page holds of each lane beyond one message: with all that is shown of it, as what it was before
// it was replaced and the errors of its attempts.
const mostPageBytes = 4 << 20

// list adds a lane's messages to a page, from a sequence number on; a full page tells where to go on.
func (r *reading) list(i *instance, l sluicev1.Lane, dead bool, from uint64, size int, out *sluicev1.ListMessagesResponse) error {
	o, err := look(r, i, l)
	if err != nil {
		return err
	}
	walk, held := queue.Messages, 0
	if dead {
		walk = queue.DeadLetters
	} else {
		from = max(from, i.lane(l).Front)
	}
	var inner error
	err = walk(r, i.rec.Uid, l, from, func(m *logv1.MessageRecord) bool {
		if len(out.Messages) == size || held > mostPageBytes {
			out.NextPageToken = hex.EncodeToString(u64([]byte{byte(l)}, m.Seq))
			return false
		}
		var shown *sluicev1.ListedMessage
		shown, inner = o.listed(m, dead)
		held += proto.Size(shown)
		out.Messages = append(out.Messages, shown)
		return inner == nil
	})
	return errors.Join(err, inner)
}

func (o *lookout) listed(m *logv1.MessageRecord, dead bool) (*sluicev1.ListedMessage, error) {
	if dead {
		return listedDead(m), nil
	}
	f, err := o.failure(m)
	return &sluicev1.ListedMessage{
		Message: m.Message, Seq: m.Seq, Lane: m.Lane, Status: o.status(m), InDoubt: o.i.doubtful(m), Attempts: f.GetAttempts(), LastError: f.GetLastError(),
		AttemptHistory: f.GetHistory(), Time: timestamp(m.TimeMs),
		Version: versionOf(m, f.GetAttempts()), Edits: m.Edits, OriginalData: m.OriginalData,
	}, err
}

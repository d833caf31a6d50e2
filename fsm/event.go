package fsm

import (
	"encoding/binary"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

const (
	// eventStride is every how many events a place is noted, eventPlaces how many places are kept: the last 245,760
	// events are always there, and never more than 262,144.
	eventStride = 16_384
	eventPlaces = 16
)

// event puts on record what happened, at the next place of the entry at work. Index, place, time and actor are filled
// in here; a long detail is cut. What nobody need be told of costs nothing: normal traffic makes no event.
func (t *txn) event(e *sluicev1.Event) error {
	meta := t.m.meta
	at := EventPlace{t.index, t.place}
	if meta.Events%eventStride == 0 {
		if err := t.noteEventPlace(at); err != nil {
			return err
		}
	}
	meta.Events++
	t.place++
	t.fx.Events = true
	t.fx.Counters.Events[e.Type]++
	s := &t.m.saying
	s.time.Seconds, s.time.Nanos = seconds(t.now)
	e.Time, e.Detail = &s.time, cutCause(e.Detail)
	if e.Actor == "" {
		e.Actor = t.actor
	}
	s.record.Event, s.key = e, at.appendTo(s.key[:0])
	return queue.Put(t, s.key, &s.record)
}

// saying is what events are written with, one after the other: the store copies what it is given.
type saying struct {
	record logv1.EventRecord
	event  sluicev1.Event
	time   timestamppb.Timestamp
	key    []byte
}

// noteEventPlace notes where an event lies, and drops what lies before the oldest place that is kept.
func (t *txn) noteEventPlace(at EventPlace) error {
	meta := t.m.meta
	meta.EventPlaces = append(meta.EventPlaces, &logv1.EventPlace{Index: at.Index, Place: at.Place})
	over := len(meta.EventPlaces) - eventPlaces
	if over <= 0 {
		return nil
	}
	meta.EventPlaces = append([]*logv1.EventPlace(nil), meta.EventPlaces[over:]...)
	return t.DeleteRange([]byte{tableEvent}, placeOf(meta.EventPlaces[0]).key())
}

// eventOf puts on record what happened to an instance.
func (t *txn) eventOf(i *instance, e *sluicev1.Event) error {
	r := i.rec
	e.Application, e.Instance, e.Epoch, e.Mode, e.DeferredMessages = r.Application, r.Key, r.Epoch, r.Mode, r.DeferredMessages
	return t.event(e)
}

// messageEvent puts on record what happened to a message.
func (t *txn) messageEvent(i *instance, what sluicev1.EventType, m *logv1.MessageRecord, detail string) error {
	e := &t.m.saying.event
	e.Reset()
	e.Type, e.MessageId, e.Seq, e.Lane, e.Detail = what, m.Message.Id, m.Seq, m.Lane, detail
	return t.eventOf(i, e)
}

// endEvent puts on record how a message ended; that it was completed is no news.
func (t *txn) endEvent(i *instance, m *logv1.MessageRecord, e ending, s *logv1.SettledRecord) error {
	switch e.kind {
	case expired:
		return t.messageEvent(i, sluicev1.EventType_EVENT_MESSAGE_EXPIRED, m, "")
	case skipped:
		return t.messageEvent(i, sluicev1.EventType_EVENT_MESSAGE_SKIPPED, m, e.reason)
	case deadLettered:
		return t.deadLetterEvent(i, m, s.DeadLetter)
	}
	return nil
}

func (t *txn) deadLetterEvent(i *instance, m *logv1.MessageRecord, d *sluicev1.DeadLetter) error {
	detail := d.Reason
	if d.LastError != "" {
		detail += ": " + d.LastError
	}
	return t.messageEvent(i, sluicev1.EventType_EVENT_MESSAGE_DEAD_LETTERED, m, detail)
}

// backEvent puts on record that a recovery was completed.
func (t *txn) backEvent(i *instance, detail string) error {
	what := sluicev1.EventType_EVENT_RECOVERY_COMPLETED
	if i.rec.Mode == drainingMode {
		what = sluicev1.EventType_EVENT_DRAINING
	}
	return t.eventOf(i, &sluicev1.Event{Type: what, Detail: detail})
}

func (t *txn) sessionEvent(what sluicev1.EventType, s *logv1.SessionRecord) error {
	return t.event(&sluicev1.Event{Type: what, Application: s.Application, SessionId: s.Id, Detail: s.Name})
}

// operationEvent tells how far an operation is. Its selector may be long, and is left out; so may its cause, and is cut.
func (t *txn) operationEvent(o *sluicev1.Operation) error {
	o = proto.CloneOf(o)
	o.Selector, o.Duplicate, o.Cause = nil, false, cutCause(o.Cause)
	return t.event(&sluicev1.Event{Type: sluicev1.EventType_EVENT_OPERATION_PROGRESS, Application: o.Application, Operation: o})
}

// leaderElected puts on record which node leads from now on.
func (t *txn) leaderElected(c *logv1.LeaderElected) (*logv1.Outcome, error) {
	if err := checkKey("node_id", c.NodeId, reason.BadField); err != nil {
		return refused(err)
	}
	err := t.event(&sluicev1.Event{Type: sluicev1.EventType_EVENT_LEADER_CHANGED, NodeId: c.NodeId, Term: t.m.meta.AppliedTerm})
	if err != nil {
		return nil, err
	}
	return progress(1, false)
}

// EventPlace is a place in the order of events: of an entry, and within it. Its zero value is before the first.
type EventPlace struct {
	Index uint64
	Place uint32
}

// AfterIndex is the place behind all events of an index.
func AfterIndex(index uint64) EventPlace { return EventPlace{index, ^uint32(0)} }

func placeOf(p *logv1.EventPlace) EventPlace { return EventPlace{p.GetIndex(), p.GetPlace()} }

// Before tells that a place comes before another.
func (p EventPlace) Before(q EventPlace) bool {
	return p.Index < q.Index || p.Index == q.Index && p.Place < q.Place
}

// next is the first place after one.
func (p EventPlace) next() EventPlace {
	switch {
	case p == EventPlace{}:
		return p
	case p.Place == ^uint32(0):
		return EventPlace{Index: p.Index + 1}
	default:
		return EventPlace{p.Index, p.Place + 1}
	}
}

func (p EventPlace) key() []byte { return p.appendTo(nil) }

func (p EventPlace) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint32(u64(append(b, tableEvent), p.Index), p.Place)
}

// parseEventKey reads the place from a key of the table of events.
func parseEventKey(k []byte) (EventPlace, bool) {
	if len(k) != 13 || k[0] != tableEvent {
		return EventPlace{}, false
	}
	return EventPlace{beUint64(k[1:]), binary.BigEndian.Uint32(k[9:])}, true
}

package fsm

import (
	"errors"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// mostEventsLooked bounds how many events one page looks at: it may hold fewer than asked for, and none.
const mostEventsLooked = 4096

// EventFilter chooses events. Its zero value takes all.
type EventFilter struct {
	// Application takes what concerns one application; empty: of all, and what concerns none.
	Application string
	// Instance, with Application, takes what concerns one instance: its own events, and those of its application as a
	// whole that concern every instance.
	Instance string
	// Types takes events of these types; none: of all.
	Types map[sluicev1.EventType]bool
}

func (f EventFilter) takes(e *sluicev1.Event) bool {
	switch {
	case f.Application != "" && e.Application != f.Application:
		return false
	case f.Instance != "" && e.Instance != f.Instance && !ofAllInstances(e):
		return false
	}
	return len(f.Types) == 0 || f.Types[e.Type]
}

// ofAllInstances tells that an event of an application concerns each of its instances.
func ofAllInstances(e *sluicev1.Event) bool {
	switch e.Type {
	case sluicev1.EventType_EVENT_APPLICATION_RECOVERY_ENTERED:
		return true
	case sluicev1.EventType_EVENT_HELD_TOO_LONG:
		return e.Instance == ""
	}
	return false
}

// EventPage is a part of the stream of events.
type EventPage struct {
	Events []*sluicev1.Event
	// At is where to go on: everything up to it, and it included, was looked at. It never runs back.
	At EventPlace
	// Whole: there is no more; At is behind the last index applied, unless the page was asked for from beyond it.
	Whole bool
}

// Events reads events after a place, at most so many, in order. When events after the place are no longer kept it
// refuses with EVENTS_GONE; the zero place is the oldest that is kept. A place that this replica has not reached yet
// is no error: there is nothing after it so far.
func (v *View) Events(since EventPlace, limit int, f EventFilter) (page *EventPage, err error) {
	r := v.begin()
	defer r.end(&err)
	meta := &logv1.MetaRecord{}
	// The index is read from the same moment as the events: what is said to be whole must be.
	if err := queue.Load(r, []byte{tableMeta}, meta); ignore(err, queue.ErrNotFound) != nil {
		return nil, err
	}
	if err := stillKept(meta, since); err != nil {
		return nil, err
	}
	page = &EventPage{At: since}
	if err := r.events(page, limit, f); err != nil || !page.Whole {
		return page, err
	}
	if end := AfterIndex(meta.AppliedIndex); page.At.Before(end) {
		page.At = end
	}
	return page, nil
}

// events fills a page.
func (r *reading) events(page *EventPage, limit int, f EventFilter) (err error) {
	it, err := r.NewIter(page.At.next().key(), queue.Successor([]byte{tableEvent}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	looked := 0
	for ok := it.First(); ok; ok = it.Next() {
		if looked == mostEventsLooked || len(page.Events) >= limit {
			return nil
		}
		looked++
		e, err := decodeEvent(it)
		if err != nil {
			return err
		}
		page.At = EventPlace{e.Index, e.Place}
		if f.takes(e) {
			page.Events = append(page.Events, e)
		}
	}
	page.Whole = true
	return it.Error()
}

func decodeEvent(it queue.Iterator) (*sluicev1.Event, error) {
	at, whole := parseEventKey(it.Key())
	v, err := it.Value()
	if err != nil {
		return nil, err
	}
	rec := &logv1.EventRecord{}
	if err := proto.Unmarshal(v, rec); err != nil || !whole || rec.Event == nil {
		return nil, errors.Join(queue.ErrCorrupt, err)
	}
	rec.Event.Index, rec.Event.Place = at.Index, at.Place
	return rec.Event, nil
}

// stillKept refuses a place after which events were dropped.
func stillKept(meta *logv1.MetaRecord, since EventPlace) error {
	dropped := meta.Events > eventStride*eventPlaces
	if since == (EventPlace{}) || !dropped || len(meta.EventPlaces) == 0 {
		return nil
	}
	oldest := placeOf(meta.EventPlaces[0])
	if !since.next().Before(oldest) {
		return nil
	}
	return reason.EventsGone.Errorf("events after index %d are asked for; the oldest that is kept has index %d. Read the present state (list what is in recovery), then begin with since_index 0 for all that is kept, or with from_now", since.Index, oldest.Index)
}

package fsm_test

import (
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// eventAt is an event as it lies in a store.
type eventAt struct {
	fsm.EventPlace
	*sluicev1.Event
}

func (a *audit) readEvent(r record) {
	rec := &logv1.EventRecord{}
	a.decode(r, rec)
	if len(r.key) != 13 || rec.Event == nil || rec.Event.Type == 0 || rec.Event.Index != 0 || rec.Event.Place != 0 || rec.Event.Time == nil {
		a.say("event key %q holds %v", r.key, rec)
		return
	}
	a.events = append(a.events, eventAt{fsm.EventPlace{Index: be(r.key[1:9]), Place: binary.BigEndian.Uint32(r.key[9:])}, rec.Event})
}

// checkEvents wants the places within an entry to have no holes, the count to be that of the events as long as none
// was dropped, and everything before the oldest place to be gone.
func (a *audit) checkEvents() {
	for n, e := range a.events {
		if e.EventPlace.Place != 0 && (n == 0 || a.events[n-1].EventPlace != fsm.EventPlace{Index: e.EventPlace.Index, Place: e.EventPlace.Place - 1}) && a.meta.Events == uint64(len(a.events)) {
			a.say("the event at %v has none before it", e.EventPlace)
		}
		if proto.Size(e.Event) > 4096 {
			a.say("the event at %v has %d bytes", e.EventPlace, proto.Size(e.Event))
		}
	}
	if a.meta == nil {
		return
	}
	if places := a.meta.EventPlaces; len(a.events) > 0 {
		oldest := fsm.EventPlace{Index: places[0].Index, Place: places[0].Place}
		if a.events[0].EventPlace != oldest || len(places) > 16 || uint64(len(a.events)) > a.meta.Events {
			a.say("%d events from %v on, the meta record says %d from %v on", len(a.events), a.events[0].EventPlace, a.meta.Events, oldest)
		}
	}
}

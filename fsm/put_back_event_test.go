package fsm_test

import (
	"testing"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// TestPutBackIsToldOfWhoAskedForIt: what waited is put back by the command of somebody else.
func TestPutBackIsToldOfWhoAskedForIt(t *testing.T) {
	t.Parallel()
	r := setup(t, limits(&sluicev1.Limits{MaxInboxMessages: number(2)}))
	last := func() *sluicev1.Event {
		t.Helper()
		page, err := r.m.View().Events(fsm.EventPlace{}, 1000, fsm.EventFilter{})
		if err != nil {
			t.Fatal(err)
		}
		return page.Events[len(page.Events)-1]
	}
	r.send("i", "a", "b")
	r.bury("i", 1)
	r.own("i", "s")
	r.actor = "ann"
	r.putBack("i", true, 1)
	r.actor = "a worker"
	r.work("s", "i", "b")
	if e := last(); e.Type != sluicev1.EventType_EVENT_MESSAGE_PUT_BACK || e.Actor != "ann" || e.MessageId != "a" || e.Detail != "mended" {
		t.Fatal(e)
	}
	r.bury("i", 1)
	r.send("i", "c")
	r.actor = "ann"
	r.putBack("i", true, 1)
	r.send("i", "d") // there is no room for it any more
	r.actor = "ben"
	r.enter("i")
	if e := last(); e.Type != sluicev1.EventType_EVENT_MESSAGE_DEAD_LETTERED || e.Actor != "ann" {
		t.Fatal(e)
	}
}

package check

import (
	"time"

	logv1 "sluice/api/log/v1"
	"sluice/jepsen/world"
)

// moment is when an entry was proposed, by its leader's clock, and when it was applied first.
type moment struct{ proposed, applied time.Duration }

// lease is a session's: how long, since when.
type lease struct {
	ttl   time.Duration
	since moment
}

// leaseTimes are what is known of leases.
type leaseTimes struct {
	// open are the sessions' that have not ended, by their ids.
	open map[string]lease
	// terms are the first entries of terms: a leader gives every session a full lease before it proposes anything.
	terms map[uint64]moment
	// last are the last entries before terms: their leaders began later.
	last map[uint64]moment
	// before is the entry before.
	before moment
	// short are the leases that were cut short.
	short []Violation
}

// ttlDefault is that of a session which asked for none.
const ttlDefault = 15 * time.Second

// note notes what an entry says of sessions, and judges the leases that it ends.
func (t *leaseTimes) note(c *Case, e Entry, entry *logv1.Entry) {
	now := moment{time.Duration(entry.TimeMs) * time.Millisecond, e.At}
	if _, known := t.terms[e.Term]; !known {
		t.terms[e.Term], t.last[e.Term] = now, t.before
	}
	t.before = now
	for _, command := range entry.Commands {
		if o := command.GetOpenSession(); o != nil {
			l := lease{time.Duration(o.TtlMs) * time.Millisecond, now}
			if l.ttl == 0 {
				l.ttl = ttlDefault
			}
			t.open[o.SessionId] = l
		}
		for _, id := range command.GetExpireSessions().GetSessionIds() {
			if l, known := t.open[id]; known {
				t.judge(c, id, l, e, now)
			}
			delete(t.open, id)
		}
	}
}

// judge holds the end of a lease against its least length. Half of it is left for what happens between a leader's
// beginning and its first entry. Both clocks must show it: a leader's may jump, and an entry may hang in a disk.
func (t *leaseTimes) judge(c *Case, id string, l lease, e Entry, now moment) {
	since := l.since
	if term := t.terms[e.Term]; term.applied > since.applied {
		since = term
	}
	if now.proposed-since.proposed >= l.ttl/2 || now.applied-since.applied >= l.ttl/2 {
		return
	}
	if last := t.last[e.Term]; since != l.since { // the leader's first entry may have been long in coming
		if now.proposed-last.proposed >= l.ttl {
			return
		}
		// Entries tell no time while their leader's clock is behind what they have told before.
		if now.proposed == last.proposed && now.applied-last.applied >= l.ttl {
			return
		}
	}
	if c.faultSpans()[string(world.ClockSkew)].overlaps(since.applied-settleTime, now.applied) {
		return
	}
	t.short = append(t.short, violation("lease", "entry %d ended session %s %v after its leader had given it a lease of %v", e.Index, id, now.applied-since.applied, l.ttl))
}

// Lease holds the end of every lease that ran out against its length: since the session was opened, and since the leader
// that ended it began, for a new leader gives every session a full lease.
func Lease(c *Case) []Violation { return c.leases.short }

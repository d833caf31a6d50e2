package cluster

import (
	"testing"
	"time"
)

// A second entry is under way where the disks take most of an entry's way, and only there.
func TestASecondEntryWhereDisksAreSlow(t *testing.T) {
	for _, c := range []struct {
		append, commit time.Duration
		want           int
	}{
		{0, 0, 1}, // nothing is known yet
		{200 * time.Microsecond, 3 * time.Millisecond, 1},
		{3 * time.Millisecond, 7 * time.Millisecond, 2},
		{3 * time.Millisecond, 20 * time.Millisecond, 1},
	} {
		n := &Node{cfg: Config{EntriesInFlight: 2}}
		p := &proposer{node: n}
		for range 200 {
			n.appends.note(c.append)
			p.commits.note(c.commit)
		}
		if got := p.atOnce(); got != c.want {
			t.Errorf("appends of %v in commits of %v: %d entries at once, want %d", c.append, c.commit, got, c.want)
		}
	}
}

// The average follows what it is told within some tens of times, up and down.
func TestTempoFollows(t *testing.T) {
	var tempo tempo
	for _, now := range []time.Duration{time.Millisecond, time.Second, time.Microsecond} {
		for range 20 * tempoWeight {
			tempo.note(now)
		}
		if got := tempo.of(); got < now*9/10 || got > now*11/10 {
			t.Errorf("after many times %v: %v", now, got)
		}
	}
}

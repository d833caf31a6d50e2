package cluster

import (
	"sync/atomic"
	"time"
)

// tempo is how long something took of late: an average over about the last sixteen times. It is 0 until something did. Its
// methods are safe for use by many goroutines; one of them notes.
type tempo struct{ nanoseconds atomic.Int64 }

const tempoWeight = 16

func (t *tempo) note(took time.Duration) {
	old := t.nanoseconds.Load()
	if old == 0 {
		t.nanoseconds.Store(int64(took))
		return
	}
	t.nanoseconds.Store(old + (int64(took)-old)/tempoWeight)
}

func (t *tempo) of() time.Duration { return time.Duration(t.nanoseconds.Load()) }

// atOnce is how many entries may be under way now. A second one pays where the disks are what an entry waits for: while the
// followers write one, the leader writes the next. An entry is written twice in a row, by the leader and then by the followers.
// Where its way takes longer than that, the processors are busy, and one larger entry costs them less than two.
func (p *proposer) atOnce() int {
	if 2*p.node.appends.of() > p.commits.of()*3/4 {
		return p.node.cfg.EntriesInFlight
	}
	return 1
}

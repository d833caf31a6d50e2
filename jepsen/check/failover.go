package check

import (
	"slices"
	"strings"
	"time"

	"sluice/jepsen/history"
)

// Failovers are how long it took from each kill or power loss of a leader to the first message that the next leader
// accepted and told of.
func (c *Case) Failovers() (all []time.Duration) {
	for _, f := range c.Faults {
		if f.Value.Stage != history.Injecting || f.Value.Kind != "kill" && f.Value.Kind != "power-loss" || !strings.Contains(f.Value.Text, "(leader)") {
			continue
		}
		if took, ok := c.failover(f.At); ok {
			all = append(all, took)
		}
	}
	slices.Sort(all)
	return all
}

// failover finds the first entry of a later term than that in force at a moment, and the first message accepted from
// there on.
func (c *Case) failover(died time.Duration) (time.Duration, bool) {
	term := uint64(0)
	for _, e := range c.Committed {
		if e.At <= died {
			term = max(term, e.Term)
		}
	}
	n := slices.IndexFunc(c.Committed, func(e Entry) bool { return e.Term > term })
	if n < 0 {
		return 0, false
	}
	first := history.Never
	for _, o := range c.Operations {
		if o.What == history.Send && o.Result == history.OK && !o.Answer.Duplicate && o.Answer.Index >= c.Committed[n].Index {
			first = min(first, o.Return)
		}
	}
	return first - died, first != history.Never
}

// percentile of sorted times.
func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

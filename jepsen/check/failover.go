package check

import (
	"slices"
	"strings"
	"time"

	"sluice/jepsen/history"
)

// Failovers are how long it took from each kill or power loss of a leader to the first entry of a later term that any
// node applied, and to the first message that was accepted from there on and told of. Both are sorted.
func (c *Case) Failovers() (elected, accepted []time.Duration) {
	for _, f := range c.Faults {
		if f.Value.Stage != history.Injecting || f.Value.Kind != "kill" && f.Value.Kind != "power-loss" || !strings.Contains(f.Value.Text, "(leader)") {
			continue
		}
		if first, then, ok := c.failover(f.At); ok {
			elected, accepted = append(elected, first), append(accepted, then)
		}
	}
	slices.Sort(elected)
	slices.Sort(accepted)
	return elected, accepted
}

// failover finds the first entry of a later term than that in force at a moment, and the first message accepted from
// there on.
func (c *Case) failover(died time.Duration) (elected, accepted time.Duration, ok bool) {
	term := uint64(0)
	for _, e := range c.Committed {
		if e.At <= died {
			term = max(term, e.Term)
		}
	}
	n := slices.IndexFunc(c.Committed, func(e Entry) bool { return e.Term > term })
	if n < 0 {
		return 0, 0, false
	}
	first := history.Never
	for _, o := range c.Operations {
		if o.What == history.Send && o.Result == history.OK && !o.Answer.Duplicate && o.Answer.Index >= c.Committed[n].Index {
			first = min(first, o.Return)
		}
	}
	return c.Committed[n].At - died, first - died, first != history.Never
}

// percentile of sorted times.
func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

func rounded(sorted []time.Duration, percent int) time.Duration {
	return percentile(sorted, percent).Round(time.Millisecond)
}

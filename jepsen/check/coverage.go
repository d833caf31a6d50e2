package check

import (
	"slices"
	"time"

	"sluice/jepsen/history"
	"sluice/jepsen/model"
)

// span is a time from, to.
type span struct{ from, to time.Duration }

type spans []span

func (s spans) overlaps(from, to time.Duration) bool {
	return slices.ContainsFunc(s, func(one span) bool { return one.from <= to && from <= one.to })
}

const (
	// settleTime is how long a fault is felt after its heal.
	settleTime = 5 * time.Second
	endless    = time.Duration(1<<63 - 1)
)

// faultSpans are the times in which each kind of fault was in force.
func (c *Case) faultSpans() map[string]spans {
	began := map[int]time.Duration{}
	all := map[string]spans{}
	for _, f := range c.Faults {
		switch f.Value.Stage {
		case history.Injecting:
			began[f.Value.Number] = f.At
		case history.Healed, history.Failing:
			all[f.Value.Kind] = append(all[f.Value.Kind], span{began[f.Value.Number], f.At})
			delete(began, f.Value.Number)
		}
	}
	for _, f := range c.Faults {
		if from, open := began[f.Value.Number]; open && f.Value.Stage == history.Injecting {
			all[f.Value.Kind] = append(all[f.Value.Kind], span{from, endless})
		}
	}
	return all
}

// disturbed are the times in which anything was hurt, or recovered from it.
func (c *Case) disturbed() (all spans) {
	for _, kind := range c.faultSpans() {
		for _, s := range kind {
			if s.to != endless {
				s.to += settleTime
			}
			all = append(all, s)
		}
	}
	return all
}

// Phases are the columns of the coverage table.
func Phases() []string {
	return []string{"entering", "deferring", "completing", "draining", "re-entering", "owner lost", "snapshot install"}
}

// phaseSpans are the times of each phase: moments, but for draining.
func (c *Case) phaseSpans() map[string]spans {
	all := map[string]spans{}
	add := func(phase string, from, to time.Duration) { all[phase] = append(all[phase], span{from, to}) }
	draining := map[*model.Instance]time.Duration{}
	for _, t := range c.Model.Transitions {
		at := c.times[t.At.Index]
		switch {
		case t.From == model.Draining:
			add("draining", draining[t.Instance], at)
		case t.From == model.Recovery && t.To != model.Recovery:
			add("completing", at, at)
		}
		switch {
		case t.To == model.Draining:
			draining[t.Instance] = at
		case t.To == model.Recovery && t.From == model.Normal:
			add("entering", at, at)
		case t.To == model.Recovery:
			add("re-entering", at, at)
		}
	}
	for _, lost := range c.Model.OwnersLost {
		add("owner lost", c.times[lost.Index], c.times[lost.Index])
	}
	for _, l := range c.Model.Lives {
		if at := c.times[l.Accepted.Index]; l.Disposition == "deferred" {
			add("deferring", at, at)
		}
	}
	for _, rows := range c.Audits {
		for _, row := range rows {
			if row.Value.Snapshot {
				add("snapshot install", row.At, row.At)
			}
		}
	}
	return all
}

// Coverage counts, for each kind of fault, how many times each phase was under way while it was in force or felt.
func (c *Case) Coverage() map[string]map[string]int {
	table := map[string]map[string]int{}
	phases := c.phaseSpans()
	for kind, faults := range c.faultSpans() {
		table[kind] = map[string]int{}
		for phase, moments := range phases {
			for _, moment := range moments {
				from, to := moment.from, moment.to
				if faults.overlaps(from-settleTime, to) {
					table[kind][phase]++
				}
			}
		}
	}
	return table
}

// InterruptedDrains counts drains during which a new leader began.
func (c *Case) InterruptedDrains() (count int) {
	began := map[*model.Instance]uint64{}
	for _, t := range c.Model.Transitions {
		if t.To == model.Draining {
			began[t.Instance] = t.At.Index
		}
		if t.From != model.Draining {
			continue
		}
		n, _ := slices.BinarySearch(c.leaders, began[t.Instance])
		if n < len(c.leaders) && c.leaders[n] <= t.At.Index {
			count++
		}
	}
	return count
}

package check

import (
	"slices"
	"time"

	"sluice/jepsen/history"
	"sluice/jepsen/model"
	"sluice/jepsen/world"
)

// span is a time from, to.
type span struct{ from, to time.Duration }

type spans []span

func (s spans) overlaps(from, to time.Duration) bool {
	return slices.ContainsFunc(s, func(one span) bool { return one.from <= to && from <= one.to })
}

// felt are the times in which faults were in force or were felt after their heal.
func (s spans) felt() (felt spans) {
	for _, one := range s {
		if one.to != endless {
			one.to += settleTime
		}
		felt = append(felt, one)
	}
	return felt
}

const (
	// settleTime is how long a fault is felt after its heal.
	settleTime = 5 * time.Second
	// endless is the end of a fault that was not healed.
	endless = time.Duration(1<<63 - 1)
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

// disturbed are the times in which anything was hurt, or recovered from it, but for faults of some kinds.
func (c *Case) disturbed(except ...world.Kind) (all spans) {
	for kind, times := range c.faultSpans() {
		if !slices.Contains(except, world.Kind(kind)) {
			all = append(all, times.felt()...)
		}
	}
	return all
}

// The phases that a fault may meet: those of a recovery, and two that bring recoveries about or interrupt them.
const (
	Entering        = "entering"
	Deferring       = "deferring"
	Completing      = "completing"
	Draining        = "draining"
	ReEntering      = "re-entering"
	OwnerLost       = "owner lost"
	SnapshotInstall = "snapshot install"
)

// Phases are the columns of the coverage table.
func Phases() []string {
	return []string{Entering, Deferring, Completing, Draining, ReEntering, OwnerLost, SnapshotInstall}
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
			add(Draining, draining[t.Instance], at)
		case t.From == model.Recovery && t.To != model.Recovery:
			add(Completing, at, at)
		}
		switch {
		case t.To == model.Draining:
			draining[t.Instance] = at
		case t.To == model.Recovery && t.From == model.Normal:
			add(Entering, at, at)
		case t.To == model.Recovery:
			add(ReEntering, at, at)
		}
	}
	for _, lost := range c.Model.OwnersLost {
		add(OwnerLost, c.times[lost.Index], c.times[lost.Index])
	}
	for _, l := range c.Model.Lives {
		if at := c.times[l.Accepted.Index]; l.Disposition == "deferred" {
			add(Deferring, at, at)
		}
	}
	for _, rows := range c.Audits {
		for _, row := range rows {
			if row.Value.Snapshot {
				add(SnapshotInstall, row.At, row.At)
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
				if faults.overlaps(moment.from-settleTime, moment.to) {
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

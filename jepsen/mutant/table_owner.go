package mutant

import "sluice/jepsen/world"

// ownerTable breaks ownership, epochs, and recovery.
func ownerTable() []*Mutant {
	return []*Mutant{
		{
			Name: "entry-keeps-epoch", Breaks: "the epoch does not grow when an instance enters recovery",
			Edits:  []Edit{{"fsm/mode.go", "epoch: t.mint(), index: t.index", "epoch: i.rec.Epoch, index: t.index"}},
			Caught: []string{"I7"}, Sim: calm(10), Proc: calm(8),
		},
		{
			Name: "lost-owner-handed-on", Breaks: "the instance of a lost owner goes to the next one without recovery",
			Edits:  []Edit{{"fsm/session.go", "	case inRecovery && i.rec.RecoveryWaitMs != 0 || !inRecovery && i.out() == 0:\n", "	case inRecovery && i.rec.RecoveryWaitMs != 0 || !inRecovery:\n"}},
			Caught: []string{"I2", "I4", "outside"}, Sim: under(20, world.WorkerKill), Proc: under(20, world.WorkerKill),
		},
		{
			Name: "through-off-by-one", Breaks: "of the in-doubt messages that took effect the last is delivered again",
			Edits:  []Edit{{"fsm/complete.go", "min(r.ProcessedThrough, i.rec.NormalDoubt)", "min(max(r.ProcessedThrough, 1)-1, i.rec.NormalDoubt)"}},
			Caught: []string{"I2", "state", "outside"}, Sim: under(30, world.DiskSlow, world.WorkerKill), Proc: under(20, world.WorkerKill, world.Kill),
		},
		{
			Name: "completion-under-any-epoch", Breaks: "a recovery is completed under an epoch that has passed",
			Edits:  []Edit{{"fsm/complete.go", "	if r.Epoch != 0 && r.Epoch != i.rec.Epoch {\n		return staleEpoch(i, r.Epoch)\n	}\n", ""}},
			Caught: []string{"I7"}, Sim: under(30, world.WorkerCut), Proc: under(20, world.WorkerCut),
		},
		{
			Name: "assigned-twice", Breaks: "the leader plans each instance for two sessions, and the state takes both",
			Edits: []Edit{
				{"cluster/assign.go", "		plan.Assignments = append(plan.Assignments, assignment(id, c.session.id))\n", `		plan.Assignments = append(plan.Assignments, assignment(id, c.session.id))
		for _, other := range candidates {
			if other != c {
				plan.Assignments = append(plan.Assignments, assignment(id, other.session.id))
				break
			}
		}
`},
				{"fsm/session.go", `i.rec.Owner != "" || !i.hasWork()`, "!i.hasWork()"},
				{"fsm/session.go", "			return 0, fmt.Errorf(\"%w: session %s does not own %q\", queue.ErrCorrupt, s.Id, k)\n", "			continue\n"},
			},
			Caught: []string{"I8"}, Sim: calm(15), Proc: calm(10),
		},
		{
			Name: "doubt-forgotten", Breaks: "the entry into recovery does not note what was out: it is delivered again as if nothing had happened",
			Edits:  []Edit{{"fsm/mode.go", `= lastOut, 0, e.epoch, ""`, `= 0, 0, e.epoch, ""`}},
			Caught: []string{"outside"}, Sim: under(30, world.DiskSlow, world.WorkerKill), Proc: under(20, world.WorkerKill, world.Kill),
		},
		{
			Name: "release-keeps-epoch", Breaks: "the epoch does not grow when an owner gives an instance up",
			Edits:  []Edit{{"fsm/session.go", "	if !fenced {\n", "	if !fenced && i.rec.Epoch == 0 {\n"}},
			Caught: []string{"I7"}, Sim: under(20, world.WorkerKill), Proc: under(20, world.WorkerKill),
		},
		{
			Name: "completion-keeps-epoch", Breaks: "the epoch does not grow when a recovery is completed",
			Edits:  []Edit{{"fsm/complete.go", "rec.Epoch, rec.Window = t.mint(), i.app.settings.window", "rec.Window = i.app.settings.window"}},
			Caught: []string{"I7"}, Sim: calm(10), Proc: calm(8),
		},
		{
			Name: "recovery-state-lost", Breaks: "the state that a recovery handler set is not written",
			Edits:  []Edit{{"fsm/complete.go", "	if r.SetState {\n", "	if r.SetState && r.Epoch == 0 {\n"}},
			Caught: []string{"state"}, Sim: under(30, world.DiskSlow, world.WorkerKill), Proc: under(20, world.WorkerKill, world.Kill),
		},
	}
}

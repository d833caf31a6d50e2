package mutant

import "sluice/jepsen/world"

// memoryTable breaks what makes repetitions harmless, and what makes replicas equal.
func memoryTable() []*Mutant {
	return []*Mutant{
		{
			Name: "ids-forgotten", Breaks: "the id of a message is forgotten when the message is completed",
			Edits:  []Edit{{"fsm/send.go", "	if err != nil || forgotten(s, i.app, t.now) {\n", "	if err != nil || s.Settlement == completed || forgotten(s, i.app, t.now) {\n"}},
			Caught: []string{"I10"}, Sim: calm(15), Proc: calm(10),
		},
		{
			Name: "clock-of-its-own", Breaks: "a node applies entries by its own clock",
			Edits: []Edit{
				{"fsm/txn.go", "	\"strings\"\n", "	\"strings\"\n	\"time\"\n"},
				{"fsm/txn.go", "max(meta.ClockMs, entry.TimeMs)", "max(meta.ClockMs, entry.TimeMs, time.Now().UnixMilli())"},
			},
			Caught: []string{"I12"}, Sim: calm(10), Proc: calm(8),
		},
		{
			Name: "receipt-of-the-repeat", Breaks: "the receipt of a duplicate names the entry of the duplicate",
			Edits:  []Edit{{"fsm/send.go", "	receipt.Duplicate = true\n", "	receipt.Duplicate, receipt.Index = true, t.index\n"}},
			Caught: []string{"I10"}, Sim: calm(15), Proc: calm(10),
		},
		{
			Name: "requests-forgotten", Breaks: "a call with a request id takes effect once more when it is repeated",
			Edits:  []Edit{{"fsm/request.go", "	default:\n		t.fx.Counters.Duplicates++\n		return markDuplicate(before.Outcome), nil\n	}", "	}"}},
			Caught: []string{"I10"}, Sim: calm(20), Proc: calm(12),
		},
		{
			Name: "settlement-repeat-refused", Breaks: "a settlement that is sent again is not recognised",
			Edits:  []Edit{{"fsm/settle.go", "string(past.SettleDigest) == string(w.digest) &&", "len(past.SettleDigest) == 0 &&"}},
			Caught: []string{"I10"}, Sim: shaped("all", under(30, world.FrameCut, world.Loss)), Proc: under(20, world.Kill, world.Transfer),
		},
		{
			Name: "completion-repeat-refused", Breaks: "a completion that is sent again is not recognised",
			Edits:  []Edit{{"fsm/complete.go", "	return last != nil && r.Epoch != 0 &&", "	return last != nil && r.Epoch == 1 &&"}},
			Caught: []string{"I10"}, Sim: calm(40), Proc: calm(20),
		},
		{
			Name: "maps-in-their-own-order", Breaks: "applications and sessions that an entry changed are written in the order of a Go map",
			Edits: []Edit{
				{"fsm/txn.go", "	for _, name := range sorted(t.applications) {\n		a := t.applications[name]\n", "	for name, a := range t.applications {\n"},
				{"fsm/txn.go", "	for _, id := range sorted(t.sessions) {\n", "	for id := range t.sessions {\n"},
			},
			Caught: []string{"I12"}, Sim: under(20, world.WorkerKill, world.Kill), Proc: under(15, world.WorkerKill, world.Kill),
		},
		{
			Name: "restart-skips-an-entry", Breaks: "a node that starts takes one entry more for applied than its state holds",
			Edits:  []Edit{{"fsm/machine.go", "	if err := m.load(); err != nil {\n", "	if m.meta.AppliedIndex > 0 {\n		m.meta.AppliedIndex++\n	}\n	if err := m.load(); err != nil {\n"}},
			Caught: []string{"I12"}, Sim: from(6, 12, under(20, world.Kill, world.Restart)), Proc: under(15, world.Kill, world.Restart),
		},
	}
}

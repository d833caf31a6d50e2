package mutant

import (
	"time"

	"sluice/jepsen/world"
)

// gateTable breaks the gate, the modes and the drain.
func gateTable() []*Mutant {
	return []*Mutant{
		{
			Name: "gate-open-in-recovery", Breaks: "a normal message is accepted as normal while its instance is in recovery",
			Edits: []Edit{{"fsm/gate.go", `			return deferred, nil
		}
		return recovery, nil`, `			return accepted, nil
		}
		return recovery, nil`}},
			Caught: []string{"I4"}, Sim: calm(10), Proc: calm(8),
		},
		{
			Name: "drain-overtaken", Breaks: "a completion lets new messages in as normal at once, and they are delivered and settled before the backlog",
			Edits: []Edit{
				{"fsm/complete.go", "rec.Mode, rec.DrainMark = drainingMode, rec.Normal.Tail", "rec.DrainMark = rec.Normal.Tail"},
				{"fsm/settle.go", "	case at < 0:\n", "	case at < 0 && w.Lane == recoveryLane:\n"},
				{"fsm/settle.go", "	case at > 0:\n", "	case at > 0 && w.Lane == recoveryLane:\n"},
				{"fsm/offer.go", "	lane := i.working()\n	attempt :=", "	lane := i.working()\n	if lane == normalLane {\n		n = i.rec.Normal.Messages\n	}\n	attempt :="},
				{"fsm/offer.go", "		o.deliver(m, count == 1, attempt)\n", "		if m.Disposition != deferred || i.rec.Normal.Messages == i.rec.DeferredMessages {\n			o.deliver(m, count == 1, attempt)\n		}\n"},
			},
			Caught: []string{"I6"}, Sim: calm(20), Proc: calm(12),
		},
		{
			Name: "generation-ignored-by-gate", Breaks: "what an instance is asked does not put it into the recovery of its application",
			Edits:  []Edit{{"fsm/instance.go", "	return i, t.catchUp(i)\n", "	return i, nil\n"}},
			Caught: []string{"I4"}, Sim: calm(40), Proc: calm(20),
		},
		{
			Name: "gate-open-in-draining", Breaks: "a message that arrives while an instance drains is accepted as normal",
			Edits: []Edit{{"fsm/gate.go", `	case m == drainingMode:
		return deferred, nil`, `	case m == drainingMode:
		return accepted, nil`}},
			Caught: []string{"I4"}, Sim: calm(15), Proc: calm(10),
		},
		{
			Name: "recovery-message-in-normal", Breaks: "a recovery message is accepted while its instance is normal",
			Edits:  []Edit{{"fsm/gate.go", `return 0, reason.NotSuitable.Errorf("a recovery message is not suitable in %s mode; it is taken in recovery only", modeName(m))`, "return recovery, nil"}},
			Caught: []string{"I4"}, Sim: calm(10), Proc: calm(8),
		},
		{
			Name: "normal-handled-in-recovery", Breaks: "a recovery is not announced, and normal messages are delivered in it",
			Edits: []Edit{
				{"fsm/instance.go", "	if i.rec.Mode == recoveryMode {\n		return recoveryLane\n	}", "	if i.rec.Mode == recoveryMode && i.rec.Recovery.Messages > 0 {\n		return recoveryLane\n	}"},
				{"fsm/offer.go", "	if rec.Mode != recoveryMode {\n		return nil\n	}", "	if rec.Mode != recoveryMode || rec.Epoch != 0 {\n		return nil\n	}"},
			},
			Caught: []string{"I4"}, Sim: calm(10), Proc: calm(8),
		},
		{
			Name: "generation-ignored-by-reads", Breaks: "reads and offers do not see that an application is in recovery as a whole",
			Edits:  []Edit{{"fsm/view.go", "		return nil, err\n	}\n	i := &instance{rec: rec, app: a}\n	_, err = r.project(i)\n	return i, err\n", "		return nil, err\n	}\n	i := &instance{rec: rec, app: a}\n	complete(i.rec)\n	return i, nil\n"}},
			Caught: []string{"I9"}, Sim: calm(40), Proc: calm(20),
		},
		{
			Name: "one-recovery-at-a-time", Breaks: "nothing is delivered to the instances of an application while another of them is in recovery",
			Edits:  []Edit{{"fsm/offer.go", "	if i.rec.Owner == \"\" || i.rec.Terminated {\n", "	if i.rec.Owner == \"\" || i.rec.Terminated || i.app.counts.recovery > 1 || i.rec.Mode != recoveryMode && i.app.counts.recovery > 0 {\n"}},
			Caught: []string{"I5", "liveness"}, Sim: calm(60), Proc: calm(40),
		},
		{
			Name: "gate-judges-by-neighbours", Breaks: "the gate defers while any instance of the application is in recovery",
			Edits: []Edit{{"fsm/send.go", "	disposition, err := gate(step.class, i.rec.Mode)\n", `	mode := i.rec.Mode
	if i.app.counts.recovery > 0 && step.class == classNormal {
		mode = recoveryMode
	}
	disposition, err := gate(step.class, mode)
`}},
			Caught: []string{"I4", "I5"}, Sim: calm(10), Proc: calm(8),
		},
	}
}

// calm is a run without faults, of so many seconds.
func calm(seconds int) *Try { return &Try{Time: time.Duration(seconds) * time.Second} }

// from is a try that needs more seeds than others: which is the first, and how many.
func from(first uint64, most int, t *Try) *Try {
	t.From, t.Most = first, most
	return t
}

// under is a run with faults, of so many seconds.
func under(seconds int, faults ...world.Kind) *Try {
	return &Try{Time: time.Duration(seconds) * time.Second, Faults: faults}
}

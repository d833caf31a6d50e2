package mutant

import "sluice/jepsen/world"

// settleTable breaks settlement, its order and its fences, and what goes with it.
func settleTable() []*Mutant {
	return []*Mutant{
		{
			Name: "settle-under-any-epoch", Breaks: "a settlement is taken under an epoch that has passed",
			Edits:  []Edit{{"fsm/settle.go", "	if w.Epoch != w.i.rec.Epoch {\n		return staleEpoch(w.i, w.Epoch)\n	}\n", ""}},
			Caught: []string{"I7"}, Sim: calm(20), Proc: calm(12),
		},
		{
			Name: "settle-out-of-order", Breaks: "a settlement of a message that is out is taken though it is not the head of its lane",
			Edits:  []Edit{{"fsm/settle.go", "	case at > 0:\n", "	case at > 0 && w.Epoch == 0:\n"}},
			Caught: []string{"I3"}, Sim: calm(30), Proc: calm(20),
		},
		{
			Name: "state-not-written", Breaks: "now and then a settlement is taken without the state that goes with it",
			Edits:  []Edit{{"fsm/settle.go", "		if w.SetState {\n", "		if w.SetState && w.Seq%4 != 0 {\n"}},
			Caught: []string{"state"}, Sim: calm(10), Proc: calm(8),
		},
		{
			Name: "settle-by-anybody", Breaks: "a settlement is taken from a session that does not own the instance",
			Edits:  []Edit{{"fsm/settle.go", "	if err := w.i.ownedBy(w.session); err != nil {\n		return err\n	}\n", ""}},
			Caught: []string{"I8"}, Sim: calm(20), Proc: calm(12),
		},
		{
			Name: "outgoing-dropped", Breaks: "a third of the outgoing messages is not sent",
			Edits:  []Edit{{"fsm/outgoing.go", "		rec := &logv1.OutgoingRecord{Message: m", "		if s.Seq%3 == 0 {\n			continue\n		}\n		rec := &logv1.OutgoingRecord{Message: m"}},
			Caught: []string{"I1", "I3"}, Sim: calm(15), Proc: calm(10),
		},
		{
			Name: "outgoing-sent-twice", Breaks: "an outgoing message is sent once more under another id",
			Edits: []Edit{{"fsm/outgoing.go", "		t.fx.Outgoing = true\n", `		again := proto.Clone(m).(*sluicev1.Message)
		again.Id += "-again"
		rec.Message = again
		if err := queue.Put(t, numbered(tableOutgoing, t.mint()), rec); err != nil {
			return err
		}
		t.fx.Outgoing = true
`}},
			Caught: []string{"I1", "I3"}, Sim: calm(15), Proc: calm(10),
		},
		{
			Name: "settlement-not-kept", Breaks: "now and then a settlement is told as taken and its message stays in the lane",
			Edits: []Edit{{"fsm/settle.go", "		return t.end(w.i, m, e)\n	case sluicev1.Outcome_OUTCOME_REJECTED:", `		if w.Seq%2 == 0 && w.i.rec.Mode == drainingMode {
			return nil
		}
		return t.end(w.i, m, e)
	case sluicev1.Outcome_OUTCOME_REJECTED:`}},
			Caught: []string{"I2"}, Sim: from(6, 12, under(20, world.WorkerKill)), Proc: under(20, world.WorkerKill),
		},
	}
}

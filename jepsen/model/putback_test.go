package model

import (
	"slices"
	"testing"

	sluicev1 "sluice/api/sluice/v1"
)

// returns puts a dead letter back, and tells whether it waits.
func (b *bench) returns(lane sluicev1.Lane, seq uint64) (waits bool) {
	b.Helper()
	i := b.instances[ID{"app", "i"}]
	waits = lane == inNormal && i.Mode != Recovery && len(i.out()) > 0
	b.mismatches = nil
	if err := b.putBackEach("put back", i, laneNumber(lane), []uint64{seq}, []*sluicev1.PutBackResult{{Seq: seq, Waiting: waits}}); err != nil || len(b.mismatches) > 0 {
		b.Fatal(err, b.mismatches)
	}
	return waits
}

func (i *Instance) unsettled(lane int) (seqs []uint64) {
	for _, l := range i.Lanes[lane].Messages {
		seqs = append(seqs, l.Seq)
	}
	return seqs
}

func TestADeadLetterWaitsForWhatIsOut(t *testing.T) {
	b := setup(t, nil) // a window of two
	for _, id := range []string{"m1", "m2", "m3", "m4"} {
		b.take(id, "work")
	}
	i := b.own()
	b.settleAs(i, inNormal, 1, rejected)
	before := i.Epoch
	if !b.returns(inNormal, 1) || !slices.Equal(i.unsettled(normalLane), []uint64{2, 3, 4}) || i.Epoch != before {
		t.Fatalf("with two out it is put back at once: %v", i.unsettled(normalLane))
	}
	if r := b.settleAs(i, inNormal, 2, completed); r != "" || len(i.out()) != 1 {
		t.Fatalf("%q; behind what was out goes nothing more: %d are out", r, len(i.out()))
	}
	if r := b.settleAs(i, inNormal, 3, completed); r != "" || !slices.Equal(i.unsettled(normalLane), []uint64{1, 4}) || i.Epoch == before {
		t.Fatalf("%q; with nothing out it is back at its place, under a new epoch: %v", r, i.unsettled(normalLane))
	}
	l := i.bySeq[normalLane][1]
	if l.Settlement != "" || l.Attempts != 1 || len(l.Revoked) != 1 || l.Revoked[0].Settlement != "dead-lettered" {
		t.Errorf("the message that was put back is %+v", l)
	}
}

func TestADeadLetterIsLetBackWhenTheHeadWaitsOrTheOwnerGoes(t *testing.T) {
	for name, happens := range map[string]func(*bench, *Instance){
		"the head waits": func(b *bench, i *Instance) { b.settleAs(i, inNormal, 2, failed) },
		"the owner goes": func(b *bench, i *Instance) { b.disown(i, false) },
		"recovery":       func(b *bench, i *Instance) { b.turnToRecovery(i, nil, Transition{}) },
		"it is taken by hand": func(b *bench, i *Instance) {
			b.end(i.bySeq[normalLane][2], "skipped")
			b.end(i.bySeq[normalLane][3], "skipped")
		},
		"the whole application": func(b *bench, i *Instance) { b.enterWhole(i.app, 0, "") },
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, nil)
			for _, id := range []string{"m1", "m2", "m3"} {
				b.take(id, "work")
			}
			i := b.own()
			b.settleAs(i, inNormal, 1, rejected)
			b.returns(inNormal, 1)
			happens(b, i)
			l := i.bySeq[normalLane][1]
			if l.Settlement != "" || l.doubt || len(i.waiting) > 0 || i.unsettled(normalLane)[0] != 1 {
				t.Errorf("settled as %q, in doubt: %v, unsettled %v", l.Settlement, l.doubt, i.unsettled(normalLane))
			}
			if i.Mode != Recovery && i.waits() {
				t.Error("the head before which it comes waits still")
			}
		})
	}
}

func TestPutBackWhileDraining(t *testing.T) {
	b := setup(t, nil)
	i := b.keepNew()
	b.turnToRecovery(i, nil, Transition{})
	b.take("m1", "work")
	b.take("m2", "work")
	b.end(i.bySeq[normalLane][1], "dead-lettered")
	b.turnBack(i, 0, nil)
	b.own()
	b.returns(inNormal, 1)
	if r := b.settleAs(i, inNormal, 2, completed); r != "" || i.Mode != Draining {
		t.Fatalf("%q, %s: what waits comes before the drain is over", r, i.Mode)
	}
	if r := b.settleAs(i, inNormal, 1, completed); r != "" || i.Mode != Normal {
		t.Errorf("%q, %s", r, i.Mode)
	}
}

// keepNew makes the instance exist, with no message.
func (b *bench) keepNew() *Instance {
	i := b.find(ID{"app", "i"})
	b.keep(i)
	return i
}

func TestARecoveryMessageThatIsPutBackFencesTheHandlerOff(t *testing.T) {
	b := setup(t, nil)
	i := b.keepNew()
	b.turnToRecovery(i, nil, Transition{})
	i.until, i.entered = 70, 3
	b.take("r1", "fix")
	b.take("r2", "fix")
	b.own().window = 1
	b.settleAs(i, inFixing, 1, rejected)
	before := i.Epoch
	b.returns(inFixing, 1)
	first, second := i.bySeq[recoveryLane][1], i.bySeq[recoveryLane][2]
	if i.Epoch == before || i.until != 70 || i.entered != 3 || first.doubt || !second.doubt {
		t.Errorf("a new epoch: %v, until %d, of entry %d, in doubt %v %v", i.Epoch != before, i.until, i.entered, first.doubt, second.doubt)
	}
	i.Owner = ""
	b.turnToRecovery(i, nil, Transition{})
	if first.doubt {
		t.Error("what was never out since is in doubt after the next entry")
	}
	i.Owner = "s"
	b.turnToRecovery(i, nil, Transition{})
	if !first.doubt {
		t.Error("what was out at an entry is not in doubt")
	}
}

func TestWhatIsPutBackPastItsTimeDoesNotExpire(t *testing.T) {
	b := setup(t, nil)
	b.take("m1", "work")
	b.take("m2", "work")
	i := b.instances[ID{"app", "i"}]
	for seq, expires := range map[uint64]int64{1: 50, 2: 500} {
		l := i.bySeq[normalLane][seq]
		l.expires = expires
		b.end(l, "dead-lettered")
	}
	b.clock = 100
	b.returns(inNormal, 1)
	b.returns(inNormal, 2)
	b.clock = 600
	if err := b.advance(nil); err != nil || !slices.Equal(i.unsettled(normalLane), []uint64{1}) {
		t.Errorf("%v; unsettled are %v", err, i.unsettled(normalLane))
	}
}

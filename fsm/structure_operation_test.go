package fsm_test

import (
	"bytes"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
)

// setsAudit is what lies in a store of operations and their sets.
type setsAudit struct {
	operations map[string]*logv1.OperationRecord
	items      map[string]map[uint64]*sluicev1.OperationItem
}

func newSetsAudit() *setsAudit {
	return &setsAudit{operations: map[string]*logv1.OperationRecord{}, items: map[string]map[uint64]*sluicev1.OperationItem{}}
}

func (a *audit) readOperation(r record) {
	if r.key[0] == 'p' {
		rec := &logv1.OperationRecord{}
		a.decode(r, rec)
		a.sets.operations[string(r.key[1:])] = rec
		return
	}
	rec := &logv1.OperationItemRecord{}
	a.decode(r, rec)
	id, at, _ := bytes.Cut(r.key[1:], []byte{0})
	if a.sets.items[string(id)] == nil {
		a.sets.items[string(id)] = map[uint64]*sluicev1.OperationItem{}
	}
	a.sets.items[string(id)][be(at)] = rec.Item
}

// checkSets compares operations with their sets: each place is written once, and told as it was counted.
func (a *audit) checkSets() {
	for _, id := range sortedKeys(a.sets.items) {
		if a.sets.operations[id] == nil {
			a.say("operation %s: %d items, and no record", id, len(a.sets.items[id]))
		}
	}
	for _, id := range sortedKeys(a.sets.operations) {
		o := a.sets.operations[id]
		items, got := a.sets.items[id], map[sluicev1.ItemState]uint64{}
		for place, i := range items {
			got[i.GetState()]++
			if place >= o.Written || i.GetInstance() == "" || (i.GetState() == sluicev1.ItemState_ITEM_PENDING) != (place >= o.At) {
				a.say("operation %s: at %d of %d, item %d is %v", id, o.At, o.Written, place, i)
			}
		}
		op := o.Operation
		if uint64(len(items)) != o.Written {
			a.say("operation %s: %d items, %d written", id, len(items), o.Written)
		}
		if o.Request == nil {
			continue
		}
		if got[sluicev1.ItemState_ITEM_DONE] != op.Done || got[sluicev1.ItemState_ITEM_PASSED_OVER] != op.PassedOver || got[sluicev1.ItemState_ITEM_FAILED] != op.Failed {
			a.say("operation %s: counted %v, the items say %v", id, op, got)
		}
		if selecting := op.State == sluicev1.OperationState_OPERATION_SELECTING; selecting != (o.Written < op.Total && op.State != sluicev1.OperationState_OPERATION_CANCELLED) || selecting && !a.watched(id) {
			a.say("operation %s: %v with %d of %d written", id, op.State, o.Written, op.Total)
		}
	}
}

// watched tells that something will come due if the rest of a set does not come.
func (a *audit) watched(id string) bool {
	position := id[len("op-"):]
	for k := range a.dues {
		if k[9] == 11 && position == padded(be([]byte(k[10:18]))) {
			return true
		}
	}
	return false
}

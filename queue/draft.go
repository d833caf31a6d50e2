package queue

// draft is what a batch wrote and the store has not yet.
type draft struct {
	writes []batchWrite
	keys   keyRoom // of what it wrote
	// last is the place in writes of what was written to a key last, unless a range was removed since.
	last    map[string]int
	removed []span
	// walked holds the writes to a table for those who walk it in the batch; under allTables, those to all.
	walked map[int]*draftWalk
}

// draftWalk is the writes to one table, or to all, as a layer, for those who walk it: what came since the last walk is added
// under a new version. placed counts the draft's writes that were looked at.
type draftWalk struct {
	layerAt
	placed int
}

const allTables = -1

// tableWithin is the one table that a walk within bounds goes over, or allTables. The successor of a table's first byte alone
// bounds that table, too.
func tableWithin(lower, upper []byte) int {
	if len(lower) == 0 || len(upper) == 0 || upper[0] != lower[0] && (upper[0] != lower[0]+1 || len(upper) > 1) {
		return allTables
	}
	return int(lower[0])
}

func newDraft() *draft { return &draft{last: map[string]int{}, walked: map[int]*draftWalk{}} }

func (d *draft) add(w batchWrite) {
	d.writes = append(d.writes, w)
	if w.kind != writeDeleteRange {
		d.last[w.key] = len(d.writes) - 1
		return
	}
	gone := span{w.key, w.upper}
	for key := range d.last {
		if gone.covers(key) {
			delete(d.last, key)
		}
	}
	d.removed = append(d.removed, gone)
}

// get tells what the draft says of a key: its value; that it is not there, by an empty answer; or nothing.
func (d *draft) get(key []byte) (value []byte, there, said bool) {
	if at, ok := d.last[string(key)]; ok {
		w := d.writes[at]
		return w.value, w.kind == writeSet, true
	}
	if len(d.removed) == 0 {
		return nil, false, false
	}
	for _, s := range d.removed {
		if s.covers(string(key)) {
			return nil, false, true
		}
	}
	return nil, false, false
}

// walk gives what was written until now within bounds, for one who walks it until leave.
func (d *draft) walk(lower, upper []byte) layerAt {
	table := tableWithin(lower, upper)
	w := d.walked[table]
	if w == nil {
		w = &draftWalk{layerAt: layerAt{layer: newLayer(0)}}
		d.walked[table] = w
	}
	var writes []batchWrite
	for _, b := range d.writes[w.placed:] {
		if table == allTables || b.kind == writeDeleteRange || int(tableOf(b.key)) == table {
			writes = append(writes, b)
		}
	}
	w.placed = len(d.writes)
	if len(writes) > 0 {
		w.version++
		w.change(writes, w.version)
	}
	w.open(w.version)
	return w.layerAt
}

// spareWrites is how many writes a draft may have had that is used again.
const spareWrites = 32 << 10

// reset makes the draft one of a batch that wrote nothing; false: it is too large to be kept.
func (d *draft) reset() bool {
	if cap(d.writes) > spareWrites {
		return false
	}
	clear(d.writes)
	clear(d.last)
	clear(d.walked)
	d.writes, d.removed = d.writes[:0], nil
	return true
}

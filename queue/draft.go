package queue

// draft is what a batch wrote and the store has not yet.
type draft struct {
	writes []batchWrite
	keys   keyRoom // of what it wrote
	// last is the place in writes of what was written to a key last, unless a range was removed since.
	last    map[string]int
	removed []span
	// walked holds the first so many of the writes, for those who walk the batch, each time under a new version; nil before
	// the first.
	walked version
	placed int
}

func newDraft() *draft { return &draft{last: map[string]int{}} }

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

// walk gives what was written until now, for one who walks it until left.
func (d *draft) walk() version {
	if d.walked.layer == nil {
		d.walked.layer = newLayer(len(d.writes))
	}
	l := d.walked.layer
	if d.placed < len(d.writes) {
		d.walked.number++
		l.change(d.writes[d.placed:], d.walked.number, l.read())
		d.placed = len(d.writes)
	}
	l.open(d.walked.number)
	return d.walked
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
	d.writes, d.removed, d.walked, d.placed = d.writes[:0], nil, version{}, 0
	return true
}

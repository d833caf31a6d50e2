package queue

// draft is what a batch wrote and the store has not yet.
type draft struct {
	writes []batchWrite
	// last is the place in writes of what was written to a key last, unless a range was removed since.
	last    map[string]int
	removed []span
	// ordered holds the first so many of the writes, for those who walk the batch; nil before the first. walks counts those who
	// walk it as it is now: what is written later is not for them.
	ordered *layer
	placed  int
	walks   int
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

// walk gives what was written until now as a layer that nobody changes as long as walks says that it is walked.
func (d *draft) walk() *layer {
	switch {
	case d.ordered == nil:
		d.ordered = &layer{}
	case d.placed < len(d.writes) && d.walks > 0:
		d.ordered, d.walks = d.ordered.clone(), 0
	}
	for ; d.placed < len(d.writes); d.placed++ {
		d.ordered.apply(d.writes[d.placed])
	}
	d.walks++
	return d.ordered
}

// left notes that a walk over a layer that walk gave has ended.
func (d *draft) left(walked *layer) {
	if walked == d.ordered {
		d.walks--
	}
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
	*d = draft{writes: d.writes[:0], last: d.last}
	return true
}

package queue

import "github.com/google/btree"

// layerCursor stands on one write of a layer as it was at a version, within [lower, upper).
type layerCursor struct {
	layer   *layer
	version uint64
	lower   string
	upper   string
	open    bool // there is no upper bound
	found   bool // it stands on a write: that of here
	here    slot
	at      slot // what a tree is searched with
}

func newLayerCursor(l *layer, version uint64, lower, upper []byte) *layerCursor {
	return &layerCursor{layer: l, version: version, lower: string(lower), upper: string(upper), open: upper == nil}
}

func (c *layerCursor) valid() bool { return c.found }

// seekGE stands on the first write at or after the key, seekLT on the last before it; bounded says there is a key.
func (c *layerCursor) seekGE(key string) bool { return c.ascend(max(key, c.lower), false) }

func (c *layerCursor) seekLT(key string, bounded bool) bool {
	if !c.open && (!bounded || key > c.upper) {
		key, bounded = c.upper, true
	}
	return c.descend(key, bounded)
}

func (c *layerCursor) next() bool { return c.ascend(c.here.key, true) }

func (c *layerCursor) prev() bool { return c.descend(c.here.key, true) }

// ascend stands on the first write at or after a key, or after it.
func (c *layerCursor) ascend(from string, after bool) bool {
	last := 255
	if !c.open {
		last = int(tableOf(c.upper))
	}
	c.found, c.at.key = false, from
	for n := int(tableOf(from)); n <= last; n++ {
		done := false
		c.walk(byte(n), func(o *btree.BTreeG[*slot]) {
			o.AscendGreaterOrEqual(&c.at, func(s *slot) bool {
				if after && s.key == from {
					return true
				}
				done = !c.open && s.key >= c.upper
				return !done && !c.stand(s)
			})
		})
		if c.found || done {
			break
		}
	}
	return c.found
}

// descend stands on the last write before a key, or on the very last.
func (c *layerCursor) descend(before string, bounded bool) bool {
	first := 255
	if bounded {
		first = int(tableOf(before))
	}
	c.found, c.at.key = false, before
	for n := first; n >= int(tableOf(c.lower)); n-- {
		done := false
		visit := func(s *slot) bool {
			if bounded && s.key == before {
				return true
			}
			done = s.key < c.lower
			return !done && !c.stand(s)
		}
		c.walk(byte(n), func(o *btree.BTreeG[*slot]) {
			if bounded {
				o.DescendLessOrEqual(&c.at, visit)
			} else {
				o.Descend(visit)
			}
		})
		if c.found || done {
			break
		}
	}
	return c.found
}

// walk hands the keys of a table in order to visit, if it has any.
func (c *layerCursor) walk(table byte, visit func(*btree.BTreeG[*slot])) {
	c.layer.mu.RLock()
	if c.layer.held[table] > 0 && c.layer.ordered[table] == nil {
		c.layer.mu.RUnlock()
		c.layer.mu.Lock()
		c.layer.order(table)
		c.layer.mu.Unlock()
		c.layer.mu.RLock()
	}
	defer c.layer.mu.RUnlock()
	if o := c.layer.ordered[table]; o != nil {
		visit(o)
	}
}

// stand stands on a slot; false: at the version there is nothing.
func (c *layerCursor) stand(s *slot) bool {
	w := s.at(c.version)
	if w == nil {
		return false
	}
	c.found, c.here = true, slot{s.key, *w}
	return true
}

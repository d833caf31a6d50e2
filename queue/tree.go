package queue

import "github.com/google/btree"

// treeDegree keeps nodes small: writers of the memory store copy the nodes on their way after each clone.
const treeDegree = 16

// keyed is what a tree holds: something with a key that never changes once it is in a tree.
type keyed interface {
	comparable
	name() string
}

func newTree[T keyed]() *btree.BTreeG[T] {
	return btree.NewG(treeDegree, func(a, b T) bool { return a.name() < b.name() })
}

// treeCursor stands on one record of a tree that nobody changes, within [lower, upper).
type treeCursor[T keyed] struct {
	tree  *btree.BTreeG[T]
	at    func(key string) T // makes what the tree can be searched with
	lower string
	upper string
	open  bool // there is no upper bound
	here  T    // the record it stands on; the zero value: none
}

func newTreeCursor[T keyed](tree *btree.BTreeG[T], at func(string) T, lower, upper []byte) *treeCursor[T] {
	return &treeCursor[T]{tree: tree, at: at, lower: string(lower), upper: string(upper), open: upper == nil}
}

// seekGE stands on the first record at or after the key, seekLT on the last before it; bounded says there is a key.
func (c *treeCursor[T]) seekGE(key string) bool {
	c.clear()
	c.tree.AscendGreaterOrEqual(c.at(max(key, c.lower)), c.stop)
	return c.within()
}

func (c *treeCursor[T]) seekLT(key string, bounded bool) bool {
	c.clear()
	if !c.open && (!bounded || key > c.upper) {
		key, bounded = c.upper, true
	}
	if !bounded {
		c.tree.Descend(c.stop)
		return c.within()
	}
	c.tree.DescendLessOrEqual(c.at(key), func(found T) bool {
		if found.name() == key {
			return true
		}
		c.here = found
		return false
	})
	return c.within()
}

func (c *treeCursor[T]) next() bool {
	from := c.here
	c.clear()
	c.tree.AscendGreaterOrEqual(from, func(found T) bool {
		if found.name() == from.name() {
			return true
		}
		c.here = found
		return false
	})
	return c.within()
}

func (c *treeCursor[T]) prev() bool { return c.seekLT(c.here.name(), true) }

func (c *treeCursor[T]) stop(found T) bool {
	c.here = found
	return false
}

func (c *treeCursor[T]) valid() bool {
	var none T
	return c.here != none
}

func (c *treeCursor[T]) clear() {
	var none T
	c.here = none
}

// within gives up a record that lies beyond the bounds.
func (c *treeCursor[T]) within() bool {
	if c.valid() && (c.here.name() < c.lower || !c.open && c.here.name() >= c.upper) {
		c.clear()
	}
	return c.valid()
}

package fsm

import "sync/atomic"

// low is a bound below all keys of a table that is emptied from its beginning. A walk that starts there finds what a walk
// from the table's beginning finds, without passing over what was removed: that may lie in the store for a while, and a
// table with a million things through it would be walked a million times over. It is kept in memory alone; it begins at
// nothing after a start and decides nothing.
type low struct{ bound atomic.Uint64 }

func (l *low) get() uint64 { return l.bound.Load() }

// raise notes the lowest key that a walk found.
func (l *low) raise(to uint64) {
	for at := l.bound.Load(); at < to && !l.bound.CompareAndSwap(at, to); at = l.bound.Load() {
	}
}

// lower notes a new key. Only Apply may call it, and only of a table that Apply alone raises.
func (l *low) lower(to uint64) {
	if to < l.bound.Load() {
		l.bound.Store(to)
	}
}

// lows are the bounds of tables that are walked from their beginning. Those of the instances that wait for an owner are
// each application's.
type lows struct {
	due      low // Unix ms; raised and lowered by Apply
	outgoing low // positions, which only grow
}

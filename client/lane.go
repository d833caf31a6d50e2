package client

import "slices"

// lane is what a worker has in hand of one lane of an instance under one epoch. Messages are handled in the order of
// their sequence numbers, one at a time.
type lane struct {
	queue   []*Delivery // in order, not begun
	current *Delivery   // with its handler
	done    Seq         // highest that was ended under this epoch, the settlement perhaps on its way
	// missing: its settlement was refused because something before it, which did not arrive, is still out. From it on
	// nothing may be handled until one before it arrives, or it comes again as the head itself. 0: nothing is missing.
	missing Seq
	// failed is the last one whose handler failed; until it comes again, or is known to have been settled otherwise,
	// nothing behind it may be handled. Nil: none.
	failed *Delivery
}

// add takes a delivery in hand; false: its identity is there already, or it is over.
func (l *lane) add(d *Delivery) bool {
	switch {
	case d.Seq <= l.done:
		return false
	case l.current != nil && l.current.Seq == d.Seq:
		return false
	case l.failed != nil && l.failed.Seq == d.Seq && d.Attempt <= l.failed.Attempt:
		return false
	}
	at, found := slices.BinarySearchFunc(l.queue, d.Seq, func(q *Delivery, s Seq) int {
		switch {
		case q.Seq < s:
			return -1
		case q.Seq > s:
			return 1
		}
		return 0
	})
	if found {
		return false
	}
	if d.Seq <= l.missing {
		l.missing = 0
	}
	l.queue = slices.Insert(l.queue, at, d)
	return true
}

// ready is the message that may be handled next; nil: none.
func (l *lane) ready() *Delivery {
	if l.current != nil || len(l.queue) == 0 || l.parked() || l.missing != 0 && l.queue[0].Seq >= l.missing {
		return nil
	}
	return l.queue[0]
}

// parked says that the head failed and has not come again, while messages behind it are in hand.
func (l *lane) parked() bool {
	return l.failed != nil && len(l.queue) > 0 && l.queue[0].Seq != l.failed.Seq
}

// begin hands out the message that is ready.
func (l *lane) begin() *Delivery {
	d := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.current, l.failed = d, nil
	return d
}

// end notes how the current message's handler ended.
func (l *lane) end(failed bool) {
	l.current.after = l.done
	if failed {
		l.failed = l.current
	} else {
		l.done = l.current.Seq
	}
	l.current = nil
}

// forget makes room for a message whose settlement was refused because it is not out, or not the head: it will be
// delivered again, and so will what did not arrive between it and the one that was ended before it. That one is over, its
// settlement perhaps still on its way.
func (l *lane) forget(d *Delivery) {
	if l.done >= d.Seq {
		l.done = d.after
	}
	if l.failed == d {
		l.failed = nil
	}
}

// over notes that a message was settled by someone else.
func (l *lane) over(seq Seq) {
	l.done = max(l.done, seq)
	if l.failed != nil && l.failed.Seq <= seq {
		l.failed = nil
	}
}

package main

import (
	"container/heap"
	"math/rand/v2"
)

// world is time that goes from event to event. Events at the same time come in the order in which they were made.
type world struct {
	now    float64
	queue  events
	made   int
	chance *rand.Rand
}

type event struct {
	at     float64
	number int
	do     func()
}

// after has something done later.
func (w *world) after(delay float64, do func()) {
	w.made++
	heap.Push(&w.queue, event{w.now + delay, w.made, do})
}

// run goes on until nothing is left to happen.
func (w *world) run() {
	for len(w.queue) > 0 {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
}

// between draws a time.
func (w *world) between(low, high float64) float64 { return low + (high-low)*w.chance.Float64() }

type events []event

func (e events) Len() int { return len(e) }

func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].number < e[j].number
}

func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push and Pop are for package heap.
func (e *events) Push(x any) { *e = append(*e, x.(event)) }

// Pop takes the last one.
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// disk makes what it is given durable. A shared one syncs all that waits at once; one of many stores syncs so many at a
// time, each by itself.
type disk struct {
	w           *world
	shared      bool
	base, entry float64
	parallel    int
	busy        int
	waiting     []write
}

type write struct {
	takes float64 // of a store of its own
	done  func()
}

// keep has done called once something is durable; takes is how long that takes in a store of its own.
func (d *disk) keep(takes float64, done func()) {
	d.waiting = append(d.waiting, write{takes, done})
	d.next()
}

func (d *disk) next() {
	if d.shared {
		if d.busy > 0 || len(d.waiting) == 0 {
			return
		}
		batch := d.waiting
		d.waiting, d.busy = nil, 1
		d.w.after(d.base+d.entry*float64(len(batch)), func() {
			d.busy = 0
			for _, one := range batch {
				one.done()
			}
			d.next()
		})
		return
	}
	for d.busy < d.parallel && len(d.waiting) > 0 {
		one := d.waiting[0]
		d.waiting = d.waiting[1:]
		d.busy++
		d.w.after(one.takes, func() {
			d.busy--
			one.done()
			d.next()
		})
	}
}

package replay

import (
	"errors"
	"fmt"
	"sync"

	"sluice/client"
)

// errFenced is the ledger's answer to a handler of an epoch that has passed.
var errFenced = errors.New("the instance has gone to a later epoch")

// ledger is what the workers' handlers write to: the world outside Sluice, with the two means that the contract gives
// such a world. (instance, epoch) fences: nothing is written under an epoch older than one seen. (instance, seq) tells a
// repeat. It also keeps the receipts.
type ledger struct {
	mu      sync.Mutex
	books   map[string]*book
	handled int
	drained int // of these, deferred
	fenced  int
	strange []string // what could not be written down anywhere
	entered int      // recoveries that the replay began
	ended   int      // recoveries completed, by whom ever
	moved   chan struct{}
}

// book is the page of one instance.
type book struct {
	of       *plannedCase
	fence    client.Epoch
	entries  []entry
	receipts []client.Receipt // by place; a zero one was not sent
	earlier  []bool           // by place: accepted by an earlier run of the replay
	open     chan struct{}    // in a recovery that the replay began; closed when it has completed it; nil: in none
	recovers []client.Epoch   // epochs under which a recovery handler was called
}

// entry is one call of a handler.
type entry struct {
	place    int
	seq      client.Seq
	epoch    client.Epoch
	digest   digest
	deferred bool
}

func newLedger(p *Plan) *ledger {
	l := &ledger{books: make(map[string]*book, len(p.cases)), moved: make(chan struct{}, 1)}
	for _, c := range p.cases {
		l.books[c.key] = &book{of: c, receipts: make([]client.Receipt, len(c.events)), earlier: make([]bool, len(c.events))}
	}
	return l
}

// delivery is what a handler is given, as far as the ledger cares.
type delivery struct {
	key      string
	id, kind string
	data     []byte
	seq      client.Seq
	epoch    client.Epoch
	deferred bool
}

// handle writes one call of a handler down, unless it is fenced.
func (l *ledger) handle(d delivery) error {
	digest := digestOf(d.kind, d.data)
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[d.key]
	var place int
	if _, err := fmt.Sscanf(d.id, "event-%d", &place); err != nil || b == nil || place < 0 || place >= len(b.of.events) {
		l.note("%s: the message %q (seq %d) is none of the log's", d.key, d.id, d.seq)
		return nil
	}
	if d.epoch < b.fence {
		l.fenced++
		return errFenced
	}
	b.fence = d.epoch
	b.entries = append(b.entries, entry{place, d.seq, d.epoch, digest, d.deferred})
	l.handled++
	if d.deferred {
		l.drained++
	}
	select {
	case l.moved <- struct{}{}:
	default:
	}
	return nil
}

// note keeps the first of what is strange. The caller holds mu.
func (l *ledger) note(format string, args ...any) {
	if len(l.strange) < maxViolations {
		l.strange = append(l.strange, fmt.Sprintf(format, args...))
	}
}

// through fences off every epoch before this one, and tells up to which message the handlers had come.
func (l *ledger) through(key string, epoch client.Epoch) client.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[key]
	if b == nil {
		return 0
	}
	b.fence = max(b.fence, epoch)
	var last client.Seq
	for _, e := range b.entries {
		last = max(last, e.seq)
	}
	return last
}

// opened says that the replay is about to put the case into recovery.
func (l *ledger) opened(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books[key].open = make(chan struct{})
	l.entered++
}

// over says that the recovery that the replay began is over, and lets the handlers go that wait for it.
func (l *ledger) over(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.books[key]; b.open != nil {
		close(b.open)
		b.open = nil
	}
}

// recovering notes a call of a recovery handler. If the replay itself will complete the recovery, the channel is closed
// when it has; nil: it will not.
func (l *ledger) recovering(key string, epoch client.Epoch) (over <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[key]
	if b == nil {
		return nil
	}
	b.recovers = append(b.recovers, epoch)
	return b.open
}

// completed counts a recovery that was completed.
func (l *ledger) completed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended++
}

// accepted notes the receipt of a message.
func (l *ledger) accepted(p *planned, r client.Receipt, earlier bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[p.of.key]
	b.receipts[p.place], b.earlier[p.place] = r, earlier
}

// count is how many calls of handlers were written down.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.handled
}

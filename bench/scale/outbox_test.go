package main

import (
	"fmt"
	"math/bits"
	"testing"
)

// The outbox across groups (docs/adr/0030, decision 9), in all orders of events at a small scope: three items of one
// source slot to two target slots, two groups of which either may own either target, at most two handovers. What was
// ever sent or answered may arrive again at any time, at any group: so a deposed leader, a lost answer and a repeat
// after a move are among the orders.
const (
	outboxItems = 3
	outboxMoves = 2
)

// target is the slot that an item goes to: the first and the third to slot 0, the second to slot 1.
func target(item int) int { return item % 2 }

// outboxRules can be broken, to see that the search notices.
type outboxRules struct{ sendsAnything, leavesMarks, leavesLows, keepsNoMarks bool }

// outboxState is both sides. Items are bits from 0, positions numbers from 1.
type outboxState struct {
	made    int
	acked   uint8
	done    uint8
	owner   [2]int    // of a target slot
	mark    [2][2]int // of a group, for a target slot
	low     [2]int    // that a group knows
	moves   int
	sent    uint32 // batches: the bit of low<<3 | items
	answers uint8  // the bit of the items that are answered for
}

// lowest is up to where all is acknowledged.
func (s outboxState) lowest() int { return min(s.made, bits.TrailingZeros8(^s.acked)) }

// next gives all that may happen, or says what went wrong.
func (s outboxState) next(r outboxRules) (all []outboxState, wrong string) {
	if s.made < outboxItems {
		n := s
		n.made++
		all = append(all, n)
	}
	all = append(all, s.sends(r)...)
	for batch := range 32 {
		for group := 0; group < 2 && s.sent&(1<<batch) != 0; group++ {
			n, wrong := s.receive(group, uint8(batch&7), batch>>3, r)
			if wrong != "" {
				return nil, wrong
			}
			all = append(all, n)
		}
	}
	for items := range uint8(8) {
		if s.answers&(1<<items) != 0 {
			n := s
			n.acked |= items
			if n.acked&^n.done != 0 {
				return nil, "an item is acknowledged and was never judged"
			}
			all = append(all, n)
		}
	}
	for slot := 0; slot < 2 && s.moves < outboxMoves; slot++ {
		all = append(all, s.move(slot, r))
	}
	return all, ""
}

// sends are the batches that a leader may send: the oldest items that are not acknowledged, for one target slot or both.
func (s outboxState) sends(r outboxRules) (all []outboxState) {
	open := (uint8(1)<<s.made - 1) &^ s.acked
	for _, slots := range []uint8{0b101, 0b010, 0b111} {
		batch := uint8(0)
		for item := range outboxItems {
			if open&slots&(1<<item) == 0 {
				continue
			}
			batch |= 1 << item
			n := s
			n.sent |= 1 << (s.lowest()<<3 | int(batch))
			if r.sendsAnything {
				n.sent |= 1 << (s.lowest()<<3 | 1<<item)
			}
			all = append(all, n)
		}
	}
	return all
}

// receive has a group judge a batch.
func (s outboxState) receive(group int, batch uint8, low int, r outboxRules) (n outboxState, wrong string) {
	n = s
	n.low[group] = max(n.low[group], low)
	for slot := range 2 {
		if n.mark[group][slot] <= n.low[group] {
			n.mark[group][slot] = 0
		}
	}
	answered := uint8(0)
	for item := range outboxItems {
		slot, bit := target(item), uint8(1)<<item
		if batch&bit == 0 || n.owner[slot] != group {
			continue
		}
		answered |= bit
		if item+1 <= max(n.low[group], n.mark[group][slot]) {
			continue
		}
		switch {
		case n.done&bit != 0:
			return n, fmt.Sprintf("item %d is judged twice", item+1)
		case item == 2 && n.done&1 == 0:
			return n, "item 3 is judged before item 1"
		}
		n.done |= bit
		if !r.keepsNoMarks {
			n.mark[group][slot] = item + 1
		}
	}
	n.answers |= 1 << answered
	return n, ""
}

// move hands a target slot over.
func (s outboxState) move(slot int, r outboxRules) (n outboxState) {
	n = s
	from := n.owner[slot]
	to := 1 - from
	n.owner[slot], n.moves = to, n.moves+1
	if !r.leavesMarks {
		n.mark[to][slot] = n.mark[from][slot]
	}
	n.mark[from][slot] = 0
	if !r.leavesLows {
		n.low[to] = max(n.low[to], n.low[from])
	}
	return n
}

// search goes through all states that can be reached.
func search(r outboxRules) (states int, finished bool, wrong string) {
	seen := map[outboxState]bool{{}: true}
	for open := []outboxState{{}}; len(open) > 0; {
		s := open[len(open)-1]
		open = open[:len(open)-1]
		finished = finished || s.acked == 1<<outboxItems-1
		all, wrong := s.next(r)
		if wrong != "" {
			return len(seen), finished, wrong
		}
		for _, n := range all {
			if !seen[n] {
				seen[n] = true
				open = append(open, n)
			}
		}
	}
	return len(seen), finished, ""
}

func TestTheOutboxDeliversOnceAndInOrder(t *testing.T) {
	t.Parallel()
	states, finished, wrong := search(outboxRules{})
	if wrong != "" || !finished {
		t.Errorf("%s (everything acknowledged somewhere: %v)", wrong, finished)
	}
	t.Logf("%d states", states)
}

func TestTheOutboxNeedsEachOfItsRules(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]outboxRules{
		"sends what is not the oldest":     {sendsAnything: true},
		"leaves marks behind in a move":    {leavesMarks: true},
		"leaves lows behind in a move":     {leavesLows: true},
		"remembers nothing above the lows": {keepsNoMarks: true},
	} {
		if _, _, wrong := search(r); wrong == "" {
			t.Errorf("a protocol that %s passes", name)
		} else {
			t.Logf("%s: %s", name, wrong)
		}
	}
}

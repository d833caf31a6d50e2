package fsm_test

import (
	"slices"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// lifetime is how long messages that expire live, in ms; time passes twice as much at once.
const lifetime = 30_000

// goutbox is the outgoing messages on their way, in order.
type goutbox struct {
	list [3]int
	n    int
}

// stateText is the state that a message, by its number from 1, or a completed recovery, -1, has left.
func (s *scope) stateText(by int) string {
	switch {
	case by == 0:
		return ""
	case by < 0:
		return "recovered"
	default:
		return "after " + s.messages[by-1].id
	}
}

// addEffects gives a settlement what takes effect with it.
func (s *scope) addEffects(st *sluicev1.Settlement, m int) {
	st.SetState, st.State = true, []byte(s.stateText(m+1))
	st.Reply = []byte("reply to " + s.messages[m].id)
	for n := range s.messages {
		if s.messages[n].from == m+1 {
			st.Outgoing = append(st.Outgoing, s.message(n))
		}
	}
}

// takeEffect is what a completed message leaves.
func (g *ghost) takeEffect(m, at int, s *scope) {
	if !s.effects {
		return
	}
	g.inst[at].state = m + 1
	for n := range s.messages {
		if s.messages[n].from == m+1 {
			g.outbox.list[g.outbox.n] = n
			g.outbox.n++
		}
	}
}

// forward lets the oldest outgoing message arrive at its target.
func (s *step) forward() {
	n := s.g.outbox.list[0]
	copy(s.g.outbox.list[:], s.g.outbox.list[1:])
	s.g.outbox.n--
	s.done("forward", s.apply(forwardCommand(1))[0], 1)
	m := s.messages[n]
	d, refused := s.g.gate(m)
	if refused != "" {
		s.g.inst[s.messages[m.from-1].instance].outDead++
		return
	}
	s.g.msgs[n].receipt = s.g.accept(n, m, d)
	r := s.g.msgs[n].receipt
	r.Index, r.Epoch = s.g.index, s.view(m.instance).GetEpoch()
}

// replyTo is the reply that is due for a message.
func (s *step) replyTo(n int) string {
	if m := &s.g.msgs[n]; s.effects && m.by.outcome == outCompleted {
		return "reply to " + s.messages[n].id
	}
	return ""
}

// checkEffects compares an instance's state, byte for byte, and what was refused of its outgoing messages.
func (s *step) checkEffects(n int) {
	i := &s.g.inst[n]
	rec := &logv1.InstanceRecord{}
	if err := queue.Load(s.store, []byte("iapp\x00"+s.instances[n]), rec); err != nil {
		s.say("header of %s: %v", s.instances[n], err)
		return
	}
	key := []byte{'z', 0, 0, 0, 0, 0, 0, 0, 0}
	for at := range 8 {
		key[8-at] = byte(rec.Uid >> (8 * at))
	}
	if state, _ := s.store.Get(key); string(state) != s.stateText(i.state) {
		s.say("the state of %s is %q, want %q", s.instances[n], state, s.stateText(i.state))
	}
	dead, err := s.m.View().Messages(&sluicev1.ListMessagesRequest{Application: "app", Instance: s.instances[n], Lane: laneOutgoing, Settlement: kindDead})
	if err != nil || len(dead.Messages) != i.outDead {
		s.say("refused outgoing messages of %s: want %d, got %v %v", s.instances[n], i.outDead, dead, err)
	}
}

// checkOutbox compares what is on its way, in order.
func (s *step) checkOutbox() {
	it, err := s.store.NewIter([]byte{'x'}, []byte{'y'})
	if err != nil {
		s.say("outbox: %v", err)
		return
	}
	defer it.Close()
	var got []int
	for ok := it.First(); ok; ok = it.Next() {
		rec := &logv1.OutgoingRecord{}
		v, err := it.Value()
		if err != nil || proto.Unmarshal(v, rec) != nil {
			s.say("outbox: %v", err)
			return
		}
		got = append(got, slices.IndexFunc(s.messages, func(m scopeMessage) bool { return m.id == rec.Message.Id }))
	}
	if want := s.g.outbox.list[:s.g.outbox.n]; !slices.Equal(want, got) {
		s.say("outbox: want %v, got %v", want, got)
	}
}

// busy tells that a message is out or in doubt: it does not expire now.
func (g *ghost) busy(n, m int, s *scope) bool {
	i := &g.inst[n]
	return i.mode == recovery && i.doubt[g.msgs[m].lane]&(1<<m) != 0 || slices.Contains(i.out(s.window), m)
}

// unsettled tells whether a message that expires is in its lane.
func (g *ghost) unsettled(m int, s *scope) bool {
	return s.messages[m].expires && g.msgs[m].sent && g.msgs[m].kind == 0
}

// aging tells whether a message has time left.
func (g *ghost) aging(s *scope) bool {
	for m := range s.messages {
		if g.unsettled(m, s) && !g.msgs[m].past {
			return true
		}
	}
	return false
}

// overdue tells whether a message could expire now.
func (g *ghost) overdue(s *scope) bool {
	for m := range s.messages {
		if g.unsettled(m, s) && g.msgs[m].past && !g.stands(m, s) && !g.busy(s.messages[m].instance, m, s) {
			return true
		}
	}
	return false
}

// stands tells that the clock of a message's expiry stands still.
func (g *ghost) stands(m int, s *scope) bool {
	return s.freeze && g.inst[s.messages[m].instance].mode == recovery
}

// expire ends what is past its time and neither out nor in doubt, in the order of the lanes.
func (g *ghost) expire(s *scope) {
	for n := range g.inst {
		for lane := range g.inst[n].lanes {
			l := g.inst[n].lanes[lane]
			for _, m := range l.list[:l.n] {
				if g.unsettled(m, s) && g.msgs[m].past && !g.stands(m, s) && !g.busy(n, m, s) {
					g.settle(m, n, kindExpired, who{})
				}
			}
		}
	}
}

// timePasses lets every lifetime end that does not stand still.
func (s *step) timePasses() {
	s.g.now += 2 * lifetime
	s.apply(advanceCommand(100))
	s.g.expire(s.scope)
	s.g.endWaits()
	for m := range s.messages {
		if s.g.unsettled(m, s.scope) && !s.g.stands(m, s.scope) {
			s.g.msgs[m].past = true
		}
	}
	s.g.expire(s.scope)
}

package fsm_test

import (
	sluicev1 "sluice/api/sluice/v1"
)

// ofSurgery lists what an operator can do to the messages of an instance.
func (s *scope) ofSurgery(g *ghost, n int, add func(string, func(*step))) {
	i := &g.inst[n]
	for _, m := range i.lanes[0].list[:i.lanes[0].n] {
		add("dead-letter "+s.messages[m].id, func(st *step) { st.bury(n, m) })
	}
	for m := range s.messages {
		if s.messages[m].instance == n && g.msgs[m].kind == kindDead && g.msgs[m].lane == 0 && i.waiting&(1<<m) == 0 {
			add("put back "+s.messages[m].id, func(st *step) { st.putBack(n, m) })
		}
	}
}

func (s *step) bury(n, m int) {
	out := s.apply(resolveRequest(&sluicev1.ResolveMessageRequest{Instance: s.instances[n], Seq: s.g.msgs[m].seq, Lane: laneNormal, Action: deadLetter}))[0]
	if out.GetMessageStatus().GetSettlement() != kindDead {
		s.say("dead-letter: %v", out)
	}
	s.g.settle(m, n, kindDead, who{})
}

func (s *step) putBack(n, m int) {
	wait := s.g.inst[n].mode != recovery && len(s.g.inst[n].out(s.window)) > 0
	out := s.apply(putBackCommand(&sluicev1.PutBackRequest{Instance: s.instances[n], Seqs: []uint64{s.g.msgs[m].seq}}))[0]
	if res := out.GetPutBack().GetResults(); len(res) != 1 || res[0].Error != nil || res[0].Waiting != wait {
		s.say("put back: want waiting %v, got %v", wait, out)
	}
	i := &s.g.inst[n]
	if wait && i.waiting == 0 {
		i.behind = len(i.out(s.window))
	}
	i.waiting |= 1 << m
	s.g.letBack(n)
}

// letBack puts dead letters back, in order, as soon as nothing is out before them.
func (g *ghost) letBack(n int) {
	i := &g.inst[n]
	if i.waiting == 0 || i.mode != recovery && len(i.out(g.window)) > 0 {
		return
	}
	for m := range g.msgs {
		if i.waiting&(1<<m) == 0 {
			continue
		}
		msg, l := &g.msgs[m], &i.lanes[0]
		at := 0
		for at < l.n && g.msgs[l.list[at]].seq < msg.seq {
			at++
		}
		copy(l.list[at+1:], l.list[at:l.n])
		l.list[at] = m
		if l.n++; at == 0 {
			l.attempts, l.waits = 0, false
		}
		msg.kind, msg.by, msg.failed = 0, who{}, who{}
	}
	i.waiting, i.behind = 0, 0
	if i.mode != recovery {
		i.grows = true
	}
}

// letAllBack is for what ends the waiting without a settlement.
func (s *step) letAllBack() {
	for n := range s.instances {
		s.g.letBack(n)
	}
}

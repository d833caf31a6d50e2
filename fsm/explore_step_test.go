package fsm_test

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

var sessionNames = [2]string{"s", "t"}

// step is one action at work on a copy of a state: the machine does it, the ghost foretells it.
type step struct {
	*scope
	store   *queue.MemoryStore
	m       *fsm.Machine
	g       ghost
	trouble []string
}

// action is a letter of the alphabet.
type action struct {
	name     string
	instance int // the only instance that it may touch; -1: any
	do       func(*step)
}

func (s *step) say(format string, args ...any) {
	s.trouble = append(s.trouble, fmt.Sprintf(format, args...))
}

func (s *step) apply(cs ...*logv1.Command) []*logv1.Outcome {
	s.g.index++
	data, err := proto.Marshal(&logv1.Entry{TimeMs: s.g.now, Commands: cs})
	if err != nil {
		panic(err)
	}
	results, _, err := s.m.Apply([]fsm.Entry{{Index: s.g.index, Term: 1, Data: data}})
	if err != nil {
		s.say("apply: %v", err)
		outs := make([]*logv1.Outcome, len(cs))
		for n := range outs {
			outs[n] = &logv1.Outcome{}
		}
		return outs
	}
	return results[0].Outcomes
}

func (s *scope) id(n int) fsm.InstanceID {
	return fsm.InstanceID{Application: "app", Key: s.instances[n]}
}

func (s *scope) message(n int) *sluicev1.Message {
	m := s.messages[n]
	if m.recovery {
		return message(s.instances[m.instance], m.id, "recovery.step")
	}
	return message(s.instances[m.instance], m.id, "step")
}

// alphabet lists what can happen in a state and has an effect.
func (s *scope) alphabet(g *ghost, lag int) (as []action) {
	add := func(instance int, name string, do func(*step)) {
		as = append(as, action{name, instance, do})
	}
	for n, m := range s.messages {
		if _, refused := g.gate(m); m.from == 0 && !g.msgs[n].sent && refused == "" {
			add(m.instance, "send "+m.id, func(st *step) { st.send(n) })
		}
	}
	for n := range s.instances {
		for _, a := range s.ofInstance(g, n) {
			add(n, s.instances[n]+": "+a.name, a.do)
		}
	}
	waits := false
	for n := range g.inst {
		waits = waits || g.inst[n].recWaits || g.inst[n].lanes[0].waits || g.inst[n].lanes[1].waits
	}
	if waits || s.expiry && g.overdue(s) {
		add(-1, "advance", (*step).advance)
	}
	if s.expiry && g.aging(s) {
		add(-1, "time passes", (*step).timePasses)
	}
	if g.outbox.n > 0 {
		add(-1, "forward", (*step).forward)
	}
	for n := range sessionNames {
		if !g.open[n] {
			add(-1, "open "+sessionNames[n], func(st *step) { st.openSession(n) })
			continue
		}
		add(-1, "expire "+sessionNames[n], func(st *step) { st.expire(n) })
		add(-1, "close "+sessionNames[n], func(st *step) { st.close(n) })
	}
	if s.wide && lag < 2 {
		add(-1, "enter application", (*step).enterAll)
	}
	if s.wide && g.wides > 0 {
		add(-1, "complete application", (*step).completeAll)
	}
	return as
}

// ofInstance lists what can happen to one instance.
func (s *scope) ofInstance(g *ghost, n int) (as []action) {
	add := func(name string, do func(*step)) { as = append(as, action{name: name, do: do}) }
	i := &g.inst[n]
	add("enter", func(st *step) { st.enter(n) })
	if !i.exists {
		return as
	}
	if i.mode == recovery {
		throughs := []uint64{0}
		for m := range g.msgs {
			if i.doubt[0]&(1<<m) != 0 {
				throughs = append(throughs, g.msgs[m].seq)
			}
		}
		for _, through := range throughs {
			add(fmt.Sprint("complete through ", through), func(st *step) { st.complete(n, through, i.lanes[1].n > 0) })
		}
	}
	for k := range sessionNames {
		if i.owner < 0 && g.open[k] && i.hasWork() {
			add("assign to "+sessionNames[k], func(st *step) { st.assign(n, k) })
		}
	}
	if i.owner >= 0 && i.mode == normal && i.lanes[0].n == 0 {
		add("release", func(st *step) { st.release(n) })
	}
	for _, d := range g.offers(n, s) {
		switch {
		case d.message < 0 && s.fail && i.recAttempts == 0:
			add("recovery failed", func(st *step) { st.settle(i.owner, d, outFailed) })
		case d.message >= 0 && g.judge(i.owner, d, outCompleted, s) == "":
			add(fmt.Sprint("completed ", s.messages[d.message].id), func(st *step) { st.settle(i.owner, d, outCompleted) })
			if s.fail {
				add(fmt.Sprint("failed ", s.messages[d.message].id), func(st *step) { st.settle(i.owner, d, outFailed) })
			}
		}
	}
	if s.surgery {
		s.ofSurgery(g, n, add)
	}
	if s.skip {
		for _, m := range i.lanes[0].list[:i.lanes[0].n] {
			add("skip "+s.messages[m].id, func(st *step) { st.skipMessage(n, m) })
		}
	}
	return as
}

func (s *step) send(n int) {
	m := s.messages[n]
	d, _ := s.g.gate(m)
	msg := s.message(n)
	if m.expires {
		msg.ExpireTime = timestamppb.New(time.UnixMilli(s.g.now + lifetime))
	}
	res := s.apply(sendCommand(msg))[0].GetSend().GetResults()
	if len(res) != 1 || res[0].Error != nil {
		s.say("send %s: %v", m.id, res)
		return
	}
	want := s.g.accept(n, m, d)
	got := res[0].Receipt
	want.Index, want.Epoch = s.g.index, got.Epoch
	if !proto.Equal(want, got) {
		s.say("send %s: want %v, got %v", m.id, want, got)
	}
	if i := &s.g.inst[m.instance]; !i.grows && got.Epoch != i.epoch {
		s.say("send %s: epoch %d, the instance has %d", m.id, got.Epoch, i.epoch)
	}
	s.g.msgs[n].receipt = got
}

// wantInstance compares a command's answer with the ghost.
func (s *step) wantInstance(what string, n int, out *logv1.Outcome) {
	if got := out.GetInstance(); got == nil || got.Mode != s.g.inst[n].mode || got.Duplicate {
		s.say("%s: want %v, got %v", what, s.g.inst[n].mode, out)
	}
}

func (s *step) enter(n int) {
	out := s.apply(enterCommand(s.instances[n], "x"))[0]
	s.g.inst[n].born()
	s.g.enter(n, s.scope, false)
	s.wantInstance("enter", n, out)
}

func (s *step) complete(n int, through uint64, discard bool) {
	epoch := s.g.inst[n].epoch
	req := &sluicev1.CompleteRecoveryRequest{Instance: s.instances[n], Epoch: epoch, ProcessedThrough: through, DiscardRecoveryMessages: discard}
	if s.effects {
		req.SetState, req.State = true, []byte(s.stateText(-1))
	}
	out := s.apply(completeRequest(req))[0]
	s.g.complete(n, through)
	if s.effects {
		s.g.inst[n].state, s.g.inst[n].last.set = -1, true
	}
	s.wantInstance("complete", n, out)
	s.g.inst[n].last.after = out.GetInstance().GetEpoch()
}

func (s *step) done(what string, out *logv1.Outcome, want uint32) {
	if p := out.GetProgress(); p == nil || p.Done != want {
		s.say("%s: want %d done, got %v", what, want, out)
	}
}

func (s *step) assign(n, session int) {
	s.done("assign", s.apply(assignCommand(s.instances[n], sessionNames[session]))[0], 1)
	s.g.inst[n].owner = session
}

func (s *step) release(n int) {
	i := &s.g.inst[n]
	s.done("release", s.apply(releaseCommand(s.instances[n], sessionNames[i.owner]))[0], 1)
	i.owner, i.grows = -1, true
}

func (s *scope) settlement(d hand, o sluicev1.Outcome) *sluicev1.Settlement {
	lane := laneNormal
	if d.lane == 1 {
		lane = laneRecovery
	}
	st := &sluicev1.Settlement{Application: "app", Instance: s.instances[d.instance], Epoch: d.epoch, Seq: d.seq, Lane: lane, Attempt: uint32(d.attempt), Outcome: o}
	if s.effects && o == outCompleted && d.message >= 0 {
		s.addEffects(st, d.message)
	}
	return st
}

func (s *step) settle(session int, d hand, o sluicev1.Outcome) {
	res := s.apply(settleCommand(sessionNames[session], s.settlement(d, o)))[0].GetSettle().GetResults()
	if len(res) != 1 || verdict(res[0]) != "" {
		s.say("settle %v as %v: %v", d, o, res)
	}
	s.ordered(d, o)
	s.g.carryOut(d, o, s.scope)
}

// ordered checks I3, I6 and I7 of a settlement that was carried out, by the receipts alone.
func (s *step) ordered(d hand, o sluicev1.Outcome) {
	if d.epoch != s.g.inst[d.instance].epoch {
		s.say("I7: %v was carried out in epoch %d", d, s.g.inst[d.instance].epoch)
	}
	if d.message < 0 || o != outCompleted {
		return
	}
	own := s.g.msgs[d.message].receipt
	for n := range s.messages {
		m := &s.g.msgs[n]
		if !m.sent || m.kind != 0 || n == d.message || s.messages[n].instance != d.instance || s.messages[n].recovery != s.messages[d.message].recovery {
			continue
		}
		if m.receipt.Seq < own.Seq {
			s.say("I3: %s was settled before %s", own.MessageId, m.receipt.MessageId)
		}
		if m.receipt.Disposition == dispDeferred && own.Disposition == dispAccepted && m.receipt.Index < own.Index {
			s.say("I6: %s was settled before the deferred %s", own.MessageId, m.receipt.MessageId)
		}
	}
}

func (s *step) expire(session int) {
	s.done("expire", s.apply(expireCommand(sessionNames[session]))[0], 1)
	for n := range s.instances {
		if s.g.inst[n].owner == session {
			s.g.lose(n, s.scope)
		}
	}
	s.g.open[session] = false
}

func (s *step) close(session int) {
	released := uint32(0)
	for n := range s.instances {
		if i := &s.g.inst[n]; i.owner == session {
			released++
			i.owner, i.grows = -1, true
		}
	}
	if got := s.apply(closeCommand(sessionNames[session]))[0].GetSessionClosed(); got == nil || got.Released != released {
		s.say("close: want %d, got %v", released, got)
	}
	s.g.open[session] = false
}

func (s *step) openSession(session int) {
	if out := s.apply(openCommand(&logv1.OpenSession{SessionId: sessionNames[session], Application: "app"}))[0]; out.GetSessionOpened() == nil {
		s.say("open: %v", out)
	}
	s.g.open[session] = true
}

func (s *step) advance() {
	at, ok, err := s.m.View().NextDeadline()
	if err != nil || !ok || at.UnixMilli() > s.g.now+1000 || at.UnixMilli() != s.g.now+1000 && !s.expiry {
		s.say("the next deadline is %v %v %v", at, ok, err)
	}
	s.g.now += 1000
	s.apply(advanceCommand(100))
	s.g.expire(s.scope)
	s.g.endWaits()
}

// endWaits ends every backoff.
func (g *ghost) endWaits() {
	for n := range g.inst {
		i := &g.inst[n]
		i.recWaits, i.lanes[0].waits, i.lanes[1].waits = false, false, false
	}
}

func (s *step) enterAll() {
	if out := s.apply(enterAllRequest(&sluicev1.EnterApplicationRecoveryRequest{Cause: "all"}))[0]; out.GetApplication() == nil {
		s.say("enter application: %v", out)
	}
	s.g.wides++
	for n := range s.instances {
		if s.g.inst[n].exists {
			s.g.enter(n, s.scope, true)
		}
	}
}

func (s *step) completeAll() {
	op := s.apply(operationRequest(&sluicev1.CompleteApplicationRecoveryRequest{}))[0].GetOperation()
	done, passed := uint32(0), uint64(0)
	for n := range s.instances {
		switch i := &s.g.inst[n]; {
		case i.mode != recovery || !i.wide:
		case i.inDoubt() || i.lanes[1].n > 0:
			passed++
		default:
			done++
			s.g.complete(n, 0)
		}
	}
	s.done("complete application", s.apply(stepCommand(op.GetId(), 100))[0], done)
	if got, err := s.m.View().Operation(op.GetId()); err != nil || got.PassedOver != passed || got.State != sluicev1.OperationState_OPERATION_DONE {
		s.say("operation: want %d passed over, got %v %v", passed, got, err)
	}
	for n := range s.instances {
		if i := &s.g.inst[n]; i.grows {
			i.last.after = s.view(n).GetEpoch()
		}
	}
}

func (s *step) skipMessage(n, m int) {
	out := s.apply(resolveRequest(&sluicev1.ResolveMessageRequest{Instance: s.instances[n], Seq: s.g.msgs[m].seq, Lane: laneNormal, Action: skip}))[0]
	if out.GetMessageStatus().GetSettlement() != kindSkipped {
		s.say("skip: %v", out)
	}
	s.g.settle(m, n, kindSkipped, who{})
}

func (s *step) view(n int) *sluicev1.Instance {
	i, err := s.m.View().Instance(s.id(n))
	if err != nil {
		s.say("instance %d: %v", n, err)
	}
	return i
}

// epochs takes over the epochs that the action made, and checks that they grew where they must and nowhere else.
func (s *step) epochs() {
	highest := s.g.highest
	for n := range s.instances {
		i := &s.g.inst[n]
		if !i.exists {
			continue
		}
		now := s.view(n).GetEpoch()
		switch {
		case i.grows && now <= s.g.highest:
			s.say("the epoch of %s is %d, and %d was there before", s.instances[n], now, s.g.highest)
		case !i.grows && now != i.epoch:
			s.say("the epoch of %s went from %d to %d", s.instances[n], i.epoch, now)
		}
		i.epoch, i.grows = now, false
		highest = max(highest, now)
	}
	s.g.highest = highest
}

// remember leaves with each worker what was out with it before and is not any more.
func (s *step) remember(before *ghost) {
	for n := range s.instances {
		session := before.inst[n].owner
		if session < 0 {
			continue
		}
		after := map[hand]bool{}
		if s.g.inst[n].owner == session {
			for _, d := range s.g.offers(n, s.scope) {
				after[d] = true
			}
		}
		for _, d := range before.offers(n, s.scope) {
			if !after[d] {
				s.g.hands[session] = d
				break
			}
		}
	}
}

package fsm_test

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// checkState compares all that a state shows with the ghost, and checks its structure.
func (s *step) checkState() {
	counts := map[sluicev1.Mode]uint64{}
	for n := range s.instances {
		if i := &s.g.inst[n]; i.exists {
			counts[i.mode]++
			s.checkInstance(n)
			s.checkMessages(n)
			s.checkOffer(n)
			s.checkEffects(n)
		} else if _, err := s.m.View().Instance(s.id(n)); err == nil {
			s.say("%s exists", s.instances[n])
		}
	}
	for n := range s.messages {
		s.checkMessage(n)
	}
	s.checkOutbox()
	a, err := s.m.View().Application("app")
	if c := a.GetCounts(); err != nil || c.GetNormal() != counts[normal] || c.GetRecovery() != counts[recovery] || c.GetDraining() != counts[draining] {
		s.say("counts: want %v, got %v %v", counts, c, err)
	}
	s.trouble = append(s.trouble, structure(s.store)...)
}

func (s *step) checkInstance(n int) {
	i, got := &s.g.inst[n], s.view(n)
	want := &sluicev1.Instance{
		Application: "app", Key: s.instances[n], Mode: i.mode, Epoch: i.epoch, NextSeq: i.next, NormalMessages: uint64(i.lanes[0].n), RecoveryMessages: uint64(i.lanes[1].n),
		InFlight: uint64(len(i.out(s.window))), StateBytes: uint64(len(s.stateText(i.state))),
	}
	if i.owner >= 0 {
		want.Owner = sessionNames[i.owner]
	}
	for _, m := range i.lanes[0].list[:i.lanes[0].n] {
		if s.g.msgs[m].deferred {
			want.DeferredMessages++
			want.DeferredBytes += uint64(len(s.messages[m].id))
		}
	}
	if got != nil {
		got.Cause, got.ModeTime, got.OldestDeferredTime = "", nil, nil
	}
	if !proto.Equal(want, got) {
		s.say("want %v\n got %v", want, got)
	}
}

// status is that of an unsettled message.
func (s *step) status(m int) sluicev1.Status {
	switch i := &s.g.inst[s.messages[m].instance]; {
	case slices.Contains(i.out(s.window), m):
		return inFlight
	case s.g.msgs[m].deferred:
		return held
	default:
		return queued
	}
}

// checkMessages compares the lists of unsettled messages, their order and their marks (I1, I3).
func (s *step) checkMessages(n int) {
	out, err := s.m.View().Messages(&sluicev1.ListMessagesRequest{Application: "app", Instance: s.instances[n]})
	if err != nil {
		s.say("messages: %v", err)
		return
	}
	var want, got []string
	i := &s.g.inst[n]
	for lane := range i.lanes {
		for _, m := range i.lanes[lane].list[:i.lanes[lane].n] {
			want = append(want, fmt.Sprint(s.messages[m].id, s.g.msgs[m].seq, s.status(m), i.doubt[lane]&(1<<m) != 0))
		}
	}
	for _, m := range out.Messages {
		got = append(got, fmt.Sprint(m.Message.Id, m.Seq, m.Status, m.InDoubt))
	}
	if !slices.Equal(want, got) {
		s.say("messages of %s: want %v, got %v", s.instances[n], want, got)
	}
}

// checkOffer compares what a worker would be handed. I4 is checked by what the messages are, not by the ghost's notion of
// what is out.
func (s *step) checkOffer(n int) {
	o, err := s.m.View().Offer(s.id(n), fsm.Given{}, 100)
	if err != nil {
		s.say("offer: %v", err)
		return
	}
	i := &s.g.inst[n]
	if len(o.Deliveries) > 0 && string(o.Deliveries[0].State) != s.stateText(i.state) {
		s.say("the state handed out is %q, want %q", o.Deliveries[0].State, s.stateText(i.state))
	}
	want, got := s.g.offers(n, s.scope), []hand{}
	var doubts, wanted []string
	for _, d := range o.Deliveries {
		h := hand{true, n, d.Epoch, 0, d.Seq, int(d.Attempt), -1}
		if d.Lane == laneRecovery {
			h.lane = 1
		}
		for m := range s.messages {
			if d.Message.GetId() == s.messages[m].id {
				h.message = m
			}
		}
		got = append(got, h)
		s.checkDelivery(i, h, d)
		for _, q := range d.Recovery.GetInDoubt() {
			doubts = append(doubts, q.Message.GetId())
		}
	}
	if !slices.Equal(want, got) {
		s.say("offer of %s: want %v, got %v", s.instances[n], want, got)
	}
	for lane := range i.lanes {
		for _, m := range i.lanes[lane].list[:i.lanes[lane].n] {
			if i.mode == recovery && i.doubt[lane]&(1<<m) != 0 && i.owner >= 0 && !i.recWaits {
				wanted = append(wanted, s.messages[m].id)
			}
		}
	}
	if !slices.Equal(doubts, wanted) {
		s.say("in doubt of %s: want %v, announced %v", s.instances[n], wanted, doubts)
	}
}

func (s *step) checkDelivery(i *ginst, h hand, d *sluicev1.Delivery) {
	if h.message < 0 {
		if d.Kind != sluicev1.DeliveryKind_DELIVERY_RECOVERY || i.mode != recovery {
			s.say("I4: in %v %v is offered", i.mode, d)
		}
		return
	}
	if forRecovery := s.messages[h.message].recovery; forRecovery != (i.mode == recovery) || (d.Lane == laneRecovery) != forRecovery {
		s.say("I4: in %v %v is offered", i.mode, d)
	}
	if m := &s.g.msgs[h.message]; d.Deferred != m.deferred || d.InDoubt != (m.lane == 1 && i.doubt[1]&(1<<h.message) != 0) {
		s.say("marks of %v", d)
	}
}

// checkMessage compares one message's fate (I1, I2).
func (s *step) checkMessage(n int) {
	m := &s.g.msgs[n]
	got, err := s.m.View().Message(s.id(s.messages[n].instance), s.messages[n].id)
	switch {
	case !m.sent && err == nil:
		s.say("%s is known: %v", s.messages[n].id, got)
	case !m.sent:
	case err != nil:
		s.say("I1: %s is lost: %v", s.messages[n].id, err)
	case got.Settlement != m.kind || (got.Status == settled) != (m.kind != 0) || got.Seq != m.seq:
		s.say("I2: %s was %v, is %v", s.messages[n].id, m.kind, got)
	case string(got.Reply) != s.replyTo(n):
		s.say("%s: the reply is %q, want %q", s.messages[n].id, got.Reply, s.replyTo(n))
	}
}

// probe gives the state all that must have no effect, in one entry, and wants the answers that are due (I7, I10).
func (s *step) probe() {
	var cs []*logv1.Command
	var wants []string
	want := func(answer string, c *logv1.Command) { cs, wants = append(cs, c), append(wants, answer) }
	for n, m := range s.messages {
		if s.g.msgs[n].sent {
			r := proto.CloneOf(s.g.msgs[n].receipt)
			r.Duplicate = true
			want(r.String(), sendCommand(s.message(n)))
		} else if _, refused := s.g.gate(m); refused != "" {
			want(refused, sendCommand(s.message(n)))
		}
	}
	for n := range s.instances {
		s.probeInstance(n, want)
	}
	for k := range sessionNames {
		s.probeSession(k, want)
	}
	if len(cs) == 0 {
		return
	}
	for n, out := range s.apply(cs...) {
		if got := answer(out); got != wants[n] {
			s.say("%v: want %s, got %s", cs[n], wants[n], got)
		}
	}
}

// answer is what matters of an outcome, as text.
func answer(o *logv1.Outcome) string {
	switch {
	case o.Fault != nil:
		return o.Fault.Reason
	case o.GetSend() != nil && o.GetSend().Results[0].Error != nil:
		return o.GetSend().Results[0].Error.Reason
	case o.GetSend() != nil:
		return o.GetSend().Results[0].Receipt.String()
	case o.GetSettle() != nil:
		return verdict(o.GetSettle().Results[0])
	case o.GetInstance() != nil:
		i := o.GetInstance()
		return fmt.Sprint(i.Mode, i.Epoch, i.Duplicate)
	default:
		return fmt.Sprint(o.GetProgress().GetDone())
	}
}

func (s *step) probeInstance(n int, want func(string, *logv1.Command)) {
	i, key := &s.g.inst[n], s.instances[n]
	completion := func(epoch, through uint64, state string) *logv1.Command {
		return completeRequest(&sluicev1.CompleteRecoveryRequest{Instance: key, Epoch: epoch, ProcessedThrough: through, SetState: state != "", State: []byte(state)})
	}
	late := "NOT_IN_RECOVERY"
	switch {
	case !i.exists:
		want("UNKNOWN_INSTANCE", completion(0, 0, ""))
		return
	case i.mode == recovery:
		late = "STALE_EPOCH"
		if i.lanes[1].n > 0 {
			want("PENDING_RECOVERY_MESSAGES", completion(i.epoch, 99, ""))
		}
	}
	if i.last.done {
		state := ""
		if i.last.set {
			state = s.stateText(-1)
		}
		want(fmt.Sprint(i.last.mode, i.last.after, true), completion(i.last.epoch, i.last.through, state))
		want(late, completion(i.last.epoch, i.last.through+1, state))
		want(late, completion(i.last.epoch, i.last.through, "another"))
	}
	for k := range sessionNames {
		if i.owner >= 0 || !s.g.open[k] || !i.hasWork() {
			want("0", assignCommand(key, sessionNames[k]))
		}
		if i.owner != k || i.mode != normal || i.lanes[0].n > 0 {
			want("0", releaseCommand(key, sessionNames[k]))
		}
	}
	for _, d := range s.g.offers(n, s.scope) {
		other, next := 1-i.owner, d
		next.attempt++
		if d.message < 0 {
			want(s.g.judge(other, d, outFailed, s.scope), settleCommand(sessionNames[other], s.settlement(d, outFailed)))
			continue
		}
		want(s.g.judge(other, d, outCompleted, s.scope), settleCommand(sessionNames[other], s.settlement(d, outCompleted)))
		want(s.g.judge(i.owner, next, outCompleted, s.scope), settleCommand(sessionNames[i.owner], s.settlement(next, outCompleted)))
		if v := s.g.judge(i.owner, d, outFailed, s.scope); v != "" {
			want(v, settleCommand(sessionNames[i.owner], s.settlement(d, outFailed)))
		}
	}
}

// probeSession settles what is not out any more, from either session.
func (s *step) probeSession(k int, want func(string, *logv1.Command)) {
	d := s.g.hands[k]
	if !d.held {
		return
	}
	for by := range sessionNames {
		for _, o := range []sluicev1.Outcome{outCompleted, outFailed} {
			if d.message < 0 && o == outCompleted {
				continue
			}
			if v := s.g.judge(by, d, o, s.scope); v != "" {
				want(v, settleCommand(sessionNames[by], s.settlement(d, o)))
			}
		}
	}
}

// others checks I5: what an action does to one instance leaves the others' records alone.
func (s *step) others(a action, before *step) {
	if a.instance < 0 {
		return
	}
	for n := range s.instances {
		if n == a.instance {
			continue
		}
		k := []byte("iapp\x00" + s.instances[n])
		was, err1 := before.store.Get(k)
		is, err2 := s.store.Get(k)
		if string(was) != string(is) || (err1 == nil) != (err2 == nil) {
			s.say("I5: %s changed the record of %s", a.name, s.instances[n])
		}
	}
}

func (s *step) describe() string { return strings.Join(s.trouble, "\n") }

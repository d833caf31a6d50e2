package fsm_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// generator makes commands of every kind, most of them sensible, for it may look at a replica, some of them not.
type generator struct {
	r    *rand.Rand
	v    *fsm.View
	now  int64
	held []*sluicev1.Delivery // what workers hold, and held
	said []*logv1.Command     // commands to be repeated
	sent int
}

// weighted is a kind of command and how often it comes.
type weighted struct {
	weight int
	make   func(*generator) *logv1.Command
}

var kinds = []weighted{
	{30, (*generator).send}, {30, (*generator).settle}, {12, (*generator).assign}, {4, (*generator).open}, {2, (*generator).close}, {2, (*generator).expire},
	{6, (*generator).enter}, {8, (*generator).complete}, {2, (*generator).enterAll}, {2, (*generator).completeAll}, {4, (*generator).step}, {1, (*generator).steer},
	{2, (*generator).beginSet}, {4, (*generator).addItems},
	{3, (*generator).resolve}, {4, (*generator).putBack}, {2, (*generator).terminate}, {3, (*generator).begin}, {2, (*generator).end}, {2, (*generator).declare}, {12, (*generator).advance},
	{4, (*generator).forward}, {2, (*generator).digest}, {6, (*generator).again}, {1, (*generator).elect},
}

func (g *generator) command() *logv1.Command {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	at := g.r.IntN(total)
	for _, k := range kinds {
		if at -= k.weight; at < 0 {
			c := k.make(g)
			c.Actor = g.pick("alice", "bob", "")
			if len(g.said) < 64 {
				g.said = append(g.said, c)
			} else {
				g.said[g.r.IntN(len(g.said))] = c
			}
			return proto.CloneOf(c)
		}
	}
	panic("the weights do not add up")
}

func (g *generator) pick(of ...string) string { return of[g.r.IntN(len(of))] }

func (g *generator) chance(percent int) bool { return g.r.IntN(100) < percent }

func (g *generator) app() string {
	if g.chance(3) {
		return g.pick("none", "Bad Name", "")
	}
	return g.pick("app", "app", "flow", "strict")
}

func (g *generator) key() string {
	if g.chance(2) {
		return g.pick("", "\x01", strings.Repeat("k", 257), "never")
	}
	return fmt.Sprint("i", g.r.IntN(8))
}

func (g *generator) session() string {
	if g.chance(3) {
		return g.pick("", "nobody")
	}
	return fmt.Sprint("s", g.r.IntN(6))
}

func (g *generator) request() string {
	if g.chance(60) {
		return ""
	}
	return fmt.Sprint("q", g.r.IntN(20))
}

func (g *generator) bytes(most int) []byte { return make([]byte, g.r.IntN(most)) }

func (g *generator) soon() *timestamppb.Timestamp {
	return timestamppb.New(time.UnixMilli(g.now + g.r.Int64N(8000) - 1000))
}

func (g *generator) message() *sluicev1.Message {
	g.sent++
	m := &sluicev1.Message{Application: g.app(), Instance: g.key(), Id: fmt.Sprint("m", g.sent), Type: g.pick("step", "step", "recovery.fix", "open", "next", "fix", "both", "close"), Data: g.bytes(40)}
	if g.chance(15) {
		m.Id = fmt.Sprint("m", g.r.IntN(g.sent)+1)
	}
	if g.chance(30) {
		m.Transaction = fmt.Sprint("t", g.r.IntN(4))
	}
	if g.chance(20) {
		m.ExpireTime = g.soon()
	}
	if g.chance(10) {
		m.Headers = map[string]string{"a": "1", "b": "2", "c": g.pick("x", "y")}
	}
	return m
}

func (g *generator) send() *logv1.Command {
	var ms []*sluicev1.Message
	for range 1 + g.r.IntN(4) {
		ms = append(ms, g.message())
	}
	return sendCommand(ms...)
}

// look takes over what is out of some instance.
func (g *generator) look() {
	o, err := g.v.Offer(fsm.InstanceID{Application: g.app(), Key: g.key()}, fsm.Given{}, 5)
	if err != nil || o.Owner == "" {
		return
	}
	for _, d := range o.Deliveries {
		if len(g.held) < 40 {
			g.held = append(g.held, d)
		} else {
			g.held[g.r.IntN(len(g.held))] = d
		}
	}
}

func (g *generator) settle() *logv1.Command {
	var ss []*sluicev1.Settlement
	session := g.session()
	for range 1 + g.r.IntN(3) {
		id := fsm.InstanceID{Application: g.app(), Key: g.key()}
		o, err := g.v.Offer(id, fsm.Given{}, 5)
		if err == nil && o.Owner != "" && len(o.Deliveries) > 0 && g.chance(80) {
			session = o.Owner
			for _, d := range o.Deliveries {
				ss = append(ss, g.settlement(d))
				if g.chance(50) {
					break
				}
			}
			continue
		}
		g.look()
		if len(g.held) > 0 {
			ss = append(ss, g.settlement(g.held[g.r.IntN(len(g.held))]))
		}
	}
	return settleCommand(session, ss...)
}

func (g *generator) settlement(d *sluicev1.Delivery) *sluicev1.Settlement {
	s := taking(d, outCompleted)
	if g.chance(20) {
		s.Attempt = 0
	}
	switch n := g.r.IntN(100); {
	case d.Seq == 0 || n < 25:
		s.Outcome, s.ErrorText = outFailed, g.pick("no", "no 1", "no 2", "never")
		if g.chance(30) {
			s.RetryAfter = durationpb.New(time.Duration(g.r.IntN(3000)) * time.Millisecond)
		}
		return s
	case n < 32:
		s.Outcome = outRejected
		return s
	case n < 34:
		s.Seq += uint64(g.r.IntN(3))
	case n < 36:
		s.Epoch -= uint64(g.r.IntN(3))
	}
	if g.chance(30) {
		s.SetState, s.State = true, g.bytes(30)
	}
	if g.chance(20) {
		s.Reply = g.bytes(20)
	}
	for g.chance(25) {
		m := g.message()
		if g.chance(60) {
			m.Id = ""
		}
		s.Outgoing = append(s.Outgoing, m)
	}
	return s
}

func (g *generator) assignment() *logv1.Assignment {
	a := &logv1.Assignment{Application: g.app(), Instance: g.key(), SessionId: g.session()}
	if ids, err := g.v.Waiting(a.Application, 3); err == nil && len(ids) > 0 && g.chance(80) {
		a.Instance = ids[g.r.IntN(len(ids))].Key
	}
	if all, err := g.v.Sessions(); err == nil && len(all) > 0 && g.chance(80) {
		s := all[g.r.IntN(len(all))]
		a.SessionId, a.Application = s.Id, s.Application
	}
	return a
}

func (g *generator) assign() *logv1.Command {
	c := &logv1.Assign{}
	for range g.r.IntN(4) {
		c.Assignments = append(c.Assignments, g.assignment())
	}
	for range g.r.IntN(3) {
		a := g.assignment()
		if ids, err := g.v.Owned(a.SessionId); err == nil && len(ids) > 0 {
			a.Instance = ids[g.r.IntN(len(ids))].Key
		}
		c.Releases = append(c.Releases, a)
	}
	return &logv1.Command{Kind: &logv1.Command_Assign{Assign: c}}
}

func (g *generator) open() *logv1.Command {
	return openCommand(&logv1.OpenSession{SessionId: g.session(), Application: g.app(), Name: g.pick("", "w"), TtlMs: int64(g.r.IntN(3)) * 1500, Capacity: uint32(g.r.IntN(5))})
}

func (g *generator) close() *logv1.Command { return closeCommand(g.session()) }

func (g *generator) expire() *logv1.Command { return expireCommand(g.session(), g.session()) }

func (g *generator) enter() *logv1.Command {
	q := &sluicev1.EnterRecoveryRequest{Application: g.app(), Instance: g.key(), Cause: g.pick("", "fire", strings.Repeat("long ", 200)), RequestId: g.request()}
	if g.chance(30) {
		q.Until = g.soon()
	}
	if g.chance(30) {
		q.SessionId = g.session()
		if i, err := g.v.Instance(fsm.InstanceID{Application: q.Application, Key: q.Instance}); err == nil && i.Owner != "" {
			q.SessionId, q.Epoch = i.Owner, i.Epoch
		}
	}
	return enterRequest(q)
}

func (g *generator) complete() *logv1.Command {
	q := &sluicev1.CompleteRecoveryRequest{Application: g.app(), Instance: g.key(), RequestId: g.request(), DiscardRecoveryMessages: g.chance(50)}
	if i, err := g.v.Instance(fsm.InstanceID{Application: q.Application, Key: q.Instance}); err == nil {
		if g.chance(60) {
			q.Epoch = i.Epoch
		}
		if g.chance(50) {
			q.SessionId = i.Owner
		}
		if g.chance(50) {
			q.ProcessedThrough = uint64(g.r.IntN(int(i.NextSeq) + 2))
		}
	}
	if g.chance(20) {
		q.SetState, q.State = true, g.bytes(20)
	}
	return completeRequest(q)
}

func (g *generator) enterAll() *logv1.Command {
	return enterAllRequest(&sluicev1.EnterApplicationRecoveryRequest{Application: g.app(), Cause: g.pick("", "flood"), RequestId: g.request()})
}

func (g *generator) completeAll() *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_CompleteApplicationRecovery{CompleteApplicationRecovery: &sluicev1.CompleteApplicationRecoveryRequest{Application: g.app(), RequestId: g.request(), Rate: float64(g.r.IntN(3))}}}
}

func (g *generator) operation() string {
	if ops, err := g.v.Operations(""); err == nil && len(ops) > 0 && g.chance(95) {
		return ops[len(ops)-1-g.r.IntN(min(len(ops), 3))].Id
	}
	return "none"
}

func (g *generator) step() *logv1.Command {
	return stepCommand(g.operation(), uint32(g.r.IntN(5)), g.key())
}

func (g *generator) steer() *logv1.Command {
	return steerCommand(g.operation(), sluicev1.OperationState(g.r.IntN(6)))
}

func (g *generator) resolve() *logv1.Command {
	q := &sluicev1.ResolveMessageRequest{Application: g.app(), Instance: g.key(), Lane: sluicev1.Lane(1 + g.r.IntN(2)), Action: sluicev1.ResolveAction(g.r.IntN(4)), Data: g.bytes(60), Reason: "r", Version: g.pick("", "", "stale"), RequestId: g.request()}
	if i, err := g.v.Instance(fsm.InstanceID{Application: q.Application, Key: q.Instance}); err == nil {
		q.Seq = uint64(g.r.IntN(int(i.NextSeq) + 1))
		if ms, err := g.v.Messages(&sluicev1.ListMessagesRequest{Application: q.Application, Instance: q.Instance, Lane: q.Lane}); err == nil && len(ms.Messages) > 0 {
			q.Seq = ms.Messages[g.r.IntN(len(ms.Messages))].Seq
		}
	}
	return &logv1.Command{Kind: &logv1.Command_ResolveMessage{ResolveMessage: q}}
}

// putBack puts dead letters back: some that are there, all that failed alike, or none.
func (g *generator) putBack() *logv1.Command {
	q := &sluicev1.PutBackRequest{Application: g.app(), Instance: g.key(), Lane: sluicev1.Lane(1 + g.r.IntN(3)), Reason: "r", RequestId: g.request()}
	dead, err := g.v.Messages(&sluicev1.ListMessagesRequest{Application: q.Application, Instance: q.Instance, Settlement: kindDead})
	if err == nil && len(dead.Messages) > 0 && g.chance(90) {
		d := dead.Messages[g.r.IntN(len(dead.Messages))]
		q.Lane = d.Lane
		if g.chance(20) {
			q.Fingerprint = d.DeadLetter.Fingerprint
			return &logv1.Command{Kind: &logv1.Command_PutBack{PutBack: q}}
		}
		q.Seqs = []uint64{d.Seq}
	}
	for g.chance(30) {
		q.Seqs = append(q.Seqs, uint64(g.r.IntN(30)))
	}
	return &logv1.Command{Kind: &logv1.Command_PutBack{PutBack: q}}
}

func (g *generator) terminate() *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_Terminate{Terminate: &sluicev1.TerminateRequest{Application: g.app(), Instance: g.key(), Reason: "r", RequestId: g.request()}}}
}

func (g *generator) begin() *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_BeginTransaction{BeginTransaction: &sluicev1.BeginTransactionRequest{
		Application: g.app(), Instance: g.key(), Transaction: g.pick("t1", "t2", "i1", ""), Pattern: g.pick("", "order", "none"), Client: g.pick("", "me"), RequestId: g.request(),
	}}}
}

func (g *generator) end() *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_EndTransaction{EndTransaction: &sluicev1.EndTransactionRequest{Application: g.app(), Instance: g.key(), Transaction: g.pick("t1", "t2", "i1", "i2"), RequestId: g.request()}}}
}

func (g *generator) advance() *logv1.Command { return advanceCommand(uint32(g.r.IntN(20))) }

func (g *generator) forward() *logv1.Command { return forwardCommand(uint32(g.r.IntN(5))) }

func (g *generator) digest() *logv1.Command { return digestCommand(0, g.bytes(9)) }

func (g *generator) elect() *logv1.Command { return electedCommand(g.pick("n1", "n2", "")) }

// again repeats a command of before, which may be stale by now.
func (g *generator) again() *logv1.Command {
	if len(g.said) == 0 {
		return g.advance()
	}
	return proto.CloneOf(g.said[g.r.IntN(len(g.said))])
}

func (g *generator) declare() *logv1.Command {
	a := &sluicev1.Application{Name: g.app(), Limits: &sluicev1.Limits{}, Delivery: &sluicev1.Application_Delivery{}, Retention: &sluicev1.Retention{}}
	window(uint32(1 + g.r.IntN(4)))(a)
	maxAttempts(uint32(g.r.IntN(4)))(a)
	backoff(time.Duration(g.r.IntN(2))*time.Second, time.Duration(g.r.IntN(5))*time.Second)(a)
	dedup(time.Duration(1+g.r.IntN(20)) * time.Second)(a)
	historyLimit(uint32(1 + g.r.IntN(5)))(a)
	outage([]uint32{0, 2, 3, 100}[g.r.IntN(4)], time.Duration(1+g.r.IntN(20))*time.Second)(a)
	if g.chance(50) {
		freeze(a)
	}
	if g.chance(70) {
		heldAfter(time.Duration(g.r.IntN(10)) * time.Second)(a)
	}
	if a.Name == "strict" {
		redeliver(a)
		atMaxAttempts(sluicev1.Policy_POLICY_DEAD_LETTER)(a)
		limits(&sluicev1.Limits{MaxMessageBytes: number(35), MaxInboxMessages: number(12), MaxInboxBytes: number(300), MaxDeferredMessages: number(8), MaxDeferredBytes: number(150), MaxApplicationDeferredBytes: number(500), MaxStateBytes: number(25), MaxOutgoing: number(2)})(a)
	}
	if a.Name == "flow" {
		patterns(orderByStep)(a)
	}
	return &logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: a}}
}

// orderByStep is the pattern of the application "flow".
var orderByStep = &sluicev1.Pattern{Name: "order", Types: []*sluicev1.MessageType{
	{Name: "open", Opens: true}, {Name: "step"}, {Name: "next", After: []string{"", "next"}}, {Name: "fix", Suitable: sluicev1.Suitability_SUITABLE_RECOVERY},
	{Name: "both", Suitable: sluicev1.Suitability_SUITABLE_BOTH}, {Name: "close", After: []string{"next"}, Closes: true},
}}

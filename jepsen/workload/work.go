package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"sluice/client"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// state is what an instance keeps: how many messages were completed, and the last of each lane. A settlement that is
// lost or doubled shows in it.
type state struct {
	Count    uint64   `json:"count"`
	Normal   []uint64 `json:"normal,omitempty"`
	Recovery []uint64 `json:"recovery,omitempty"`
}

// lastMost is how many numbers of a lane a state keeps.
const lastMost = 16

// add notes a message, and tells whether it is noted already.
func (s *state) add(lane client.Lane, seq uint64) (again bool) {
	last := &s.Normal
	if lane == client.LaneRecovery {
		last = &s.Recovery
	}
	if slices.Contains(*last, seq) {
		return true
	}
	s.Count++
	*last = append(*last, seq)
	*last = (*last)[max(len(*last)-lastMost, 0):]
	return false
}

// worker hosts instances and notes what it is given and does.
type worker struct {
	world.Worker
	log     *history.Log
	outside outside

	mu     sync.Mutex // guards all below
	random *rand.Rand
	// session is the one of the last event that told of one.
	session string
}

// Work is world.RunWorker: a worker whose handlers do what the messages' tasks ask for, and whose recovery handler asks
// the outside what took effect.
func Work(ctx context.Context, c *client.Client, w world.Worker, h *history.Log) error {
	k := &worker{Worker: w, log: h, outside: outside{w.Outside}, random: chance(w.Seed, w.Name)}
	run, err := c.NewWorker(client.WorkerConfig{
		Application: w.Application, Name: w.Name, Capacity: w.Capacity, TTL: w.TTL, Grace: time.Second,
		Handler: k.handle, OnRecovery: k.recover, OnEvent: k.event,
	})
	if err != nil {
		return fmt.Errorf("workload: worker %s: %w", w.Name, err)
	}
	return run.Run(ctx)
}

func (k *worker) roll(n int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.random.IntN(n)
}

func (k *worker) note(e history.WorkerEvent) {
	k.mu.Lock()
	e.Session = k.session
	k.mu.Unlock()
	e.Worker = k.Name
	k.log.Worker(e)
}

func about(d *client.Delivery, deed history.Deed) history.WorkerEvent {
	return history.WorkerEvent{
		Deed: deed, Application: d.Instance.Application, Instance: d.Instance.Key, Epoch: uint64(d.Epoch), Lane: string(d.Lane), Seq: uint64(d.Seq),
		Attempt: d.Attempt, MessageID: d.Message.ID, Type: d.Message.Type, Deferred: d.Deferred, InDoubt: d.InDoubt,
	}
}

// handle does a message's task: takes its time, leaves its effect outside, and sets state, outgoing message and reply.
func (k *worker) handle(ctx context.Context, d *client.Delivery) error {
	e := about(d, history.Deliver)
	e.State = string(d.State())
	k.note(e)
	err := k.carryOut(ctx, d)
	done := about(d, history.Done)
	if err != nil {
		done.Error = err.Error()
	}
	k.note(done)
	return err
}

func (k *worker) carryOut(ctx context.Context, d *client.Delivery) error {
	t := readTask(d.Message.Data)
	if err := wait(ctx, t.take()); err != nil {
		return err
	}
	if err := t.verdict(d, time.Now(), k.roll(2) == 0); err != nil {
		return err
	}
	if err := k.effect(d); err != nil {
		return err
	}
	next, err := advance(d)
	if err != nil {
		return err
	}
	d.SetState(next)
	if t.To != "" {
		m := client.Message{Application: d.Instance.Application, Instance: t.To, Type: t.As, Data: []byte("{}"), Source: d.Instance.String()}
		d.Send(m)
		out := about(d, history.Outgoing)
		out.To = t.To
		k.note(out)
	}
	if t.Reply {
		d.Reply(next, "application/json")
	}
	return nil
}

// effect leaves a message's effect outside. A recovery message in doubt may have left it before: then it is not repeated.
func (k *worker) effect(d *client.Delivery) error {
	instance, key := d.Instance.String(), effectKey(string(d.Lane), uint64(d.Seq))
	if d.InDoubt {
		counts, err := k.outside.fence(instance, uint64(d.Epoch), key)
		if err != nil || counts[0] > 0 {
			return err
		}
	}
	before, err := k.outside.effect(instance, uint64(d.Epoch), key)
	if err != nil {
		return err
	}
	e := about(d, history.Effect)
	e.Before = before
	k.note(e)
	return nil
}

// advance is the state after a message. A state that cannot be is an error that sends the instance into recovery.
func advance(d *client.Delivery) ([]byte, error) {
	s := state{}
	if len(d.State()) > 0 {
		if err := json.Unmarshal(d.State(), &s); err != nil {
			return nil, client.Recover(err)
		}
	}
	if s.add(d.Lane, uint64(d.Seq)) {
		return nil, client.Recover(fmt.Errorf("the state has lane %s at %v, and %d comes again", d.Lane, s, d.Seq))
	}
	return json.Marshal(s)
}

// recover fences the outside off, asks it what took effect, and says so. Now and then it fails, or takes its time.
func (k *worker) recover(ctx context.Context, r *client.Recovery) error {
	base := history.WorkerEvent{Application: r.Instance.Application, Instance: r.Instance.Key, Epoch: uint64(r.Epoch), Attempt: r.Attempt}
	begin := base
	begin.Deed, begin.Error, begin.State = history.Recover, r.Cause, string(r.State())
	k.note(begin)
	var keys []string
	for _, m := range r.InDoubt {
		keys = append(keys, effectKey(string(m.Lane), uint64(m.Seq)))
		e := base
		e.Deed, e.Lane, e.Seq, e.MessageID, e.Type = history.InDoubt, string(m.Lane), uint64(m.Seq), m.Message.ID, m.Message.Type
		k.note(e)
	}
	done, err := k.outside.fence(r.Instance.String(), uint64(r.Epoch), keys...)
	if err != nil {
		return err
	}
	span := 30
	if k.roll(6) == 0 {
		span = 500 // so that others may act meanwhile
	}
	if err := wait(ctx, time.Duration(k.roll(span))*time.Millisecond); err != nil {
		return err
	}
	if k.roll(10) == 0 {
		return errors.New("the recovery failed as planned")
	}
	k.decide(r, base, done)
	return nil
}

// decide tells the cluster what took effect: a prefix of the normal lane. A recovery message that took effect comes
// again, and is told by its mark of doubt.
func (k *worker) decide(r *client.Recovery, e history.WorkerEvent, done []int) {
	s := state{}
	_ = json.Unmarshal(r.State(), &s) // an empty state is the zero state
	for n, m := range r.InDoubt {
		if m.Lane != client.LaneNormal {
			continue
		}
		if done[n] == 0 {
			break
		}
		// A recovery before this one may have written the state with a recovery message, and not been completed.
		s.add(client.LaneNormal, uint64(m.Seq))
		r.ProcessedThrough(m.Seq)
		e.Through = uint64(m.Seq)
	}
	if e.Through > 0 {
		if data, err := json.Marshal(s); err == nil {
			r.SetState(data)
			e.State = string(data)
		}
	}
	e.Deed = history.Done
	k.note(e)
}

// deeds are the events of the SDK that the history knows.
var deeds = map[client.EventKind]history.Deed{
	client.EventSessionOpened: history.SessionOpened, client.EventSessionLost: history.SessionLost, client.EventSessionClosed: history.SessionClosed,
	client.EventCompleted: history.Settled, client.EventFailed: history.Failed, client.EventRejected: history.Rejected, client.EventRefused: history.Refused,
	client.EventFenced: history.Fenced, client.EventRecoveryCompleted: history.Recovered, client.EventRecoveryFailed: history.RecoveryFailed,
}

func (k *worker) event(e client.Event) {
	deed, known := deeds[e.Kind]
	if !known {
		return
	}
	if e.Session != "" {
		k.mu.Lock()
		k.session = e.Session
		k.mu.Unlock()
	}
	row := history.WorkerEvent{Deed: deed, Application: e.Instance.Application, Instance: e.Instance.Key, Epoch: uint64(e.Epoch), Lane: string(e.Lane), Seq: uint64(e.Seq)}
	if e.Err != nil {
		row.Error = e.Err.Error()
	}
	k.note(row)
}

// wait waits for a span, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

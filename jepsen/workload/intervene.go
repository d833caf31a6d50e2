package workload

import (
	"context"
	"fmt"

	"sluice/client"
	"sluice/jepsen/history"
)

// resolveOne takes one message out of an inbox by hand, or replaces it: of an instance that holds something, if there is
// one, and poison rather than others.
func (o *operator) resolveOne(ctx context.Context, id client.InstanceID) {
	for held, err := range o.client.Instances().List(ctx, client.ListInstances{Application: id.Application, MinDeferred: 1}) {
		if err != nil {
			return
		}
		if id = held.ID; o.random.IntN(2) == 0 {
			break
		}
	}
	for m, err := range o.client.Instances().ListMessages(ctx, id, client.ListMessages{}) {
		if err != nil {
			return
		}
		t := readTask(m.Message.Data)
		if t.Fail < poison && o.random.IntN(3) > 0 {
			continue
		}
		r := client.ResolveMessage{
			Seq: m.Seq, Lane: m.Lane, Reason: "by hand", RequestID: o.request(),
			Action: []client.Action{client.ActionSkip, client.ActionDeadLetter, client.ActionReplace, client.ActionReplace}[o.random.IntN(4)],
		}
		if r.Action == client.ActionReplace {
			r.Data = task{Reply: true, Take: o.random.IntN(20)}.data()
		}
		if o.random.IntN(2) == 0 {
			r.Version = m.Version
		}
		if _, err := o.resolve(ctx, id, r); err == nil && r.Version != "" && o.random.IntN(3) == 0 { // it is another one by now
			r.RequestID, r.Action = o.request(), client.ActionSkip
			_, _ = o.resolve(ctx, id, r)
		}
		return
	}
}

// putBackSome puts some dead letters of one lane of an instance back; now and then with a number that is none, or all that
// failed as one of them did.
func (o *operator) putBackSome(ctx context.Context, application string) {
	id, p := client.InstanceID{}, client.PutBack{Reason: "by hand", RequestID: o.request()}
	for m, err := range o.client.Instances().ListDeadLetters(ctx, client.ListDeadLetters{Application: application}) {
		if err != nil {
			return
		}
		if m.Lane == client.LaneOutgoing || o.random.IntN(3) == 0 || p.Lane != "" && (p.Lane != m.Lane || id != m.Instance) {
			continue
		}
		if p.Lane != "" && o.random.IntN(20) == 0 {
			p.Seqs, p.Fingerprint = nil, m.DeadLetter.Fingerprint
			break
		}
		id, p.Lane = m.Instance, m.Lane
		if p.Seqs = append(p.Seqs, m.Seq); len(p.Seqs) == 3 {
			break
		}
		if o.random.IntN(3) == 0 && len(p.Seqs) == 1 { // rather another instance's
			p.Seqs, p.Lane = nil, ""
		}
	}
	switch {
	case p.Lane == "":
		return
	case p.Fingerprint == "" && o.random.IntN(5) == 0:
		p.Seqs = append(p.Seqs, p.Seqs[0]+1)
	}
	if o.putBack(ctx, id, p) == nil && o.random.IntN(5) == 0 {
		_ = o.putBack(ctx, id, p) // a repeat has no effect
	}
}

// terminateOne gives messages to an instance of its own, and terminates it.
func (o *operator) terminateOne(ctx context.Context, application string) {
	o.terminated++
	id := client.InstanceID{Application: application, Key: o.doomed()}
	sendSome := func() {
		for range 1 + o.random.IntN(3) {
			_, _ = o.send(ctx, client.Message{Application: id.Application, Instance: id.Key, ID: o.request(), Type: TypeWork, Data: task{Take: 20}.data()})
		}
	}
	sendSome()
	request := o.request()
	for range 2 {
		if o.terminate(ctx, id, request) != nil {
			return
		}
	}
	sendSome() // refused
}

// doomed is the key of the instance of its own that it terminates next, or terminated last.
func (o *operator) doomed() string { return fmt.Sprintf("ends-%s-%d", o.name, o.terminated) }

// transact begins or ends a transaction by its name, or the default one.
func (o *operator) transact(ctx context.Context, id client.InstanceID) {
	name := fmt.Sprintf("%s-transaction-%d", o.name, o.random.IntN(8))
	if o.random.IntN(8) == 0 {
		name = id.Key
	}
	if o.random.IntN(2) == 0 {
		_ = o.endTransaction(ctx, id, name)
		return
	}
	pattern := []string{"", "main", "order", "talk"}[o.random.IntN(4)]
	if o.beginTransaction(ctx, id, client.BeginTransaction{ID: name, Pattern: pattern, Client: o.name, RequestID: o.request()}) != nil {
		return
	}
	_, _ = o.send(ctx, client.Message{Application: id.Application, Instance: id.Key, Transaction: name, ID: o.request(), Type: orderTypes[o.random.IntN(len(orderTypes))], Data: []byte("{}")})
}

// outage gives a message that fails for a while to more accounts than make one, one after the other.
func (o *operator) outage(ctx context.Context) {
	down := o.soon().UnixMilli() + 100
	for n := range min(outageInstances+1, o.load.Instances) {
		m := client.Message{Application: "accounts", Instance: Instance(n), ID: o.request(), Type: TypeWork, Data: task{Down: down}.data()}
		if _, err := o.send(ctx, m); err != nil || wait(ctx, o.load.Pause/2) != nil {
			return
		}
	}
	if o.random.IntN(2) == 0 {
		_, _ = o.completeApplication(ctx, "accounts", o.request())
	}
}

func (c *caller) putBack(ctx context.Context, id client.InstanceID, p client.PutBack) error {
	args := history.Args{Application: id.Application, Instance: id.Key, Request: p.RequestID, Lane: string(p.Lane), Data: fmt.Sprint(p.Seqs, p.Fingerprint)}
	_, err := c.ask(history.PutBack, args, func() (history.Answer, error) {
		r, err := c.client.Instances().PutBack(ctx, id, p)
		return history.Answer{Duplicate: r.Duplicate}, err
	})
	return err
}

func (c *caller) terminate(ctx context.Context, id client.InstanceID, request string) error {
	_, err := c.ask(history.Terminate, history.Args{Application: id.Application, Instance: id.Key, Request: request}, func() (history.Answer, error) {
		i, err := c.client.Instances().Terminate(ctx, id, "by hand", request)
		return instanceAnswer(i), err
	})
	return err
}

func (c *caller) beginTransaction(ctx context.Context, id client.InstanceID, b client.BeginTransaction) error {
	args := history.Args{Application: id.Application, Instance: id.Key, Request: b.RequestID, Type: b.Pattern, Data: b.ID}
	_, err := c.ask(history.BeginTransaction, args, func() (history.Answer, error) {
		t, err := c.client.Transactions().Begin(ctx, id, b)
		return history.Answer{Duplicate: t.Duplicate}, err
	})
	return err
}

func (c *caller) endTransaction(ctx context.Context, id client.InstanceID, name string) error {
	_, err := c.ask(history.EndTransaction, history.Args{Application: id.Application, Instance: id.Key, Data: name}, func() (history.Answer, error) {
		t, err := c.client.Transactions().End(ctx, id, name, "")
		return history.Answer{Duplicate: t.Duplicate}, err
	})
	return err
}

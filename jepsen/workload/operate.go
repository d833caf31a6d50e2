package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"sluice/client"
	"sluice/jepsen/world"
)

// operator turns instances to recovery and back, resolves messages, and looks.
type operator struct {
	*caller
	load   Load
	random *rand.Rand
	asked  int
	// epochs are the last that was seen of each instance; session is one that owns nothing.
	epochs  map[client.InstanceID]uint64
	session string
}

// Operate is at work until ctx ends.
func Operate(ctx context.Context, w world.World, name string, l Load) error {
	c, err := w.Client(ctx, name)
	if err != nil {
		return err
	}
	defer c.Close()
	l = l.Defaults()
	o := &operator{caller: newCaller(name, c, w.History()), load: l, random: chance(l.Seed, name), epochs: map[client.InstanceID]uint64{}}
	for ctx.Err() == nil {
		o.one(ctx)
		if w.Wait(ctx, 4*l.Pause+time.Duration(o.random.Int64N(int64(8*l.Pause)))) != nil {
			break
		}
	}
	return nil
}

func (o *operator) request() string {
	o.asked++
	return fmt.Sprintf("%s-request-%d", o.name, o.asked)
}

func (o *operator) instance() client.InstanceID {
	apps := Applications()
	return client.InstanceID{Application: apps[o.random.IntN(len(apps))].Name, Key: Instance(o.random.IntN(o.load.Instances))}
}

// one does one thing; whatever comes of it is in the history.
func (o *operator) one(ctx context.Context) {
	id := o.instance()
	switch roll := o.random.IntN(100); {
	case roll < 45:
		_, _ = o.getInstance(ctx, id)
	case roll < 56:
		o.meddle(ctx, id)
	case roll < 60:
		o.overtake(ctx)
	case roll < 74:
		request := o.request()
		_, err := o.enterRecovery(ctx, id, "operator "+request, request)
		if err == nil && o.random.IntN(5) == 0 {
			_, _ = o.enterRecovery(ctx, id, "operator "+request, request) // a repeat has no effect
		}
	case roll < 88:
		o.complete(ctx, id)
	case roll < 98:
		o.resolveOne(ctx, id)
	default:
		o.wholeApplication(ctx, id.Application)
	}
}

// complete ends a recovery that a look showed, under the epoch of then.
func (o *operator) complete(ctx context.Context, id client.InstanceID) {
	seen, err := o.getInstance(ctx, id)
	if err != nil || seen.Mode != string(client.ModeRecovery) || seen.Deferred == 0 && o.random.IntN(2) == 0 {
		return
	}
	r := client.CompleteRecovery{Epoch: client.Epoch(seen.Epoch), DiscardRecoveryMessages: o.random.IntN(2) == 0, RequestID: o.request()}
	if _, err := o.completeRecovery(ctx, id, r); err == nil && o.random.IntN(3) == 0 {
		r.RequestID = o.request() // of the same epoch it is a repeat all the same, and has no effect
		_, _ = o.completeRecovery(ctx, id, r)
	}
}

// resolveOne takes one message out of an inbox by hand.
func (o *operator) resolveOne(ctx context.Context, id client.InstanceID) {
	for m, err := range o.client.Instances().ListMessages(ctx, id, client.ListMessages{}) {
		if err != nil {
			return
		}
		if o.random.IntN(3) > 0 {
			continue
		}
		action := []client.Action{client.ActionSkip, client.ActionDeadLetter}[o.random.IntN(2)]
		_, _ = o.resolve(ctx, id, client.ResolveMessage{Seq: m.Seq, Lane: m.Lane, Action: action, Reason: "by hand", RequestID: o.request()})
		return
	}
}

// wholeApplication puts an application into recovery as a whole, looks whether its instances show it, and completes it.
func (o *operator) wholeApplication(ctx context.Context, name string) {
	if o.enterApplication(ctx, name, "operator "+o.name, o.request()) != nil {
		return
	}
	for n := range o.load.Instances {
		_, _ = o.getInstance(ctx, client.InstanceID{Application: name, Key: Instance(n)})
	}
	_, _ = o.completeApplication(ctx, name, o.request())
}

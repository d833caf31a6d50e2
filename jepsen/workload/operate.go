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
	// epochs are the last that was seen of each instance; session is one that owns nothing; terminated counts instances
	// of its own that it has terminated.
	epochs     map[client.InstanceID]uint64
	session    string
	terminated int
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
		if w.Wait(ctx, 3*l.Pause+time.Duration(o.random.Int64N(int64(6*l.Pause)))) != nil {
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
	case roll < 30:
		_, _ = o.getInstance(ctx, id)
	case roll < 38:
		o.meddle(ctx, id)
	case roll < 40:
		o.overtake(ctx)
	case roll < 52:
		o.enter(ctx, id)
	case roll < 64:
		o.complete(ctx, id)
	case roll < 75:
		o.resolveOne(ctx, id)
	case roll < 85:
		o.putBackSome(ctx, id.Application)
	case roll < 90:
		o.overSet(ctx, id.Application)
	case roll < 94:
		o.transact(ctx, client.InstanceID{Application: "feeds", Key: id.Key})
	case roll < 97:
		o.terminateOne(ctx, id.Application)
	case roll < 99:
		o.outage(ctx)
	default:
		o.wholeApplication(ctx, id.Application)
	}
}

// enter puts an instance into recovery, every second time for a while only.
func (o *operator) enter(ctx context.Context, id client.InstanceID) {
	request, until := o.request(), time.Time{}
	if o.random.IntN(2) == 0 {
		until = o.soon()
	}
	_, err := o.enterRecovery(ctx, id, "operator "+request, until, request)
	if err == nil && o.random.IntN(5) == 0 {
		_, _ = o.enterRecovery(ctx, id, "operator "+request, until, request) // a repeat has no effect
	}
}

// soon is a time within half a second, perhaps past already.
func (o *operator) soon() time.Time {
	return time.Now().Add(time.Duration(o.random.IntN(500)-50) * time.Millisecond)
}

// complete ends a recovery that a look showed, under the epoch of then. Handlers of accounts must not be run again
// blindly: where something of theirs is in doubt, it is left to the recovery handler.
func (o *operator) complete(ctx context.Context, id client.InstanceID) {
	seen, err := o.getInstance(ctx, id)
	if err != nil || seen.Mode != string(client.ModeRecovery) || seen.Deferred == 0 && o.random.IntN(2) == 0 {
		return
	}
	for m, err := range o.client.Instances().ListMessages(ctx, id, client.ListMessages{Lane: client.LaneNormal}) {
		if err != nil || m.InDoubt && id.Application == "accounts" {
			return
		}
	}
	r := client.CompleteRecovery{Epoch: client.Epoch(seen.Epoch), DiscardRecoveryMessages: o.random.IntN(2) == 0, RequestID: o.request()}
	if _, err := o.completeRecovery(ctx, id, r); err == nil && o.random.IntN(3) == 0 {
		r.RequestID = o.request() // of the same epoch it is a repeat all the same, and has no effect
		_, _ = o.completeRecovery(ctx, id, r)
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

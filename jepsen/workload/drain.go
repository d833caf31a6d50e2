package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/client"
	"sluice/jepsen/world"
)

const (
	// drainEvery is how often Drain looks.
	drainEvery = 250 * time.Millisecond
	// drainCalm is for how long nothing may be seen unsettled. A call that was broken off may be on its way to the
	// leader still, and what it sends comes after a first look that found nothing.
	drainCalm = 2 * time.Second
)

// Drain waits until nothing is unsettled and every instance is normal, for a while, or ctx ends; it returns what is
// left, as the last whole look found it, for a person. It does what an operator does meanwhile: poison is dead-lettered by hand, operations that go on are cancelled,
// and applications that are in recovery as a whole are completed. It is the quiet phase's proof that nothing is stuck.
func Drain(ctx context.Context, w world.World) (left []string, err error) {
	c, err := w.Client(ctx, "drain")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	d := &drainer{caller: newCaller("drain", c, w.History())}
	calm, since := false, time.Duration(0)
	for {
		var found []string
		if found, err = d.round(ctx); err == nil {
			left = found // one that was broken off has not seen all
		}
		switch {
		case err != nil || len(left) > 0:
			calm = false
		case !calm:
			calm, since = true, w.Now()
		case w.Now()-since >= drainCalm:
			return nil, nil
		}
		if w.Wait(ctx, drainEvery) != nil {
			return left, err
		}
	}
}

type drainer struct {
	*caller
	rounds int
}

// round looks at every instance, and says what it waits for.
func (d *drainer) round(ctx context.Context) (left []string, err error) {
	d.rounds++
	for _, a := range Applications() {
		if d.rounds%8 == 1 { // the completion takes its time
			if err := d.stop(ctx, a.Name); err != nil {
				return left, err
			}
			if _, err := d.completeApplication(ctx, a.Name, fmt.Sprintf("drain-%s-%d", a.Name, d.rounds)); err != nil && !errors.Is(err, client.ErrNotInRecovery) {
				return left, err
			}
		}
		for i, err := range d.client.Instances().List(ctx, client.ListInstances{Application: a.Name}) {
			if err != nil {
				return left, err
			}
			waits, err := d.look(ctx, i)
			if err != nil {
				return left, err
			}
			if waits != "" {
				left = append(left, waits)
			}
		}
	}
	return left, nil
}

// stop cancels what operations are under way.
func (d *drainer) stop(ctx context.Context, application string) error {
	all, err := d.client.Operations().List(ctx, application)
	if err != nil {
		return err
	}
	for _, op := range all {
		if !op.Ended() {
			_ = d.steer(ctx, op.ID, client.Operations.Cancel) // it may have ended by itself
		}
	}
	return nil
}

func (d *drainer) look(ctx context.Context, i client.Instance) (waits string, err error) {
	if i.Terminated || i.NormalMessages+i.RecoveryMessages == 0 && i.Mode == client.ModeNormal {
		return "", nil
	}
	id := i.ID
	waits = fmt.Sprintf("%s: %s, cause %q, %d normal and %d recovery messages, owner %q", id, i.Mode, i.Cause, i.NormalMessages, i.RecoveryMessages, i.Owner)
	for m, err := range d.client.Instances().ListMessages(ctx, id, client.ListMessages{}) {
		if err != nil {
			return waits, err
		}
		if readTask(m.Message.Data).Fail == poison {
			request := fmt.Sprintf("drain-%s-%s-%d", id, m.Lane, m.Seq)
			_, _ = d.resolve(ctx, id, client.ResolveMessage{Seq: m.Seq, Lane: m.Lane, Action: client.ActionDeadLetter, Reason: "poison", RequestID: request})
		}
	}
	return waits, nil
}

// Probe sends one message to an instance of its own until it is accepted, or ctx ends, and tells how long that took:
// after faults are healed a cluster must take messages again.
func Probe(ctx context.Context, w world.World) (time.Duration, error) {
	c, err := w.Client(ctx, "probe")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	began := w.Now()
	p := newCaller("probe", c, w.History())
	for {
		_, err := p.send(ctx, client.Message{Application: Applications()[0].Name, Instance: "probe", ID: fmt.Sprintf("probe-%d", began), Type: TypeWork, Data: []byte("{}")})
		if err == nil {
			return w.Now() - began, nil
		}
		if w.Wait(ctx, 50*time.Millisecond) != nil {
			return 0, fmt.Errorf("workload: probe: %w", err)
		}
	}
}

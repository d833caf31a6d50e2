package cluster

import (
	"context"
	"sync"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

const (
	// advanceBatch, forwardBatch and operationBatch bound what one command of a duty handles.
	advanceBatch   = 1000
	forwardBatch   = 256
	operationBatch = 1000
	// operationTick is how often an operation with a rate goes on.
	operationTick = 100 * time.Millisecond
	// clockLook is how often the next deadline is looked at anew, for wall clocks may jump.
	clockLook = time.Second
)

// deadline is the earliest of many times, Unix ms; 0: none.
type deadline struct {
	mu sync.Mutex
	at int64
}

func (d *deadline) clear() { d.set(0) }

func (d *deadline) set(ms int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = ms
}

// lower takes an earlier time over and tells whether it was one.
func (d *deadline) lower(ms int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at != 0 && d.at <= ms {
		return false
	}
	d.at = ms
	return true
}

// runDeadlines proposes an Advance whenever something in the state comes due.
func (l *leadership) runDeadlines(ctx context.Context) {
	for ctx.Err() == nil {
		l.nextDeadline.clear()
		at, ok, err := l.node.group.view().NextDeadline()
		switch {
		case err != nil:
			l.dutyFailed("advance", err)
			l.sleep(ctx, dutyPause)
		case !ok:
			l.wait(ctx, l.deadlines, 0)
		case time.Until(at) > 0:
			l.nextDeadline.lower(at.UnixMilli())
			l.wait(ctx, l.deadlines, min(time.Until(at), clockLook))
		default:
			l.advance(ctx)
		}
	}
}

func (l *leadership) advance(ctx context.Context) {
	cmd := &logv1.Command{Actor: dutyActor, Kind: &logv1.Command_Advance{Advance: &logv1.Advance{Limit: advanceBatch}}}
	out, err := l.propose(ctx, cmd)
	if err != nil {
		l.dutyFailed("advance", err)
	}
	if err != nil || out.GetProgress().GetDone() == 0 {
		l.sleep(ctx, dutyPause)
	}
}

// wait waits for a bell, or for a time; 0: for the bell alone.
func (l *leadership) wait(ctx context.Context, b bell, d time.Duration) {
	var after <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-b:
	case <-after:
	case <-ctx.Done():
	}
}

// runOutgoing has outgoing messages judged at their targets.
func (l *leadership) runOutgoing(ctx context.Context) {
	for ctx.Err() == nil {
		waiting, err := l.node.group.view().HasOutgoing()
		if err == nil && waiting {
			cmd := &logv1.Command{Actor: dutyActor, Kind: &logv1.Command_ForwardOutgoing{ForwardOutgoing: &logv1.ForwardOutgoing{Limit: forwardBatch}}}
			_, err = l.propose(ctx, cmd)
		}
		switch {
		case err != nil:
			l.dutyFailed("forward outgoing", err)
			l.sleep(ctx, dutyPause)
		case !waiting:
			l.wait(ctx, l.outgoing, 0)
		}
	}
}

// runOperations goes on with the operations that run, each at its rate.
func (l *leadership) runOperations(ctx context.Context) {
	allowed := map[string]*allowance{}
	for ctx.Err() == nil {
		operations, err := l.node.group.view().Operations("")
		if err != nil {
			l.dutyFailed("operations", err)
			l.sleep(ctx, dutyPause)
			continue
		}
		running, pause := 0, true
		for _, o := range operations {
			if o.State != sluicev1.OperationState_OPERATION_RUNNING {
				delete(allowed, o.Id)
				continue
			}
			running++
			if allowed[o.Id] == nil {
				allowed[o.Id] = &allowance{rate: o.Rate, at: time.Now()}
			}
			if l.step(ctx, o.Id, allowed[o.Id]) && o.Rate <= 0 {
				pause = false
			}
		}
		switch {
		case running == 0:
			l.wait(ctx, l.operations, 0)
		case pause:
			l.wait(ctx, l.operations, operationTick)
		}
	}
}

// step goes on with one operation as far as its rate allows, and tells whether it did.
func (l *leadership) step(ctx context.Context, id string, a *allowance) bool {
	limit := a.take(time.Now())
	if limit == 0 {
		return false
	}
	busy, err := l.busy(id, limit)
	if err == nil {
		step := &logv1.StepOperation{Id: id, Limit: uint32(limit), Busy: busy}
		_, err = l.propose(ctx, &logv1.Command{Actor: dutyActor, Kind: &logv1.Command_StepOperation{StepOperation: step}})
	}
	if err != nil {
		l.dutyFailed("operation", err)
		return false
	}
	return true
}

// busy lists the keys of the instances that an operation would complete next, and whose recovery handler is at work as
// far as this leader knows.
func (l *leadership) busy(operation string, limit int) (keys []string, err error) {
	recovering, err := l.node.group.view().Recovering(operation, limit)
	if err != nil {
		return nil, err
	}
	for _, i := range recovering {
		if l.dispatch.quiesced(fsm.InstanceID{Application: i.Application, Key: i.Key}, i.Owner, i.Epoch) {
			keys = append(keys, i.Key)
		}
	}
	return keys, nil
}

// allowance counts how many instances an operation may handle now. A new leader begins it anew.
type allowance struct {
	rate  float64
	at    time.Time
	saved float64
}

// take answers how many are allowed since the last call, at most operationBatch.
func (a *allowance) take(now time.Time) int {
	if a.rate <= 0 {
		return operationBatch
	}
	a.saved = min(a.saved+a.rate*now.Sub(a.at).Seconds(), max(a.rate, 1), operationBatch)
	a.at = now
	n := int(a.saved)
	a.saved -= float64(n)
	return n
}

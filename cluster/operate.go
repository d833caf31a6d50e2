package cluster

import (
	"context"
	"time"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

const (
	// operationBatch bounds the instances that one command of an operation acts on.
	operationBatch = 256
	// operationTick is how often an operation with a rate goes on.
	operationTick = 100 * time.Millisecond
)

// runOperations goes on with the operations that run, each at its rate. After every command it rests for as long as
// the command took, so that operations never take more than half of what the leader can do.
func (l *leadership) runOperations(ctx context.Context) {
	begun := time.Now()
	allowed := map[string]*allowance{}
	for ctx.Err() == nil {
		running, err := l.node.group.view().Running()
		if err != nil {
			l.dutyFailed("operations", err)
			pause(ctx, dutyPause)
			continue
		}
		allowed = keepAllowances(allowed, running, time.Now())
		atOnce := false
		for _, o := range running {
			if l.mayStep(o, begun) && l.step(ctx, o, allowed[o.Id]) {
				atOnce = true
			}
		}
		switch {
		case len(running) == 0:
			l.wait(ctx, l.operations, 0)
		case !atOnce:
			l.wait(ctx, l.operations, operationTick)
		}
	}
}

// mayStep tells that an operation may go on. A new leader learns whose recovery handlers are at work when sessions
// poll; until they had the time to, it completes no recovery.
func (l *leadership) mayStep(o *sluicev1.Operation, begun time.Time) bool {
	return o.Kind == fsm.KindEnter || !l.inherited || time.Since(begun) > l.node.cfg.RedeliverAfter
}

// step goes on with one operation as far as its rate allows, and tells whether it may go on at once.
func (l *leadership) step(ctx context.Context, o *sluicev1.Operation, a *allowance) bool {
	limit := a.take(time.Now())
	if limit == 0 {
		return false
	}
	began := time.Now()
	busy, err := l.busy(o.Id)
	var out *logv1.Outcome
	if err == nil {
		out, err = l.propose(ctx, &logv1.Command{Actor: dutyActor, Kind: &logv1.Command_StepOperation{StepOperation: &logv1.StepOperation{
			Id: o.Id, Limit: uint32(limit), Busy: busy,
		}}})
	}
	if err != nil {
		l.dutyFailed("operation", err)
		return false
	}
	acted := int(out.GetProgress().GetDone())
	a.giveBack(limit - acted)
	pause(ctx, min(time.Since(began), dutyPause))
	return out.GetProgress().GetMore() && (acted < limit || a.left())
}

// busy lists, of the instances that the next step may complete, those whose recovery handler is at work.
func (l *leadership) busy(operation string) (keys []string, err error) {
	v := l.node.group.view()
	ahead, err := v.Ahead(operation)
	if err != nil {
		return nil, err
	}
	for _, id := range l.dispatch.taken(ahead) {
		owner, epoch, err := v.Recovering(id)
		if err != nil {
			return nil, err
		}
		if epoch != 0 && l.dispatch.quiesced(id, owner, epoch) {
			keys = append(keys, id.Key)
		}
	}
	return keys, nil
}

// taken lists those of the instances whose owner was given a recovery, of this epoch or of an earlier one.
func (d *dispatcher) taken(ids []fsm.InstanceID) (out []fsm.InstanceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		if h := d.owner[id]; h != nil && h.taken != 0 {
			out = append(out, id)
		}
	}
	return out
}

// allowance counts how many instances an operation may act on now. A new leader begins it anew, with nothing saved.
type allowance struct {
	rate  float64
	at    time.Time
	saved float64
}

// keepAllowances gives each running operation its allowance, and forgets those of others.
func keepAllowances(old map[string]*allowance, running []*sluicev1.Operation, now time.Time) map[string]*allowance {
	kept := make(map[string]*allowance, len(running))
	for _, o := range running {
		if kept[o.Id] = old[o.Id]; kept[o.Id] == nil {
			kept[o.Id] = &allowance{rate: o.Rate, at: now}
		}
	}
	return kept
}

// take answers how many are allowed since the last call, at most operationBatch; what a second brings may be saved.
func (a *allowance) take(now time.Time) int {
	if a.rate <= 0 {
		return operationBatch
	}
	a.saved = min(a.saved+a.rate*now.Sub(a.at).Seconds(), max(a.rate, 1))
	a.at = now
	n := min(int(a.saved), operationBatch)
	a.saved -= float64(n)
	return n
}

// giveBack returns what was not used.
func (a *allowance) giveBack(n int) { a.saved += float64(n) }

// left tells that more may be acted on at once.
func (a *allowance) left() bool { return a.rate <= 0 || a.saved >= 1 }

package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	logv1 "sluice/api/log/v1"
	"sluice/fsm"
)

// dutyActor is who asks for what the leader proposes by itself.
const dutyActor = "leader"

// dutyPause is how long a duty waits after something stood in its way.
const dutyPause = 100 * time.Millisecond

// leadership is what a node does and knows for as long as it leads. It begins after the leader has applied an entry of
// its own term, so that it sees all that any leader before it has answered.
type leadership struct {
	node   *Node
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	// term is that of the lead: what this knows holds in no other, though the same node may lead again before it has ended.
	term     uint64
	dispatch *dispatcher
	effects  *effectQueue
	// The bells of the duties.
	deadlines, outgoing, operations bell
	// nextDeadline is the earliest deadline that a View or an effect told of, Unix ms.
	nextDeadline deadline
	// inherited: there were sessions when the lead began, of which this leader does not know what they hold.
	inherited bool
}

func newLeadership(ctx context.Context, n *Node) *leadership {
	l := &leadership{
		node: n, done: make(chan struct{}), dispatch: newDispatcher(n.cfg.RedeliverAfter, n.cfg.DrainBeside),
		deadlines: newBell(), outgoing: newBell(), operations: newBell(),
	}
	l.effects = newEffectQueue(l.dispatch.end)
	l.ctx, l.cancel = context.WithCancel(ctx)
	return l
}

// runLeadership starts and stops leaderships as raft says, until ctx ends.
func (n *Node) runLeadership(ctx context.Context) {
	var l *leadership
	stop := func() {
		if l != nil {
			// What this node knows as a former leader is as old as it was as a leader that did not know.
			index := n.group.applied.index()
			n.fresh.tell(time.Now().Add(-n.cfg.LeaderLeaseTimeout), index, index)
			n.lead.CompareAndSwap(l, nil)
			l.cancel()
			<-l.done
			l = nil
		}
	}
	defer stop()
	for {
		select {
		case leads := <-n.leads:
			stop()
			if leads {
				l = newLeadership(ctx, n)
				go l.run()
			}
			n.leaderNews.tell()
		case <-ctx.Done():
			return
		}
	}
}

// run takes the lead and does its duties until it is cancelled.
func (l *leadership) run() {
	defer close(l.done)
	l.term = l.node.raft().CurrentTerm()
	err := l.node.settled(l.node.raft().Barrier(0))
	if err != nil || l.node.raft().CurrentTerm() != l.term {
		l.node.log.Info("lost the lead before it began", "error", err)
		return
	}
	if l.startHeld(); l.ctx.Err() != nil {
		return
	}
	l.node.sink.Store(l.effects)
	defer l.node.sink.CompareAndSwap(l.effects, nil)
	if err := l.rebuild(); err != nil {
		l.node.log.Error("cannot take the lead", "error", err)
		l.node.abdicate()
		return
	}
	if l.ctx.Err() != nil {
		return
	}
	l.inherited = l.dispatch.any()
	l.node.lead.Store(l)
	defer l.node.lead.CompareAndSwap(l, nil)
	l.node.leaderNews.tell()
	l.node.log.Info("this node leads", "term", l.term)
	var duties errgroup.Group
	for _, duty := range []func(context.Context){l.announce, l.runAssign, l.runLeases, l.runDeadlines, l.runOutgoing, l.runOperations, l.runPromotion, l.runPace} {
		duties.Go(func() error {
			duty(l.ctx)
			return nil
		})
	}
	// Duties answer no error: they try again for as long as this node leads.
	_ = duties.Wait()
	l.node.log.Info("this node leads no more")
}

// rebuild finds the leader's work in the state.
func (l *leadership) rebuild() error {
	v := l.node.group.view()
	sessions, err := v.Sessions()
	if err != nil {
		return err
	}
	open := map[string]bool{}
	for _, rec := range sessions {
		open[rec.Id] = true
		l.dispatch.open(rec, time.Now())
		owned, err := v.Owned(rec.Id)
		if err != nil {
			return err
		}
		for _, id := range owned {
			l.dispatch.touch(fsm.Touch{InstanceID: id, Owner: rec.Id})
		}
	}
	l.dispatch.keepOnly(open)
	applications, err := v.Applications()
	if err != nil {
		return err
	}
	for _, a := range applications {
		l.dispatch.starve(a.Name)
	}
	l.nextDeadline.clear()
	for _, b := range []bell{l.deadlines, l.outgoing, l.operations} {
		b.ring()
	}
	return nil
}

// any tells that there is a session.
func (d *dispatcher) any() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sessions) > 0
}

// keepOnly ends the sessions that are not open any more.
func (d *dispatcher) keepOnly(open map[string]bool) {
	d.mu.Lock()
	var gone []string
	for id := range d.sessions {
		if !open[id] {
			gone = append(gone, id)
		}
	}
	d.mu.Unlock()
	for _, id := range gone {
		d.end(id)
	}
}

// propose puts a duty's command into the log, if this node leads still.
func (l *leadership) propose(ctx context.Context, cmd *logv1.Command) (*logv1.Outcome, error) {
	data, err := marshal(cmd)
	if err != nil {
		return nil, err
	}
	q := newProposal([][]byte{data}, len(data))
	q.forwarded = true
	outcomes, err := l.node.proposer.submit(ctx, q)
	if err != nil {
		return nil, err
	}
	return outcomes[0], fault(outcomes[0])
}

// dutyFailed tells of a duty that did not succeed, unless the lead is over.
func (l *leadership) dutyFailed(duty string, err error) {
	if l.ctx.Err() == nil && !notDone(err) && !errors.Is(err, context.Canceled) {
		l.node.log.Warn("a duty of the leader failed and will be tried again", "duty", duty, "error", err)
	}
}

// touchesMax bounds the effects that wait for the leader; past it they are dropped and found again in the state.
const touchesMax = 1 << 16

// effectQueue takes what Apply reports, without ever holding Apply up.
type effectQueue struct {
	bell bell
	// ended is told at once of sessions that ended: who was told so must not find them alive.
	ended func(session string)
	mu    sync.Mutex
	// pending is in the order of the log; touches counts what is in it; lost: something was dropped.
	pending []*fsm.Effects
	touches int
	lost    bool
}

func newEffectQueue(ended func(session string)) *effectQueue {
	return &effectQueue{bell: newBell(), ended: ended}
}

func (q *effectQueue) push(e *fsm.Effects) {
	if len(e.Touched)+len(e.Opened)+len(e.Ended)+len(e.Work)+len(e.Entered) == 0 && e.DeadlineMS == 0 && !e.Outgoing && !e.Operations {
		return
	}
	for _, id := range e.Ended {
		q.ended(id)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.touches += len(e.Touched) + 1
	if q.touches > touchesMax {
		q.pending, q.lost = nil, true
	} else {
		q.pending = append(q.pending, e)
	}
	q.bell.ring()
}

func (q *effectQueue) pop() (pending []*fsm.Effects, lost bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	pending, lost = q.pending, q.lost
	q.pending, q.touches, q.lost = nil, 0, false
	return pending, lost
}

// takeEffects takes in what was applied.
func (l *leadership) takeEffects() {
	pending, lost := l.effects.pop()
	if lost {
		if err := l.rebuild(); err != nil {
			l.dutyFailed("rebuild", err)
			pause(l.ctx, dutyPause)
			l.effects.mark()
			return
		}
	}
	for _, e := range pending {
		l.takeEffect(e)
	}
}

// mark has everything found again in the state at the next look.
func (q *effectQueue) mark() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost = true
	q.bell.ring()
}

func (l *leadership) takeEffect(e *fsm.Effects) {
	for _, t := range e.Touched {
		if !l.dispatch.touch(t) {
			l.adopt(t)
		}
	}
	for _, a := range e.Entered {
		l.dispatch.enter(a)
	}
	for _, a := range e.Work {
		l.dispatch.starve(a)
	}
	for _, s := range e.Ended {
		l.dispatch.end(s)
	}
	if e.DeadlineMS != 0 && l.nextDeadline.lower(e.DeadlineMS) {
		l.deadlines.ring()
	}
	if e.Outgoing {
		l.outgoing.ring()
	}
	if e.Operations {
		l.operations.ring()
	}
}

// adopt takes in a touch of a session that is new to this leader; that of one that has ended is void.
func (l *leadership) adopt(t fsm.Touch) {
	if _, err := l.session(t.Owner); err == nil {
		l.dispatch.touch(t)
	}
}

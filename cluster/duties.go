package cluster

import (
	"context"
	"sync"
	"time"

	logv1 "sluice/api/log/v1"
)

const (
	// advanceBatch and forwardBatch bound what one command of a duty handles.
	advanceBatch = 1000
	forwardBatch = 256
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
		left := at.Sub(l.node.cfg.Now())
		switch {
		case err != nil:
			l.dutyFailed("advance", err)
			pause(ctx, dutyPause)
		case !ok:
			l.wait(ctx, l.deadlines, 0)
		case left > 0:
			l.nextDeadline.lower(at.UnixMilli())
			l.wait(ctx, l.deadlines, min(left, clockLook))
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
		pause(ctx, dutyPause)
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
			pause(ctx, dutyPause)
		case !waiting:
			l.wait(ctx, l.outgoing, 0)
		}
	}
}

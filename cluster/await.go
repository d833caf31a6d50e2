package cluster

import (
	"context"
	"sync"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// awaits wakes those who wait for a message's settlement at this node, whichever node leads.
type awaits struct {
	mu sync.Mutex
	// waiting holds a bell for each waiter.
	waiting map[fsm.MessageRef]map[bell]struct{}
}

// register begins to wait; the answered function ends it.
func (a *awaits) register(ref fsm.MessageRef) (bell, func()) {
	b := newBell()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = map[fsm.MessageRef]map[bell]struct{}{}
	}
	if a.waiting[ref] == nil {
		a.waiting[ref] = map[bell]struct{}{}
	}
	a.waiting[ref][b] = struct{}{}
	return b, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if delete(a.waiting[ref], b); len(a.waiting[ref]) == 0 {
			delete(a.waiting, ref)
		}
	}
}

// settled wakes those who wait for these messages.
func (a *awaits) settled(refs []fsm.MessageRef) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		return
	}
	for _, ref := range refs {
		for b := range a.waiting[ref] {
			b.ring()
		}
	}
}

// all wakes everybody, to look again.
func (a *awaits) all() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, bells := range a.waiting {
		for b := range bells {
			b.ring()
		}
	}
}

// Await waits until a message is settled and answers its status; when ctx ends before, the status so far, without an
// error. A message that is not there is UNKNOWN_MESSAGE at once.
func (n *Node) Await(ctx context.Context, id fsm.InstanceID, messageID string) (*sluicev1.MessageStatus, error) {
	woken, end := n.awaits.register(fsm.MessageRef{InstanceID: id, ID: messageID})
	defer end()
	v, _, err := n.View(ctx, false)
	for {
		if err != nil {
			return nil, err
		}
		status, err := v.Message(id, messageID)
		if err != nil || status.Status == sluicev1.Status_MESSAGE_STATUS_SETTLED {
			return status, err
		}
		select {
		case <-woken:
			v = n.groupOf(id).view()
		case <-ctx.Done():
			return n.groupOf(id).view().Message(id, messageID)
		case <-n.stopped:
			return nil, stopping()
		}
	}
}

package replay

import (
	"context"
	"fmt"
	"sync"

	"sluice/client"
)

// maxViolations is how many are kept word for word; the rest is counted.
const maxViolations = 20

// readers is how many questions are asked at once while verifying.
const readers = 32

// verify proves, from what the handlers wrote down and from the cluster's own word, that the replay came out right.
func (r *run) verify(ctx context.Context) error {
	for _, text := range r.ledger.strange {
		r.violation("%s", text)
	}
	for _, c := range r.plan.cases {
		r.verifyBook(r.ledger.books[c.key])
	}
	instances, err := r.instances(ctx)
	if err != nil {
		return err
	}
	if err := r.verifyKnown(ctx); err != nil {
		return err
	}
	return r.forEachCase(ctx, func(ctx context.Context, c *plannedCase) error {
		if len(c.events) == 0 {
			return nil
		}
		b := r.ledger.books[c.key]
		now, ok := instances[c.key]
		if !ok {
			r.violation("%s: the cluster does not know it", c.key)
			return nil
		}
		r.verifyEnd(b, now)
		if err := r.verifySettled(ctx, c); err != nil {
			return err
		}
		return r.verifyEpochs(ctx, b, now)
	})
}

// verifyBook judges one page of the ledger: each event handled once, in order, as it was sent; receipts in order;
// deferred what was to be deferred.
func (r *run) verifyBook(b *book) {
	var seq client.Seq
	next, deferred := 0, map[int]bool{}
	for _, e := range b.entries {
		for next < len(b.of.events) && next != e.place && b.earlier[next] {
			next++ // handled in an earlier run
		}
		if e.place != next {
			r.violation("%s: event-%d was handled where event-%d should have been", b.of.key, e.place, next)
		}
		next = e.place + 1
		if e.seq <= seq {
			r.violation("%s: seq %d was handled after seq %d", b.of.key, e.seq, seq)
		}
		seq = e.seq
		if e.digest != b.of.events[e.place].digest {
			r.violation("%s: event-%d was handed over with other content than it was sent with", b.of.key, e.place)
		}
		if e.seq != b.receipts[e.place].Seq {
			r.violation("%s: event-%d was handed over as seq %d, its receipt says %d", b.of.key, e.place, e.seq, b.receipts[e.place].Seq)
		}
		deferred[e.place] = e.deferred
	}
	for next < len(b.of.events) && b.earlier[next] {
		next++
	}
	if next < len(b.of.events) {
		r.violation("%s: event-%d was never handled", b.of.key, next)
	}
	r.verifyReceipts(b, deferred)
}

func (r *run) verifyReceipts(b *book, deferred map[int]bool) {
	var last client.Seq
	for place, receipt := range b.receipts {
		p := b.of.events[place]
		if receipt.Seq <= last {
			r.violation("%s: %s has seq %d, the one before it %d", b.of.key, p.id(), receipt.Seq, last)
		}
		last = receipt.Seq
		if b.earlier[place] {
			continue
		}
		isDeferred := receipt.Disposition == client.DispositionDeferred
		if p.deferred && !isDeferred {
			r.violation("%s: %s was sent in the middle of a recovery, and was %s in mode %s", b.of.key, p.id(), receipt.Disposition, receipt.Mode)
		}
		if isDeferred != (receipt.Mode != client.ModeNormal) {
			r.violation("%s: %s was %s in mode %s", b.of.key, p.id(), receipt.Disposition, receipt.Mode)
		}
		if was, handled := deferred[place]; handled && was != isDeferred {
			r.violation("%s: %s was %s, and handed over as deferred: %v", b.of.key, p.id(), receipt.Disposition, was)
		}
	}
}

// verifyEnd judges the cluster's own word about an instance, now that all is over.
func (r *run) verifyEnd(b *book, now client.Instance) {
	if now.Mode != client.ModeNormal || now.DeferredMessages != 0 || now.NormalMessages != 0 || now.RecoveryMessages != 0 {
		r.violation("%s: at the end it is %s, with %d unsettled, %d of them deferred, and %d in the recovery lane", b.of.key, now.Mode, now.NormalMessages, now.DeferredMessages, now.RecoveryMessages)
	}
	if now.NextSeq <= client.Seq(len(b.of.events)) {
		r.violation("%s: it has taken %d messages, %d were sent", b.of.key, now.NextSeq-1, len(b.of.events))
	}
}

// verifyKnown sends everything once more: the cluster must know each message, with the same content, under the
// receipt that it gave the first time.
func (r *run) verifyKnown(ctx context.Context) error {
	const batch = 500
	for from := 0; from < len(r.plan.order); from += batch {
		part := r.plan.order[from:min(from+batch, len(r.plan.order))]
		s := &sender{run: r}
		results, err := s.client.SendBatch(ctx, s.messages(part))
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		for i, p := range part {
			first := r.ledger.books[p.of.key].receipts[p.place]
			first.Duplicate = true
			if again := results[i]; again.Err != nil {
				r.violation("%s: sent again, %s was answered %v", p.of.key, p.id(), again.Err)
			} else if again.Receipt != first {
				r.violation("%s: sent again, %s got the receipt %+v, the first time %+v", p.of.key, p.id(), again.Receipt, first)
			}
		}
		r.verified(from + len(part))
	}
	return nil
}

// verifySettled asks the cluster how each message of a case ended.
func (r *run) verifySettled(ctx context.Context, c *plannedCase) error {
	for _, p := range c.events {
		status, err := r.client.Get(ctx, r.id(c), p.id())
		if err != nil {
			return fmt.Errorf("verify %s of %s: %w", p.id(), c.key, err)
		}
		if status.Status != client.StatusSettled || status.Settlement != client.SettlementCompleted {
			r.violation("%s: the cluster says that %s is %s %s", c.key, p.id(), status.Status, status.Settlement)
		}
	}
	return nil
}

// verifyEpochs proves from the history that no event was handled under an epoch of recovery, and no recovery handler
// called under one that was not. An instance whose only epoch is the present one has no other to look at.
func (r *run) verifyEpochs(ctx context.Context, b *book, now client.Instance) error {
	settled := !b.of.sick && len(b.recovers) == 0
	for _, e := range b.entries {
		settled = settled && e.epoch == now.Epoch
	}
	if settled {
		return nil
	}
	history, err := r.client.Instances().History(ctx, r.id(b.of))
	if err != nil {
		return fmt.Errorf("verify the history of %s: %w", b.of.key, err)
	}
	r.judgeEpochs(b, history)
	return nil
}

func (r *run) judgeEpochs(b *book, history []client.Transition) {
	for _, e := range b.entries {
		if modeAt(history, e.epoch) == client.ModeRecovery {
			r.violation("%s: event-%d was handed to a handler under epoch %d, in which it was in recovery", b.of.key, e.place, e.epoch)
		}
	}
	for _, epoch := range b.recovers {
		if mode := modeAt(history, epoch); mode != client.ModeRecovery {
			r.violation("%s: a recovery handler was called under epoch %d, in which it was %s", b.of.key, epoch, mode)
		}
	}
}

// modeAt is the mode that an epoch began in: that of the last transition up to it. A change of owner makes a new epoch
// and no transition; the end of draining is a transition and makes no epoch.
func modeAt(history []client.Transition, epoch client.Epoch) client.Mode {
	mode := client.ModeNormal
	for _, t := range history {
		if t.Epoch > epoch {
			break
		}
		mode = t.To
	}
	return mode
}

// instances are all of the application's, by key.
func (r *run) instances(ctx context.Context) (map[string]client.Instance, error) {
	all := make(map[string]client.Instance, len(r.plan.cases))
	for instance, err := range r.client.Instances().List(ctx, client.ListInstances{Application: r.cfg.Application}) {
		if err != nil {
			return nil, fmt.Errorf("list the instances: %w", err)
		}
		all[instance.ID.Key] = instance
	}
	return all, nil
}

// forEachCase does something for each case, many at once, until one fails.
func (r *run) forEachCase(ctx context.Context, do func(context.Context, *plannedCase) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *plannedCase)
	var group sync.WaitGroup
	for range readers {
		group.Go(func() {
			for c := range work {
				if err := do(ctx, c); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i, c := range r.plan.cases {
		select {
		case work <- c:
		case <-ctx.Done():
		}
		if i%100 == 0 {
			r.verified(i * len(r.plan.order) / len(r.plan.cases))
		}
	}
	close(work)
	group.Wait()
	return context.Cause(ctx)
}

//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/client"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// removeMembers removes nodes that run from the cluster. What they do then is theirs; nobody starts them again.
func (w *World) removeMembers(ctx context.Context, _ world.Fault, nodes []*node) (world.Heal, error) {
	heal := func(ctx context.Context) (err error) {
		for _, n := range nodes {
			err = errors.Join(err, w.replace(ctx, n))
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, replaceWithin)
	defer cancel()
	for _, n := range nodes {
		n.hold()
		if err := w.remove(ctx, n.name()); err != nil {
			return heal, err
		}
	}
	return heal, nil
}

const (
	// membersWithin bounds the question for all members.
	membersWithin = 3 * time.Second
	// replaceWithin is long, for a node gets its vote only when nothing else keeps it from hearing for a while.
	replaceWithin = 150 * time.Second
)

// replace has a fresh node, under a new id, take a place: the old one is removed from the cluster, because no two
// members may have one address, and the new one joins and waits for its vote.
func (w *World) replace(ctx context.Context, n *node) error {
	n.hold().kill()
	if err := n.wipe(ctx); err != nil {
		return errors.Join(err, n.start())
	}
	old := n.renew()
	ctx, cancel := context.WithTimeout(ctx, replaceWithin)
	defer cancel()
	if err := w.remove(ctx, old); err != nil {
		return errors.Join(fmt.Errorf("remove %s: %w", old, err), n.start())
	}
	if err := errors.Join(w.certify(n), n.start()); err != nil {
		return err
	}
	for {
		voter := false
		err := w.operate(ctx, func(ctx context.Context, c client.Cluster) error {
			members, err := c.Members(ctx)
			for _, m := range members {
				voter = voter || m.ID == n.name() && m.Suffrage == "voter"
			}
			return err
		})
		if voter {
			return nil
		}
		if waited := w.Wait(ctx, 200*time.Millisecond); waited != nil {
			return errors.Join(fmt.Errorf("%s does not get its vote", n.name()), err, waited)
		}
	}
}

// remove removes a member, until it is none any more.
func (w *World) remove(ctx context.Context, id string) error {
	for {
		w.removed(id)
		err := w.operate(ctx, func(ctx context.Context, c client.Cluster) error { return c.Remove(ctx, id) })
		if err == nil || errors.Is(err, client.ErrUnknownMember) { // an attempt before this one may have removed it
			return nil
		}
		if w.Wait(ctx, 200*time.Millisecond) != nil {
			return err
		}
	}
}

// removed notes that a node is to be no member any more.
func (w *World) removed(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone[id] = true
}

// expelled are those of some members that are none any more though nobody had removed them.
func (w *World) expelled(before, after []string) (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range before {
		if !slices.Contains(after, id) && !w.gone[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// members are the ids of all; none if nobody tells.
func (w *World) members(ctx context.Context) (ids []string) {
	ctx, cancel := context.WithTimeout(ctx, membersWithin)
	defer cancel()
	_ = w.operate(ctx, func(ctx context.Context, c client.Cluster) error { // nobody may lead
		all, err := c.Members(ctx)
		for _, m := range all {
			ids = append(ids, m.ID)
		}
		return err
	})
	return ids
}

// cutGossip makes the cuts of a fault for gossip alone. What gossip says or does not must not change who is a member.
func (w *World) cutGossip(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	before := w.members(ctx)
	heal, err := w.cutting(cutGossip)(ctx, f, nodes)
	return func(ctx context.Context) error {
		if after := w.members(ctx); len(after) > 0 {
			for _, id := range w.expelled(before, after) {
				w.log.Mark(history.Mark{Name: history.Expelled, Text: id + " is no member any more since gossip was cut, and nobody had removed it"})
			}
		}
		return heal(ctx)
	}, err
}

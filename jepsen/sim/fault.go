package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"time"

	"sluice/client"
	"sluice/jepsen/world"
)

// Has tells what cannot be done in virtual time.
func (w *World) Has(kind world.Kind) error {
	if kind == world.Pause || kind == world.WorkerPause {
		return &world.Missing{Kind: kind, Why: "goroutines cannot be stopped where they are in virtual time; jepsen/proc does it to processes"}
	}
	if w.faults()[kind] == nil {
		return &world.Missing{Kind: kind, Why: "jepsen/sim does not know it; jepsen/proc does it"}
	}
	return nil
}

// attack begins a fault whose places are known.
type attack func(ctx context.Context, f world.Fault, at []*place) (world.Heal, error)

func (w *World) faults() map[world.Kind]attack {
	return map[world.Kind]attack{
		world.Partition: w.cutting(what{streams: true, words: true}), world.GossipCut: w.cutting(what{words: true}), world.RaftCut: w.cutting(what{streams: true}),
		world.Lag: w.leaveBehind, world.FrameCut: w.cutFrames, world.WorkerCut: w.cutWorkers,
		world.Loss: w.lose, world.Delay: w.delayed, world.CrashAt: w.crashAt, world.Removal: w.removal,
		world.Kill: w.killed, world.PowerLoss: w.powerless, world.Restart: w.restart, world.Transfer: w.transfer,
		world.DiskError: w.diskError, world.DiskFull: w.diskFull, world.DiskHang: w.diskHang, world.DiskSlow: w.diskSlow,
		world.DiskReadOnly: w.diskReadOnly, world.BitFlip: w.bitFlip, world.Truncation: w.truncation, world.DiskLoss: w.diskLoss,
		world.ClockSkew: w.skew,
		world.WorkerKill: func(_ context.Context, f world.Fault, _ []*place) (world.Heal, error) {
			return w.killWorkers(f.Workers)
		},
	}
}

// Inject begins a fault.
func (w *World) Inject(ctx context.Context, f world.Fault) (world.Heal, error) {
	if err := w.Has(f.Kind); err != nil {
		return nothing, err
	}
	at, err := w.named(f.Nodes)
	if err != nil {
		return nothing, err
	}
	w.trace.note("fault: %s", f)
	heal, err := w.faults()[f.Kind](ctx, f, at)
	if heal == nil {
		heal = nothing
	}
	return func(ctx context.Context) error {
		w.trace.note("heal: %s", f)
		return heal(ctx)
	}, err
}

func nothing(context.Context) error { return nil }

// worsen changes how the network treats what places get or send, and has it treat that as ever again.
func (w *World) worsen(at []*place, change func(q *quality, on bool)) world.Heal {
	set := func(on bool) {
		for _, p := range at {
			w.network.worsen(p.ip, func(q *quality) { change(q, on) })
		}
	}
	set(true)
	return func(context.Context) error {
		set(false)
		return nil
	}
}

func (w *World) lose(_ context.Context, f world.Fault, at []*place) (world.Heal, error) {
	return w.worsen(at, func(q *quality, on bool) { q.loss = map[bool]int{true: f.Percent}[on] }), nil
}

func (w *World) delayed(_ context.Context, f world.Fault, at []*place) (world.Heal, error) {
	return w.worsen(at, func(q *quality, on bool) { q.slow = map[bool]time.Duration{true: f.Span}[on] }), nil
}

// revive starts those of some places that do not run.
func revive(at []*place) world.Heal {
	return func(ctx context.Context) error {
		var errs []error
		for _, p := range at {
			if l := p.current(); l != nil {
				errs = append(errs, l.settle(ctx))
			}
			if err := p.start(); err != nil && !errors.Is(err, errRuns) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
}

func (w *World) killed(_ context.Context, _ world.Fault, at []*place) (world.Heal, error) {
	for _, p := range at {
		p.kill()
	}
	return revive(at), nil
}

func (w *World) powerless(_ context.Context, f world.Fault, at []*place) (world.Heal, error) {
	rng := w.rolls(f)
	for _, p := range at {
		p.unplug(rng)
	}
	return revive(at), nil
}

// rolls are the numbers of a fault.
func (w *World) rolls(f world.Fault) *rand.Rand {
	return w.dice.of(string(f.Kind), strconv.FormatUint(f.Seed, 10))
}

func (w *World) restart(ctx context.Context, _ world.Fault, at []*place) (world.Heal, error) {
	for _, p := range at {
		if err := p.halt(ctx); err != nil {
			return nil, err
		}
		if err := p.start(); err != nil {
			return nil, err
		}
	}
	return nothing, nil
}

func (w *World) transfer(ctx context.Context, _ world.Fault, at []*place) (world.Heal, error) {
	if len(at) == 0 {
		return nil, errors.New("sim: a transfer needs a node")
	}
	c, err := w.Client(ctx, "nemesis")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_, err = c.Cluster().TransferLeadership(ctx, at[0].nodeID())
	return nothing, err
}

// hurt does something to the disks of places that run, and undoes it where the same life still runs; the others are started.
func hurt(at []*place, change func(l *life, on bool)) world.Heal {
	var lives []*life
	for _, p := range at {
		p.sick.Add(1)
		if l := p.current(); l != nil {
			l.hurt.Store(true)
			change(l, true)
			lives = append(lives, l)
		}
	}
	return func(ctx context.Context) error {
		for _, p := range at {
			p.sick.Add(-1)
		}
		for _, l := range lives {
			change(l, false)
		}
		return revive(at)(ctx)
	}
}

// onOff is an error while a fault is in force.
func onOff(err error, on bool) error {
	if on {
		return err
	}
	return nil
}

func (w *World) diskError(_ context.Context, _ world.Fault, at []*place) (world.Heal, error) {
	return hurt(at, func(l *life, on bool) { l.mount.FailSyncs(onOff(syscall.EIO, on)) }), nil
}

func (w *World) diskFull(_ context.Context, f world.Fault, at []*place) (world.Heal, error) {
	abrupt := w.rolls(f).IntN(3) == 0
	return hurt(at, func(l *life, on bool) {
		if on {
			l.full.Store(int32(1 + w.rolls(f).IntN(2)))
		} else {
			l.full.Store(0)
		}
		if abrupt {
			l.mount.Refuse(onOff(syscall.ENOSPC, on))
		}
	}), nil
}

func (w *World) diskReadOnly(_ context.Context, _ world.Fault, at []*place) (world.Heal, error) {
	return hurt(at, func(l *life, on bool) { l.mount.Refuse(onOff(syscall.EROFS, on)) }), nil
}

func (w *World) diskHang(_ context.Context, _ world.Fault, at []*place) (world.Heal, error) {
	return hurt(at, func(l *life, on bool) {
		if on {
			l.mount.Hang()
		} else {
			l.mount.Resume()
		}
	}), nil
}

func (w *World) diskSlow(_ context.Context, f world.Fault, at []*place) (world.Heal, error) {
	return hurt(at, func(l *life, on bool) {
		usual := w.syncTime(l.number)
		if !on {
			l.mount.Slow(usual)
			return
		}
		l.mount.Slow(func() time.Duration { return usual() + f.Span })
	}), nil
}

func (w *World) bitFlip(ctx context.Context, f world.Fault, at []*place) (world.Heal, error) {
	rng := w.rolls(f)
	return w.damage(ctx, rng, at, func(b []byte) []byte {
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		return b
	})
}

func (w *World) truncation(ctx context.Context, f world.Fault, at []*place) (world.Heal, error) {
	rng := w.rolls(f)
	return w.damage(ctx, rng, at, func(b []byte) []byte { return b[:rng.IntN(len(b))] })
}

// damage stops nodes, changes a file of each, and starts them. Heal replaces those that do not run then.
func (w *World) damage(ctx context.Context, rng *rand.Rand, at []*place, change func([]byte) []byte) (world.Heal, error) {
	for _, p := range at {
		p.kill()
		p.disk.Unmount()
		files, err := p.disk.Files()
		if err != nil || len(files) == 0 {
			return revive(at), fmt.Errorf("sim: %s has no file to damage: %w", p.name, err)
		}
		path := files[rng.IntN(len(files))]
		w.trace.note("%s: %s is damaged", p.name, path)
		if err := p.disk.Damage(path, change); err != nil {
			return revive(at), err
		}
		p.damaged.Store(true)
		p.sick.Add(1) // so that nobody else starts it again
		_ = p.start() // it may refuse, and has been told of then
	}
	return func(ctx context.Context) error {
		for _, p := range at {
			p.sick.Add(-1)
			if l := p.current(); l != nil {
				if err := l.settle(ctx); err != nil {
					return err
				}
			}
			if p.current() == nil {
				if err := w.renew(ctx, p); err != nil {
					return err
				}
			}
		}
		return nil
	}, nil
}

func (w *World) diskLoss(_ context.Context, _ world.Fault, at []*place) (world.Heal, error) {
	for _, p := range at {
		p.kill()
	}
	return w.renewing(at), nil
}

// renew puts a node without data in a place. The old id goes first: no two may have one address. Half of the new nodes have
// the old id again, and are tried before it is gone, too.
func (w *World) renew(ctx context.Context, p *place) error {
	if p.renewing.Swap(true) { // another operator is at it
		return nil
	}
	c, err := w.reborn(ctx, p)
	p.renewing.Store(false)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		members, err := c.Cluster().Members(ctx)
		for _, m := range members {
			if err == nil && m.ID == p.nodeID() && m.Suffrage == "voter" {
				return nil
			}
		}
		if err := w.Wait(ctx, time.Second); err != nil {
			return fmt.Errorf("sim: %s did not become a voter: %w", p.nodeID(), err)
		}
	}
}

// reborn starts the new node of a place, and answers the client of the operator who did.
func (w *World) reborn(ctx context.Context, p *place) (*client.Client, error) {
	p.kill()
	same := w.dice.of("reborn", p.name, strconv.Itoa(p.births)).IntN(2) == 0
	old := p.replace(same)
	c, err := w.Client(ctx, "operator")
	if err != nil {
		return nil, err
	}
	if same {
		err = w.tooSoon(ctx, p)
	}
	if err == nil {
		err = w.remove(ctx, c, old)
	}
	if err != nil {
		w.trace.note("%s: %s could not be removed: %v", p.name, old, err)
	} else {
		p.lost.Store(false)
		err = p.boot()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// tooSoonFor is how long a node that forgot everything is let try to be who it was: less than a vote takes to be given.
const tooSoonFor = 2 * time.Second

// tooSoon starts a node under an id that is a member's still. It ends by itself when the leader has refused it.
func (w *World) tooSoon(ctx context.Context, p *place) error {
	if err := p.boot(); err != nil {
		return err
	}
	l := p.current()
	if l == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tooSoonFor)
	defer cancel()
	select {
	case <-l.done:
	case <-ctx.Done():
	}
	p.kill()
	p.disk.Wipe()
	return nil
}

// removeWithin is how long a removal may take: a leader may have to be elected first, and has to hear of a quorum.
const removeWithin = time.Minute

// remove takes a node out of the cluster. A removal whose outcome was unknown may have been done: then there is no such
// member, and that is what was wanted.
func (w *World) remove(ctx context.Context, c *client.Client, id string) error {
	ctx, cancel := context.WithTimeout(ctx, removeWithin)
	defer cancel()
	for {
		err := c.Cluster().Remove(ctx, id)
		var refusal *client.Error
		switch {
		case err == nil, errors.Is(err, client.ErrUnknownMember):
			return nil
		case errors.As(err, &refusal) && !refusal.Temporary():
			return err
		}
		w.trace.note("%s is not removed yet: %v", id, err)
		if w.Wait(ctx, time.Second) != nil {
			return err
		}
	}
}

// removal removes nodes while they run. Heal puts others in their places.
func (w *World) removal(ctx context.Context, _ world.Fault, at []*place) (world.Heal, error) {
	c, err := w.Client(ctx, "operator")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for _, p := range at {
		if err := w.remove(ctx, c, p.nodeID()); err != nil { // it may have been removed
			return nil, errors.Join(err, w.renewing(at)(ctx))
		}
	}
	return w.renewing(at), nil
}

func (w *World) renewing(at []*place) world.Heal {
	return func(ctx context.Context) error {
		for _, p := range at {
			if err := w.renew(ctx, p); err != nil {
				return err
			}
		}
		return nil
	}
}

func (w *World) skew(_ context.Context, f world.Fault, at []*place) (world.Heal, error) {
	for _, p := range at {
		p.ahead.Add(int64(f.Span))
	}
	return func(context.Context) error {
		for _, p := range at {
			p.ahead.Add(-int64(f.Span))
		}
		return nil
	}, nil
}

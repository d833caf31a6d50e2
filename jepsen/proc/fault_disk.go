//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"sluice/jepsen/world"
)

func (w *World) fillDisks(_ context.Context, _ world.Fault, nodes []*node) (world.Heal, error) {
	heal := func(context.Context) (err error) {
		for _, n := range nodes {
			err = errors.Join(err, n.disk.free())
		}
		return errors.Join(err, startAll(nodes))
	}
	for _, n := range nodes {
		n.hold() // it may end; it is not to be started while there is no room
		if err := n.disk.fill(); err != nil {
			return heal, err
		}
	}
	return heal, nil
}

func (w *World) freezeDisks(ctx context.Context, _ world.Fault, nodes []*node) (world.Heal, error) {
	frozen := nodes[:0:0]
	heal := func(ctx context.Context) (err error) {
		for _, n := range frozen {
			err = errors.Join(err, n.disk.thaw(ctx))
		}
		return errors.Join(err, startAll(nodes))
	}
	for _, n := range nodes {
		n.hold() // it may give up; a start would hang
		if err := n.disk.freeze(ctx); err != nil {
			return heal, err
		}
		frozen = append(frozen, n)
	}
	return heal, nil
}

// refuseWrites makes disks read-only. To mount one again nobody may use it: the node is killed first if it lives.
func (w *World) refuseWrites(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	heal := func(ctx context.Context) error {
		_, err := w.kill(ctx, f, nodes)
		for _, n := range nodes {
			err = errors.Join(err, n.disk.powerUp(ctx))
		}
		return errors.Join(err, startAll(nodes))
	}
	for _, n := range nodes {
		n.hold()
		if err := n.disk.refuseWrites(ctx); err != nil {
			return heal, err
		}
	}
	return heal, nil
}

func (w *World) flipBit(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	return w.damage(ctx, nodes, func(random *rand.Rand, name string, size int64) error {
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer file.Close()
		one, at := make([]byte, 1), random.Int64N(size)
		if _, err := file.ReadAt(one, at); err != nil {
			return err
		}
		one[0] ^= 1 << random.IntN(8)
		_, err = file.WriteAt(one, at)
		return err
	}, f.Seed)
}

func (w *World) truncate(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	return w.damage(ctx, nodes, func(random *rand.Rand, name string, size int64) error {
		return os.Truncate(name, random.Int64N(size))
	}, f.Seed)
}

// damage kills nodes, hurts one file of each, and starts them. Those that refuse to start are replaced by Heal, under
// new ids; those that do not are whole as far as they can tell, and stay.
func (w *World) damage(ctx context.Context, nodes []*node, hurt func(random *rand.Rand, name string, size int64) error, seed uint64) (world.Heal, error) {
	if _, err := w.kill(ctx, world.Fault{}, nodes); err != nil {
		return startLater(nodes), err
	}
	random := rand.New(rand.NewPCG(seed, seed))
	for _, n := range nodes {
		name, size, err := someFile(n.data(), random)
		if err == nil {
			w.cfg.Tell("%s: %s of %d bytes is hurt", n.place, strings.TrimPrefix(name, n.data()), size)
			err = hurt(random, name, size)
		}
		if err != nil {
			return startLater(nodes), err
		}
	}
	for _, n := range nodes {
		if err := n.start(); err != nil {
			return startLater(nodes), err
		}
		n.hold() // if it refuses to go on it stays down
	}
	return func(ctx context.Context) (err error) {
		for _, n := range nodes {
			if n.running().alive() {
				err = errors.Join(err, n.start())
				continue
			}
			w.cfg.Tell("%s refused its damaged data, and is replaced", n.place)
			err = errors.Join(err, w.replace(ctx, n))
		}
		return err
	}, nil
}

// someFile chooses a file that holds something, whatever it is for; the lock files of the node hold nothing.
func someFile(dir string, random *rand.Rand) (name string, size int64, err error) {
	var names []string
	sizes := map[string]int64{}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Size() > 0 {
			names, sizes[path] = append(names, path), info.Size()
		}
		return err
	})
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("there is no file with anything in it in %s", dir)
	}
	if err != nil {
		return "", 0, err
	}
	name = names[random.IntN(len(names))]
	return name, sizes[name], nil
}

// loseDisk takes all data of nodes away.
func (w *World) loseDisk(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	heal := func(ctx context.Context) (err error) {
		for _, n := range nodes {
			err = errors.Join(err, w.replace(ctx, n))
		}
		return err
	}
	_, err := w.kill(ctx, f, nodes)
	return heal, err
}

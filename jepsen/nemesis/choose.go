package nemesis

import (
	"math/rand/v2"
	"slices"
	"time"

	"sluice/jepsen/world"
)

// chooser makes faults out of kinds: who is hit, how hard and for how long.
type chooser struct {
	random  *rand.Rand
	nodes   []string
	workers []string
	// whole tells of a node that nothing else hurts it; nil: so it is.
	whole func(node string) bool
	// shape is the one that is asked for; empty: chance decides.
	shape string
}

// shapes are whom a kind may hit: chance chooses among them, and one that is there twice comes twice as often. A kind that
// is not named hits one node.
var shapes = map[world.Kind][]string{
	world.Kill:         {"leader", "one", "quorum", "all"},
	world.CrashAt:      {"leader", "one", "all", "quorum"},
	world.PowerLoss:    {"all", "leader", "quorum", "all"},
	world.Pause:        {"leader", "one", "quorum"},
	world.Restart:      {"all"},
	world.Transfer:     {"one"},
	world.Loss:         {"all", "one"},
	world.Delay:        {"all", "one", "leader"},
	world.DiskError:    {"leader", "one"},
	world.DiskFull:     {"leader", "one", "quorum"},
	world.DiskHang:     {"leader", "one"},
	world.DiskSlow:     {"leader", "quorum", "one"},
	world.DiskReadOnly: {"leader", "one"},
	world.Bandwidth:    {"all", "one", "leader"},
	world.FrameCut:     {"all", "leader", "one"},
	world.Garbage:      {"all", "leader", "one"},
	world.SlowLoris:    {"leader", "all", "one"},
	world.WorkerCut:    {"leader", "all", "one", "quorum"},
	world.Lag:          {"follower"},
	world.Removal:      {"leader", "one"},
	world.CertRotation: {"all"},
	world.CertExpiry:   {"leader", "one"},
	world.ClockSkew:    {"leader", "one", "quorum"},
}

// cutShapes are the shapes of partitions.
var cutShapes = []string{"leader alone", "majority", "bridge", "ring", "one-way"}

// dwells are how long kinds last, where it is not the usual 2 to 6 seconds.
var dwells = map[world.Kind][2]time.Duration{
	world.Transfer: {0, 0}, world.Restart: {0, 0}, world.Kill: {500 * time.Millisecond, 4 * time.Second},
	world.PowerLoss: {500 * time.Millisecond, 3 * time.Second}, world.DiskError: {3 * time.Second, 5 * time.Second},
	world.DiskHang: {3 * time.Second, 12 * time.Second}, world.BitFlip: {3 * time.Second, 6 * time.Second}, world.Truncation: {3 * time.Second, 6 * time.Second},
	world.CrashAt: {4 * time.Second, 10 * time.Second}, world.Lag: {4 * time.Second, 6 * time.Second}, world.CertRotation: {time.Second, 3 * time.Second}, world.Removal: {time.Second, 4 * time.Second},
	world.Pause: {500 * time.Millisecond, 8 * time.Second}, world.WorkerPause: {time.Second, 8 * time.Second},
}

func (c *chooser) dwell(kind world.Kind) time.Duration {
	span, ok := dwells[kind]
	if !ok {
		span = [2]time.Duration{2 * time.Second, 6 * time.Second}
	}
	if span[1] <= span[0] {
		return span[0]
	}
	return span[0] + time.Duration(c.random.Int64N(int64(span[1]-span[0])))
}

// fault makes one of a kind. leader may be empty.
func (c *chooser) fault(kind world.Kind, leader string) world.Fault {
	f := world.Fault{Kind: kind, Seed: c.random.Uint64()}
	switch kind {
	case world.WorkerKill, world.WorkerPause:
		f.Workers = c.some(c.workers, 1+c.random.IntN(max(1, len(c.workers)/2)))
		return f
	case world.Partition, world.GossipCut, world.RaftCut:
		f.Shape = cutShapes[c.random.IntN(len(cutShapes))]
		f.Cuts = c.cuts(f.Shape, leader)
		return f
	case world.CertWrong:
		wrong := world.WrongCertificates()
		f.Shape = wrong[c.random.IntN(len(wrong))]
		f.Nodes = c.hit("one", leader)
		return f
	case world.Bandwidth:
		f.Rate = (4 + c.random.IntN(124)) << 10
	case world.Loss:
		f.Percent = 1 + c.random.IntN(30)
	case world.Delay:
		f.Span = time.Duration(10+c.random.IntN(300)) * time.Millisecond
	case world.DiskSlow:
		f.Span = time.Duration(20+c.random.IntN(200)) * time.Millisecond
	case world.ClockSkew:
		f.Span = time.Duration(c.random.IntN(40)-20) * time.Second
	}
	f.Shape = "one"
	if all := shapes[kind]; len(all) > 0 {
		if f.Shape = all[c.random.IntN(len(all))]; slices.Contains(all, c.shape) {
			f.Shape = c.shape
		}
	}
	f.Nodes = c.hit(f.Shape, leader)
	return f
}

// hit chooses nodes.
func (c *chooser) hit(shape, leader string) []string {
	switch {
	case shape == "all":
		return slices.Clone(c.nodes)
	case shape == "quorum":
		return c.some(c.nodes, len(c.nodes)/2+1)
	case shape == "leader" && leader != "":
		return []string{leader}
	case shape == "follower": // one that is not hurt already, if there is one
		all := c.some(without(c.nodes, leader), len(c.nodes))
		if i := slices.IndexFunc(all, func(node string) bool { return c.whole == nil || c.whole(node) }); i >= 0 {
			return all[i : i+1]
		}
		return all[:1]
	}
	return c.some(c.nodes, 1)
}

func (c *chooser) some(all []string, count int) []string {
	all = slices.Clone(all)
	c.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(count, len(all))]
}

// cuts makes the cuts of a shape.
func (c *chooser) cuts(shape, leader string) (cuts []world.Cut) {
	all := c.some(c.nodes, len(c.nodes))
	half := len(all) / 2
	switch shape {
	case "leader alone":
		one := c.hit("leader", leader)[0]
		return both(one, without(all, one))
	case "majority":
		for _, one := range all[:half] {
			cuts = append(cuts, both(one, all[half:])...)
		}
	case "bridge": // the one in the middle is heard by both halves
		for _, one := range all[:half] {
			cuts = append(cuts, both(one, all[half+1:])...)
		}
	case "ring": // each hears its neighbours alone
		for i, one := range all {
			for j, other := range all {
				if apart := (j - i + len(all)) % len(all); apart > 1 && apart < len(all)-1 {
					cuts = append(cuts, world.Cut{From: one, To: other})
				}
			}
		}
	default: // one-way: one is not heard by the others
		one := c.hit([]string{"leader", "one"}[c.random.IntN(2)], leader)[0]
		for _, other := range without(all, one) {
			cuts = append(cuts, world.Cut{From: one, To: other})
		}
	}
	return cuts
}

func without(all []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(other string) bool { return other == one })
}

func both(one string, others []string) (cuts []world.Cut) {
	for _, other := range others {
		cuts = append(cuts, world.Cut{From: one, To: other}, world.Cut{From: other, To: one})
	}
	return cuts
}

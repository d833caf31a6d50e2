package sim

import (
	"hash/fnv"
	"math/rand/v2"
)

// dice is where all that a simulation chooses comes from: each choice is made from the seed and its own name, so that it
// does not hang on how many others were made before.
type dice struct{ seed uint64 }

// of gives the numbers of one choice.
func (d dice) of(name ...string) *rand.Rand {
	h := fnv.New64a()
	for _, n := range name {
		_, _ = h.Write([]byte(n)) // a hash takes everything
		_, _ = h.Write([]byte{0})
	}
	return rand.New(rand.NewPCG(d.seed, h.Sum64()))
}

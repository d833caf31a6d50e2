//go:build linux

package proc

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"sluice/jepsen/world"
)

// treatment says what becomes of what was read from one way of a connection, now. Calls of one do not overlap.
type treatment func(data []byte, now time.Time) piece

// piece is what goes on, and when; after the last one the connection is broken.
type piece struct {
	data []byte
	due  time.Time
	last bool
}

// delayed holds each piece for the span, and one in fifty five times as long.
func delayed(span time.Duration) func(*rand.Rand) treatment {
	return func(random *rand.Rand) treatment {
		return func(data []byte, now time.Time) piece {
			if random.IntN(50) == 0 {
				return piece{data: data, due: now.Add(5 * span)}
			}
			return piece{data: data, due: now.Add(span/2 + time.Duration(random.Int64N(int64(span))))}
		}
	}
}

// narrow lets so many bytes pass a second.
func narrow(rate int) func(*rand.Rand) treatment {
	return func(*rand.Rand) treatment {
		var free time.Time // when all before it has passed
		return func(data []byte, now time.Time) piece {
			if free.Before(now) {
				free = now
			}
			free = free.Add(time.Duration(len(data)) * time.Second / time.Duration(rate))
			return piece{data: data, due: free}
		}
	}
}

const (
	// cutMost is how many bytes pass at most until a connection is cut; garbageMost, until nonsense comes.
	cutMost     = 64 << 10
	garbageMost = 256 << 10
)

// cutShort breaks the connection after so many bytes as chance says, wherever that is.
func cutShort(random *rand.Rand) treatment {
	left := 1 + random.IntN(cutMost)
	return func(data []byte, now time.Time) piece {
		if len(data) < left {
			left -= len(data)
			return piece{data: data, due: now}
		}
		return piece{data: data[:left], due: now, last: true}
	}
}

// garbled puts nonsense between bytes, or in their place, now and then.
func garbled(random *rand.Rand) treatment {
	left := random.IntN(garbageMost)
	return func(data []byte, now time.Time) piece {
		if left -= len(data); left > 0 {
			return piece{data: data, due: now}
		}
		left = random.IntN(garbageMost)
		at := random.IntN(len(data))
		out := append([]byte{}, data[:at]...)
		out = append(out, nonsense(random)...)
		if random.IntN(2) == 0 {
			return piece{data: append(out, data[at:]...), due: now} // between
		}
		return piece{data: out, due: now} // in place of the rest
	}
}

// nonsense is up to 4 KiB of it.
func nonsense(random *rand.Rand) []byte {
	out := make([]byte, 1+random.IntN(4<<10))
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return out
}

func (w *World) delay(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	return w.detoured(ctx, f, nodes, delayed(f.Span))
}

func (w *World) narrow(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	if f.Rate <= 0 {
		return nothing, errors.New("a bandwidth has a rate above 0")
	}
	return w.detoured(ctx, f, nodes, narrow(f.Rate))
}

func (w *World) cutFrames(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	return w.detoured(ctx, f, nodes, cutShort)
}

// garble has strangers say nonsense, and puts it among what nodes say if that is secured.
func (w *World) garble(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	strangers := w.strangers(f.Seed, nodes, garbageStrangers, babble)
	if w.authorities == nil || w.network == nil {
		return strangers, nil
	}
	heal, err := w.detoured(ctx, f, nodes, garbled)
	return func(ctx context.Context) error { return errors.Join(strangers(ctx), heal(ctx)) }, err
}

func (w *World) slowLoris(_ context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	return w.strangers(f.Seed, nodes, slowStrangers, dawdle), nil
}

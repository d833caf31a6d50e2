package server

import (
	"context"

	"google.golang.org/protobuf/proto"
)

// gatherer takes what waits in a channel, in order, as much at a time as may go into one proposal.
type gatherer[T any] struct {
	from   <-chan T
	weight func(T) int
	most   int
	held   []T // taken from the channel and too much for the last batch: one element or none
}

// next waits for something and gives it with what waits behind it. No batch and no error: the channel was closed.
func (g *gatherer[T]) next(ctx context.Context) ([]T, error) {
	batch := g.held
	g.held = nil
	if len(batch) == 0 {
		select {
		case one, open := <-g.from:
			if !open {
				return nil, nil
			}
			batch = append(batch, one)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return g.more(batch), nil
}

// more adds what waits already.
func (g *gatherer[T]) more(batch []T) []T {
	total := g.weight(batch[0])
	for {
		select {
		case one, open := <-g.from:
			if !open {
				return batch
			}
			if total += g.weight(one); total > g.most {
				g.held = []T{one}
				return batch
			}
			batch = append(batch, one)
		default:
			return batch
		}
	}
}

// proposalWeight is what a request with so many elements counts against commandBytesMax: its bytes, but as many small
// elements weigh as much as may be in one call.
func proposalWeight(elements int, req proto.Message) int {
	return max(proto.Size(req), elements*(commandBytesMax/sendCountMax))
}

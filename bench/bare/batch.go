package bare

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	peerv1 "sluice/api/peer/v1"
	"sluice/cluster"
	"sluice/transport"
)

const (
	methodForward  = "bare.Forward"
	enqueueTimeout = 10 * time.Second
)

var errNoLeader = errors.New("bare: there is no leader")

// batcher gathers by the rule of Sluice's nodes: while entries are in flight, or calls under way to the leader, the
// next one fills; nothing lingers.
type batcher struct {
	raft         *raft.Raft
	port         *transport.Transport
	limits       cluster.Config
	queue        chan *call
	slots, calls chan struct{}
	awaiting     chan *flight
}

// call is what one caller, or one peer, wants in the log.
type call struct {
	commands [][]byte
	bytes    int
	err      error
	done     chan struct{}
}

// flight is an entry under way.
type flight struct {
	future raft.ApplyFuture
	calls  []*call
}

func newBatcher(r *raft.Raft, port *transport.Transport) *batcher {
	limits := cluster.Config{}.Defaults()
	return &batcher{
		raft: r, port: port, limits: limits, queue: make(chan *call, limits.QueueLength),
		slots: make(chan struct{}, limits.EntriesInFlight), calls: make(chan struct{}, limits.ForwardCalls),
		awaiting: make(chan *flight, limits.EntriesInFlight),
	}
}

// propose puts commands into the log and returns once they are committed and applied.
func (b *batcher) propose(ctx context.Context, commands [][]byte) error {
	c := &call{commands: commands, done: make(chan struct{})}
	for _, command := range commands {
		c.bytes += len(command)
	}
	select {
	case b.queue <- c:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *batcher) run(ctx context.Context) {
	defer close(b.awaiting)
	for {
		select {
		case first := <-b.queue:
			b.carry(ctx, first)
		case <-ctx.Done():
			return
		}
	}
}

func (b *batcher) carry(ctx context.Context, first *call) {
	room := b.calls
	if b.leads() {
		room = b.slots
	}
	select {
	case room <- struct{}{}:
	case <-ctx.Done():
		return
	}
	calls := b.gather(first)
	if room == b.slots {
		b.awaiting <- &flight{b.raft.Apply(entry(calls), enqueueTimeout), calls}
		return
	}
	go func() {
		finish(calls, b.forward(ctx, calls))
		<-b.calls
	}()
}

func (b *batcher) leads() bool { return b.raft.State() == raft.Leader }

func (b *batcher) gather(first *call) []*call {
	calls, commands, bytes := []*call{first}, len(first.commands), first.bytes
	for commands < b.limits.BatchCommands && bytes < b.limits.BatchBytes {
		select {
		case c := <-b.queue:
			calls, commands, bytes = append(calls, c), commands+len(c.commands), bytes+c.bytes
		default:
			return calls
		}
	}
	return calls
}

// entry encodes commands as Sluice does: a time and the commands, field by field.
func entry(calls []*call) []byte {
	data := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(time.Now().UnixMilli()))
	for _, c := range calls {
		for _, command := range c.commands {
			data = protowire.AppendBytes(protowire.AppendTag(data, 2, protowire.BytesType), command)
		}
	}
	return data
}

// await answers the entries in flight, in order.
func (b *batcher) await() {
	for f := range b.awaiting {
		err := f.future.Error()
		<-b.slots
		finish(f.calls, err)
	}
}

func finish(calls []*call, err error) {
	for _, c := range calls {
		c.err = err
		close(c.done)
	}
}

// forward sends a batch to the leader.
func (b *batcher) forward(ctx context.Context, calls []*call) error {
	address, _ := b.raft.LeaderWithID()
	if address == "" {
		return errNoLeader
	}
	request := &peerv1.ForwardRequest{}
	for _, c := range calls {
		request.Commands = append(request.Commands, c.commands...)
	}
	body, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	_, err = b.port.CallPeer(ctx, string(address), methodForward, body)
	return err
}

// serve takes a batch of a peer.
func (b *batcher) serve(ctx context.Context, _, method string, body []byte) ([]byte, error) {
	request := &peerv1.ForwardRequest{}
	if err := proto.Unmarshal(body, request); err != nil || method != methodForward {
		return nil, fmt.Errorf("bare: a peer called %s: %w", method, err)
	}
	if !b.leads() {
		return nil, errNoLeader
	}
	return nil, b.propose(ctx, request.Commands)
}

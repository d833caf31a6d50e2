package cluster

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
)

// enqueueTimeout is how long raft may take to accept an entry before its outcome is called unknown.
const enqueueTimeout = 10 * time.Second

// proposer gathers proposals into entries (on the leader) or into calls to the leader (elsewhere). While entries are in
// flight the next one fills; nothing lingers.
type proposer struct {
	node *Node
	// queue holds what waits; queuedBytes and queuedCommands count it.
	queue                       chan *proposal
	queuedBytes, queuedCommands atomic.Int64
	// slots holds a token for each entry in flight, calls for each batch under way to the leader. room is rung when one more
	// entry may be: see atOnce.
	slots, calls chan struct{}
	room         bell
	// awaiting holds the entries in flight, in order.
	awaiting chan *flight

	// What follows belongs to run. lastMS is the last entry's time, sinceDigest the entries since the last digest.
	lastMS      int64
	sinceDigest int
	held        *proposal
}

// batch is what goes into one entry or one call.
type batch struct {
	proposals []*proposal
	commands  int
	bytes     int
}

// flight is an entry under way.
type flight struct {
	*batch
	future  raft.ApplyFuture
	skip    int // commands of the proposer itself at the entry's start
	started time.Time
}

func newProposer(n *Node) *proposer {
	return &proposer{
		node: n, queue: make(chan *proposal, n.cfg.QueueLength),
		slots: make(chan struct{}, n.cfg.EntriesInFlight), calls: make(chan struct{}, n.cfg.ForwardCalls),
		awaiting: make(chan *flight, n.cfg.EntriesInFlight), room: newBell(),
	}
}

// run proposes until ctx ends, then refuses what waits.
func (p *proposer) run(ctx context.Context) {
	defer close(p.awaiting)
	for {
		first := p.next(ctx)
		if first == nil {
			p.refuseAll()
			return
		}
		p.pass(ctx, first, p.node.isLeader())
	}
}

// pass passes on what waits, the first of it first. Whether this node leads was asked once: if it was elected between two
// questions it would propose what it is to keep back.
func (p *proposer) pass(ctx context.Context, first *proposal, leads bool) {
	switch {
	case !leads:
		p.toLeader(ctx, first)
	case p.node.held.keepsBack(first):
		first.finish(nil, reason.NoLeader.Errorf("node %s is about to lead, and puts every application into recovery first", p.node.cfg.NodeID))
	default:
		p.toRaft(ctx, first)
	}
}

// next is the oldest proposal that nobody gave up; nil when ctx ends.
func (p *proposer) next(ctx context.Context) *proposal {
	if q := p.held; q != nil {
		p.held = nil
		return q
	}
	for {
		select {
		case q := <-p.queue:
			if p.take(q) {
				return q
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *proposer) take(q *proposal) bool {
	p.queued(-1, q)
	return q.stage.CompareAndSwap(stageQueued, stageTaken)
}

// queued counts what is put into the queue, and what is taken out of it.
func (p *proposer) queued(sign int64, q *proposal) (bytes, commands int64) {
	return p.queuedBytes.Add(sign * int64(q.bytes)), p.queuedCommands.Add(sign * int64(len(q.commands)))
}

// gather adds to the first what waits, as far as one batch may grow.
func (p *proposer) gather(first *proposal) *batch {
	b := &batch{proposals: []*proposal{first}, commands: len(first.commands), bytes: first.bytes}
	for b.commands < p.node.cfg.BatchCommands && b.bytes < p.node.cfg.BatchBytes {
		select {
		case q := <-p.queue:
			if !p.take(q) {
				continue
			}
			if b.commands+len(q.commands) > p.node.cfg.BatchCommands || b.bytes+q.bytes > p.node.cfg.BatchBytes {
				p.held = q
				return b
			}
			b.proposals = append(b.proposals, q)
			b.commands += len(q.commands)
			b.bytes += q.bytes
		default:
			return b
		}
	}
	return b
}

// atOnce is how many entries may be under way now. While one is, the next fills: one large entry costs less than two small
// ones, and both would wait for the same disks. A second goes at once only if what waits fills it.
func (p *proposer) atOnce() int {
	if p.fills(p.queuedBytes.Load(), p.queuedCommands.Load()) {
		return p.node.cfg.EntriesInFlight
	}
	return 1
}

// fills tells whether so much is an entry as large as they may be.
func (p *proposer) fills(bytes, commands int64) bool {
	return bytes >= int64(p.node.cfg.BatchBytes) || commands >= int64(p.node.cfg.BatchCommands)
}

// start waits until another entry may be under way; false: ctx has ended.
func (p *proposer) start(ctx context.Context) bool {
	for len(p.slots) >= p.atOnce() {
		select {
		case <-p.room:
		case <-ctx.Done():
			return false
		}
	}
	p.slots <- struct{}{} // nobody else puts anything there
	return true
}

// toRaft waits until another entry may be under way, fills it and hands it to raft.
func (p *proposer) toRaft(ctx context.Context, first *proposal) {
	if !p.start(ctx) {
		first.finish(nil, stopping())
		return
	}
	b := p.gather(first)
	if p.node.disk.full() {
		<-p.slots
		b.fail(p.node.diskFull())
		return
	}
	digest := p.digest()
	skip := 0
	if digest != nil {
		skip = 1
	}
	p.renew(b)
	p.node.metrics.batched(b)
	f := &flight{batch: b, skip: skip, started: time.Now()}
	f.future = p.node.raft().Apply(p.entry(b, digest), enqueueTimeout)
	p.awaiting <- f
}

func (p *proposer) renew(b *batch) {
	lead := p.node.lead.Load()
	if lead == nil {
		return
	}
	for _, q := range b.proposals {
		for _, s := range q.sessions {
			lead.renewSession(s)
		}
	}
}

// entry encodes a logv1.Entry around commands that are encoded already.
func (p *proposer) entry(b *batch, digest []byte) []byte {
	p.lastMS = max(p.lastMS, p.node.cfg.Now().UnixMilli())
	data := make([]byte, 0, b.bytes+len(digest)+8*b.commands+24)
	data = protowire.AppendTag(data, entryTimeField, protowire.VarintType)
	data = protowire.AppendVarint(data, uint64(p.lastMS))
	if digest != nil {
		data = protowire.AppendTag(data, entryCommandsField, protowire.BytesType)
		data = protowire.AppendBytes(data, digest)
	}
	for _, q := range b.proposals {
		for _, c := range q.commands {
			data = protowire.AppendTag(data, entryCommandsField, protowire.BytesType)
			data = protowire.AppendBytes(data, c)
		}
	}
	return data
}

// The field numbers of logv1.Entry.
const (
	entryTimeField     = 1
	entryCommandsField = 2
)

// digest is, once in a while, the command that lets the replicas compare their states with the leader's.
func (p *proposer) digest() []byte {
	if p.sinceDigest++; p.sinceDigest < p.node.cfg.DigestEvery {
		return nil
	}
	p.sinceDigest = 0
	index, digest := p.node.group.live.Load().machine.Digest()
	cmd := &logv1.Command{Actor: dutyActor, Kind: &logv1.Command_CheckDigest{CheckDigest: &logv1.CheckDigest{Index: index, Digest: digest}}}
	data, err := proto.Marshal(cmd)
	if err != nil { // without digests a replica that differs would not be found
		p.node.fatal(fmt.Errorf("cluster: encode the digest: %w", err))
		return nil
	}
	return data
}

// await answers the proposals of the entries in flight, in order, until run has ended and nothing is in flight.
func (p *proposer) await() {
	for f := range p.awaiting {
		outcomes, err := p.outcome(f)
		p.node.metrics.committed(f.started)
		if l := p.node.lead.Load(); l != nil && err == nil {
			l.dispatch.pace.committed(time.Since(f.started))
		}
		<-p.slots
		p.room.ring()
		if err != nil {
			f.fail(err)
			continue
		}
		f.answer(outcomes[f.skip:])
	}
}

func (p *proposer) outcome(f *flight) ([]*logv1.Outcome, error) {
	if err := p.node.settled(f.future); err != nil {
		return nil, raftRefusal(err)
	}
	a, ok := f.future.Response().(*answer)
	switch {
	case !ok:
		return nil, reason.OutcomeUnknown.Errorf("the state machine gave no answer")
	case a.err != nil: // it is committed: another node applies it
		return nil, reason.OutcomeUnknown.Errorf("this node could not apply the entry: %v", a.err)
	case len(a.outcomes) != f.commands+f.skip:
		return nil, reason.OutcomeUnknown.Errorf("the state machine gave %d outcomes for %d commands", len(a.outcomes), f.commands+f.skip)
	}
	return a.outcomes, nil
}

func (b *batch) fail(err error) {
	for _, q := range b.proposals {
		q.finish(nil, err)
	}
}

// answer deals the outcomes out, one a command.
func (b *batch) answer(outcomes []*logv1.Outcome) {
	for _, q := range b.proposals {
		n := len(q.commands)
		q.finish(outcomes[:n:n], nil)
		outcomes = outcomes[n:]
	}
}

func (p *proposer) refuseAll() {
	for {
		select {
		case q := <-p.queue:
			if p.take(q) {
				q.finish(nil, stopping())
			}
		default:
			return
		}
	}
}

func stopping() error { return reason.NoLeader.Errorf("this node is stopping") }

package cluster

import (
	"sync"

	"github.com/hashicorp/raft"
)

// AppendEntriesPipeline opens a pipeline that takes answers off raft's hands.
//
// Raft's own holds an answer until it is asked for, and takes the next request only then. A leader that has just been
// refused asks no more, and may send once more: that send would wait for ever. The follower would get heartbeats and no
// entries until the leader is restarted, and the leader could not be stopped (hashicorp/raft #612).
func (t *raftTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &drainedPipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), closed: make(chan struct{}), node: t.node}
	go p.drain()
	return p, nil
}

// drainedPipeline is a pipeline whose answers are always taken. There are never more of them than were sent, and little is
// sent after the last was asked for. Raft is told of an answer when the entries it acknowledges are on this
// node's own disk too: what raft takes for committed then is.
type drainedPipeline struct {
	raft.AppendPipeline
	node    *Node
	answers chan raft.AppendFuture
	closed  chan struct{}
	once    sync.Once
}

// Consumer gives the answers in order.
func (p *drainedPipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close ends the pipeline.
func (p *drainedPipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.AppendPipeline.Close()
}

func (p *drainedPipeline) drain() {
	var waiting []raft.AppendFuture
	for {
		var next raft.AppendFuture
		var out chan<- raft.AppendFuture
		var written <-chan struct{}
		if len(waiting) > 0 {
			next = waiting[0]
			if written = p.node.unwritten(acknowledges(next.Request(), next.Response())); written == nil {
				out = p.answers
			}
		}
		select {
		case <-written:
		case f := <-p.AppendPipeline.Consumer():
			waiting = append(waiting, f)
		case out <- next:
			waiting = waiting[1:]
		case <-p.closed:
			return
		}
	}
}

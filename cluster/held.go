package cluster

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	peerv1 "sluice/api/peer/v1"
	sluicev1 "sluice/api/sluice/v1"
)

// heldCause is why the applications of a cluster that was started held are in recovery.
const heldCause = "started held"

// heldStart is a node's wish that the cluster start held. It is pending until this node has seen the cluster at work,
// or has put every application into recovery as its leader; then it is spent, until the process starts again.
type heldStart struct {
	node    *Node
	pending atomic.Bool
	// term is the node's last term at its start: entries of later terms were made since.
	term uint64
	// request is what the entry into recovery is known by, so that a repeat of it has no effect.
	request string
}

// remember notes the term at the start, before raft runs.
func (h *heldStart) remember(stable raft.StableStore) {
	if term, err := stable.GetUint64([]byte("CurrentTerm")); err == nil { // raft itself refuses a store that cannot be read
		h.term = term
	}
}

// spend ends the wish, and says why.
func (h *heldStart) spend(why string) {
	if h.pending.CompareAndSwap(true, false) {
		h.node.log.Info("the wish to start held is spent", "because", why)
	}
}

// applied looks for the work of a leader that was elected since the start and leads still. Its election alone is none.
// A leader of an earlier term may have been of the time before the start: its entries come late to a node that lagged.
func (h *heldStart) applied(logs []*raft.Log) {
	r := h.node.raft()
	if !h.pending.Load() || r == nil {
		return
	}
	for _, l := range logs {
		if l.Type == raft.LogCommand && l.Term > h.term && l.Term == r.CurrentTerm() && holdsWork(l.Data) {
			h.spend("entries of a leader elected since were applied")
			return
		}
	}
}

func holdsWork(data []byte) bool {
	e := &logv1.Entry{}
	if proto.Unmarshal(data, e) != nil {
		return false // Apply has stopped the node, and said so
	}
	for _, c := range e.Commands {
		if _, elected := c.Kind.(*logv1.Command_LeaderElected); !elected {
			return true
		}
	}
	return false
}

// keepsBack tells a node that leads that a proposal must wait: the applications are not in recovery yet.
func (h *heldStart) keepsBack(q *proposal) bool { return !q.opening && h.pending.Load() }

// watch asks whoever leads for a read index until one is given: a leader gives none before it is at work.
func (h *heldStart) watch(ctx context.Context) {
	n := h.node
	for h.pending.Load() && ctx.Err() == nil {
		news := n.leaderNews.next()
		if addr := n.LeaderAddress(); addr != "" && !n.isLeader() && h.answers(ctx, addr) {
			h.spend("another node leads, and is at work")
			return
		}
		timer := time.NewTimer(retryPause)
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (h *heldStart) answers(ctx context.Context, addr string) bool {
	ctx, cancel := h.node.whileLeader(ctx, addr)
	defer cancel()
	return h.node.callPeer(ctx, addr, methodReadIndex, &peerv1.ReadIndexRequest{}, &peerv1.ReadIndexResponse{}) == nil
}

// startHeld puts every application into recovery if this node is to start held. It must be the first thing that a
// leadership proposes, before it assigns, dispatches or handles what has come due; until it is done the proposer
// takes nothing else. It ends when it is done or the lead is over.
func (l *leadership) startHeld() {
	h := &l.node.held
	for h.pending.Load() && l.ctx.Err() == nil {
		names, err := l.holdAll()
		if err == nil {
			h.spend("this node leads, and held all")
			l.node.log.Warn("started held: every application is in recovery", "applications", names)
			return
		}
		l.dutyFailed("start held", err)
		pause(l.ctx, dutyPause)
	}
}

// holdAll puts every application into recovery as a whole, all in one entry.
func (l *leadership) holdAll() (names []string, err error) {
	applications, err := l.node.group.view().Applications()
	if err != nil || len(applications) == 0 {
		return nil, err
	}
	var commands [][]byte
	size := 0
	for _, a := range applications {
		enter := &sluicev1.EnterApplicationRecoveryRequest{Application: a.Name, Cause: heldCause, RequestId: l.node.held.request}
		data, err := marshal(&logv1.Command{Actor: "node " + l.node.cfg.NodeID, Kind: &logv1.Command_EnterApplicationRecovery{EnterApplicationRecovery: enter}})
		if err != nil {
			return nil, err
		}
		commands, size, names = append(commands, data), size+len(data), append(names, a.Name)
	}
	q := newProposal(commands, size)
	q.forwarded, q.opening = true, true
	outcomes, err := l.node.proposer.submit(l.ctx, q)
	if err != nil {
		return nil, err
	}
	for _, out := range outcomes {
		if err := fault(out); err != nil {
			return nil, err
		}
	}
	return names, nil
}

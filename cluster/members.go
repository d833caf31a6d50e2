package cluster

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	peerv1 "sluice/api/peer/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// changeTimeout bounds a change of the configuration.
const changeTimeout = 10 * time.Second

// isLeader tells whether raft has this node lead, even if its duties have not begun.
func (n *Node) isLeader() bool { return n.raft() != nil && n.raft().State() == raft.Leader }

// LeaderAddress is where the leader is reached; empty: none is known.
func (n *Node) LeaderAddress() string {
	if n.raft() == nil {
		return ""
	}
	addr, _ := n.raft().LeaderWithID()
	return plainAddress(addr)
}

func (n *Node) leaderID() string {
	if n.raft() == nil {
		return ""
	}
	_, id := n.raft().LeaderWithID()
	return string(id)
}

// plainAddress cuts the node id off that ServerAddr puts before an address.
func plainAddress(addr raft.ServerAddress) string {
	if _, plain, ok := strings.Cut(string(addr), "@"); ok {
		return plain
	}
	return string(addr)
}

// servers is raft's configuration as this node knows it.
func (n *Node) servers() []raft.Server {
	if n.raft() == nil {
		return nil
	}
	future := n.raft().GetConfiguration()
	if future.Error() != nil {
		return nil
	}
	return future.Configuration().Servers
}

func (n *Node) server(id string) (raft.Server, bool) {
	for _, s := range n.servers() {
		if string(s.ID) == id {
			return s, true
		}
	}
	return raft.Server{}, false
}

// Join adds a node to the cluster, without a vote at first, or takes its new address over. It may be repeated.
func (n *Node) Join(ctx context.Context, req *sluicev1.JoinRequest) (*sluicev1.JoinResponse, error) {
	resp := &sluicev1.JoinResponse{}
	err := n.atLeader(ctx, n.cfg.LeaderWait, methodAdmit, req, resp, func(*leadership) error {
		return n.admit(ctx, req, resp)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// serveAdmit is Join at the leader alone.
func (n *Node) serveAdmit(ctx context.Context, req *sluicev1.JoinRequest) (*sluicev1.JoinResponse, error) {
	if _, err := n.leading(); err != nil {
		return nil, err
	}
	resp := &sluicev1.JoinResponse{}
	return resp, n.admit(ctx, req, resp)
}

// admit changes the configuration for a node that joins, at the leader. One with an empty folder never takes the place of a
// member that votes: it would vote once more, and not have what it acknowledged (docs/adr/0049). A member without a vote has
// promised nothing that counted.
func (n *Node) admit(ctx context.Context, req *sluicev1.JoinRequest, resp *sluicev1.JoinResponse) error {
	resp.ClusterId = n.folder.current().ClusterID
	if req.Cluster != "" && req.Cluster != n.cfg.Cluster {
		return reason.Denied.Errorf("this is cluster %q, node %q wants to join cluster %q", n.cfg.Cluster, req.NodeId, req.Cluster)
	}
	if req.NodeId == "" || req.Address == "" {
		return reason.BadField.Errorf("a node joins with its id and its address")
	}
	if err := n.admitAlone(ctx); err != nil {
		return err
	}
	defer func() { <-n.admitting }()
	if req.Fresh {
		// A leader that was replaced and does not know it yet may know a member without a vote that has it now.
		if err := n.settled(n.raft().VerifyLeader()); err != nil {
			return reason.NoLeader.Errorf("this node cannot tell whether it leads still: %v", err)
		}
	}
	id, addr := raft.ServerID(req.NodeId), raft.ServerAddress(req.Address)
	for _, s := range n.servers() {
		switch {
		case s.ID == id && s.Suffrage == raft.Voter && req.Fresh:
			return reason.MemberExists.Errorf("node %q votes in this cluster, and the data folder of the node at %s never belonged to one: what the member acknowledged is not there", req.NodeId, req.Address)
		case s.ID == id && s.Address == addr:
			return nil
		case s.ID == id && s.Suffrage == raft.Voter:
			return raftRefusal(n.settled(n.raft().AddVoter(id, addr, 0, changeTimeout)))
		case s.ID != id && s.Address == addr:
			return reason.BadField.Errorf("node %q has the address %s already", string(s.ID), req.Address)
		}
	}
	n.log.Info("a node joins", "joining", req.NodeId, "address", req.Address)
	return raftRefusal(n.settled(n.raft().AddNonvoter(id, addr, 0, changeTimeout)))
}

// admitAlone waits until nobody else is admitted or given a vote. Who called gives the token back.
func (n *Node) admitAlone(ctx context.Context) error {
	select {
	case n.admitting <- struct{}{}:
		return nil
	case <-ctx.Done():
		return reason.Overloaded.Errorf("another change of the members has taken all the time that there was: %v", ctx.Err())
	}
}

// Remove takes a node out of the cluster. UNKNOWN_MEMBER: it is none, and that is committed; after OUTCOME_UNKNOWN it says
// that the removal is done.
func (n *Node) Remove(ctx context.Context, nodeID string) error {
	req := &sluicev1.RemoveRequest{NodeId: nodeID}
	return n.untilLeader(ctx, n.cfg.LeaderWait, func() error {
		return n.viaLeader(ctx, methodRemove, req, &sluicev1.RemoveResponse{}, func(*leadership) error { return n.dismiss(nodeID) }, changeRefusal)
	})
}

func (n *Node) dismiss(nodeID string) error {
	if _, ok := n.server(nodeID); !ok {
		return n.noMember(nodeID)
	}
	if len(n.servers()) == 1 {
		return reason.BadField.Errorf("node %q is the only member of the cluster", nodeID)
	}
	n.log.Info("a node is removed", "removed", nodeID)
	return raftRefusal(n.settled(n.raft().RemoveServer(raft.ServerID(nodeID), 0, changeTimeout)))
}

// noMember refuses what is asked of a node that is no member. An earlier removal may be in the log, and would be undone if
// another node led before it is committed: that is waited for.
func (n *Node) noMember(nodeID string) error {
	if err := n.settled(n.raft().Barrier(changeTimeout)); err != nil {
		return raftRefusal(err)
	}
	var ids []string
	for _, s := range n.servers() {
		ids = append(ids, string(s.ID))
	}
	return reason.UnknownMember.Errorf("node %q is no member of the cluster, or none any more; its members are %s", nodeID, strings.Join(ids, ", "))
}

func (n *Node) serveRemove(_ context.Context, req *sluicev1.RemoveRequest) (*sluicev1.RemoveResponse, error) {
	if _, err := n.leading(); err != nil {
		return nil, err
	}
	return &sluicev1.RemoveResponse{}, n.dismiss(req.NodeId)
}

const (
	promoteLook    = time.Second
	promoteTimeout = 2 * time.Second
	// promoteLag is how many entries a node may be behind and still count as caught up.
	promoteLag = 256
)

// runPromotion gives the vote to members that have been reachable and caught up for long enough.
func (l *leadership) runPromotion(ctx context.Context) {
	since := map[raft.ServerID]time.Time{}
	for pause(ctx, min(promoteLook, l.node.cfg.PromoteAfter/2+time.Millisecond)) {
		for _, s := range l.node.servers() {
			if s.Suffrage == raft.Voter || !l.caughtUp(ctx, s) {
				delete(since, s.ID)
				continue
			}
			if since[s.ID].IsZero() {
				since[s.ID] = time.Now()
			}
			if time.Since(since[s.ID]) < l.node.cfg.PromoteAfter {
				continue
			}
			if err := l.promote(ctx, s); err != nil {
				l.dutyFailed("promote", err)
			}
		}
	}
}

// promote gives a member the vote if it is caught up. None of its id joins with an empty folder meanwhile.
func (l *leadership) promote(ctx context.Context, s raft.Server) error {
	if err := l.node.admitAlone(ctx); err != nil {
		return err
	}
	defer func() { <-l.node.admitting }()
	if !l.caughtUp(ctx, s) {
		return nil
	}
	l.node.log.Info("a node gets its vote", "promoted", string(s.ID))
	return l.node.settled(l.node.raft().AddVoter(s.ID, s.Address, 0, changeTimeout))
}

func (l *leadership) caughtUp(ctx context.Context, s raft.Server) bool {
	ctx, cancel := context.WithTimeout(ctx, promoteTimeout)
	defer cancel()
	resp := &peerv1.StatsResponse{}
	err := l.node.callPeer(ctx, string(s.Address), methodStats, &peerv1.StatsRequest{}, resp)
	return err == nil && resp.Term == l.node.raft().CurrentTerm() && resp.AppliedIndex+promoteLag >= l.node.group.applied.index()
}

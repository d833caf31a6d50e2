package cluster

import (
	"context"
	"slices"
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

// admit changes the configuration for a node that joins, at the leader. One whose folder never belonged to the cluster does not
// take the place of a member that votes: it would vote once more, and not have what it acknowledged
// (docs/adr/0049-a-vote-belongs-to-the-data-behind-it.md). A member without a vote has promised nothing that counted, and is
// let in again unless it runs elsewhere.
func (n *Node) admit(ctx context.Context, req *sluicev1.JoinRequest, resp *sluicev1.JoinResponse) error {
	resp.ClusterId = n.folder.current().ClusterID
	switch {
	case req.Cluster != "" && req.Cluster != n.cfg.Cluster:
		return reason.Denied.Errorf("this is cluster %q, node %q wants to join cluster %q", n.cfg.Cluster, req.NodeId, req.Cluster)
	case req.ClusterId != "" && req.ClusterId != resp.ClusterId:
		return reason.Denied.Errorf("this is cluster id %s, the data folder of node %q belongs to %s", resp.ClusterId, req.NodeId, req.ClusterId)
	case req.NodeId == "" || req.Address == "":
		return reason.BadField.Errorf("a node joins with its id and its address")
	}
	if err := n.changeAlone(ctx); err != nil {
		return err
	}
	defer n.changed()
	if req.ClusterId == "" { // a leader that was replaced and does not know it may know a member without a vote that has it now
		if err := n.verify(); err != nil {
			return err
		}
	}
	change, err := n.placeFor(ctx, req)
	switch {
	case err != nil:
		return err
	case change == nil: // what it is a member by may be in the log alone, and would be undone if another node led before it is committed
		return raftRefusal(n.settled(n.raft().Barrier(changeTimeout)))
	}
	return raftRefusal(n.settled(change(raft.ServerID(req.NodeId), raft.ServerAddress(req.Address), 0, changeTimeout)))
}

// placeFor is the change of the configuration that lets a node in; nil: it is in it as it is.
func (n *Node) placeFor(ctx context.Context, req *sluicev1.JoinRequest) (func(raft.ServerID, raft.ServerAddress, uint64, time.Duration) raft.IndexFuture, error) {
	servers := n.servers()
	if len(servers) == 0 {
		return nil, reason.NoLeader.Errorf("this node does not know the members")
	}
	id, addr := raft.ServerID(req.NodeId), raft.ServerAddress(req.Address)
	at := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == id })
	taken := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID != id && s.Address == addr })
	switch {
	case at >= 0 && req.ClusterId == "" && servers[at].Suffrage == raft.Voter:
		return nil, reason.MemberExists.Errorf("node %q votes in this cluster, and the data folder of the node at %s never belonged to one: what the member acknowledged is not there", req.NodeId, req.Address)
	case taken >= 0:
		return nil, reason.BadField.Errorf("node %q has the address %s already", string(servers[taken].ID), req.Address)
	case at < 0 && req.ClusterId != "":
		return nil, reason.UnknownMember.Errorf("node %q is no member of this cluster any more: it was removed; with an empty data folder it joins anew", req.NodeId)
	case at < 0:
		n.log.Info("a node joins", "joining", req.NodeId, "address", req.Address)
		return n.raft().AddNonvoter, nil
	case servers[at].Address == addr:
		return nil, nil
	case servers[at].Suffrage == raft.Voter:
		return n.raft().AddVoter, nil
	case req.ClusterId == "" && n.runs(ctx, servers[at]):
		return nil, reason.MemberExists.Errorf("node %q runs at %s, and another one of its id at %s wants to join", req.NodeId, string(servers[at].Address), req.Address)
	}
	return n.raft().AddNonvoter, nil
}

// runs tells whether a member answers where it is said to be.
func (n *Node) runs(ctx context.Context, s raft.Server) bool {
	ctx, cancel := context.WithTimeout(ctx, promoteTimeout)
	defer cancel()
	resp := &peerv1.StatsResponse{}
	return n.callPeer(ctx, string(s.Address), methodStats, &peerv1.StatsRequest{}, resp) == nil && resp.NodeId == string(s.ID)
}

// changeAlone waits until nobody else changes the members at this node, until changed.
func (n *Node) changeAlone(ctx context.Context) error {
	select {
	case n.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return reason.Overloaded.Errorf("another change of the members has taken all the time that there was: %v", ctx.Err())
	}
}

func (n *Node) changed() { <-n.changing }

// Remove takes a node out of the cluster. UNKNOWN_MEMBER: it is none, and that is committed; after OUTCOME_UNKNOWN it says
// that the removal is done.
func (n *Node) Remove(ctx context.Context, nodeID string) error {
	req := &sluicev1.RemoveRequest{NodeId: nodeID}
	return n.untilLeader(ctx, n.cfg.LeaderWait, func() error {
		return n.viaLeader(ctx, methodRemove, req, &sluicev1.RemoveResponse{}, func(*leadership) error { return n.dismiss(ctx, nodeID) }, changeRefusal)
	})
}

func (n *Node) dismiss(ctx context.Context, nodeID string) error {
	if err := n.changeAlone(ctx); err != nil {
		return err
	}
	defer n.changed()
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

func (n *Node) serveRemove(ctx context.Context, req *sluicev1.RemoveRequest) (*sluicev1.RemoveResponse, error) {
	if _, err := n.leading(); err != nil {
		return nil, err
	}
	return &sluicev1.RemoveResponse{}, n.dismiss(ctx, req.NodeId)
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
			if err := l.promote(ctx, s.ID); err != nil {
				l.dutyFailed("promote", err)
			}
		}
	}
}

// promote gives a member the vote if it is there still, and caught up. None of its id joins with an empty folder meanwhile.
func (l *leadership) promote(ctx context.Context, id raft.ServerID) error {
	if err := l.node.changeAlone(ctx); err != nil {
		return err
	}
	defer l.node.changed()
	s, ok := l.node.server(string(id))
	if !ok || s.Suffrage == raft.Voter || !l.caughtUp(ctx, s) {
		return nil
	}
	l.node.log.Info("a node gets its vote", "promoted", string(id))
	return l.node.settled(l.node.raft().AddVoter(id, s.Address, 0, changeTimeout))
}

func (l *leadership) caughtUp(ctx context.Context, s raft.Server) bool {
	ctx, cancel := context.WithTimeout(ctx, promoteTimeout)
	defer cancel()
	resp := &peerv1.StatsResponse{}
	err := l.node.callPeer(ctx, string(s.Address), methodStats, &peerv1.StatsRequest{}, resp)
	return err == nil && resp.NodeId == string(s.ID) && resp.Term == l.node.raft().CurrentTerm() && resp.AppliedIndex+promoteLag >= l.node.group.applied.index()
}

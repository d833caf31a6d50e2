package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	peerv1 "sluice/api/peer/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/cluster/gossip"
)

const (
	// foundLook is how often a node without a cluster looks around.
	foundLook = 200 * time.Millisecond
	// foundTimeout bounds one call to a founder, joinTimeout one attempt to join.
	foundTimeout = 3 * time.Second
	joinTimeout  = 10 * time.Second
	// complainEvery is how often the log says what a node waits for.
	complainEvery = 10 * time.Second
)

// findCluster makes the node part of a cluster: founds one alone, founds one with others, or joins one; and keeps the
// address that the cluster knows of it up to date. It tries until that is done or ctx ends.
func (n *Node) findCluster(ctx context.Context) {
	var complained time.Time
	for {
		done, why := n.seekCluster(ctx)
		if done {
			return
		}
		if time.Since(complained) > complainEvery {
			complained = time.Now()
			n.log.Info("looking for the cluster", "state", why)
		}
		if !pause(ctx, foundLook) {
			return
		}
	}
}

// seekCluster takes the next step, if there is one to take.
func (n *Node) seekCluster(ctx context.Context) (done bool, why string) {
	n.fulfil()
	if len(n.servers()) > 0 {
		n.establish()
	}
	i := n.folder.current()
	if len(n.servers()) > 0 && i.ClusterID != "" {
		return n.keepAddress(ctx)
	}
	if member := n.aMember(i.member()); member != "" {
		return n.join(ctx, member)
	}
	if n.cfg.BootstrapExpect == 1 && i.member() == "" && !n.lookedAround() {
		return false, "before it founds a cluster alone this node tries the addresses of others that it was told"
	}
	if n.cfg.BootstrapExpect == 1 && i.ClusterID == "" {
		return n.foundAlone()
	}
	if n.cfg.BootstrapExpect > 1 && i.ClusterID == "" {
		return n.foundTogether(ctx)
	}
	return false, fmt.Sprintf("no node of cluster %q is in sight that belongs to one; a node joins by --join, or founds a cluster by --bootstrap-expect", n.cfg.Cluster)
}

// lookedAround tells whether the node has tried to reach those that it was told of, once.
func (n *Node) lookedAround() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.asked || n.gossip == nil || len(n.cfg.Join) == 0
}

// foundAlone makes a cluster of this node.
func (n *Node) foundAlone() (bool, string) {
	id, err := n.newClusterID()
	if err == nil {
		err = n.folder.promise(id)
	}
	if err == nil {
		err = n.bootstrap([]*peerv1.Founder{{Id: n.cfg.NodeID, Address: n.cfg.Transport.Advertise()}})
	}
	if err == nil {
		err = n.becomeMember(id)
	}
	if err != nil {
		return false, err.Error()
	}
	return true, ""
}

// newClusterID is the id that this node promised already, or a new one.
func (n *Node) newClusterID() (string, error) {
	if id := n.folder.current().Promised; id != "" {
		return id, nil
	}
	id, err := uuid.NewRandom()
	return id.String(), err
}

// bootstrap writes the first configuration; that it was written before is no error.
func (n *Node) bootstrap(founders []*peerv1.Founder) error {
	var c raft.Configuration
	for _, f := range founders {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(f.Id), Address: raft.ServerAddress(f.Address)})
	}
	err := n.settled(n.raft().BootstrapCluster(c))
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return err
	}
	n.establish()
	return nil
}

// becomeMember notes for good which cluster the node belongs to, and tells the others.
func (n *Node) becomeMember(clusterID string) error {
	if err := n.folder.belong(clusterID); err != nil {
		return err
	}
	n.log.Info("this node belongs to a cluster", "cluster", n.cfg.Cluster, "cluster_id", clusterID)
	n.updateGossip()
	return nil
}

// foundTogether founds a cluster if this node has the lowest id of enough nodes without one. The others must all
// promise to belong to it and to no other; a promise is for ever, so no second cluster can come of the same nodes.
func (n *Node) foundTogether(ctx context.Context) (bool, string) {
	founders := n.founders()
	if len(founders) < n.cfg.BootstrapExpect {
		return false, fmt.Sprintf("%d of %d nodes to found the cluster %q are in sight", len(founders), n.cfg.BootstrapExpect, n.cfg.Cluster)
	}
	if founders[0].Id != n.cfg.NodeID {
		return false, fmt.Sprintf("node %s is to found the cluster", founders[0].Id)
	}
	id, err := n.newClusterID()
	if err == nil {
		err = n.promises(ctx, id, founders)
	}
	if err == nil {
		err = n.bootstrap(founders)
	}
	if err == nil {
		err = n.becomeMember(id)
	}
	if err != nil {
		return false, err.Error()
	}
	n.handOver(ctx, id, founders)
	return true, ""
}

// founders lists the nodes in sight without a cluster, lowest ids first, as many as found one together.
func (n *Node) founders() (out []*peerv1.Founder) {
	for _, m := range n.inSight() {
		if m.Cluster == n.cfg.Cluster && !m.HasState && m.ClusterID == "" && m.BootstrapExpect == n.cfg.BootstrapExpect {
			out = append(out, &peerv1.Founder{Id: m.NodeID, Address: m.Address})
		}
	}
	slices.SortFunc(out, func(a, b *peerv1.Founder) int { return strings.Compare(a.Id, b.Id) })
	return out[:min(len(out), n.cfg.BootstrapExpect)]
}

func (n *Node) promises(ctx context.Context, clusterID string, founders []*peerv1.Founder) error {
	if err := n.folder.promise(clusterID); err != nil {
		return err
	}
	req := &peerv1.PromiseRequest{Cluster: n.cfg.Cluster, ClusterId: clusterID, Founders: founders}
	for _, f := range founders {
		if f.Id == n.cfg.NodeID {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, foundTimeout)
		err := n.callPeer(ctx, f.Address, methodPromise, req, &peerv1.PromiseResponse{})
		cancel()
		if err != nil {
			return fmt.Errorf("cluster: node %s has not promised: %w", f.Id, err)
		}
	}
	return nil
}

// servePromise agrees to found a cluster, unless this node belongs to one or agreed to found another.
func (n *Node) servePromise(_ context.Context, req *peerv1.PromiseRequest) (*peerv1.PromiseResponse, error) {
	if req.Cluster != n.cfg.Cluster {
		return nil, reason.Denied.Errorf("node %s belongs to cluster %q, not to %q", n.cfg.NodeID, n.cfg.Cluster, req.Cluster)
	}
	if !slices.ContainsFunc(req.Founders, func(f *peerv1.Founder) bool { return f.Id == n.cfg.NodeID }) {
		return nil, reason.Denied.Errorf("node %s is not among the founders", n.cfg.NodeID)
	}
	if n.cfg.BootstrapExpect != len(req.Founders) {
		return nil, reason.Denied.Errorf("node %s expects %d founders, not %d", n.cfg.NodeID, n.cfg.BootstrapExpect, len(req.Founders))
	}
	if err := n.folder.promise(req.ClusterId); err != nil {
		return nil, reason.Denied.Errorf("%v", err)
	}
	return &peerv1.PromiseResponse{}, nil
}

// handOver tells the founders that the cluster stands. One that misses it learns it when the leader first calls.
func (n *Node) handOver(ctx context.Context, clusterID string, founders []*peerv1.Founder) {
	for _, f := range founders {
		if f.Id == n.cfg.NodeID {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, foundTimeout)
		if err := n.callPeer(ctx, f.Address, methodFounded, &peerv1.FoundedRequest{ClusterId: clusterID}, &peerv1.FoundedResponse{}); err != nil {
			n.log.Warn("a founder was not told that the cluster stands", "founder", f.Id, "error", err)
		}
		cancel()
	}
}

func (n *Node) serveFounded(_ context.Context, req *peerv1.FoundedRequest) (*peerv1.FoundedResponse, error) {
	if i := n.folder.current(); i.member() != req.ClusterId {
		return nil, reason.Denied.Errorf("node %s has made no promise to cluster id %s", n.cfg.NodeID, req.ClusterId)
	}
	return &peerv1.FoundedResponse{}, n.becomeMember(req.ClusterId)
}

// fulfil makes a promise good once raft has a configuration with this node in it: the cluster that was promised stands.
func (n *Node) fulfil() {
	i := n.folder.current()
	if i.ClusterID != "" || i.Promised == "" {
		return
	}
	if _, ok := n.server(n.cfg.NodeID); !ok {
		return
	}
	if err := n.becomeMember(i.Promised); err != nil {
		n.log.Error("cannot note the cluster that this node belongs to", "error", err)
	}
}

// aMember is the address of a node in sight that belongs to a cluster of this name, and of this id if one is given;
// empty: none.
func (n *Node) aMember(clusterID string) string {
	for _, m := range n.inSight() {
		if m.NodeID != n.cfg.NodeID && m.Cluster == n.cfg.Cluster && m.ClusterID != "" && (clusterID == "" || m.ClusterID == clusterID) {
			return m.Address
		}
	}
	return ""
}

// join asks to be added to the cluster that a member in sight belongs to.
func (n *Node) join(ctx context.Context, member string) (bool, string) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	req := &sluicev1.JoinRequest{NodeId: n.cfg.NodeID, Address: n.cfg.Transport.Advertise(), Cluster: n.cfg.Cluster, ClusterId: n.folder.current().member()}
	resp := &sluicev1.JoinResponse{}
	if err := n.callPeer(ctx, member, methodJoin, req, resp); err != nil {
		if errors.Is(err, reason.MemberExists) {
			n.fatal(fmt.Errorf("cluster: join: %w", err))
		}
		return false, fmt.Sprintf("asked %s to join: %v", member, err)
	}
	if resp.ClusterId == "" {
		return false, fmt.Sprintf("%s does not know its cluster yet", member)
	}
	if i := n.folder.current(); i.ClusterID != resp.ClusterId {
		if err := n.becomeMember(resp.ClusterId); err != nil {
			return false, err.Error()
		}
	}
	return len(n.servers()) > 0, "waiting for the leader's first entry"
}

// keepAddress tells the leader if this node is reached at another address than the cluster knows.
func (n *Node) keepAddress(ctx context.Context) (bool, string) {
	s, ok := n.server(n.cfg.NodeID)
	here := n.cfg.Transport.Advertise()
	if !ok || string(s.Address) == here {
		return true, ""
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	req := &sluicev1.JoinRequest{NodeId: n.cfg.NodeID, Address: here, Cluster: n.cfg.Cluster, ClusterId: n.folder.current().ClusterID}
	_, err := n.Join(ctx, req)
	if err == nil {
		return true, ""
	}
	for _, m := range n.inSight() {
		if m.NodeID != n.cfg.NodeID && m.ClusterID == n.folder.current().ClusterID && n.callPeer(ctx, m.Address, methodJoin, req, &sluicev1.JoinResponse{}) == nil {
			return true, ""
		}
	}
	return false, fmt.Sprintf("this node was at %s and is at %s now: no leader has taken that: %v", s.Address, here, err)
}

// inSight lists the nodes that gossip takes to be alive, this one included, by id.
func (n *Node) inSight() []gossip.Member {
	if n.gossip == nil {
		return nil
	}
	me := gossip.Member{Meta: n.meta(), GossipAddress: n.gossipAddr, Alive: true}
	n.mu.RLock()
	defer n.mu.RUnlock()
	out := []gossip.Member{me}
	for id, m := range n.seen {
		if m.Alive && id != n.cfg.NodeID {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b gossip.Member) int { return strings.Compare(a.NodeID, b.NodeID) })
	return out
}

package cluster

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/hashicorp/raft"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/cluster/gossip"
)

// readyLag is how many entries a node may be behind what it knows to be committed and still be called caught up.
const readyLag = 1024

// Check is one thing that a node needs to be ready.
type Check struct {
	Name string
	OK   bool
	Text string
}

// Ready tells what the node has of what it needs to serve; it is ready when every check is OK.
func (n *Node) Ready() []Check {
	leader := n.leaderID()
	known := Check{Name: "leader", OK: leader != "" && (leader != n.cfg.NodeID || n.lead.Load() != nil), Text: "node " + leader + " leads"}
	if !known.OK {
		known.Text = "no leader is known"
	}
	applied := n.group.applied.index()
	caught := Check{Name: "caught up", Text: fmt.Sprintf("applied index %d", applied)}
	if n.raft() != nil {
		commit := n.raft().CommitIndex()
		caught.OK = known.OK && commit > 0 && applied+readyLag >= commit
		caught.Text += fmt.Sprintf(", committed %d", commit)
		if !known.OK {
			caught.Text += "; whether that is all only a leader can tell"
		}
	}
	space := Check{Name: "disk", OK: !n.disk.full(), Text: "there is space"}
	if !space.OK {
		space.Text = "the disk is full"
	}
	return []Check{known, caught, space}
}

// Status tells what this node knows, without asking any other.
func (n *Node) Status(context.Context) (*sluicev1.StatusResponse, error) {
	i := n.folder.current()
	index, digest := n.group.live.Load().machine.Digest()
	out := &sluicev1.StatusResponse{
		Cluster: i.Cluster, ClusterId: i.ClusterID, NodeId: i.NodeID, Version: n.cfg.Version, State: "starting",
		LeaderId: n.leaderID(), LeaderAddress: n.LeaderAddress(), AppliedIndex: index, Digest: hex.EncodeToString(digest),
	}
	if r := n.raft(); r != nil {
		out.Term, out.CommitIndex, out.State = r.CurrentTerm(), r.CommitIndex(), strings.ToLower(r.State().String())
	}
	out.Members = n.members()
	return out, nil
}

func (n *Node) members() (out []*sluicev1.Member) {
	seen := map[string]gossip.Member{}
	for _, m := range n.inSight() {
		seen[m.NodeID] = m
	}
	leader := n.leaderID()
	for _, s := range n.servers() {
		m := &sluicev1.Member{Id: string(s.ID), Address: string(s.Address), Suffrage: "nonvoter", Leader: string(s.ID) == leader, Health: "unknown"}
		if s.Suffrage == raft.Voter {
			m.Suffrage = "voter"
		}
		if g, ok := seen[m.Id]; ok {
			m.Health, m.GossipAddress, m.Version = "alive", g.GossipAddress, g.Version
		} else if n.gossip != nil {
			m.Health = n.lastHealth(m.Id)
		}
		if m.Id == n.cfg.NodeID {
			m.Health, m.Version = "alive", n.cfg.Version
		}
		out = append(out, m)
	}
	return out
}

// label makes a metric's label of an enum's name.
func label(name, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", "-")
}

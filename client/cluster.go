package client

import (
	"context"
	"errors"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// Member is one node of the cluster.
type Member struct {
	ID, Address, GossipAddress string
	// Suffrage is "voter" or "nonvoter".
	Suffrage string
	Leader   bool
	// Health as gossip sees it: "alive", "suspect", "dead", "left" or "unknown".
	Health  string
	Version string
}

// ClusterStatus is what one node knows of the cluster.
type ClusterStatus struct {
	// Cluster is the cluster's name; ClusterID is unique to it.
	Cluster, ClusterID string
	// NodeID is the node that answers.
	NodeID string
	// LeaderID and LeaderAddress are empty while the node knows no leader.
	LeaderID, LeaderAddress         string
	Term, CommitIndex, AppliedIndex uint64
	// State is the node's part in raft: "leader", "follower", "candidate" or "shutdown"; "starting" before raft runs.
	State, Version string
	// Digest is a chained hash over everything applied, in hexadecimal: equal on nodes with an equal applied index.
	Digest  string
	Members []Member
}

// Cluster shows and changes the cluster.
type Cluster struct{ c *Client }

// Cluster are the calls that concern the cluster itself.
func (c *Client) Cluster() Cluster { return Cluster{c} }

// Status is one node's own knowledge; it needs no leader.
func (c Cluster) Status(ctx context.Context) (ClusterStatus, error) {
	s, err := Call[sluicev1.StatusRequest, sluicev1.StatusResponse](ctx, c.c, sluicev1connect.ClusterServiceStatusProcedure, &sluicev1.StatusRequest{})
	if err != nil {
		return ClusterStatus{}, err
	}
	return ClusterStatus{
		Cluster: s.GetCluster(), ClusterID: s.GetClusterId(), NodeID: s.GetNodeId(), LeaderID: s.GetLeaderId(),
		LeaderAddress: s.GetLeaderAddress(), Term: s.GetTerm(), CommitIndex: s.GetCommitIndex(),
		AppliedIndex: s.GetAppliedIndex(), State: s.GetState(), Version: s.GetVersion(), Digest: s.GetDigest(),
		Members: membersOf(s.GetMembers()),
	}, nil
}

// Members are the nodes of the cluster.
func (c Cluster) Members(ctx context.Context) ([]Member, error) {
	res, err := Call[sluicev1.MembersRequest, sluicev1.MembersResponse](ctx, c.c, sluicev1connect.ClusterServiceMembersProcedure, &sluicev1.MembersRequest{})
	if err != nil {
		return nil, err
	}
	return membersOf(res.GetMembers()), nil
}

// TransferLeadership makes another node the leader, the most up-to-date voter if nodeID is empty, and returns the
// leader's id. It is not repeated when its outcome is unknown.
func (c Cluster) TransferLeadership(ctx context.Context, nodeID string) (string, error) {
	res, err := call[sluicev1.TransferLeadershipRequest, sluicev1.TransferLeadershipResponse](ctx, c.c,
		sluicev1connect.ClusterServiceTransferLeadershipProcedure,
		&sluicev1.TransferLeadershipRequest{NodeId: nodeID}, how{once: true})
	return res.GetLeaderId(), err
}

// Remove takes a node out of the cluster for good. ErrUnknownMember: it was no member when the call began. A repetition
// that finds it gone, after an attempt whose outcome is unknown, has succeeded. When Remove itself ends with
// ErrOutcomeUnknown, call it again: ErrUnknownMember says then that it is done.
func (c Cluster) Remove(ctx context.Context, nodeID string) error {
	_, err := Call[sluicev1.RemoveRequest, sluicev1.RemoveResponse](ctx, c.c,
		sluicev1connect.ClusterServiceRemoveProcedure, &sluicev1.RemoveRequest{NodeId: nodeID})
	var e *Error
	if errors.As(err, &e) && e.Reason == ErrUnknownMember && e.Uncertain {
		return nil
	}
	return err
}

func membersOf(ms []*sluicev1.Member) []Member {
	out := make([]Member, len(ms))
	for i, m := range ms {
		out[i] = Member{
			ID: m.GetId(), Address: m.GetAddress(), GossipAddress: m.GetGossipAddress(), Suffrage: m.GetSuffrage(),
			Leader: m.GetLeader(), Health: m.GetHealth(), Version: m.GetVersion(),
		}
	}
	return out
}

package server

import (
	"context"

	"connectrpc.com/connect"

	sluicev1 "sluice/api/sluice/v1"
)

// clusterService shows and changes the cluster.
type clusterService struct{ node Node }

// Status shows the cluster as this node knows it; it needs no leader.
func (s *clusterService) Status(ctx context.Context, _ *connect.Request[sluicev1.StatusRequest]) (*connect.Response[sluicev1.StatusResponse], error) {
	status, err := s.node.Status(ctx)
	return answerOr(status, err)
}

// Members shows the members as this node knows them.
func (s *clusterService) Members(ctx context.Context, _ *connect.Request[sluicev1.MembersRequest]) (*connect.Response[sluicev1.MembersResponse], error) {
	status, err := s.node.Status(ctx)
	return answerOr(&sluicev1.MembersResponse{Members: status.GetMembers()}, err)
}

// Join makes a node a member that does not vote; it votes once it has proven stable.
func (s *clusterService) Join(ctx context.Context, req *connect.Request[sluicev1.JoinRequest]) (*connect.Response[sluicev1.JoinResponse], error) {
	m := req.Msg
	if err := first(checkRequired("node_id", m.GetNodeId()), checkRequired("address", m.GetAddress()), checkOptional("cluster", m.GetCluster())); err != nil {
		return nil, err
	}
	joined, err := s.node.Join(ctx, m)
	return answerOr(joined, err)
}

// Remove takes a node out of the cluster.
func (s *clusterService) Remove(ctx context.Context, req *connect.Request[sluicev1.RemoveRequest]) (*connect.Response[sluicev1.RemoveResponse], error) {
	if err := checkRequired("node_id", req.Msg.GetNodeId()); err != nil {
		return nil, err
	}
	return answerOr(&sluicev1.RemoveResponse{}, s.node.Remove(ctx, req.Msg.GetNodeId()))
}

// TransferLeadership hands leadership to a node, or to the most up-to-date other voter.
func (s *clusterService) TransferLeadership(ctx context.Context, req *connect.Request[sluicev1.TransferLeadershipRequest]) (*connect.Response[sluicev1.TransferLeadershipResponse], error) {
	if err := checkOptional("node_id", req.Msg.GetNodeId()); err != nil {
		return nil, err
	}
	leader, err := s.node.TransferLeadership(ctx, req.Msg.GetNodeId())
	return answerOr(&sluicev1.TransferLeadershipResponse{LeaderId: leader}, err)
}

// Backup answers that this version does not serve it.
func (s *clusterService) Backup(context.Context, *connect.Request[sluicev1.BackupRequest], *connect.ServerStream[sluicev1.BackupResponse]) error {
	return notServed("ClusterService.Backup", "a stopped node's data folder can be copied")
}

// Restore answers that this version does not serve it.
func (s *clusterService) Restore(context.Context, *connect.ClientStream[sluicev1.RestoreRequest]) (*connect.Response[sluicev1.RestoreResponse], error) {
	return nil, notServed("ClusterService.Restore", "a stopped node's data folder can be put back")
}

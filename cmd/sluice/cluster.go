package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

func newCluster(sh *shell) *cobra.Command {
	return group("cluster", "See and change the cluster: status, members, leadership",
		"  sluice cluster status\n  sluice cluster transfer-leader --to n2",
		newClusterStatus(sh), newClusterMembers(sh), newClusterTransfer(sh), newClusterJoin(sh), newClusterRemove(sh))
}

// clusterCommand makes a command that asks the cluster one thing.
func clusterCommand(sh *shell, use, short, example string, run func(context.Context, *client.Client) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Example: example, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return sh.withClient(cmd, run)
	}}
}

func newClusterStatus(sh *shell) *cobra.Command {
	return clusterCommand(sh, "status", "Show what the asked node knows of the cluster; works without a majority", "  sluice cluster status\n  sluice cluster status --addr 127.0.0.1:7632 -o json",
		func(ctx context.Context, c *client.Client) error {
			s, err := ask[sluicev1.StatusRequest, sluicev1.StatusResponse](ctx, c, sluicev1connect.ClusterServiceStatusProcedure, &sluicev1.StatusRequest{})
			if err != nil {
				return err
			}
			if err := sh.answer(s, func(t *table) { fillClusterStatus(t, s) }); err != nil || sh.output != "table" {
				return err
			}
			fmt.Fprintln(sh.out)
			t := &table{head: memberHead}
			for _, m := range s.GetMembers() {
				memberRow(t, m)
			}
			return t.write(sh.out, sh.colored())
		})
}

func fillClusterStatus(t *table, s *sluicev1.StatusResponse) {
	t.row("cluster", fmt.Sprintf("%s (%s)", s.GetCluster(), firstOf(s.GetClusterId(), "not formed yet")))
	t.row("asked", s.GetNodeId())
	t.row("state", s.GetState())
	leader := "none known: a majority of the nodes must run and reach each other"
	if s.GetLeaderId() != "" {
		leader = fmt.Sprintf("%s at %s", s.GetLeaderId(), s.GetLeaderAddress())
	}
	t.row("leader", leader)
	t.row("term", s.GetTerm())
	t.row("committed", s.GetCommitIndex())
	t.row("applied", s.GetAppliedIndex())
	t.row("digest", s.GetDigest())
	t.row("version", s.GetVersion())
}

var memberHead = []string{"ID", "ADDRESS", "GOSSIP", "SUFFRAGE", "LEADER", "HEALTH", "VERSION"}

func memberRow(t *table, m *sluicev1.Member) {
	t.row(m.GetId(), m.GetAddress(), m.GetGossipAddress(), m.GetSuffrage(), m.GetLeader(), m.GetHealth(), m.GetVersion())
}

func newClusterMembers(sh *shell) *cobra.Command {
	return clusterCommand(sh, "members", "List the members of the cluster", "  sluice cluster members\n  sluice cluster members -o jsonl",
		func(ctx context.Context, c *client.Client) error {
			all, err := ask[sluicev1.MembersRequest, sluicev1.MembersResponse](ctx, c, sluicev1connect.ClusterServiceMembersProcedure, &sluicev1.MembersRequest{})
			if err != nil {
				return err
			}
			return list(sh, all, all.GetMembers(), memberHead, memberRow)
		})
}

func newClusterTransfer(sh *shell) *cobra.Command {
	var to string
	c := clusterCommand(sh, "transfer-leader", "Hand the leadership to another member", "  sluice cluster transfer-leader --to n2\n  sluice cluster transfer-leader            # to the most up-to-date one",
		func(ctx context.Context, c *client.Client) error {
			if err := otherVoter(ctx, c); err != nil {
				return err
			}
			answer, err := client.Call[sluicev1.TransferLeadershipRequest, sluicev1.TransferLeadershipResponse](ctx, c, sluicev1connect.ClusterServiceTransferLeadershipProcedure, &sluicev1.TransferLeadershipRequest{NodeId: to})
			if err != nil {
				return err
			}
			return sh.answer(answer, func(t *table) { t.row("leader", answer.GetLeaderId()) })
		})
	c.Flags().StringVar(&to, "to", "", "id of the member; empty is the most up-to-date other voter")
	return c
}

// otherVoter refuses what a cluster of one cannot do, which the cluster itself would only say after trying for long.
func otherVoter(ctx context.Context, c *client.Client) error {
	all, err := ask[sluicev1.MembersRequest, sluicev1.MembersResponse](ctx, c, sluicev1connect.ClusterServiceMembersProcedure, &sluicev1.MembersRequest{})
	if err != nil {
		return err
	}
	voters := 0
	for _, m := range all.GetMembers() {
		if m.GetSuffrage() == "voter" {
			voters++
		}
	}
	if voters > 1 {
		return nil
	}
	return hint(&client.Error{Code: "failed_precondition", Message: "there is no other voter to hand the leadership to"}, "see the members: sluice cluster members")
}

func newClusterJoin(sh *shell) *cobra.Command {
	var req sluicev1.JoinRequest
	c := &cobra.Command{Use: "join", Short: "Propose a running node as a member", Args: noArgs, Example: "  sluice cluster join --node-id n4 --address 127.0.0.1:7634"}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if req.NodeId == "" || req.Address == "" {
			return usagef("which node? give --node-id ID and --address HOST:PORT")
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			if req.Cluster == "" {
				status, err := ask[sluicev1.StatusRequest, sluicev1.StatusResponse](ctx, c, sluicev1connect.ClusterServiceStatusProcedure, &sluicev1.StatusRequest{})
				if err != nil {
					return err
				}
				req.Cluster = status.GetCluster()
			}
			answer, err := client.Call[sluicev1.JoinRequest, sluicev1.JoinResponse](ctx, c, sluicev1connect.ClusterServiceJoinProcedure, &req)
			if err != nil {
				return err
			}
			return sh.answer(answer, func(t *table) { t.row("joined cluster", answer.GetClusterId()) })
		})
	}
	c.Flags().StringVar(&req.NodeId, "node-id", "", "id of the node (required)")
	c.Flags().StringVar(&req.Address, "address", "", "where the node listens, HOST:PORT (required)")
	c.Flags().StringVar(&req.Cluster, "cluster-name", "", "name of the cluster, to be sure that it is the right one (default: whatever it is)")
	return c
}

func newClusterRemove(sh *shell) *cobra.Command {
	c := &cobra.Command{
		Use: "remove NODE-ID", Short: "Take a member out of the cluster, for good", Args: cobra.ExactArgs(1), Example: "  sluice cluster remove n3 --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if yes, _ := cmd.Flags().GetBool("yes"); !yes {
				return usagef("%s can come back only with an empty data folder; say --yes if that is meant", args[0])
			}
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				if err := c.Cluster().Remove(ctx, args[0]); err != nil {
					return err
				}
				return sh.answer(&sluicev1.RemoveResponse{}, func(t *table) { t.row("removed", args[0]) })
			})
		},
	}
	c.Flags().Bool("yes", false, "it is meant")
	return c
}

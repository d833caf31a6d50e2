package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	peerv1 "sluice/api/peer/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// TransferLeadership has another voter lead, the most up-to-date one if nodeID is empty, and answers who leads then.
func (n *Node) TransferLeadership(ctx context.Context, nodeID string) (string, error) {
	req, resp := &sluicev1.TransferLeadershipRequest{NodeId: nodeID}, &sluicev1.TransferLeadershipResponse{}
	err := n.atLeader(ctx, n.cfg.LeaderWait, methodTransfer, req, resp, func(*leadership) (err error) {
		resp.LeaderId, err = n.transfer(ctx, nodeID)
		return err
	})
	return resp.LeaderId, err
}

func (n *Node) serveTransfer(ctx context.Context, req *sluicev1.TransferLeadershipRequest) (*sluicev1.TransferLeadershipResponse, error) {
	if _, err := n.leading(); err != nil {
		return nil, err
	}
	id, err := n.transfer(ctx, req.NodeId)
	return &sluicev1.TransferLeadershipResponse{LeaderId: id}, err
}

// transfer hands the lead over and waits until somebody else leads.
func (n *Node) transfer(ctx context.Context, nodeID string) (string, error) {
	if nodeID == n.cfg.NodeID {
		return nodeID, nil
	}
	if target, ok := n.server(nodeID); nodeID != "" && (!ok || target.Suffrage != raft.Voter) {
		var voters []string
		for _, s := range n.otherVoters() {
			voters = append(voters, string(s.ID))
		}
		return "", reason.BadField.Errorf("node %q is no voter of the cluster; the others that vote are: %s", nodeID, strings.Join(voters, ", "))
	}
	if err := n.handLead(ctx, nodeID); err != nil {
		return "", reason.NoLeader.Errorf("the lead was not handed over: %v", err)
	}
	for {
		changed := n.leaderNews.next()
		if id := n.leaderID(); id != "" && id != n.cfg.NodeID {
			return id, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", reason.OutcomeUnknown.Errorf("the lead was handed over, and nobody is known to have taken it yet")
		case <-n.stopped:
			return "", stopping()
		}
	}
}

// abdicate hands the lead over if another voter can take it.
func (n *Node) abdicate() {
	if !n.isLeader() || len(n.otherVoters()) == 0 {
		return
	}
	if err := n.handLead(n.ended, ""); err != nil {
		n.log.Warn("could not hand the lead over", "error", err)
	}
}

func (n *Node) otherVoters() (others []raft.Server) {
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter && string(s.ID) != n.cfg.NodeID {
			others = append(others, s)
		}
	}
	return others
}

const (
	// heirTimeout is how long a voter may take to say that it is there.
	heirTimeout = time.Second
	// declinedFor is how long a voter that did not take the lead is not asked again. It is more than the longest pause
	// after which raft tries a follower that was away.
	declinedFor = 15 * time.Second
)

// handLead has raft hand the lead to a voter that is there: the one that is named, or the most up-to-date.
//
// Left to itself raft hands over to whomever it is told, dead or not. The try fails after a while, but its word to the
// follower's goroutine lies there until raft's pause for a follower that does not answer is over, some 10 seconds; the word
// of a second try has no place beside it, and the leader takes no entries until then.
func (n *Node) handLead(ctx context.Context, nodeID string) error {
	if err := n.tailWritten(ctx); err != nil {
		return err
	}
	heir, err := n.heir(ctx, nodeID)
	if err != nil {
		return err
	}
	if err := n.settled(n.raft().LeadershipTransferToServer(heir.ID, heir.Address)); err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.declined[heir.ID] = time.Now()
		return err
	}
	return nil
}

// tailWritten waits until all that is in this node's log now is on its disk, as long as an election takes. Raft would ask the
// heir without a pause whether it has the last entry, and is told once that is on this node's disk.
func (n *Node) tailWritten(ctx context.Context) error {
	last, err := n.raftLog.LastIndex()
	if err != nil {
		return err
	}
	patience := time.NewTimer(n.cfg.ElectionTimeout)
	defer patience.Stop()
	for news := n.unwritten(last); news != nil; news = n.unwritten(last) {
		select {
		case <-news:
		case <-patience.C:
			return fmt.Errorf("cluster: the disk of node %s has not taken entry %d within %v", n.cfg.NodeID, last, n.cfg.ElectionTimeout)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// heir finds the voter that is to lead.
func (n *Node) heir(ctx context.Context, nodeID string) (raft.Server, error) {
	var asked []raft.Server
	for _, s := range n.otherVoters() {
		if nodeID == "" || string(s.ID) == nodeID {
			asked = append(asked, s)
		}
	}
	last := make([]uint64, len(asked))
	var calls sync.WaitGroup
	for i, s := range asked {
		calls.Go(func() { last[i] = n.lastIndexOf(ctx, s) })
	}
	calls.Wait()
	best := -1
	for i := range asked {
		if last[i] > 0 && (best < 0 || last[i] > last[best]) {
			best = i
		}
	}
	if best < 0 {
		return raft.Server{}, fmt.Errorf("cluster: no voter that could take it answers, or was not asked a moment ago: %v", asked)
	}
	return asked[best], nil
}

// lastIndexOf is the end of a voter's log; 0: it does not answer, or declined the lead of late.
func (n *Node) lastIndexOf(ctx context.Context, s raft.Server) uint64 {
	n.mu.RLock()
	declined := n.declined[s.ID]
	n.mu.RUnlock()
	if time.Since(declined) < declinedFor {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, heirTimeout)
	defer cancel()
	resp := &peerv1.StatsResponse{}
	if n.callPeer(ctx, string(s.Address), methodStats, &peerv1.StatsRequest{}, resp) != nil {
		return 0
	}
	return resp.LastIndex
}

package cluster

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"sluice/api/reason"
)

// backing knows which nodes have followed this one as their leader, and since when for certain: who acknowledged a
// message knew of no later term when it came, and so none had begun when it was sent.
//
// raft.VerifyLeader alone does not tell that of the moment at which it is asked: an answer that was under way then is
// counted for it, though the message it answers was sent before (Ongaro, "Consensus", 2014, 6.4: the leader exchanges
// heartbeats with a majority after it has saved the read index).
type backing struct {
	mu    sync.Mutex
	peers map[raft.ServerID]backed
	// grew is told when something was acknowledged.
	grew news
}

// backed is the latest moment at which a message was sent that a peer acknowledged in a term.
type backed struct {
	term uint64
	sent time.Time
}

// acknowledged notes that a peer acknowledged in a term what was sent at a time.
func (b *backing) acknowledged(peer raft.ServerID, term uint64, sent time.Time) {
	b.mu.Lock()
	last, known := b.peers[peer]
	if b.peers == nil {
		b.peers = map[raft.ServerID]backed{}
	}
	if !known || term > last.term || term == last.term && sent.After(last.sent) {
		b.peers[peer] = backed{term, sent}
	}
	b.mu.Unlock()
	b.grew.tell()
}

// byQuorum tells whether a majority of the voters, self among them, acknowledged in a term what was sent at a time or
// later.
func (b *backing) byQuorum(servers []raft.Server, self raft.ServerID, term uint64, since time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	voters, votes := 0, 0
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if p := b.peers[s.ID]; s.ID == self || p.term == term && !p.sent.Before(since) {
			votes++
		}
	}
	return votes > voters/2
}

// verify asks a quorum whether this node leads, now. It answers within about an election timeout.
func (n *Node) verify() error {
	asked, term := time.Now(), n.raft().CurrentTerm()
	// It makes raft send heartbeats at once, and fails when this node leads no more.
	if err := n.settled(n.raft().VerifyLeader()); err != nil {
		return reason.NoLeader.Errorf("node %s could not confirm that it leads: %v", n.cfg.NodeID, err)
	}
	patience := time.NewTimer(n.cfg.ElectionTimeout)
	defer patience.Stop()
	for {
		grew := n.backing.grew.next()
		if n.backing.byQuorum(n.servers(), raft.ServerID(n.cfg.NodeID), term, asked) {
			return nil
		}
		select {
		case <-grew:
		case <-patience.C:
			return reason.NoLeader.Errorf("node %s could not confirm that it leads: too few nodes answered within %v", n.cfg.NodeID, n.cfg.ElectionTimeout)
		case <-n.stopped:
			return stopping()
		}
	}
}

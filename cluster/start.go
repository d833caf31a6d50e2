package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"sluice/cluster/gossip"
	"sluice/internal/obs"
)

const (
	raftPool    = 3
	raftTimeout = 10 * time.Second
	// logCache is how many entries a leader has at hand for its followers; each may have 1 MiB. What followers are behind is read
	// from files. Raft's cache keeps more than the entries: their outcomes, too.
	logCache = 8
)

// startRaft starts raft over the node's stores and streams.
func (n *Node) startRaft() error {
	latest, err := n.snaps.List()
	if err != nil {
		return fmt.Errorf("cluster: list the snapshots: %w", err)
	}
	if len(latest) > 0 {
		if err := n.takeUp(latest[0]); err != nil {
			return err
		}
	}
	if err := lastReadable(n.raftLog); err != nil {
		return fmt.Errorf("cluster: read the end of the raft log: %w", err)
	}
	logger := obs.Hclog(obs.Lower(n.logger(), n.raftLevel), "raft")
	layer := &streamLayer{Listener: n.cfg.Transport.RaftListener(uint32(firstGroup)), node: n, group: uint32(firstGroup)}
	carrier := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: raftPool, Timeout: raftTimeout, Logger: logger, ServerAddressProvider: n,
	})
	trans := newRaftTransport(carrier, n)
	cfg := n.raftConfig()
	cfg.Logger = logger
	// The state is durable by itself; it is older than a snapshot only if the node crashed while it took the leader's.
	cfg.NoSnapshotRestoreOnStart = true
	watched := &watchedLog{RaftLog: n.raftLog, node: n}
	cached, err := raft.NewLogCache(logCache, watched)
	if err != nil {
		return fmt.Errorf("cluster: log cache: %w", err)
	}
	n.held.remember(n.raftLog)
	r, err := newRaft(func() (*raft.Raft, error) { return raft.NewRaft(cfg, n.group, cached, watched, n.snaps, trans) })
	if err != nil {
		return fmt.Errorf("cluster: start raft: %w", closeCarrier(carrier, err))
	}
	n.carrier = carrier
	n.consensus.Store(r)
	go trans.relay()
	return nil
}

// lastReadable reads the last entry, so that the log's own error tells of damage there: raft passes on its text alone.
func lastReadable(log raft.LogStore) error {
	last, err := log.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	return log.GetLog(last, &raft.Log{})
}

// newRaft makes an error of the panic with which raft meets a log that it cannot read while it starts. Nothing of raft
// runs yet then.
func newRaft(start func() (*raft.Raft, error)) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			cause, ok := p.(error)
			if !ok {
				panic(p)
			}
			r, err = nil, cause
		}
	}()
	return start()
}

func closeCarrier(carrier *raft.NetworkTransport, err error) error {
	if closed := carrier.Close(); closed != nil {
		return fmt.Errorf("%w; %w", err, closed)
	}
	return err
}

func (n *Node) raftConfig() *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(n.cfg.NodeID)
	cfg.HeartbeatTimeout, cfg.ElectionTimeout = n.cfg.HeartbeatTimeout, n.cfg.ElectionTimeout
	cfg.LeaderLeaseTimeout, cfg.CommitTimeout = n.cfg.LeaderLeaseTimeout, n.cfg.CommitTimeout
	cfg.SnapshotInterval, cfg.SnapshotThreshold, cfg.TrailingLogs = n.cfg.SnapshotInterval, n.cfg.SnapshotThreshold, n.cfg.TrailingLogs
	cfg.MaxAppendEntries = n.cfg.MaxAppendEntries
	cfg.BatchApplyCh = true
	cfg.ShutdownOnRemove = false
	cfg.NoLegacyTelemetry = true
	cfg.NotifyCh = n.leads
	return cfg
}

// snapshotPause is the least time between two snapshots that takeSnapshots asks for.
const snapshotPause = 10 * time.Second

// takeSnapshots asks raft for a snapshot when snapshotDue rings, and again after snapshotPause if raft could not make it, of
// which raft tells. Raft makes all others by itself, by interval and threshold.
func (n *Node) takeSnapshots(ctx context.Context) {
	for {
		select {
		case <-n.snapshotDue:
		case <-ctx.Done():
			return
		}
		if err := n.settled(n.raft().Snapshot()); err != nil {
			n.snapshotDue.ring()
		}
		if !pause(ctx, snapshotPause) {
			return
		}
	}
}

// hurry makes the only voter of a cluster stand for election at once: there is nobody to wait for.
func (n *Node) hurry(ctx context.Context) {
	for {
		news := n.leaderNews.next()
		servers := n.servers()
		if len(servers) > 1 || n.leaderID() != "" {
			return
		}
		if len(servers) == 1 && string(servers[0].ID) == n.cfg.NodeID && servers[0].Suffrage == raft.Voter {
			n.standNow()
			return
		}
		timer := time.NewTimer(hurryLook)
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

const hurryLook = 20 * time.Millisecond

// standNow sends this node the message by which a leader hands over, which starts an election without a wait.
func (n *Node) standNow() {
	me, here := raft.ServerID(n.cfg.NodeID), raft.ServerAddress(n.cfg.Transport.Advertise())
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(me), Addr: []byte(here)}
	if err := n.carrier.TimeoutNow(me, here, &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{}); err != nil {
		n.log.Info("could not stand for election at once; raft will in its time", "error", err)
	}
}

// observeLeader has raft tell of every change of the leader.
func (n *Node) observeLeader() chan raft.Observation {
	c := make(chan raft.Observation, 16)
	n.raft().RegisterObserver(raft.NewObserver(c, false, func(o *raft.Observation) bool {
		_, leader := o.Data.(raft.LeaderObservation)
		return leader
	}))
	return c
}

func (n *Node) watchLeader(ctx context.Context, changes <-chan raft.Observation) {
	for {
		select {
		case <-changes:
			n.leaderNews.tell()
		case <-ctx.Done():
			return
		}
	}
}

// runGossip gossips until the node stops, and answers a channel that is closed when it has left.
func (n *Node) runGossip() <-chan struct{} {
	done := make(chan struct{})
	if n.gossip == nil {
		close(done)
		return done
	}
	n.updateGossip()
	go func() {
		defer close(done)
		if err := n.gossip.Run(n.ended); err != nil {
			n.log.Error("gossip ended", "error", err)
		}
	}()
	return done
}

// meta is what this node tells the others by gossip.
func (n *Node) meta() gossip.Meta {
	i := n.folder.current()
	return gossip.Meta{
		NodeID: n.cfg.NodeID, Address: n.cfg.Transport.Advertise(), Cluster: n.cfg.Cluster, ClusterID: i.ClusterID,
		BootstrapExpect: n.cfg.BootstrapExpect, HasState: i.ClusterID != "" || n.raft() != nil && n.raft().LastIndex() > 0, Version: n.cfg.Version,
	}
}

func (n *Node) updateGossip() {
	if n.gossip == nil {
		return
	}
	if err := n.gossip.UpdateMeta(n.meta()); err != nil {
		n.log.Warn("could not tell the others about this node", "error", err)
	}
}

// onGossip keeps what gossip told last of each node. A node that is gone keeps its address: it may only be unseen.
func (n *Node) onGossip(e gossip.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := e.Member.NodeID
	switch e.Kind {
	case gossip.Joined, gossip.Updated:
		n.seen[id], n.health[id] = e.Member, "alive"
	case gossip.Asked:
		n.asked = true
	case gossip.Left:
		n.unseen(e.Member, left)
		n.log.Info("a node said good-bye", "peer", id)
	case gossip.Failed:
		n.unseen(e.Member, "dead")
	}
}

// left is the health of a node that said good-bye.
const left = "left"

func (n *Node) unseen(m gossip.Member, health string) {
	m.Alive = false
	n.seen[m.NodeID], n.health[m.NodeID] = m, health
}

// gossiped is the address that gossip told last of a node; empty: none.
func (n *Node) gossiped(id string) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.seen[id].Address
}

func (n *Node) lastHealth(id string) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if h := n.health[id]; h != "" {
		return h
	}
	return "unknown"
}

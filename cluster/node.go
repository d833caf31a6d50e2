package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"sluice/cluster/gossip"
	"sluice/cluster/raftlog"
	"sluice/cluster/snapshot"
	"sluice/fsm"
	"sluice/queue"
)

const (
	// transferTimeout bounds the handing over of the lead when a node stops.
	transferTimeout = 5 * time.Second
	// drainTimeout is how long a stopping node waits for raft to answer what is in flight.
	drainTimeout = time.Second
	// hangTimeout is how long a node that had to stop waits for its disk.
	hangTimeout = 15 * time.Second
)

// Node is one member of a cluster. Its methods may be called by any goroutine, before, during and after Run; while it
// does not run they answer NO_LEADER.
type Node struct {
	cfg     Config
	log     *slog.Logger
	folder  *folder
	group   *group
	raftLog RaftLog
	snaps   raft.SnapshotStore
	// snapshotDue is rung when much has come since the last snapshot.
	snapshotDue bell
	gossip      Gossip
	// gossipAddr is read once: memberlist changes its own node without a lock that readers could take.
	gossipAddr string
	metrics    *metrics
	disk       *space
	started    time.Time
	methods    map[string]peerMethod

	proposer *proposer
	reader   *reader
	awaits   awaits
	fresh    fresh
	backing  backing
	engaged  engagement
	// events is told when this node has applied an event, or its state was replaced.
	events news
	held   heldStart
	// selecting bounds the selections under way.
	selecting chan struct{}

	// consensus is set once, when Run has started raft.
	consensus atomic.Pointer[raft.Raft]
	carrier   *raft.NetworkTransport
	// leads says that this node won or lost the lead.
	leads chan bool
	// lead is set while this node leads and does its duties.
	lead atomic.Pointer[leadership]
	// sink takes the effects of Apply while this node leads; nil else.
	sink atomic.Pointer[effectQueue]
	// leaderNews is told whenever another node, or none, leads, and when this node's duties begin.
	leaderNews news

	// changing holds a token while this node changes the members: what one change has looked at, no other changes.
	changing chan struct{}

	// running holds the goroutines of Run, of calls to the leader among them.
	running errgroup.Group
	// stopped is closed when Run begins to stop, halted when raft has stopped.
	stopped, halted chan struct{}
	// parked is closed when a goroutine of raft was kept from a panic: raft cannot be waited for any more. Run closes
	// abandoned when it has answered, whereupon such goroutines end.
	parked, abandoned chan struct{}
	parkOnce          sync.Once
	// end makes Run stop; cause is why, if the node had to.
	end   context.CancelCauseFunc
	ended context.Context

	// mu guards what gossip told last of each node, by id, and when voters did not take the lead.
	mu       sync.RWMutex
	seen     map[string]gossip.Member
	health   map[string]string
	declined map[raft.ServerID]time.Time
	// asked: gossip has tried all addresses of others that the node was told. Under mu.
	asked bool
}

// RaftLog keeps raft's log and its few stable values.
type RaftLog interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// Gossip finds other nodes.
type Gossip interface {
	Run(ctx context.Context) error
	Close() error
	Addr() string
	UpdateMeta(m gossip.Meta) error
}

// New opens the data folder, the state and the gossip port of a node, and starts nothing. Run or Close must follow.
// It refuses a folder that belongs to another node or cluster, or that another process uses.
func New(cfg Config) (*Node, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Logger.With("component", "cluster", "node", cfg.NodeID), metrics: newMetrics(), started: time.Now(),
		leads: make(chan bool, 16), snapshotDue: newBell(), selecting: make(chan struct{}, selectionsMax), changing: make(chan struct{}, 1), stopped: make(chan struct{}), halted: make(chan struct{}), parked: make(chan struct{}), abandoned: make(chan struct{}),
		seen: map[string]gossip.Member{}, health: map[string]string{}, declined: map[raft.ServerID]time.Time{},
	}
	n.held.node, n.held.request = n, "start-held-"+uuid.NewString()
	n.held.pending.Store(cfg.StartHeld)
	n.ended, n.end = context.WithCancelCause(context.Background())
	n.disk = newSpace(cfg, n.log)
	n.proposer, n.reader, n.methods = newProposer(n), newReader(n), n.peerMethods()
	if !cfg.NoLibraryMetrics {
		librarySink()
	}
	if err := n.open(); err != nil {
		return nil, alsoFailed(err, n.giveUp())
	}
	return n, nil
}

// open opens everything that is on disk, and the gossip port.
func (n *Node) open() (err error) {
	if n.folder, err = openFolder(n.cfg.Files, n.cfg.DataDir, n.cfg.NodeID, n.cfg.Cluster); err != nil {
		return err
	}
	dir := filepath.Join(n.cfg.DataDir, firstGroup.folder())
	if n.group, err = openGroup(n.cfg, dir, n.metrics); err != nil {
		return err
	}
	n.group.onEffects, n.group.onFatal, n.group.onRestore, n.group.onApplied = n.onEffects, n.fatal, n.folder.restored, n.held.applied
	n.group.onProgress = n.engaged.goesOn
	n.group.onSnapshotDue = n.snapshotDue.ring
	log, err := n.cfg.OpenLog(filepath.Join(dir, "raft"), raftlog.Config{Backend: n.cfg.RaftLog, OnStuck: n.fatal, Logger: n.logger()})
	if err != nil {
		return fmt.Errorf("cluster: open the raft log: %w", err)
	}
	n.raftLog = log
	if n.snaps, err = snapshot.Open(filepath.Join(dir, "snapshots"), n.snapshots()); err != nil {
		return fmt.Errorf("cluster: open the snapshots: %w", err)
	}
	if err := n.whole(); err != nil {
		return err
	}
	return n.openGossip()
}

// logger is for the parts beneath: they name themselves.
func (n *Node) logger() *slog.Logger { return n.cfg.Logger.With("node", n.cfg.NodeID) }

func (n *Node) openGossip() error {
	if n.cfg.GossipBind == "" {
		return nil
	}
	g, err := n.cfg.ListenGossip(gossip.Config{
		NodeID: n.cfg.NodeID, Cluster: n.cfg.Cluster, Bind: n.cfg.GossipBind, Advertise: n.cfg.GossipAdvertise, Join: n.cfg.Join,
		Meta: n.meta(), Logger: n.logger(), OnEvent: n.onGossip,
	})
	if err != nil {
		return fmt.Errorf("cluster: gossip: %w", err)
	}
	n.gossip, n.gossipAddr = g, g.Addr()
	return nil
}

// giveUp closes everything of a node that does not run.
func (n *Node) giveUp() error {
	var err error
	if n.gossip != nil {
		err = n.gossip.Close()
	}
	return errors.Join(err, n.release())
}

// release closes what is on disk, last first.
func (n *Node) release() error {
	var errs []error
	if n.raftLog != nil {
		errs = append(errs, n.raftLog.Close())
	}
	if n.group != nil {
		errs = append(errs, n.group.close(context.Cause(n.ended)))
	}
	if n.folder != nil {
		errs = append(errs, n.folder.close())
	}
	return errors.Join(errs...)
}

// Close gives up a node that was never run.
func (n *Node) Close() error {
	close(n.stopped)
	return n.giveUp()
}

// snapshots is how raft's snapshots are kept. A node that finds one of its own damaged must stop: it may have no other, and
// a follower that needs one must not be given it.
func (n *Node) snapshots() snapshot.Config {
	return snapshot.Config{
		Files: n.cfg.Files, Logger: n.logger(), Proves: queue.IsTable,
		Check:    n.checkTable,
		OnBroken: func(err error) { n.fatal(fmt.Errorf("cluster: read a snapshot of this node: %w", err)) },
	}
}

// checkTable tells damage from trouble that passes.
func (n *Node) checkTable(path string) error {
	err := queue.CheckTable(n.cfg.Files, path)
	if errors.Is(err, queue.ErrCorrupt) {
		return fmt.Errorf("%w: %w", snapshot.ErrBroken, err)
	}
	return err
}

// GossipAddress is where this node's gossip listens; empty: nowhere.
func (n *Node) GossipAddress() string { return n.gossipAddr }

// raft is nil until Run has started it.
func (n *Node) raft() *raft.Raft { return n.consensus.Load() }

// Run is the node's life. When ctx ends it hands the lead over, leaves gossip, stops everything and answers nil. An
// error means that the node had to stop: its disk failed, or its state cannot be trusted. A node runs once.
func (n *Node) Run(ctx context.Context) error {
	if err := n.startRaft(); err != nil {
		close(n.stopped)
		return errors.Join(err, n.giveUp())
	}
	n.group.learn()
	n.cfg.Transport.HandlePeers(n.servePeer)
	observer := n.observeLeader()
	awaited := make(chan struct{})
	go func() {
		defer close(awaited)
		n.proposer.await()
	}()
	for _, part := range []func(context.Context){
		n.proposer.run, n.runLeadership, n.held.watch, n.watchDisk, n.takeSnapshots, n.findCluster, n.hurry, func(ctx context.Context) { n.watchLeader(ctx, observer) },
	} {
		n.goes(part)
	}
	for range readWorkers {
		n.goes(n.reader.run)
	}
	gossiping := n.runGossip()
	select {
	case <-ctx.Done():
		n.stepAside()
	case <-n.ended.Done():
	}
	return n.stop(awaited, gossiping)
}

// goes runs a part of the node until the node ends.
func (n *Node) goes(part func(context.Context)) {
	n.running.Go(func() error {
		part(n.ended)
		return nil
	})
}

// stepAside hands the lead over before the node stops.
func (n *Node) stepAside() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.abdicate()
	}()
	timer := time.NewTimer(transferTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// stop ends everything and answers why the node ended, if it had to.
func (n *Node) stop(awaited, gossiping <-chan struct{}) error {
	n.end(nil)
	close(n.stopped)
	n.leaderNews.tell()
	closed := make(chan error, 1)
	go func() {
		<-gossiping
		stopped := n.raft().Shutdown().Error()
		close(n.halted)
		// Goroutines of running answer no error.
		_ = n.running.Wait()
		timer := time.NewTimer(drainTimeout)
		defer timer.Stop()
		select {
		case <-awaited:
		case <-timer.C:
		}
		closed <- errors.Join(stopped, n.release())
	}()
	defer close(n.abandoned)
	cause := context.Cause(n.ended)
	if errors.Is(cause, context.Canceled) {
		return <-closed
	}
	timer := time.NewTimer(hangTimeout)
	defer timer.Stop()
	select {
	case err := <-closed:
		return alsoFailed(cause, err)
	case <-n.parked:
		return cause
	case <-timer.C: // a disk that hangs must not keep the process from ending
		return cause
	}
}

// fatal makes the node stop for good: the first cause counts.
func (n *Node) fatal(err error) {
	n.log.Error("this node must stop", "error", err)
	n.end(err)
}

// Abort makes the node stop at once, as if it had been killed: nothing is handed over, nobody is told. Run answers the cause.
// It is for tests of crashes; what the node still does while it ends is kept from its disk and its network by them.
func (n *Node) Abort(cause error) { n.end(cause) }

// Ending is why the node has to stop, nil while it need not: Run has not returned yet, but will.
func (n *Node) Ending() error { return context.Cause(n.ended) }

// settled waits for a future of raft, at most until raft has stopped.
func (n *Node) settled(f raft.Future) error {
	answered := make(chan error, 1)
	go func() { answered <- f.Error() }()
	select {
	case err := <-answered:
		return err
	case <-n.halted:
	}
	select {
	case err := <-answered:
		return err
	default:
		return raft.ErrRaftShutdown
	}
}

// onEffects takes what an apply reports; nil: the whole state was replaced.
func (n *Node) onEffects(e *fsm.Effects) {
	sink := n.sink.Load()
	if e == nil {
		n.awaits.all()
		n.events.tell()
		if sink != nil {
			sink.mark()
		}
		return
	}
	n.metrics.applied(&e.Counters)
	n.awaits.settled(e.Settled)
	if e.Events {
		n.events.tell()
	}
	if sink != nil {
		sink.push(e)
	}
}

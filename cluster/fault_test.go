package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/internal/disk"
	"sluice/queue"
)

// A leader that was cut off may hold entries that nobody else has, while the others go on and cut their logs. It must
// come back by a snapshot, once (hashicorp/raft #697: installs without end).
func TestADivergentTailIsReplaced(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval, c.LeaderWait = 10, 20, 20*time.Millisecond, time.Second
	})
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	old := w.leader("a", "b", "c")
	id := old.cfg.NodeID
	w.fabric.isolate(old.port.addr, true)
	var wait sync.WaitGroup
	for i := range 600 {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if _, err := old.Propose(ctx, sending("app", "lost", fmt.Sprint("m", i))); err == nil {
				t.Errorf("message %d was accepted without a quorum", i)
			}
		})
	}
	next := w.leader(others(id)...)
	for i := range 250 {
		w.send(next, "app", fmt.Sprint("i", i%5), fmt.Sprint("m", i))
	}
	wait.Wait()
	w.until("the new leader's log is cut", next.Node, func() bool {
		first, err := w.logs[next.cfg.NodeID].FirstIndex()
		return err == nil && first > 200
	})
	w.fabric.isolate(old.port.addr, false)
	w.ready(id)
	w.send(old, "app", "i0", "after")
	w.sameDigest("a", "b", "c")
	if _, err := old.group.view().Instance(fsm.InstanceID{Application: "app", Key: "lost"}); !errors.Is(err, reason.UnknownInstance) {
		t.Fatalf("what was refused is there: %v", err)
	}
}

func TestDivergedNodeStops(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	check := &logv1.CheckDigest{Index: m.group.applied.index(), Digest: []byte("another")}
	_, err := m.Propose(w.context(), &logv1.Command{Actor: "test", Kind: &logv1.Command_CheckDigest{CheckDigest: check}})
	if !errors.Is(err, reason.OutcomeUnknown) {
		t.Fatalf("want OUTCOME_UNKNOWN, got %v", err)
	}
	<-m.done
	if !errors.Is(m.err, fsm.ErrDiverged) {
		t.Fatalf("want ErrDiverged, got %v", m.err)
	}
}

func TestFollowersWithAFullDiskCatchUpOnceItIsFreed(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	lead := w.leader("a", "b", "c")
	full := w.nodes[others(lead.cfg.NodeID)[0]]
	full.disk.share.Store(1)
	full.disk.reserve.Store(1 << 62)
	full.disk.look()
	if !full.disk.critical() {
		t.Fatal("a reserve of the whole disk is not called full")
	}
	for i := range 20 {
		w.send(lead, "app", "i", fmt.Sprint("m", i))
	}
	full.disk.reserve.Store(1)
	full.disk.look()
	w.ready(full.cfg.NodeID)
	w.send(full, "app", "i", "after")
	w.sameDigest("a", "b", "c")
}

// A snapshot that finds the disk full is made later: the node goes on.
func TestASnapshotWaitsForADiskWithRoom(t *testing.T) {
	mount := disk.NewMemory().Mount()
	w := newWorld(t, func(c *Config) { c.Files = mount; c.OpenStore = nil })
	w.founded("a")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	w.send(m, "app", "i", "m")
	mount.Refuse(unix.ENOSPC)
	full := &pendingSnapshot{group: m.group, state: m.group.live.Load()}
	if err := full.checkpoint(filepath.Join(w.dir, "a", "checkpoint")); !errors.Is(err, queue.ErrNoRoom) {
		t.Fatalf("a snapshot on a full disk: %v", err)
	}
	w.send(m, "app", "i", "another")
	mount.Refuse(nil)
	for errors.Is(full.state.store.Flush(), queue.ErrNoRoom) {
		runtime.Gosched()
	}
	if err := m.raft().Snapshot().Error(); err != nil {
		t.Fatalf("a snapshot once there is room: %v", err)
	}
	w.send(m, "app", "i", "after")
}

// There is a snapshot when much has come, however long raft would wait: a node that starts reads all that came since.
func TestASnapshotIsMadeWhenMuchHasCome(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.SnapshotBytes, c.SnapshotInterval = 1<<10, time.Hour })
	w.founded("a")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	for k := range 60 { // of about fifty bytes each
		w.send(m, "app", "i", fmt.Sprint(k))
	}
	w.until("there is a snapshot", m.Node, func() bool {
		snapshots, _ := m.snaps.List()
		return len(snapshots) > 0
	})
}

func TestRestoredStateIsTakenUpAfterACrash(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	w.must(w.nodes["a"], declare("app"))
	w.send(w.nodes["a"], "app", "i", "m")
	if err := w.stop("a"); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(w.dir, "a", firstGroup.folder())
	// As if the node had crashed when the leader's state was whole, and not yet in its place.
	if err := os.Rename(filepath.Join(dir, "state"), filepath.Join(dir, "state.next")); err != nil {
		t.Fatal(err)
	}
	for _, rubbish := range []string{"state", "state.incoming", "checkpoint"} {
		if err := os.MkdirAll(filepath.Join(dir, rubbish, "half"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m := w.start("a", 1)
	w.ready("a")
	if r := w.send(m, "app", "i", "m"); !r[0].Receipt.Duplicate {
		t.Fatalf("want a duplicate, got %v", r)
	}
}

func TestAReadOfAReplacedStateSaysSo(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	view := m.group.view()
	it, err := m.group.live.Load().store.NewIter(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- m.group.live.Load().store.Close() }()
	w.until("the store closes", m.Node, func() bool {
		_, err := view.Instance(fsm.InstanceID{Application: "app", Key: "i"})
		return errors.Is(err, reason.NoLeader)
	})
	select {
	case err := <-closed:
		t.Fatalf("closed under a reader: %v", err)
	default:
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}

func TestACancelledPollLosesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	lead := w.leader("a", "b", "c")
	follower := w.nodes[others(lead.cfg.NodeID)[0]]
	for _, m := range []*member{lead, follower} {
		s := w.open(m, "app")
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			_, err := m.Poll(ctx, &sluicev1.PollRequest{SessionId: s, Max: 1, Wait: durationpb.New(50 * time.Second)}, false)
			ended <- err
		}()
		w.until("the poll waits", lead.Node, func() bool {
			_, polls, _, _ := lead.lead.Load().dispatch.counts()
			return polls == 1
		})
		cancel()
		if err := <-ended; !errors.Is(err, reason.NoLeader) {
			t.Fatalf("a cancelled poll: %v", err)
		}
		w.until("the poll is gone", lead.Node, func() bool {
			_, polls, _, _ := lead.lead.Load().dispatch.counts()
			return polls == 0
		})
		w.send(m, "app", "i", "m-"+s)
		d := w.poll(m, s, 1)
		if len(d) != 1 || d[0].Message.Id != "m-"+s {
			t.Fatalf("want the message, got %v", d)
		}
		w.settle(m, s, d[0])
		if _, err := m.CloseSession(w.context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// TestALongPollDoesNotOutlastTheLease: a worker that only polls must not lose its session while it waits.
func TestALongPollDoesNotOutlastTheLease(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	resp, err := m.OpenSession(w.context(), &sluicev1.OpenSessionRequest{Application: "app", Ttl: durationpb.New(time.Second)}, "test")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		polled, err := m.Poll(w.context(), &sluicev1.PollRequest{SessionId: resp.SessionId, Max: 1, Wait: durationpb.New(patience)}, false)
		if err != nil || len(polled.Deliveries) != 0 {
			t.Fatalf("want an empty answer before the lease is over, got %v %v", polled, err)
		}
	}
}

func (m *member) epoch(t *testing.T, key string) uint64 {
	t.Helper()
	i, err := m.group.view().Instance(fsm.InstanceID{Application: "app", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return i.Epoch
}

func TestApplicationWideRecoveryReachesTheOwner(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	s := w.open(m, "app")
	w.send(m, "app", "i", "m")
	w.poll(m, s, 1)
	id := fsm.InstanceID{Application: "app", Key: "i"}
	enter := &sluicev1.EnterApplicationRecoveryRequest{Application: "app", Cause: "test"}
	w.must(m, &logv1.Command{Actor: "test", Kind: &logv1.Command_EnterApplicationRecovery{EnterApplicationRecovery: enter}})
	if q, err := m.Quiesced(w.context(), id); err != nil || q {
		t.Fatalf("before the owner knows: want not quiesced, got %v %v", q, err)
	}
	if d := w.poll(m, s, 1); d[0].Kind != sluicev1.DeliveryKind_DELIVERY_RECOVERY {
		t.Fatalf("want the recovery, got %v", d)
	}
	if q, err := m.Quiesced(w.context(), id); err != nil || !q {
		t.Fatalf("with the recovery taken: want quiesced, got %v %v", q, err)
	}
}

// TestCompletionPassesOverARecoveryAtWork: a recovery handler that is at work ends its recovery itself; the completion of
// the whole application ends those that nobody works on.
func TestCompletionPassesOverARecoveryAtWork(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	s := w.open(m, "app")
	w.send(m, "app", "i", "m")
	w.settle(m, s, w.poll(m, s, 1)[0])
	w.send(m, "app", "j", "m")
	enter := &sluicev1.EnterApplicationRecoveryRequest{Application: "app", Cause: "test"}
	w.must(m, &logv1.Command{Actor: "test", Kind: &logv1.Command_EnterApplicationRecovery{EnterApplicationRecovery: enter}})
	d := w.poll(m, s, 1)[0]
	if d.Kind != sluicev1.DeliveryKind_DELIVERY_RECOVERY || d.Instance != "i" {
		t.Fatalf("want the recovery of i, got %v", d)
	}
	complete := &sluicev1.CompleteApplicationRecoveryRequest{Application: "app"}
	id := w.must(m, &logv1.Command{Actor: "test", Kind: &logv1.Command_CompleteApplicationRecovery{CompleteApplicationRecovery: complete}}).GetOperation().Id
	var op *sluicev1.Operation
	w.until("the operation is done", m.Node, func() bool {
		op, _ = m.group.view().Operation(id)
		return op.GetState() == sluicev1.OperationState_OPERATION_DONE
	})
	if op.Done != 1 || op.PassedOver != 1 {
		t.Fatalf("want i passed over and j done, got %v", op)
	}
	own := &sluicev1.CompleteRecoveryRequest{Application: "app", Instance: "i", Epoch: d.Epoch, SessionId: s}
	w.must(m, &logv1.Command{Actor: "test", Kind: &logv1.Command_CompleteRecovery{CompleteRecovery: own}})
}

func TestIdleInstancesMakeRoom(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	m := w.nodes["a"]
	w.must(m, declare("app"))
	resp, err := m.OpenSession(w.context(), &sluicev1.OpenSessionRequest{Application: "app", Ttl: durationpb.New(time.Minute), Capacity: 2}, "test")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		w.send(m, "app", fmt.Sprint("i", i), "m")
	}
	for range 10 {
		w.settle(m, resp.SessionId, w.poll(m, resp.SessionId, 1)[0])
	}
}

func TestStatusAndMetricsTell(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	w.send(w.nodes["b"], "app", "i", "m")
	s, err := w.nodes["c"].Status(context.Background())
	if err != nil || s.Cluster != "test" || s.ClusterId == "" || s.LeaderId == "" || s.LeaderAddress == "" || len(s.Members) != 3 {
		t.Fatalf("status: %v %v", s, err)
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(w.leader("a", "b", "c").Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		seen[f.GetName()] = true
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				if l.GetName() == "instance" {
					t.Errorf("%s is labelled by instance", f.GetName())
				}
			}
		}
	}
	for _, name := range []string{"sluice_instances", "sluice_is_leader", "sluice_messages_total", "sluice_events_total", "sluice_commit_seconds", "sluice_apply_seconds", "sluice_polls_waiting", "raft_apply"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestFullDiskErrorsAreToldApart(t *testing.T) {
	quoted := fmt.Errorf("unable to store logs within log store, err: %q", errDiskFull)
	if err := raftRefusal(quoted); !errors.Is(err, reason.DiskFull) {
		t.Errorf("what raft makes of a full disk: %v", err)
	}
	if err := raftRefusal(unix.ENOSPC); !errors.Is(err, reason.OutcomeUnknown) {
		t.Errorf("a write that failed half-way: %v", err)
	}
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/cluster/snapshot"
	"sluice/fsm"
	"sluice/internal/audit"
	"sluice/internal/disk"
	"sluice/queue"
)

// group is the state of one raft group: the machine over its store, as raft drives it. It implements
// raft.BatchingFSM; ApplyBatch, Snapshot and Restore are called by one goroutine of raft.
type group struct {
	cfg Config
	log *slog.Logger
	dir string
	// live is replaced whole by Restore; readers take it once a read.
	live atomic.Pointer[state]
	// onEffects gets the effects of every apply, and nil when the whole state was replaced. It must not block.
	onEffects func(*fsm.Effects)
	// onRestore is told, before it happens, that a leader's state of an index takes the place of this node's.
	onRestore func(index uint64) error
	// onProgress is told that some of a leader's state has been read.
	onProgress func()
	// onApplied sees entries once they were applied.
	onApplied func([]*raft.Log)
	// onSnapshotDue is told that entries of SnapshotBytes have come since the last snapshot.
	onSnapshotDue func()
	// onFatal is told why this node must stop.
	onFatal func(error)
	broken  error
	// sinceSnapshot is the bytes of the entries since the last snapshot began, or was restored; of the goroutine that applies.
	sinceSnapshot uint64
	applied       watermark
	metrics       *metrics
}

// state is one store and the machine over it.
type state struct {
	store   *guardedStore
	machine *fsm.Machine
}

// answer is what ApplyBatch gives back for each entry.
type answer struct {
	index    uint64
	outcomes []*logv1.Outcome
	err      error
}

// openGroup takes up the state in dir, which is made if absent.
func openGroup(cfg Config, dir string, m *metrics) (*group, error) {
	if err := disk.MakeFolders(cfg.Files, dir, 0o750); err != nil {
		return nil, fmt.Errorf("cluster: state: %w", err)
	}
	g := &group{cfg: cfg, log: cfg.Logger.With("component", "group"), dir: dir, metrics: m}
	if err := g.tidy(); err != nil {
		return nil, fmt.Errorf("cluster: state: %w", err)
	}
	s, err := g.open(g.path("state"))
	if err != nil {
		return nil, err
	}
	g.live.Store(s)
	index, _ := s.machine.Applied()
	g.applied.reach(index)
	return g, nil
}

func (g *group) path(name string) string { return filepath.Join(g.dir, name) }

// tidy ends what a crash interrupted: a restored state is whole once it is named state.next; before, it is rubbish.
func (g *group) tidy() error {
	if err := g.cfg.Files.RemoveAll(g.path("state.incoming")); err != nil {
		return err
	}
	if err := g.cfg.Files.RemoveAll(g.path("checkpoint")); err != nil {
		return err
	}
	if _, err := g.cfg.Files.Stat(g.path("state.next")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return g.adopt()
}

// adopt makes state.next the state. It may be repeated after a crash at any point.
func (g *group) adopt() error {
	if err := g.cfg.Files.RemoveAll(g.path("state")); err != nil {
		return err
	}
	if err := g.cfg.Files.Rename(g.path("state.next"), g.path("state")); err != nil {
		return err
	}
	return disk.SyncFolder(g.cfg.Files, g.dir)
}

func (g *group) open(dir string) (*state, error) {
	store, err := g.cfg.OpenStore(dir)
	if err != nil {
		return nil, fmt.Errorf("cluster: open state %s: %w", dir, err)
	}
	guarded := guard(store)
	machine, err := fsm.Open(guarded, fsm.Options{CacheInstances: g.cfg.CacheInstances, BucketRecords: g.cfg.BucketRecords})
	if err != nil {
		return nil, fmt.Errorf("cluster: open state %s: %w", dir, alsoFailed(err, guarded.Close()))
	}
	return &state{store: guarded, machine: machine}, nil
}

// learn has the state learn which ids it remembers, in a goroutine that ends when its store is closed.
func (g *group) learn() {
	s := g.live.Load()
	release, err := s.store.hold()
	if err != nil {
		return
	}
	go func() {
		defer release()
		ids, err := s.machine.Learn(s.store.ends)
		switch {
		case errors.Is(err, queue.ErrStopped), errors.Is(err, replaced):
		case err != nil:
			g.log.Warn("ids that are new are looked for on disk", "error", err)
		default:
			g.log.Debug("learned which ids are remembered", "ids", ids)
		}
	}()
}

// view reads what was applied last.
func (g *group) view() *fsm.View { return g.live.Load().machine.View() }

// ApplyBatch applies committed entries in one store batch. After an error the node stops, and what comes after it is
// not applied: its proposers are told that the outcome is unknown.
func (g *group) ApplyBatch(logs []*raft.Log) []interface{} {
	answers := make([]interface{}, len(logs))
	results, err := g.apply(logs)
	for n, l := range logs {
		a := &answer{index: l.Index, err: err}
		if err == nil {
			a.outcomes = results[n].Outcomes
		}
		answers[n] = a
	}
	return answers
}

func (g *group) apply(logs []*raft.Log) ([]fsm.Result, error) {
	if g.broken != nil {
		return nil, g.broken
	}
	entries := make([]fsm.Entry, len(logs))
	for n, l := range logs {
		entries[n] = fsm.Entry{Index: l.Index, Term: l.Term}
		if l.Type == raft.LogCommand {
			entries[n].Data = l.Data
		}
	}
	done := g.metrics.applying(len(logs))
	results, effects, err := g.live.Load().machine.Apply(entries)
	done()
	if err != nil {
		g.broken = fmt.Errorf("cluster: apply entries %d to %d: %w", entries[0].Index, entries[len(entries)-1].Index, err)
		g.onFatal(g.broken)
		return nil, g.broken
	}
	if err := g.note(logs, results); err != nil {
		g.broken = err
		g.onFatal(err)
		return nil, err
	}
	g.onApplied(logs)
	g.onEffects(&effects)
	g.applied.reach(entries[len(entries)-1].Index)
	g.count(logs)
	return results, nil
}

// count asks for a snapshot when there is much to be read again at a start.
func (g *group) count(logs []*raft.Log) {
	for _, l := range logs {
		g.sinceSnapshot += uint64(len(l.Data))
	}
	if g.sinceSnapshot >= g.cfg.SnapshotBytes {
		g.sinceSnapshot = 0
		g.onSnapshotDue()
	}
}

// note tells the audit what was applied just now. It is told before anybody is answered.
func (g *group) note(logs []*raft.Log, results []fsm.Result) error {
	if g.cfg.Audit == nil {
		return nil
	}
	var rows []audit.Row
	for n, l := range logs {
		if results[n].Digest == 0 && results[n].Outcomes == nil {
			continue // applied before
		}
		outcomes := make([][]byte, len(results[n].Outcomes))
		for i, o := range results[n].Outcomes {
			var err error
			if outcomes[i], err = proto.Marshal(o); err != nil {
				return fmt.Errorf("cluster: audit: %w", err)
			}
		}
		var entry []byte
		if l.Type == raft.LogCommand {
			entry = l.Data
		}
		rows = append(rows, audit.Entry(l.Index, l.Term, results[n].Digest, entry, outcomes))
	}
	return g.cfg.Audit(rows...)
}

// Apply applies one entry; raft uses ApplyBatch.
func (g *group) Apply(l *raft.Log) interface{} { return g.ApplyBatch([]*raft.Log{l})[0] }

// Snapshot gives a snapshot that is made when it is persisted. The state may be ahead of the index that raft notes
// for it by then, which does no harm: entries that a state holds are skipped when they come again.
func (g *group) Snapshot() (raft.FSMSnapshot, error) {
	if g.broken != nil {
		return nil, g.broken
	}
	g.sinceSnapshot = 0
	return &pendingSnapshot{group: g, state: g.live.Load()}, nil
}

type pendingSnapshot struct {
	group *group
	state *state
}

// Persist flushes the state, links its files together and hands them to the sink, without a copy.
func (p *pendingSnapshot) Persist(sink raft.SnapshotSink) error {
	release, err := p.state.store.hold()
	if err != nil {
		return err
	}
	defer release()
	taker, ok := sink.(interface{ Adopt(dir string) error })
	if !ok {
		return fmt.Errorf("cluster: snapshot: a sink of type %T takes no folder", sink)
	}
	dir := p.group.path("checkpoint")
	if err := p.group.cfg.Files.RemoveAll(dir); err != nil {
		return fmt.Errorf("cluster: snapshot: %w", err)
	}
	if err := p.checkpoint(dir); err != nil {
		return err
	}
	if err := taker.Adopt(dir); err != nil {
		return fmt.Errorf("cluster: snapshot: %w", err)
	}
	return sink.Close()
}

func (p *pendingSnapshot) checkpoint(dir string) error {
	if err := p.state.store.Flush(); err != nil {
		err = fmt.Errorf("cluster: snapshot: flush: %w", err)
		if !errors.Is(err, queue.ErrNoRoom) {
			p.group.onFatal(err)
		}
		return err
	}
	if err := p.state.store.Checkpoint(dir); err != nil {
		return fmt.Errorf("cluster: snapshot: checkpoint: %w", err)
	}
	return nil
}

// Release does nothing: an unused snapshot holds nothing.
func (p *pendingSnapshot) Release() {}

// Restore takes the leader's state in place of this node's: extracted and verified beside it, opened once to see that
// it can be read, then put in its place. After a crash the old state or the new one is there, whole.
func (g *group) Restore(r io.ReadCloser) error {
	err := g.restore(&progressReader{r, g.onProgress})
	g.sinceSnapshot = 0
	if err != nil {
		g.broken = fmt.Errorf("cluster: restore a snapshot: %w", err)
		g.onFatal(g.broken)
	}
	return err
}

func (g *group) restore(r io.Reader) error {
	incoming := g.path("state.incoming")
	if err := g.cfg.Files.RemoveAll(incoming); err != nil {
		return err
	}
	if err := snapshot.Extract(g.cfg.Files, r, incoming); err != nil {
		return err
	}
	trial, err := g.open(incoming)
	if err != nil {
		return err
	}
	index, _ := trial.machine.Applied()
	if err := trial.store.Close(); err != nil {
		return err
	}
	if at := g.applied.index(); index < at {
		g.log.Info("a snapshot is older than the state: the state stays", "snapshot", index, "applied", at)
		return g.cfg.Files.RemoveAll(incoming)
	}
	if err := g.onRestore(index); err != nil {
		return err
	}
	if g.cfg.Audit != nil {
		if err := g.cfg.Audit(audit.Restore(index)); err != nil {
			return err
		}
	}
	return g.swap(incoming)
}

func (g *group) swap(incoming string) error {
	if err := g.cfg.Files.Rename(incoming, g.path("state.next")); err != nil {
		return err
	}
	if err := disk.SyncFolder(g.cfg.Files, g.dir); err != nil {
		return err
	}
	if err := g.live.Load().store.Close(); err != nil {
		return err
	}
	if err := g.adopt(); err != nil {
		return err
	}
	s, err := g.open(g.path("state"))
	if err != nil {
		return err
	}
	g.live.Store(s)
	g.learn()
	index, _ := s.machine.Applied()
	g.log.Info("took over the leader's state", "index", index)
	g.onEffects(nil)
	g.applied.reach(index)
	return nil
}

// close makes the state durable, so that the next start has little to apply again, and closes it. Of a node that had
// to stop nothing is written any more.
func (g *group) close(cause error) error {
	s := g.live.Load()
	var flushed error
	if cause == nil || errors.Is(cause, context.Canceled) {
		flushed = s.store.Flush()
	}
	return errors.Join(flushed, s.store.Close())
}

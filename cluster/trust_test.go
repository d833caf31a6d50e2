package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"sluice/cluster/raftlog"
	"sluice/internal/disk"
)

// lone is a cluster of one with all of its data on disk.
type lone struct {
	*member
	w *world
}

// startLone starts it, or says why it cannot start.
func startLone(w *world) (*lone, error) {
	m := &member{port: w.fabric.listen(), done: make(chan struct{})}
	cfg := w.config("a", filepath.Join(w.dir, "a"), 1, m.port)
	cfg.OpenLog = nil // on a disk
	n, err := New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.Node, m.end = n, cancel
	go func() {
		defer close(m.done)
		m.err = n.Run(ctx)
	}()
	return &lone{m, w}, nil
}

func (l *lone) stop() error {
	l.end()
	<-l.done
	l.port.Close()
	return l.err
}

// used gives a folder in which a node has worked.
func used(t *testing.T) (w *world, dir string) {
	t.Helper()
	w = newWorld(t, nil)
	l, err := startLone(w)
	if err != nil {
		t.Fatal(err)
	}
	w.must(l.member, declare("app"))
	for i := range 20 {
		w.send(l.member, "app", "i", fmt.Sprint("m", i))
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	return w, filepath.Join(w.dir, "a")
}

// What a node has acknowledged or voted for must not be lost unseen: with a part of its folder gone it does not start.
func TestAFolderThatHasLostAPartIsRefused(t *testing.T) {
	for part, want := range map[string]error{
		"groups":                        ErrLost,
		"groups/0001/raft":              ErrLost,
		"groups/0001/raft/stable.db":    raftlog.ErrMissing,
		"groups/0001/raft/wal":          raftlog.ErrMissing,
		"groups/0001/raft/acknowledged": raftlog.ErrMissing,
		"groups/0001/raft/wal/*.wal":    raftlog.ErrCorrupt,
		"groups/0001/raft/backend":      nil, // it says nothing that the rest does not say
		"groups/0001/state":             nil, // the log has all of it
	} {
		t.Run(part, func(t *testing.T) {
			w, dir := used(t)
			paths, err := filepath.Glob(filepath.Join(dir, part))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range paths {
				if err := os.RemoveAll(p); err != nil {
					t.Fatal(err)
				}
			}
			l, err := startLone(w)
			if want != nil {
				if !errors.Is(err, want) {
					t.Fatalf("want %v, got %v", want, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			w.until("the state is whole", l.Node, func() bool {
				i, err := l.group.view().Instance(inst("i"))
				return err == nil && i.NextSeq == 21
			})
			if err := l.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A raft log that has lost its tail while a snapshot stands in for its beginning, or for all that was applied: what was
// acknowledged and not applied yet would be missed by nobody.
func TestALogWithoutItsTailIsRefused(t *testing.T) {
	for want, after := range map[string]int{"the raft log ends at index 0 and the state at": 1, "the raft log ends at index 0 and the snapshot that this node took at": 0} {
		t.Run(fmt.Sprint(after, " behind the snapshot"), func(t *testing.T) {
			w := newWorld(t, nil)
			l, err := startLone(w)
			if err != nil {
				t.Fatal(err)
			}
			w.must(l.member, declare("app"))
			w.until("a snapshot of all that was applied", l.Node, func() bool {
				if err := l.raft().Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
					t.Fatal(err)
				}
				snapshots, err := l.snaps.List()
				return err == nil && snapshots[0].Index == l.group.applied.index()
			})
			for n := range after {
				w.send(l.member, "app", "i", fmt.Sprint("m", n))
			}
			if err := l.stop(); err != nil {
				t.Fatal(err)
			}
			segments, err := filepath.Glob(filepath.Join(w.dir, "a/groups/0001/raft/wal/*.wal"))
			if err != nil || len(segments) != 1 {
				t.Fatal(segments, err)
			}
			if err := os.Remove(segments[0]); err != nil {
				t.Fatal(err)
			}
			if _, err := startLone(w); !errors.Is(err, raftlog.ErrCorrupt) {
				t.Fatalf("want ErrCorrupt, got %v", err)
			}
			claimNothing(t, filepath.Join(w.dir, "a/groups/0001/raft"))
			if _, err := startLone(w); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), want) {
				t.Fatalf("want ErrLost, got %v", err)
			}
		})
	}
}

// claimNothing takes what a raft log says of how far it was acknowledged back to the beginning, as if a loss of power had.
func claimNothing(t *testing.T, dir string) {
	t.Helper()
	fresh := t.TempDir()
	s, err := raftlog.Open(fresh, raftlog.Config{Logger: testLogger()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	claim, err := os.ReadFile(filepath.Join(fresh, "acknowledged"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "acknowledged"), claim, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A raft log whose beginning was cut, as its snapshot made it superfluous, needs the snapshot and the state. Raft itself
// would say that a log was not found.
func TestALogWithoutItsBeginningNeedsWhatComesBefore(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TrailingLogs, c.SnapshotThreshold = 10, 20 })
	l, err := startLone(w)
	if err != nil {
		t.Fatal(err)
	}
	w.must(l.member, declare("app"))
	for i := range 40 {
		w.send(l.member, "app", "i", fmt.Sprint("m", i))
	}
	if err := l.raft().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	group := filepath.Join(w.dir, "a", "groups", "0001")
	for _, gone := range []struct{ part, want string }{
		{"snapshots", "no whole snapshot reaches there"}, {"state", "the state ends at index 0 and the raft log begins at"},
	} {
		if err := os.RemoveAll(filepath.Join(group, gone.part)); err != nil {
			t.Fatal(err)
		}
		if _, err := startLone(w); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), gone.want) {
			t.Fatalf("without %s: want ErrLost, got %v", gone.part, err)
		}
	}
}

// A folder of something else is left alone.
func TestAForeignFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "passwd"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(disk.System(), dir, "a", "one"); err == nil || !strings.Contains(err.Error(), `"passwd"`) {
		t.Fatalf("a folder with a foreign file: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Fatalf("the folder was changed: %v %v", entries, err)
	}
	if err := os.Rename(filepath.Join(dir, "passwd"), filepath.Join(dir, "lost+found")); err != nil {
		t.Fatal(err)
	}
	f, err := openFolder(disk.System(), dir, "a", "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
}

// An entry that is not as it was written ends the start with an error that names it, not with a panic of raft's.
func TestACorruptEntryEndsTheStart(t *testing.T) {
	w, dir := used(t)
	segments, err := filepath.Glob(filepath.Join(dir, "groups/0001/raft/wal/*.wal"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	content, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(content), "m7")
	if at < 0 {
		t.Fatal("the log does not hold what was sent")
	}
	content[at] ^= 1
	if err := os.WriteFile(segments[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := startLone(w)
	if err != nil {
		t.Fatal(err)
	}
	<-l.done
	if !errors.Is(l.err, raftlog.ErrCorrupt) {
		t.Fatalf("want a corrupt entry, got %v", l.err)
	}
	l.port.Close()
}

// brokenEnd is a log whose last entry is not as it was written.
type brokenEnd struct{ RaftLog }

func (b brokenEnd) GetLog(index uint64, l *raft.Log) error {
	if last, err := b.LastIndex(); err == nil && index == last {
		return &raftlog.CorruptError{Index: index, Why: "a test says so"}
	}
	return b.RaftLog.GetLog(index, l)
}

// The last entry is one like the others, though raft keeps only the text of its error.
func TestACorruptLastEntryIsDamage(t *testing.T) {
	w, dir := used(t)
	m := &member{port: w.fabric.listen()}
	cfg := w.config("a", dir, 1, m.port)
	cfg.OpenLog = func(dir string, c raftlog.Config) (RaftLog, error) {
		log, err := raftlog.Open(dir, c)
		return brokenEnd{log}, err
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); !Damaged(err) {
		t.Fatalf("want damage, got %v", err)
	}
	m.port.Close()
}

// brokenStable is a log whose stable values cannot be written any more once it is broken.
type brokenStable struct{ RaftLog }

func (b *brokenStable) SetUint64(key []byte, value uint64) error {
	if value > 2 {
		return fmt.Errorf("term %d: %w", value, unix.EIO)
	}
	return b.RaftLog.SetUint64(key, value)
}

const parkedChild = "SLUICE_TEST_PARKED"

// A term that cannot be written ends the node with the disk's error. Raft panics then; the node ends before it does.
// What is kept from the panic stays for ever, so this runs in a process of its own.
func TestATermThatCannotBeWrittenEndsTheNode(t *testing.T) {
	if os.Getenv(parkedChild) == "" {
		child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		child.Env = append(os.Environ(), parkedChild+"=1", "TMPDIR="+t.TempDir()) // it ends without clearing up
		out, err := child.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ended: ") || !strings.Contains(string(out), unix.EIO.Error()) || strings.Contains(string(out), "panic") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	w := newWorld(t, nil)
	m := &member{port: w.fabric.listen()}
	cfg := w.config("a", filepath.Join(w.dir, "a"), 1, m.port)
	cfg.OpenLog = func(string, raftlog.Config) (RaftLog, error) {
		return &brokenStable{&memoryLog{InmemStore: raft.NewInmemStore()}}, nil
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Node = n
	ended := make(chan error, 1)
	go func() { ended <- n.Run(context.Background()) }()
	w.must(m, declare("app"))
	n.standNow() // a new term
	fmt.Println("ended:", <-ended)
	os.Exit(0)
}

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"sluice/internal/disk"
)

// noFolder is a file system that makes no folder of a name while it is told so: a node ends there as if it had been killed.
type noFolder struct {
	disk.FS
	name string
	on   atomic.Bool
}

func (f *noFolder) MkdirAll(dir string, perm fs.FileMode) error {
	if f.on.Load() && filepath.Base(dir) == f.name {
		return fmt.Errorf("mkdir %s: %w", dir, unix.EIO)
	}
	return f.FS.MkdirAll(dir, perm)
}

// A follower that crashes when the leader's snapshot is whole, and before it has taken it up, has a log that ends before
// the snapshot. It goes on behind the snapshot, and again after another start.
func TestASnapshotIsTakenUpAfterACrash(t *testing.T) {
	files := &noFolder{FS: disk.System(), name: "state.incoming"}
	w := newWorld(t, func(c *Config) {
		c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 10, 20, time.Hour
		if c.NodeID == "c" {
			c.OpenLog, c.Files = nil, files
		}
	})
	w.stay = true
	w.founded("a", "b", "c")
	w.must(w.nodes["a"], declare("app"))
	w.ready("c")
	w.kill("c")
	lead := w.leader("a", "b")
	for i := range 60 {
		w.send(lead, "app", fmt.Sprint("i", i%7), fmt.Sprint("m", i))
	}
	if err := lead.raft().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	files.on.Store(true)
	m := w.start("c", 3)
	<-m.done
	if !errors.Is(m.err, unix.EIO) {
		t.Fatalf("want the end of a node that cannot take up a snapshot, got %v", m.err)
	}
	m.port.Close()
	files.on.Store(false)
	// Another leader does not know that it had to be sent the snapshot: it is asked for what comes behind.
	w.kill(lead.cfg.NodeID)
	for round := range 2 {
		m = w.start("c", 3)
		w.ready("c")
		w.send(m, "app", "i1", fmt.Sprint("after", round))
		if round == 0 {
			if err := w.stop("c"); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.start(lead.cfg.NodeID, 3)
	w.ready(lead.cfg.NodeID)
	w.sameDigest("a", "b", "c")
}

// A log is kept if it leads to the snapshot, and only then.
func TestALogThatDoesNotLeadToASnapshotIsCut(t *testing.T) {
	for _, c := range []struct {
		what        string
		first, last uint64
		snapshot    raft.SnapshotMeta
		cut         bool
	}{
		{"empty", 1, 0, raft.SnapshotMeta{Index: 8, Term: 2}, false},
		{"ends before it", 1, 7, raft.SnapshotMeta{Index: 8, Term: 2}, true},
		{"ends with it", 1, 8, raft.SnapshotMeta{Index: 8, Term: 2}, false},
		{"goes on behind it", 3, 12, raft.SnapshotMeta{Index: 8, Term: 2}, false},
		{"begins behind it", 9, 12, raft.SnapshotMeta{Index: 8, Term: 2}, false},
		{"has another entry there", 3, 12, raft.SnapshotMeta{Index: 8, Term: 3}, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			log := raft.NewInmemStore()
			for i := c.first; i <= c.last; i++ {
				if err := log.StoreLog(&raft.Log{Index: i, Term: 2}); err != nil {
					t.Fatal(err)
				}
			}
			cut, err := cutLog(log, &c.snapshot)
			if err != nil || cut != c.cut {
				t.Fatalf("cut %v, want %v: %v", cut, c.cut, err)
			}
			if last, err := log.LastIndex(); err != nil || (last == 0) != (c.cut || c.last == 0) {
				t.Fatalf("the log ends at %d: %v", last, err)
			}
		})
	}
}

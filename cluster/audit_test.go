package cluster

import (
	"errors"
	"sync"
	"testing"
	"time"

	"sluice/internal/audit"
)

// notebook keeps what nodes tell their audits.
type notebook struct {
	mu   sync.Mutex
	rows map[string][]audit.Row
}

func (b *notebook) of(node string) func(...audit.Row) error {
	return func(rows ...audit.Row) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.rows[node] = append(b.rows[node], rows...)
		return nil
	}
}

// byIndex are a node's rows of entries; the restored state's index is told apart.
func (b *notebook) byIndex(node string) (entries map[uint64]audit.Row, restored uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	entries = map[uint64]audit.Row{}
	for _, row := range b.rows[node] {
		if row.Restored {
			restored = row.Index
			continue
		}
		entries[row.Index] = row
	}
	return entries, restored
}

func TestAuditTellsWhatEachReplicaApplied(t *testing.T) {
	book := &notebook{rows: map[string][]audit.Row{}}
	w := newWorld(t, func(c *Config) {
		c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval, c.Audit = 10, 20, 20*time.Millisecond, book.of(c.NodeID)
	})
	late, lead := w.catchesUp()
	ours, _ := book.byIndex(lead.cfg.NodeID)
	theirs, restored := book.byIndex(late)
	if restored == 0 {
		t.Error("the audit of the node that lagged does not tell that it took a state over")
	}
	shared := 0
	for index, row := range theirs {
		if other := ours[index]; other.Hash != row.Hash || other.Digest != row.Digest || len(other.Outcomes) != len(row.Outcomes) {
			t.Errorf("entry %d: %+v and %+v", index, row, other)
		}
		shared++
	}
	if shared == 0 || len(ours) < 100 {
		t.Errorf("%d entries in the leader's audit, %d in both", len(ours), shared)
	}
}

func TestNodeStopsWithoutItsAudit(t *testing.T) {
	full := errors.New("the audit's disk is full")
	w := newWorld(t, func(c *Config) {
		c.Audit = func(...audit.Row) error { return full }
	})
	n := w.start("a", 1)
	<-n.done
	if !errors.Is(n.err, full) {
		t.Fatalf("the node ended with %v", n.err)
	}
}

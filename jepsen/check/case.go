package check

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/jepsen/history"
	"sluice/jepsen/model"
)

// Violation is one thing that speaks against an invariant.
type Violation struct {
	// Invariant is the name of a checker: see Checkers.
	Invariant string
	Text      string
}

// Case is a history, and what the reference model makes of its committed order.
type Case struct {
	*history.History
	// Committed are the entries that were applied, by index, in order.
	Committed []Entry
	Model     *model.Machine
	// Mismatches are outcomes that are not what was promised.
	Mismatches []model.Mismatch
	// Disagreements are what replicas applied differently.
	Disagreements []Violation
	// times are when an entry was applied first.
	times map[uint64]time.Duration
	// leaders are the entries with which a new leader began.
	leaders []uint64
	leases  leaseTimes
	// lives are the model's by the message's id, numbers by its place in a lane.
	lives   map[lifeKey]*model.Life
	numbers map[numberKey]*model.Life
}

// Entry is one entry of the committed order.
type Entry struct {
	Index, Term uint64
	// At is when the first node applied it.
	At       time.Duration
	Data     []byte
	Outcomes [][]byte
	hash     string
	digest   string
	node     string
}

type lifeKey struct{ application, instance, id string }

type numberKey struct {
	application, instance, lane string
	seq                         uint64
}

// New makes a case of a history. Its error says that the history cannot be judged.
func New(h *history.History) (*Case, error) {
	c := &Case{History: h, Model: model.New(), times: map[uint64]time.Duration{}, lives: map[lifeKey]*model.Life{}, numbers: map[numberKey]*model.Life{}}
	c.leases = leaseTimes{open: map[string]lease{}, terms: map[uint64]moment{}, last: map[uint64]moment{}}
	c.merge()
	if len(c.Committed) == 0 {
		return nil, errors.New("check: no node told what it applied: the run did not come to its end")
	}
	for _, e := range c.Committed {
		if err := c.replay(e); err != nil {
			return nil, fmt.Errorf("check: %w", err)
		}
	}
	for _, l := range c.Model.Lives {
		id := l.Instance.ID
		c.lives[lifeKey{id.Application, id.Key, l.Message.Id}] = l
		c.numbers[numberKey{id.Application, id.Key, laneName(l.Lane), l.Seq}] = l
	}
	return c, nil
}

func laneName(lane int) string { return [...]string{"normal", "recovery"}[lane] }

// merge makes one order of what the nodes applied, and notes where they differ: at every index each must have applied
// the same entry, and have the same state after it.
func (c *Case) merge() {
	all := map[uint64]*Entry{}
	for node, rows := range c.Audits {
		for _, row := range rows {
			a := row.Value
			if a.Snapshot {
				continue
			}
			e := all[a.Index]
			if e == nil {
				all[a.Index] = &Entry{Index: a.Index, Term: a.Term, At: row.At, Data: a.Entry, Outcomes: a.Outcomes, hash: a.Hash, digest: a.Digest, node: node}
				continue
			}
			e.At = min(e.At, row.At)
			if len(e.Data) == 0 { // a node may have noted the hash alone
				e.Data, e.Outcomes = a.Entry, a.Outcomes
			}
			if e.hash != a.Hash {
				c.disagree("at index %d %s applied the entry %.12s and %s the entry %.12s", a.Index, e.node, e.hash, node, a.Hash)
			}
			if e.digest != "" && a.Digest != "" && e.digest != a.Digest {
				c.disagree("after index %d %s has the state %s and %s the state %s", a.Index, e.node, e.digest, node, a.Digest)
			}
		}
	}
	for _, e := range all {
		c.Committed = append(c.Committed, *e)
		c.times[e.Index] = e.At
	}
	slices.SortFunc(c.Committed, func(a, b Entry) int {
		if a.Index < b.Index {
			return -1
		}
		return 1
	})
}

func (c *Case) disagree(format string, args ...any) {
	c.Disagreements = append(c.Disagreements, Violation{"I12", fmt.Sprintf(format, args...)})
}

func (c *Case) replay(e Entry) error {
	if len(e.Data) == 0 {
		return nil // one of raft's own
	}
	entry := &logv1.Entry{}
	if err := proto.Unmarshal(e.Data, entry); err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	outcomes := make([]*logv1.Outcome, len(e.Outcomes))
	for n, data := range e.Outcomes {
		outcomes[n] = &logv1.Outcome{}
		if err := proto.Unmarshal(data, outcomes[n]); err != nil {
			return fmt.Errorf("outcome of entry %d: %w", e.Index, err)
		}
	}
	c.leases.note(c, e, entry)
	for _, command := range entry.Commands {
		if command.GetLeaderElected() != nil {
			c.leaders = append(c.leaders, e.Index)
		}
	}
	mismatches, err := c.Model.Apply(e.Index, entry, outcomes)
	c.Mismatches = append(c.Mismatches, mismatches...)
	return err
}

// settledAt is when a message was settled; false: it was not.
func (c *Case) settledAt(l *model.Life) (time.Duration, bool) {
	if l.Settlement == "" {
		return 0, false
	}
	return c.times[l.Settled.Index], true
}

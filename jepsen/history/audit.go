package history

import "sluice/internal/audit"

// FromAudit makes a node's own note a part of the history.
func FromAudit(node string, r audit.Row) Audit {
	return Audit{Node: node, Index: r.Index, Term: r.Term, Hash: r.Hash, Digest: r.Digest, Entry: r.Entry, Outcomes: r.Outcomes, Snapshot: r.Restored}
}

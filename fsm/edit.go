package fsm

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// editsKept bounds how many interventions are kept of a message.
const editsKept = 16

// edit is an intervention by the command at work.
func (t *txn) edit(action, why string) *sluicev1.Edit {
	return &sluicev1.Edit{Time: timestamp(t.now), Actor: t.actor, Reason: why, Action: action}
}

// withEdit adds an intervention and lets the oldest go.
func withEdit(edits []*sluicev1.Edit, e *sluicev1.Edit) []*sluicev1.Edit {
	edits = append(edits, e)
	return edits[max(len(edits)-editsKept, 0):]
}

// versionOf changes with whatever an operator may have seen of a message and decided upon: its data, its failed attempts,
// and what other operators did to it. It is a check against haste, not against forgery: 16 hexadecimal digits.
func versionOf(m *logv1.MessageRecord, attempts uint32) string {
	h := xxhash.New()
	var n [8]byte
	part := func(v uint64) {
		binary.BigEndian.PutUint64(n[:], v)
		h.Write(n[:])
	}
	h.Write(m.Message.GetData())
	part(m.Seq)
	part(uint64(attempts))
	part(m.PutBackEpoch)
	part(uint64(len(m.Edits)))
	if last := len(m.Edits) - 1; last >= 0 {
		e := m.Edits[last]
		part(uint64(e.Time.GetSeconds()))
		part(uint64(e.Time.GetNanos()))
		h.Write([]byte(e.Action + "\x00" + e.Reason + "\x00" + e.Actor))
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// unchanged refuses when an unsettled message is no longer as the caller saw it; an empty version was not compared.
func (t *txn) unchanged(i *instance, m *logv1.MessageRecord, seen string) error {
	if seen == "" {
		return nil
	}
	f, err := failureOf(t, i.rec, m)
	if err != nil {
		return err
	}
	if now := versionOf(m, f.GetAttempts()); now != seen {
		return reason.Changed.Errorf("seq %d of %s has version %s, not %s: it was changed or failed again since; look at it again", m.Seq, i.id(), now, cut(seen))
	}
	return nil
}

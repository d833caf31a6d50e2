package fsm

import (
	"testing"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
)

func TestLatelyIsBounded(t *testing.T) {
	t.Parallel()
	const bound = 1 << 20
	l := newLately(bound)
	record := func(seq uint64) *logv1.MessageRecord {
		return &logv1.MessageRecord{Lane: normalLane, Seq: seq, Bytes: 1000, Message: &sluicev1.Message{Headers: map[string]string{"name": string(make([]byte, 10_000))}}}
	}
	const all = 10_000
	for seq := range uint64(all) {
		l.put(7, record(seq))
		if seq%3 == 0 {
			l.drop(7, normalLane, seq)
		}
	}
	held, bytes := 0, uint64(0)
	for seq := range uint64(all) {
		if m := l.get(7, normalLane, seq); m != nil {
			held++
			bytes += weight(m)
		}
	}
	if held == 0 || bytes > bound+weight(record(0)) {
		t.Errorf("%d messages of %d bytes are kept; the bound is %d", held, bytes, bound)
	}
	for _, gone := range []*logv1.MessageRecord{
		l.get(7, normalLane, all-1), l.get(7, normalLane, 0), l.get(8, normalLane, all-2), l.get(7, recoveryLane, all-2),
	} {
		if gone != nil {
			t.Errorf("seq %d is kept, though it was dropped, is too old, or lies elsewhere", gone.Seq)
		}
	}
	if l.get(7, normalLane, all-2) == nil {
		t.Error("the last one is not kept")
	}
}

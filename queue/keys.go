package queue

import (
	"encoding/binary"

	sluicev1 "sluice/api/sluice/v1"
)

// Tables of this package: the first byte of a key. Package fsm keeps its own tables under other bytes.
const (
	tableLane    = 'n' // uid, lane, seq → message record
	tableID      = 'u' // uid, id → lane, seq of an unsettled message
	tableFailure = 'f' // uid, lane, seq → failure record
	tableMemory  = 'b' // application uid, bucket end, uid, kind … → what is remembered
	tableDead    = 'q' // uid, lane, seq → dead letter
)

// Tables is every first byte that this package writes under.
const Tables = "nufbq"

func laneByte(l sluicev1.Lane) byte { return byte(l) }

func u64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// begin begins a key of a table for an instance.
func (s *Scratch) begin(table byte, uid uint64) []byte { return u64(append(s.buffer(), table), uid) }

// keyOf is a key of a table for an instance.
func keyOf(table byte, uid uint64) []byte { return (*Scratch)(nil).begin(table, uid) }

func (s *Scratch) laneKey(table byte, uid uint64, lane sluicev1.Lane, seq uint64) []byte {
	return u64(append(s.begin(table, uid), laneByte(lane)), seq)
}

func lanePrefix(table byte, uid uint64, lane sluicev1.Lane) []byte {
	return append(keyOf(table, uid), laneByte(lane))
}

func (s *Scratch) idKey(uid uint64, id string) []byte { return append(s.begin(tableID, uid), id...) }

// Successor is the least key after every key that begins with prefix; nil when there is none.
func Successor(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

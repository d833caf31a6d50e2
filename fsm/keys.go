package fsm

import "encoding/binary"

// Tables of this package: the first byte of a key. Package queue has others.
const (
	tableMeta        = 'm' // → MetaRecord
	tableApplication = 'a' // name → ApplicationRecord
	tableInstance    = 'i' // application, 0, key → InstanceRecord
	tableSession     = 's' // id → SessionRecord
	tableOwned       = 'o' // session, 0, key →
	tableWork        = 'w' // application, 0, position → key
	tableTransaction = 't' // uid, id → TransactionRecord
	tableHistory     = 'h' // uid, number → HistoryRecord
	tableDue         = 'd' // time, kind, uid, extra → application, 0, key, and of transactions: 0, id
	tableState       = 'z' // uid → state
	tableOutgoing    = 'x' // position → OutgoingRecord
	tableOperation   = 'p' // id → OperationRecord
	tableEvent       = 'e' // index, place → EventRecord
	tableItem        = 'j' // operation id, 0, place → OperationItemRecord
	tableHeld        = 'g' // uid, lane, seq → expiry that could not take effect
	tableDeadOf      = 'l' // application, 0, key → of each instance that has dead letters
	tableFilling     = 'k' // application uid → FillingRecord
	tablePutBack     = 'y' // uid, seq → Edit by which a dead letter of the normal lane is to be put back
)

func deadOfKey(id InstanceID) []byte { return named(tableDeadOf, id.Application, id.Key) }

func putBackKey(uid, seq uint64) []byte { return u64(numbered(tablePutBack, uid), seq) }

func u64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func named(table byte, parts ...string) []byte {
	length := 1 + len(parts) + 8 // and a number behind, in some
	for _, p := range parts {
		length += len(p)
	}
	k := append(make([]byte, 0, length), table)
	for n, p := range parts {
		if n > 0 {
			k = append(k, 0)
		}
		k = append(k, p...)
	}
	return k
}

func numbered(table byte, n uint64) []byte {
	return u64(append(make([]byte, 0, 32), table), n)
}

func instanceKey(id InstanceID) []byte { return named(tableInstance, id.Application, id.Key) }

func workKey(application string, position uint64) []byte {
	return u64(named(tableWork, application, ""), position)
}

func transactionKey(uid uint64, id string) []byte {
	return append(numbered(tableTransaction, uid), id...)
}

func historyKey(uid, number uint64) []byte { return u64(numbered(tableHistory, uid), number) }

func itemPrefix(operation string) []byte { return named(tableItem, operation, "") }

func itemKey(operation string, place uint64) []byte { return u64(itemPrefix(operation), place) }

func heldKey(uid uint64, lane byte, seq uint64) []byte {
	return u64(append(numbered(tableHeld, uid), lane), seq)
}

// dueKind says what comes due.
type dueKind byte

const (
	dueHead            dueKind = iota + 1 // a lane's head has waited for its backoff; extra: the lane
	dueRecovery                           // a recovery handler has waited for its backoff
	dueExpiry                             // a message expires; extra: its sequence number
	dueUntil                              // a recovery ends by itself
	dueName                               // a terminated instance's name is free again
	dueBucket                             // a memory bucket is forgotten; uid: of the application, extra: the bucket's end
	dueThaw                               // expiries that were held are looked at again
	dueHeld                               // an instance is in recovery for too long
	dueHeldApplication                    // a whole application is; uid: of the application
	dueTransaction                        // a transaction that has ended is forgotten; extra: a position of its own
	// dueSelecting: nothing was added to an operation's set for long; in the place of a key stands the operation's id,
	// extra: how much of the set was written down.
	dueSelecting
)

// due is one thing that comes due. Its key says when; what it finds then is checked, so nothing need be taken back.
type due struct {
	at    int64
	kind  dueKind
	uid   uint64
	extra uint64
}

func (d due) key() []byte {
	k := append(numbered(tableDue, uint64(d.at)), byte(d.kind))
	return u64(u64(k, d.uid), d.extra)
}

func parseDue(k []byte) (d due, ok bool) {
	if len(k) != 26 || k[0] != tableDue {
		return due{}, false
	}
	return due{
		at: int64(binary.BigEndian.Uint64(k[1:])), kind: dueKind(k[9]),
		uid: binary.BigEndian.Uint64(k[10:]), extra: binary.BigEndian.Uint64(k[18:]),
	}, true
}

func beUint64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

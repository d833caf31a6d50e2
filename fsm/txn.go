package fsm

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/queue"
)

// txn is one call of Apply at work: the batch it fills, the entry it is at, and what it has changed.
//
// Headers are changed in memory and written at the end of each entry, in the order in which they were first changed,
// so that the writes of an entry, and with them the digest, do not depend on how entries were batched or cached.
type txn struct {
	*queue.Scratch // lent to those who write through it
	m              *Machine
	b              queue.Batch
	hash           *xxhash.Digest
	fx             Effects
	now            int64  // the state's clock, Unix ms
	index          uint64 // of the entry
	actor          string // of the command
	place          uint32 // of the entry's next event

	dirty        []*instance
	filled       []*application          // whose filling was changed in this entry
	applications map[string]*application // changed in this entry
	sessions     map[string]bool         // changed in this entry
	changed      map[string]*application // in this call
	added        bool                    // an application is new
}

func newTxn(m *Machine) *txn {
	fx := Effects{Counters: newCounters(), Touched: make([]Touch, 0, m.touched), Settled: make([]MessageRef, 0, m.settled)}
	return &txn{Scratch: &m.scratch, m: m, b: m.written.Over(m.store.NewBatch()), hash: xxhash.New(), fx: fx, applications: map[string]*application{}, sessions: map[string]bool{}, changed: map[string]*application{}}
}

func (t *txn) close() { _ = t.b.Close() } // an uncommitted batch changes nothing: its close has nothing to tell

// Get, NewIter, Set, Delete, SingleDelete and DeleteRange make a txn a queue.Writer that records what it writes.
func (t *txn) Get(key []byte) ([]byte, error) { return t.b.Get(key) }

func (t *txn) NewIter(lower, upper []byte) (queue.Iterator, error) { return t.b.NewIter(lower, upper) }

func (t *txn) Set(key, value []byte) error {
	t.record('s', key, value)
	return t.b.Set(key, value)
}

func (t *txn) Delete(key []byte) error {
	t.record('d', key, nil)
	return t.b.Delete(key)
}

func (t *txn) SingleDelete(key []byte) error {
	t.record('d', key, nil)
	return t.b.SingleDelete(key)
}

func (t *txn) DeleteRange(lower, upper []byte) error {
	t.record('r', lower, upper)
	return t.b.DeleteRange(lower, upper)
}

func (t *txn) record(op byte, key, value []byte) {
	var head [9]byte
	head[0] = op
	binary.BigEndian.PutUint32(head[1:], uint32(len(key)))
	binary.BigEndian.PutUint32(head[5:], uint32(len(value)))
	t.hash.Write(head[:])
	t.hash.Write(key)
	t.hash.Write(value)
}

// mint gives out the next position: unique, growing, and the same on every replica.
func (t *txn) mint() uint64 {
	t.m.meta.Position++
	return t.m.meta.Position
}

// entry applies one entry.
func (t *txn) entry(e Entry) ([]*logv1.Outcome, error) {
	meta := t.m.meta
	t.hash.Reset()
	t.index, t.place = e.Index, 0
	meta.AppliedIndex, meta.AppliedTerm = e.Index, e.Term
	var outcomes []*logv1.Outcome
	if len(e.Data) > 0 {
		entry, err := decodeEntry(e.Data)
		if err != nil {
			return nil, err
		}
		meta.ClockMs = max(meta.ClockMs, entry.TimeMs)
		t.now = meta.ClockMs
		outcomes = make([]*logv1.Outcome, len(entry.Commands))
		for n, c := range entry.Commands {
			t.actor = c.Actor
			t.mint()
			t.fx.Counters.Commands++
			if outcomes[n], err = t.command(c); err != nil {
				return nil, err
			}
		}
	}
	if err := t.flush(); err != nil {
		return nil, err
	}
	t.chain()
	return outcomes, nil
}

// decodeEntry refuses what this version does not know. Fields of newer clients within messages are kept as they are.
func decodeEntry(data []byte) (*logv1.Entry, error) {
	e := &logv1.Entry{}
	if err := proto.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorruptEntry, err)
	}
	if len(e.ProtoReflect().GetUnknown()) > 0 {
		return nil, ErrUnknownCommand
	}
	for _, c := range e.Commands {
		if c.Kind == nil || len(c.ProtoReflect().GetUnknown()) > 0 {
			return nil, ErrUnknownCommand
		}
	}
	return e, nil
}

// chain folds the entry's writes into the digest.
func (t *txn) chain() {
	meta := t.m.meta
	sum := t.hash.Sum64()
	var b [40]byte
	for n, v := range []uint64{meta.Digest, sum, meta.AppliedIndex, meta.Position, uint64(meta.ClockMs)} {
		binary.BigEndian.PutUint64(b[n*8:], v)
	}
	meta.Digest = xxhash.Sum64(b[:])
	t.m.recent[meta.AppliedIndex%recentDigests] = mark{meta.AppliedIndex, meta.Digest}
}

// flush writes the headers that the entry changed.
func (t *txn) flush() error {
	for _, i := range t.dirty {
		i.dirty = false
		if i.gone {
			continue
		}
		if err := queue.Put(t, i.key(), i.rec); err != nil {
			return err
		}
	}
	t.dirty = t.dirty[:0]
	if err := t.flushFilled(); err != nil {
		return err
	}
	for _, name := range sorted(t.applications) {
		a := t.applications[name]
		if err := queue.Put(t, named(tableApplication, name), a.record()); err != nil {
			return err
		}
		t.changed[name] = a
	}
	clear(t.applications)
	for _, id := range sorted(t.sessions) {
		if err := t.flushSession(id); err != nil {
			return err
		}
	}
	clear(t.sessions)
	return nil
}

func (t *txn) flushSession(id string) error {
	if s := t.m.sessions[id]; s != nil {
		return queue.Put(t, named(tableSession, id), s)
	}
	return t.Delete(named(tableSession, id))
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

// commit makes the batch visible. The meta record is not part of the digest, for it holds it.
func (t *txn) commit() error {
	meta, err := proto.Marshal(t.m.meta)
	if err != nil {
		return err
	}
	if err := t.b.Set([]byte{tableMeta}, meta); err != nil {
		return err
	}
	t.m.moves.Add(1)
	if err := t.b.Commit(); err != nil {
		return err
	}
	for _, a := range t.changed {
		a.show(t.m.meta.AppliedIndex)
	}
	t.m.share(t.added)
	t.m.moves.Add(1)
	t.m.touched, t.m.settled = len(t.fx.Touched), len(t.fx.Settled)
	t.m.instances.turn()
	return nil
}

// change marks an instance as changed in this entry.
func (t *txn) change(i *instance) {
	if !i.dirty {
		i.dirty = true
		t.dirty = append(t.dirty, i)
	}
}

func (t *txn) changeApplication(a *application) { t.applications[a.name()] = a }

func (t *txn) changeSession(id string) { t.sessions[id] = true }

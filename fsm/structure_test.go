package fsm_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// record is a key and its value.
type record struct{ key, value []byte }

// contents reads a whole store.
func contents(s queue.Reader) (all []record, err error) {
	it, err := s.NewIter(nil, nil)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil {
			return nil, err
		}
		all = append(all, record{bytes.Clone(it.Key()), bytes.Clone(v)})
	}
	return all, it.Error()
}

// place is a lane and a sequence number.
type place struct {
	lane sluicev1.Lane
	seq  uint64
}

// stored is what lies in a store of one instance, read key by key.
type stored struct {
	rec      *logv1.InstanceRecord
	lanes    map[place]*logv1.MessageRecord
	ids      map[string]place
	failures map[place]bool
	dead     map[place]bool
	waiting  map[uint64]bool // dead letters that are to be put back
	held     map[place]bool
	others   map[byte]int // keys of other tables
	state    int
}

// audit reads a whole store by its key layout alone and says what does not fit together.
type audit struct {
	apps      map[string]*logv1.ApplicationRecord
	instances map[string]*stored // application, 0, key
	byUID     map[uint64]*stored
	sessions  map[string]*logv1.SessionRecord
	owned     map[string]string // session, 0, key → session
	work      map[string]string // application, 0, position → key
	dues      map[string]bool   // whole keys
	events    []eventAt         // in the order of their keys
	meta      *logv1.MetaRecord
	buckets   map[string]bool // application uid, end
	deadOf    map[string]bool // application, 0, key: of instances with dead letters
	sets      *setsAudit
	trouble   []string
}

func (a *audit) say(format string, args ...any) {
	a.trouble = append(a.trouble, fmt.Sprintf(format, args...))
}

func be(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// structure says what is not sound in a store.
func structure(s queue.Reader) []string {
	all, err := contents(s)
	if err != nil {
		return []string{err.Error()}
	}
	return auditOf(all).check()
}

// auditOf reads instances first, for the other tables belong to them.
func auditOf(all []record) *audit {
	a := &audit{
		apps: map[string]*logv1.ApplicationRecord{}, instances: map[string]*stored{}, byUID: map[uint64]*stored{}, sessions: map[string]*logv1.SessionRecord{},
		owned: map[string]string{}, work: map[string]string{}, dues: map[string]bool{}, buckets: map[string]bool{}, deadOf: map[string]bool{}, sets: newSetsAudit(),
	}
	for _, r := range all {
		if r.key[0] == 'i' {
			rec := &logv1.InstanceRecord{}
			a.decode(r, rec)
			s := &stored{
				rec: rec, lanes: map[place]*logv1.MessageRecord{}, ids: map[string]place{}, failures: map[place]bool{}, dead: map[place]bool{}, waiting: map[uint64]bool{}, held: map[place]bool{}, others: map[byte]int{},
			}
			if a.byUID[rec.Uid] != nil || string(r.key[1:]) != rec.Application+"\x00"+rec.Key {
				a.say("instance key %q holds %v", r.key, rec)
			}
			a.instances[string(r.key[1:])], a.byUID[rec.Uid] = s, s
		}
	}
	for _, r := range all {
		a.read(r)
	}
	return a
}

func (a *audit) decode(r record, m proto.Message) {
	if err := proto.Unmarshal(r.value, m); err != nil {
		a.say("key %q: %v", r.key, err)
	}
}

func (a *audit) read(r record) {
	k := r.key
	switch k[0] {
	case 'i', 'x':
	case 'm':
		a.meta = &logv1.MetaRecord{}
		a.decode(r, a.meta)
	case 'k':
		a.readFilling(r)
	case 'e':
		a.readEvent(r)
	case 'p', 'j':
		a.readOperation(r)
	case 'a':
		rec := &logv1.ApplicationRecord{}
		a.decode(r, rec)
		a.apps[string(k[1:])] = rec
	case 's':
		rec := &logv1.SessionRecord{}
		a.decode(r, rec)
		a.sessions[string(k[1:])] = rec
	case 'o':
		session, _, _ := bytes.Cut(k[1:], []byte{0})
		a.owned[string(k[1:])] = string(session)
	case 'w':
		a.work[string(k[1:])] = string(r.value)
	case 'd':
		a.dues[string(k)] = true
	case 'b':
		a.buckets[string(k[1:17])] = true
	case 'l':
		a.deadOf[string(k[1:])] = true
	case 'n', 'u', 'f', 'q', 'g', 't', 'h', 'z', 'y':
		s := a.byUID[be(k[1:9])]
		if s == nil {
			a.say("key %q is of no instance", k)
			return
		}
		a.readOf(s, r)
	default:
		a.say("key %q is of no table", k)
	}
}

func (a *audit) readOf(s *stored, r record) {
	k := r.key
	at := func() place { return place{sluicev1.Lane(k[9]), be(k[10:18])} }
	switch k[0] {
	case 'n':
		m := &logv1.MessageRecord{}
		a.decode(r, m)
		if p := at(); m.Lane != p.lane || m.Seq != p.seq {
			a.say("%s: message at %v says it is at %v %d", s.rec.Key, p, m.Lane, m.Seq)
		}
		s.lanes[at()] = m
	case 'u':
		s.ids[string(k[9:])] = place{sluicev1.Lane(r.value[0]), be(r.value[1:])}
	case 'f':
		s.failures[at()] = true
	case 'q':
		s.dead[at()] = true
	case 'g':
		s.held[at()] = true
	case 'y':
		s.waiting[be(k[9:17])] = true
	case 'z':
		s.state = len(r.value)
	default:
		s.others[k[0]]++
	}
}

func (a *audit) check() []string {
	for _, name := range sortedKeys(a.instances) {
		s := a.instances[name]
		a.checkLanes(s)
		a.checkCounters(s)
		a.checkMode(s)
		a.checkOwner(s)
		a.checkPutBack(s)
		a.checkDue(s)
	}
	a.checkIndexes()
	a.checkSets()
	for _, name := range sortedKeys(a.apps) {
		a.checkApplication(a.apps[name])
	}
	a.checkEvents()
	return a.trouble
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// checkLanes compares a header with what lies in its lanes.
func (a *audit) checkLanes(s *stored) {
	r := s.rec
	type sums struct{ messages, bytes, last uint64 }
	got := map[sluicev1.Lane]*sums{laneNormal: {}, laneRecovery: {}}
	deferredMessages, deferredBytes, firstDeferred := uint64(0), uint64(0), uint64(1<<62)
	for p, m := range s.lanes {
		g := got[p.lane]
		if g == nil || s.ids[m.Message.Id] != p {
			a.say("%s: message %s lies at %v, its id says %v", r.Key, m.Message.Id, p, s.ids[m.Message.Id])
			continue
		}
		g.messages, g.bytes, g.last = g.messages+1, g.bytes+m.Bytes, max(g.last, p.seq)
		if m.Bytes != uint64(len(m.Message.Data)) {
			a.say("%s: message %s counts %d bytes and has %d", r.Key, m.Message.Id, m.Bytes, len(m.Message.Data))
		}
		if m.Disposition == dispDeferred {
			deferredMessages, deferredBytes, firstDeferred = deferredMessages+1, deferredBytes+m.Bytes, min(firstDeferred, p.seq)
		}
		if (m.Disposition == dispRecovery) != (p.lane == laneRecovery) {
			a.say("%s: message %s with %v lies in %v", r.Key, m.Message.Id, m.Disposition, p.lane)
		}
	}
	if len(s.ids) != len(s.lanes) {
		a.say("%s: %d ids, %d messages", r.Key, len(s.ids), len(s.lanes))
	}
	for l, g := range got {
		have := r.GetNormal()
		if l == laneRecovery {
			have = r.GetRecovery()
		}
		for p := range s.lanes {
			if p.lane == l && p.seq < have.GetFront() {
				a.say("%s: seq %d lies before the front of %v, which is %d", r.Key, p.seq, l, have.GetFront())
			}
		}
		if have.GetMessages() != g.messages || have.GetBytes() != g.bytes || have.GetTail() < g.last || have.GetTail() >= r.NextSeq {
			a.say("%s: %v holds %+v, the header says %v, next %d", r.Key, l, *g, have, r.NextSeq)
		}
		if g.messages == 0 && (have.GetHeadWaitMs() != 0 || have.GetHeadAttempts() != 0) {
			a.say("%s: %v is empty, and its head has %v", r.Key, l, have)
		}
	}
	if r.DeferredMessages != deferredMessages || r.DeferredBytes != deferredBytes || deferredMessages > 0 && r.DeferredFrom > firstDeferred {
		a.say("%s: deferred %d of %d bytes from %d, the header says %d, %d, %d", r.Key, deferredMessages, deferredBytes, firstDeferred, r.DeferredMessages, r.DeferredBytes, r.DeferredFrom)
	}
}

func (a *audit) checkCounters(s *stored) {
	r := s.rec
	for what, pair := range map[string][2]uint64{
		"failures":     {uint64(r.Failures), uint64(len(s.failures))},
		"dead letters": {uint64(r.DeadLetters), uint64(len(s.dead))},
		"waiting":      {uint64(r.PutBackWaiting), uint64(len(s.waiting))},
		"held":         {uint64(r.HeldExpiries), uint64(len(s.held))},
		"transitions":  {uint64(r.Transitions), uint64(s.others['h'])},
		"transactions": {uint64(r.TransactionsOpen), uint64(s.others['t'])},
		"state bytes":  {r.StateBytes, uint64(s.state)},
	} {
		if pair[0] != pair[1] {
			a.say("%s: %s: the header says %d, there are %d", r.Key, what, pair[0], pair[1])
		}
	}
	if name := r.Application + "\x00" + r.Key; a.deadOf[name] != (len(s.dead) > 0) {
		a.say("%s: has %d dead letters, in the list of those that have some: %v", r.Key, len(s.dead), a.deadOf[name])
	}
	for p := range s.failures {
		if s.lanes[p] == nil && p != (place{laneRecovery, 0}) {
			a.say("%s: a failure of no message: %v", r.Key, p)
		}
	}
	for p := range s.held {
		if s.lanes[p] == nil {
			a.say("%s: a held expiry of no message: %v", r.Key, p)
		}
	}
}

func (a *audit) checkMode(s *stored) {
	r := s.rec
	head := uint64(1 << 62)
	for p := range s.lanes {
		if p.lane == laneNormal {
			head = min(head, p.seq)
		}
	}
	switch r.Mode {
	case recovery:
		if r.FrozenSinceMs == 0 || r.DrainMark != 0 {
			a.say("%s: in recovery: %v", r.Key, r)
		}
		return
	case draining:
		if head > r.DrainMark && !r.Terminated {
			a.say("%s: drains to %d, the head is %d", r.Key, r.DrainMark, head)
		}
	case normal:
		if r.DrainMark != 0 {
			a.say("%s: in normal mode with the mark %d", r.Key, r.DrainMark)
		}
	default:
		a.say("%s: in mode %v", r.Key, r.Mode)
	}
	if r.GetRecovery().GetMessages() != 0 || r.NormalDoubt != 0 || r.RecoveryDoubt != 0 || r.FrozenSinceMs != 0 || r.UntilMs != 0 || r.RecoveryWaitMs != 0 || r.RecoveryAttempts != 0 || r.RecoveryGeneration != 0 || r.PoisonFingerprint != "" {
		a.say("%s: not in recovery, with what belongs to one: %v", r.Key, r)
	}
}

// hasWork is the auditor's own notion of an instance that an owner would have something to do with.
func hasWork(r *logv1.InstanceRecord) bool {
	switch {
	case r.Terminated:
		return false
	case r.Mode == recovery:
		return r.RecoveryWaitMs == 0
	default:
		return r.GetNormal().GetMessages() > 0 && r.GetNormal().GetHeadWaitMs() == 0
	}
}

func (a *audit) checkOwner(s *stored) {
	r := s.rec
	if r.Terminated && (r.Owner != "" || len(s.lanes) > 0) {
		a.say("%s: terminated with owner %q and %d messages", r.Key, r.Owner, len(s.lanes))
	}
	if r.Owner != "" && a.owned[r.Owner+"\x00"+r.Key] != r.Owner {
		a.say("%s: owned by %s, which does not know", r.Key, r.Owner)
	}
	waits := r.Owner == "" && hasWork(r)
	if waits != (r.WorkPosition != 0) {
		a.say("%s: waits for an owner: %v; its place in the queue is %d", r.Key, waits, r.WorkPosition)
	}
	if at := fmt.Sprintf("%s\x00%s", r.Application, binary.BigEndian.AppendUint64(nil, r.WorkPosition)); waits && a.work[at] != r.Key {
		a.say("%s: at its place in the queue of those that wait stands %q", r.Key, a.work[at])
	}
}

func dueKey(at int64, kind byte, uid, extra uint64) string {
	k := binary.BigEndian.AppendUint64([]byte{'d'}, uint64(at))
	k = binary.BigEndian.AppendUint64(append(k, kind), uid)
	return string(binary.BigEndian.AppendUint64(k, extra))
}

func (a *audit) checkDue(s *stored) {
	r := s.rec
	want := func(what string, at int64, kind byte, extra uint64) {
		if at != 0 && !a.dues[dueKey(at, kind, r.Uid, extra)] {
			a.say("%s: nothing comes due for its %s at %d", r.Key, what, at)
		}
	}
	want("head", r.GetNormal().GetHeadWaitMs(), 1, uint64(laneNormal))
	want("recovery head", r.GetRecovery().GetHeadWaitMs(), 1, uint64(laneRecovery))
	want("recovery", r.RecoveryWaitMs, 2, 0)
	want("long recovery", r.HeldDueMs, 8, 0)
	expiries := map[uint64]bool{}
	thawing, name, watched := false, false, 0
	for k := range a.dues {
		if be([]byte(k[10:18])) != r.Uid {
			continue
		}
		switch k[9] {
		case 3:
			expiries[be([]byte(k[18:]))] = true
		case 5:
			name = true
		case 7:
			thawing = thawing || be([]byte(k[18:])) == 0
		case 8:
			watched++
		}
	}
	if r.Thawing && !thawing || r.Terminated && !name {
		a.say("%s: thawing %v, due %v; terminated %v, due %v", r.Key, r.Thawing, thawing, r.Terminated, name)
	}
	if r.HeldDueMs == 0 && watched != 0 || watched > 1 || r.HeldDueMs != 0 && (r.Mode != recovery || r.Terminated) {
		a.say("%s: %d things come due for its long recovery, which says %d", r.Key, watched, r.HeldDueMs)
	}
	for p, m := range s.lanes {
		if m.Message.ExpireTime != nil && !s.held[p] && !expiries[p.seq] {
			a.say("%s: nothing will expire message %s", r.Key, m.Message.Id)
		}
	}
}

// checkPutBack wants dead letters to wait only behind what is out.
func (a *audit) checkPutBack(s *stored) {
	r := s.rec
	switch out := min(r.GetNormal().GetMessages(), uint64(r.Window)); {
	case r.PutBackWaiting == 0 && r.PutBackBehind != 0:
		a.say("%s: nothing waits behind %d messages", r.Key, r.PutBackBehind)
	case r.PutBackWaiting == 0:
	case r.Owner == "" || r.Mode == recovery || r.GetNormal().GetHeadWaitMs() != 0 || r.PutBackBehind == 0 || r.PutBackBehind > out:
		a.say("%s: %d dead letters wait behind %d messages that are not out: %v", r.Key, r.PutBackWaiting, r.PutBackBehind, r)
	}
}

func (a *audit) checkIndexes() {
	for name := range a.deadOf {
		if a.instances[name] == nil {
			a.say("%q is listed with dead letters, and is not there", name)
		}
	}
	count := map[string]uint32{}
	for k, session := range a.owned {
		count[session]++
		rec := a.sessions[session]
		if rec == nil {
			a.say("%q is owned by a session that is not there", k)
			continue
		}
		if s := a.instances[rec.Application+"\x00"+k[len(session)+1:]]; s == nil || s.rec.Owner != session {
			a.say("%q is in the list of what %s owns, and is not owned by it", k, session)
		}
	}
	for id, s := range a.sessions {
		if s.Owned != count[id] || s.Owned > s.Capacity || s.Id != id {
			a.say("session %s owns %d: %v", id, count[id], s)
		}
	}
	for at, key := range a.work {
		application, position := at[:len(at)-9], be([]byte(at[len(at)-8:]))
		if s := a.instances[application+"\x00"+key]; s == nil || s.rec.WorkPosition != position {
			a.say("%q stands in the queue at %d, and does not wait there", key, position)
		}
	}
}

// checkApplication counts an application's instances again, by effective mode.
func (a *audit) checkApplication(app *logv1.ApplicationRecord) {
	generation := uint64(0)
	if n := len(app.Generations); n > 0 {
		generation = app.Generations[n-1].Position
	}
	got := &sluicev1.ModeCounts{}
	for _, s := range a.instances {
		r := s.rec
		if r.Application != app.Spec.Name {
			continue
		}
		got.DeferredMessages += r.DeferredMessages
		got.DeferredBytes += r.DeferredBytes
		switch {
		case r.Terminated:
		case r.Mode == recovery || r.Generation < generation:
			got.Recovery++
		case r.Mode == draining:
			got.Draining++
		default:
			got.Normal++
		}
	}
	if have := app.Counts; !proto.Equal(have, got) && !(have == nil && proto.Size(got) == 0) {
		a.say("%s: counts %v, there are %v", app.Spec.Name, have, got)
	}
	if app.HeldDueMs != 0 && !a.dues[dueKey(app.HeldDueMs, 9, app.Uid, 0)] {
		a.say("%s: nothing comes due for its long recovery at %d", app.Spec.Name, app.HeldDueMs)
	}
	a.checkFailures(app)
	a.checkMemory(app)
}

// checkFailures wants an application to count few patterns of failures, each once, and each of some instance.
func (a *audit) checkFailures(app *logv1.ApplicationRecord) {
	seen := map[string]bool{}
	for _, p := range app.Failures {
		if seen[p.Fingerprint] || p.Instances == 0 || p.LastTimeMs < p.FirstTimeMs {
			a.say("%s: the failures %v", app.Spec.Name, p)
		}
		seen[p.Fingerprint] = true
	}
	if len(seen) > 16 {
		a.say("%s: counts %d patterns of failures", app.Spec.Name, len(seen))
	}
}

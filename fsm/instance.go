package fsm

import (
	"errors"
	"slices"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// instance is an instance's header at work. What it keeps beside rec is derived from the store and never written.
type instance struct {
	rec   *logv1.InstanceRecord
	app   *application
	heads [2]head // of the normal and of the recovery lane
	dirty bool    // in the list of what the entry changed
	fresh bool    // not kept yet: nothing of it is in the store
	gone  bool    // forgotten in this entry
	at    []byte  // the key of its record; nil before it is asked for
}

// head knows the first sequence numbers of a lane. whole tells that the lane holds no others, named that the hash of each
// message's id is known, too.
type head struct {
	seqs, ids    []uint64
	whole, named bool
}

const (
	// headMost is how many sequence numbers of a lane are kept in memory, about; a larger window reads more.
	headMost = 64
	// headShort is how long a list may be that is moved up when its first goes, so that it keeps its room; a longer one is cut.
	headShort = 16
)

// key is that of the instance's record.
func (i *instance) key() []byte {
	if i.at == nil {
		i.at = instanceKey(i.id())
	}
	return i.at
}

func (i *instance) id() InstanceID { return InstanceID{i.rec.Application, i.rec.Key} }

func (i *instance) lane(l sluicev1.Lane) *logv1.LaneRecord {
	if l == recoveryLane {
		return i.rec.Recovery
	}
	return i.rec.Normal
}

func (i *instance) head(l sluicev1.Lane) *head {
	if l == recoveryLane {
		return &i.heads[1]
	}
	return &i.heads[0]
}

// first gives up to n of the first sequence numbers of a lane, which are good until the lane changes.
func (i *instance) first(r queue.Reader, l sluicev1.Lane, n int) ([]uint64, error) {
	h, have := i.head(l), int(min(i.lane(l).Messages, uint64(n)))
	if len(h.seqs) < have && !h.whole {
		if dense(i.lane(l)) {
			h.fill(i.lane(l), 4*max(n, headMost))
			return h.seqs[:have], nil
		}
		from := i.lane(l).Front
		if known := len(h.seqs); known > 0 {
			from = h.seqs[known-1] + 1
		}
		limit := 4*max(n, headMost) - len(h.seqs) // more than is asked for, so that a lane is read on once in so many settlements
		more, err := queue.Seqs(r, i.rec.Uid, l, from, limit)
		if err != nil {
			return nil, err
		}
		*h = head{seqs: append(slices.Clip(h.seqs), more...), whole: len(more) < limit}
	}
	if len(h.seqs) < have {
		return nil, errors.Join(queue.ErrCorrupt, errors.New("fsm: a lane of "+i.id().String()+" holds fewer messages than its header says"))
	}
	return h.seqs[:have], nil
}

// dense tells that a lane holds every sequence number from its front to its tail: its header alone says which those are.
func dense(l *logv1.LaneRecord) bool { return l.Messages > 0 && l.Tail-l.Front+1 == l.Messages }

// fill finds the first sequence numbers of a lane that is dense, up to a limit.
func (h *head) fill(l *logv1.LaneRecord, limit int) {
	n := min(l.Messages, uint64(limit))
	seqs := make([]uint64, n)
	for at := range seqs {
		seqs[at] = l.Front + uint64(at)
	}
	*h = head{seqs: seqs, whole: n == l.Messages}
}

// appended notes a new tail; first tells that the lane was empty.
func (h *head) appended(m *logv1.MessageRecord, first bool) {
	if first {
		*h = head{whole: true, named: true, seqs: h.seqs[:0], ids: h.ids[:0]}
	}
	switch {
	case !h.whole:
		return
	case len(h.seqs) >= 4*headMost:
		h.whole, h.named, h.ids = false, false, nil
		return
	case h.named:
		h.ids = append(h.ids, xxhash.Sum64String(m.Message.Id))
	}
	h.seqs = append(h.seqs, m.Seq)
}

// removed notes that a message is gone.
func (h *head) removed(seq uint64) {
	at, found := slices.BinarySearch(h.seqs, seq)
	if !found {
		return
	}
	h.seqs = without(h.seqs, at)
	if h.named {
		h.ids = without(h.ids, at)
	}
}

// without takes an element away, mostly the first: a long list is cut there, a short one keeps its room.
func without(s []uint64, at int) []uint64 {
	if at == 0 && len(s) > headShort {
		return s[1:]
	}
	return slices.Delete(s, at, at+1)
}

// holds tells whether a lane of so many messages may hold one with an id; false: it does not.
func (h *head) holds(id uint64, messages uint64) bool {
	return messages > 0 && (!h.whole || !h.named || slices.Contains(h.ids, id))
}

// mayHold tells whether an unsettled message of the instance may have an id; false: none has.
func (i *instance) mayHold(id string) bool {
	hash := xxhash.Sum64String(id)
	return i.heads[0].holds(hash, i.rec.Normal.Messages) || i.heads[1].holds(hash, i.rec.Recovery.Messages)
}

// holdsSeq tells that a message is known to be unsettled in a lane; false: it may be, too.
func (i *instance) holdsSeq(l sluicev1.Lane, seq uint64) bool {
	_, found := slices.BinarySearch(i.head(l).seqs, seq)
	return found
}

// working is the lane that the instance's mode offers.
func (i *instance) working() sluicev1.Lane {
	if i.rec.Mode == recoveryMode {
		return recoveryLane
	}
	return normalLane
}

// waits tells that nothing is offered until a backoff ends.
func (i *instance) waits() bool {
	if i.rec.Mode == recoveryMode && i.rec.RecoveryWaitMs != 0 {
		return true
	}
	return i.lane(i.working()).HeadWaitMs != 0
}

// out is how many messages are out with the owner.
func (i *instance) out() uint64 {
	if i.rec.Owner == "" || i.waits() {
		return 0
	}
	n := min(i.lane(i.working()).Messages, uint64(i.rec.Window))
	if i.rec.PutBackWaiting > 0 && i.rec.Mode != recoveryMode {
		n = min(n, i.rec.PutBackBehind)
	}
	return n
}

// normalOut is how many messages of the normal lane are out.
func (i *instance) normalOut() uint64 {
	if i.rec.Mode == recoveryMode {
		return 0
	}
	return i.out()
}

// doubtful tells that a message is in doubt: it was out when its instance entered recovery, and was not dead-lettered
// and put back since.
func (i *instance) doubtful(m *logv1.MessageRecord) bool {
	r := i.rec
	switch {
	case r.Mode != recoveryMode:
		return false
	case m.Lane == recoveryLane:
		return m.Seq <= r.RecoveryDoubt && (m.PutBackEpoch == 0 || m.PutBackEpoch < r.RecoveryDoubtSince)
	default:
		return m.Seq <= r.NormalDoubt && (m.PutBackEpoch == 0 || m.PutBackEpoch < r.DoubtSince)
	}
}

// idle tells that there is no unsettled work.
func (i *instance) idle() bool { return i.rec.Mode == normalMode && i.rec.Normal.Messages == 0 }

// hasWork tells that an owner would have something to do.
func (i *instance) hasWork() bool {
	if i.rec.Terminated || i.waits() && i.rec.Mode != recoveryMode {
		return false
	}
	if i.rec.Mode == recoveryMode {
		return i.rec.RecoveryWaitMs == 0
	}
	return i.rec.Normal.Messages > 0
}

// memory is what the instance remembers, in the buckets that still stand.
func (i *instance) memory() queue.Memory {
	return queue.Memory{Application: i.app.uid, Instance: i.rec.Uid, Buckets: i.rec.Memory}
}

// find loads an instance, caught up with its application, or nil when there is none.
func (t *txn) find(a *application, key string) (*instance, error) {
	id := InstanceID{a.name(), key}
	i := t.m.instances.get(id)
	if i == nil {
		rec := &logv1.InstanceRecord{}
		err := queue.Load(t, instanceKey(id), rec)
		if errors.Is(err, queue.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		complete(rec)
		i = &instance{rec: rec, app: a}
		t.m.instances.put(i)
	}
	i.app = a
	return i, t.catchUp(i)
}

// complete fills in the parts that an empty record leaves out.
func complete(rec *logv1.InstanceRecord) {
	if rec.Normal == nil {
		rec.Normal = &logv1.LaneRecord{}
	}
	if rec.Recovery == nil {
		rec.Recovery = &logv1.LaneRecord{}
	}
}

// known finds an instance by its names, or refuses.
func (t *txn) known(id InstanceID) (*instance, error) {
	a, err := t.application(id.Application)
	if err != nil {
		return nil, err
	}
	if err := checkKey("instance", id.Key, reason.BadName); err != nil {
		return nil, err
	}
	i, err := t.find(a, id.Key)
	if err == nil && i == nil {
		err = reason.UnknownInstance.Errorf("there is no instance %s; it exists from its first accepted message, transaction or mode change on", id)
	}
	return i, err
}

// findOrBear finds an instance or makes one, which is kept only if keep is called.
func (t *txn) findOrBear(a *application, key string) (*instance, error) {
	i, err := t.find(a, key)
	if err != nil || i != nil {
		return i, err
	}
	position := t.mint()
	rec := &logv1.InstanceRecord{
		Uid: position, Application: a.name(), Key: key, Mode: normalMode, Epoch: position, Generation: a.generation(),
		Window: a.settings.window, NextSeq: 1, ModeTimeMs: t.now, ModeIndex: t.index, CreatedTimeMs: t.now,
	}
	complete(rec)
	return &instance{rec: rec, app: a, fresh: true, heads: [2]head{{whole: true, named: true}, {whole: true, named: true}}}, nil
}

// keep makes a new instance exist.
func (t *txn) keep(i *instance) {
	if i.fresh {
		i.fresh = false
		i.app.counts.normal++
		t.changeApplication(i.app)
		t.m.instances.put(i)
	}
	t.change(i)
}

// stands refuses what cannot be done to a terminated instance.
func (i *instance) stands() error {
	if i.rec.Terminated {
		return reason.Terminated.Errorf("instance %s was terminated (%s)", i.id(), i.rec.TerminateReason)
	}
	return nil
}

// answer is the instance as the public contract shows it, but for what takes a look into its lanes.
func (i *instance) answer() *sluicev1.Instance {
	r := i.rec
	return &sluicev1.Instance{
		Application: r.Application, Key: r.Key, Mode: r.Mode, Epoch: r.Epoch, Owner: r.Owner,
		DeferredMessages: r.DeferredMessages, DeferredBytes: r.DeferredBytes, InFlight: i.out(), NextSeq: r.NextSeq, Cause: r.Cause,
		ModeTime: timestamp(r.ModeTimeMs), StateBytes: r.StateBytes, Terminated: r.Terminated,
		NormalMessages: r.Normal.Messages, RecoveryMessages: r.Recovery.Messages,
	}
}

func timestamp(ms int64) *timestamppb.Timestamp {
	t := &timestamppb.Timestamp{}
	t.Seconds, t.Nanos = seconds(ms)
	return t
}

// seconds are the fields of a timestamp.
func seconds(ms int64) (seconds int64, nanos int32) { return ms / 1000, int32(ms%1000) * 1e6 }

// queueUp puts the instance in the queue of those that wait for an owner, or takes it out, as its state says.
func (t *txn) queueUp(i *instance) error {
	want, r := i.rec.Owner == "" && i.hasWork(), i.rec
	switch {
	case want && r.WorkPosition == 0:
		r.WorkPosition = t.mint()
		t.change(i)
		t.fx.work(r.Application)
		return t.Set(workKey(r.Application, r.WorkPosition), []byte(r.Key))
	case !want && r.WorkPosition != 0:
		k := workKey(r.Application, r.WorkPosition)
		r.WorkPosition = 0
		t.change(i)
		return t.SingleDelete(k)
	}
	return nil
}

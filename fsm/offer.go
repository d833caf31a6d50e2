package fsm

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// Given says what of an instance's offer was handed out. Its zero value: nothing.
type Given struct {
	epoch     uint64
	head, seq uint64 // the head of the lane then, and the last message handed out
	attempt   uint32 // of the head then
	announced uint32 // the attempt of the recovery that was announced
	first     uint64 // the first message handed out under the epoch, after the announcement if there is one
	again     bool   // made by Again
}

// Again is what was given without its messages: those that are still out are offered once more, from the head on. Until
// the owner has settled the first, nothing proves that anything of the epoch arrived: its state and the announcement of
// its recovery come once more, too.
func (g Given) Again() Given {
	return Given{epoch: g.epoch, announced: g.announced, first: g.first, again: true}
}

// unproven tells that a given of Again is about messages of which the owner has settled none under the epoch, or about
// an announcement alone. What an operator settled, or is no longer remembered, proves nothing.
func (o *offering) unproven() (bool, error) {
	g, i := o.Given, o.i
	if !g.again || i.out() == 0 {
		return false, nil
	}
	if g.first == 0 {
		return true, nil
	}
	seqs, err := i.first(o.r, i.working(), 1)
	if err != nil || seqs[0] == g.first {
		return err == nil, err
	}
	past, err := i.memory().SettledBySeq(o.r, g.first)
	if err != nil {
		return errors.Is(err, queue.ErrNotFound), ignore(err, queue.ErrNotFound)
	}
	return past.SettleEpoch != g.epoch, nil
}

// Offer is what is out with the owner of an instance and was not handed out yet.
type Offer struct {
	Owner      string
	Epoch      uint64
	Mode       sluicev1.Mode
	Deliveries []*sluicev1.Delivery
	// Given is to be passed the next time, once Deliveries were handed out.
	Given Given
	// More is out than was asked for.
	More bool
	// Idle: there is no unsettled work, and the instance may be released to make room.
	Idle bool
	// RecoveryTaken: in recovery, and its announcement is among what was handed out, Deliveries included.
	RecoveryTaken bool
}

// mostOfferBytes bounds what an offer holds of messages' data and headers beyond its first message.
const mostOfferBytes = 4 << 20

// offering is an Offer in the making.
type offering struct {
	*Offer
	r     *reading
	i     *instance
	max   int
	state bool // the first delivery of an epoch brings the state
	fresh bool // nothing of this lane counts as handed out
	bytes uint64
}

// Offer tells what of an instance is to be handed out next, at most so many deliveries, and fewer if they are large.
func (v *View) Offer(id InstanceID, given Given, max int) (out *Offer, err error) {
	r := v.begin()
	defer r.end(&err)
	i, err := r.instance(id)
	if err != nil {
		return nil, err
	}
	o := &offering{Offer: &Offer{Owner: i.rec.Owner, Epoch: i.rec.Epoch, Mode: i.rec.Mode, Given: given}, r: r, i: i, max: max}
	o.Idle = i.idle()
	unproven, err := o.unproven()
	if err != nil {
		return nil, err
	}
	if given.epoch != i.rec.Epoch || unproven {
		o.Given = Given{epoch: i.rec.Epoch}
		o.state = true
	}
	o.Given.again = false
	if i.rec.Owner == "" || i.rec.Terminated {
		return o.Offer, nil
	}
	if err := o.announce(); err != nil {
		return nil, err
	}
	if err := o.messages(); err != nil {
		return nil, err
	}
	if len(o.Deliveries) > 0 && o.state {
		if err := o.bringState(); err != nil {
			return nil, err
		}
	}
	return o.Offer, nil
}

// mostDoubtBytes bounds the data of in-doubt messages in an announcement: as many as a window holds may be in doubt.
const mostDoubtBytes = 8 << 20

// inDoubt shows a message as in doubt, its data if there is room for it.
func inDoubt(m *logv1.MessageRecord, room *int) *sluicev1.InDoubt {
	d := &sluicev1.InDoubt{Lane: m.Lane, Seq: m.Seq, Message: m.Message}
	if *room -= len(m.Message.Data); *room < 0 {
		d.DataOmitted, m.Message.Data = true, nil
	}
	return d
}

// announce offers the recovery itself, once per epoch and attempt of its handler.
func (o *offering) announce() error {
	rec := o.i.rec
	if rec.Mode != recoveryMode {
		return nil
	}
	attempt := rec.RecoveryAttempts + 1
	switch {
	case o.Given.announced == attempt:
		o.RecoveryTaken = true
		return nil
	case rec.RecoveryWaitMs != 0:
		return nil
	case o.max < 1:
		o.More = true
		return nil
	}
	room := mostDoubtBytes
	work := &sluicev1.RecoveryWork{Cause: rec.Cause, DeferredMessages: rec.DeferredMessages}
	for _, d := range []struct {
		lane  sluicev1.Lane
		doubt uint64
	}{{normalLane, rec.NormalDoubt}, {recoveryLane, rec.RecoveryDoubt}} {
		if d.doubt == 0 {
			continue
		}
		doubts, err := o.doubts(d.lane, d.doubt, &room)
		if err != nil {
			return err
		}
		work.InDoubt = append(work.InDoubt, doubts...)
	}
	o.Deliveries = append(o.Deliveries, &sluicev1.Delivery{
		Application: rec.Application, Instance: rec.Key, Epoch: rec.Epoch, Kind: sluicev1.DeliveryKind_DELIVERY_RECOVERY, Lane: recoveryLane, Attempt: attempt, Recovery: work,
	})
	o.Given = Given{epoch: rec.Epoch, announced: attempt}
	o.RecoveryTaken, o.fresh = true, true
	return nil
}

// doubts lists the messages of a lane that are in doubt, with the attempts that failed.
func (o *offering) doubts(l sluicev1.Lane, last uint64, room *int) (out []*sluicev1.InDoubt, err error) {
	var inner error
	err = queue.Messages(o.r, o.i.rec.Uid, l, o.i.lane(l).Front, func(m *logv1.MessageRecord) bool {
		if m.Seq > last {
			return false
		}
		if !o.i.doubtful(m) {
			return m.Seq < last
		}
		var f *logv1.FailureRecord
		f, inner = failureOf(o.r, o.i.rec, m)
		d := inDoubt(m, room)
		d.Attempts = f.GetHistory()
		out = append(out, d)
		return m.Seq < last && inner == nil
	})
	return out, errors.Join(err, inner)
}

// messages offers what is out in the lane that the mode offers, beyond what was given. A head that is at another
// attempt than the one given is offered again, and with it what is behind it. What was given behind the head of then
// was given at its first attempt.
func (o *offering) messages() error {
	i := o.i
	n := i.out()
	if n == 0 {
		return nil
	}
	lane := i.working()
	attempt := i.lane(lane).HeadAttempts + 1
	last, count := o.Given.seq, uint64(0)
	begin := func(head uint64) {
		given := uint32(1)
		if head == o.Given.head {
			given = o.Given.attempt
		}
		if attempt != given {
			last = 0
		}
		o.Given.head, o.Given.attempt = head, attempt
	}
	visit := func(seq uint64, load func() (*logv1.MessageRecord, error)) (bool, error) {
		if count++; count == 1 {
			begin(seq)
		}
		if seq <= last {
			return count < n, nil
		}
		if len(o.Deliveries) >= o.max || o.bytes > mostOfferBytes {
			o.More = true
			return false, nil
		}
		m, err := load()
		if err != nil {
			return false, err
		}
		o.deliver(m, count == 1, attempt)
		return count < n, nil
	}
	l := i.lane(lane)
	if l.Messages == 1 { // it is the tail, unless it was put back; a walk would be dearer
		m, err := queue.Message(o.r, i.rec.Uid, lane, l.Tail)
		if err == nil {
			_, err = visit(m.Seq, func() (*logv1.MessageRecord, error) { return m, nil })
		}
		if !errors.Is(err, queue.ErrNotFound) {
			return err
		}
	}
	from := l.Front
	if dense(l) { // what was given need not be walked over
		if begin(from); last >= from {
			from, count = last+1, min(last-from+1, n)
		}
		if count == n {
			return nil
		}
	}
	return queue.Places(o.r, i.rec.Uid, lane, from, visit)
}

func (o *offering) deliver(m *logv1.MessageRecord, head bool, attempt uint32) {
	if !head {
		attempt = 1
	}
	rec := o.i.rec
	o.Deliveries = append(o.Deliveries, &sluicev1.Delivery{
		Application: rec.Application, Instance: rec.Key, Epoch: rec.Epoch, Kind: sluicev1.DeliveryKind_DELIVERY_MESSAGE, Lane: m.Lane, Seq: m.Seq,
		Message: m.Message, Attempt: attempt, Deferred: m.Disposition == deferred, InDoubt: o.i.doubtful(m),
	})
	o.Given.seq = m.Seq
	if o.Given.first == 0 {
		o.Given.first = m.Seq
	}
	o.bytes += payload(m)
}

func (o *offering) bringState() error {
	state, err := o.r.Get(numbered(tableState, o.i.rec.Uid))
	if errors.Is(err, queue.ErrNotFound) {
		return nil
	}
	o.Deliveries[0].State, o.Deliveries[0].HasState = state, true
	return err
}

// Session shows a session.
func (v *View) Session(id string) (out *logv1.SessionRecord, err error) {
	r := v.begin()
	defer r.end(&err)
	out = &logv1.SessionRecord{}
	err = queue.Load(r, named(tableSession, id), out)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, unknownSession(id)
	}
	return out, err
}

// Sessions lists every session, in the order of their ids.
func (v *View) Sessions() (out []*logv1.SessionRecord, err error) {
	r := v.begin()
	defer r.end(&err)
	err = scan(r, []byte{tableSession}, func(_, b []byte) error {
		s := &logv1.SessionRecord{}
		out = append(out, s)
		return proto.Unmarshal(b, s)
	})
	return out, err
}

// Owned lists the instances that a session owns.
func (v *View) Owned(session string) (out []InstanceID, err error) {
	r := v.begin()
	defer r.end(&err)
	s := &logv1.SessionRecord{}
	err = queue.Load(r, named(tableSession, session), s)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, unknownSession(session)
	}
	if err != nil {
		return nil, err
	}
	keys, err := owned(r, session)
	for _, k := range keys {
		out = append(out, InstanceID{s.Application, k})
	}
	return out, err
}

// Waiting lists instances of an application that wait for an owner, those that wait longest first.
func (v *View) Waiting(application string, limit int) (out []InstanceID, err error) {
	r := v.begin()
	defer r.end(&err)
	a, err := r.application(application)
	if err != nil {
		return nil, err
	}
	prefix := named(tableWork, application, "")
	err = scanFrom(r, workKey(application, a.waiting.get()), queue.Successor(prefix), func(k, key []byte) error {
		if len(out) == limit {
			return errEnough
		}
		if len(out) == 0 {
			a.waiting.raise(beUint64(k[len(prefix):]))
		}
		out = append(out, InstanceID{application, string(key)})
		return nil
	})
	return out, ignore(err, errEnough)
}

// NextDeadline is when an Advance is due; ok is false when nothing is to come.
func (v *View) NextDeadline() (at time.Time, ok bool, err error) {
	r := v.begin()
	defer r.end(&err)
	err = scanFrom(r, numbered(tableDue, v.m.lows.due.get()), queue.Successor([]byte{tableDue}), func(k, _ []byte) error {
		d, whole := parseDue(k)
		if !whole {
			return queue.ErrCorrupt
		}
		at, ok = time.UnixMilli(d.at), true
		return errEnough
	})
	return at, ok, ignore(err, errEnough)
}

// HasOutgoing tells whether outgoing messages wait to be judged at their targets.
func (v *View) HasOutgoing() (waiting bool, err error) {
	r := v.begin()
	defer r.end(&err)
	err = scanFrom(r, numbered(tableOutgoing, v.m.lows.outgoing.get()), queue.Successor([]byte{tableOutgoing}), func(_, _ []byte) error {
		waiting = true
		return errEnough
	})
	return waiting, ignore(err, errEnough)
}

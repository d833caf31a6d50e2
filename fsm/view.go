package fsm

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// View reads the last committed state. Its methods are safe from any goroutine, and each reads one moment.
// Their errors are refusals (*reason.Error) or trouble of the store.
type View struct {
	m *Machine
}

// View gives a view. It is cheap; do not keep it.
func (m *Machine) View() *View { return &View{m} }

// Applied is the index of the last entry applied, and the state's clock.
func (v *View) Applied() (index uint64, clock time.Time) {
	s := v.m.shared.Load()
	return s.index, time.UnixMilli(s.clockMS)
}

// reading is one method at work: the store at one moment, and the applications then.
type reading struct {
	queue.Snapshot
	// apps was taken after the snapshot, but may be of before it, for it is replaced after the commit. exact: it is of the
	// same moment.
	apps  *shared
	exact bool
}

func (v *View) begin() *reading {
	before := v.m.moves.Load()
	snap := v.m.store.NewSnapshot()
	r := &reading{Snapshot: snap, apps: v.m.shared.Load()}
	r.exact = before%2 == 0 && v.m.moves.Load() == before
	return r
}

// moment is the one that is read, as the store tells it.
func (r *reading) moment() (*logv1.MetaRecord, error) {
	meta := &logv1.MetaRecord{}
	return meta, ignore(queue.Load(r, []byte{tableMeta}, meta), queue.ErrNotFound)
}

// end closes a reading and joins what that says to the method's error.
func (r *reading) end(err *error) { *err = errors.Join(*err, r.Close()) }

// application finds an application as it was at the moment that is read. What the readers share is that of the moment
// unless a commit was under way when the reading began; then the store is asked.
func (r *reading) application(name string) (*application, error) {
	at := r.apps.index
	if !r.exact {
		meta, err := r.moment()
		if err != nil {
			return nil, err
		}
		at = meta.AppliedIndex
	}
	if p := r.apps.applications[name]; p != nil && r.apps.index >= at {
		if a := p.Load(); a.shownAt <= at {
			return a, nil
		}
	}
	if err := checkApplicationName(name); err != nil {
		return nil, err
	}
	rec := &logv1.ApplicationRecord{}
	err := queue.Load(r, named(tableApplication, name), rec)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, unknownApplication(name)
	}
	if err != nil {
		return nil, err
	}
	return loadApplication(rec), nil
}

// instance reads an instance as it would be once caught up with its application.
func (r *reading) instance(id InstanceID) (*instance, error) {
	a, err := r.application(id.Application)
	if err != nil {
		return nil, err
	}
	if err := checkKey("instance", id.Key, reason.BadName); err != nil {
		return nil, err
	}
	rec := &logv1.InstanceRecord{}
	err = queue.Load(r, instanceKey(id), rec)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, reason.UnknownInstance.Errorf("there is no instance %s; it exists from its first accepted message, transaction or mode change on", id)
	}
	if err != nil {
		return nil, err
	}
	i := &instance{rec: rec, app: a}
	_, err = r.project(i)
	return i, err
}

// project enters a header into the application-wide recoveries that it has not seen, without writing, and gives the
// transitions that this would record.
func (r *reading) project(i *instance) (trs []*sluicev1.Transition, err error) {
	complete(i.rec)
	if i.rec.Terminated {
		return nil, nil
	}
	for _, g := range i.app.generations {
		if g.Position <= i.rec.Generation {
			continue
		}
		last := uint64(0)
		if n := i.out(); n > 0 {
			seqs, err := i.first(r, i.working(), int(n))
			if err != nil {
				return nil, err
			}
			last = seqs[n-1]
		}
		from := i.rec.Mode
		e := generationEntry(g)
		enter(i.rec, e, last)
		i.rec.Generation = g.Position
		trs = append(trs, transitionOf(i.rec, from, e))
	}
	return trs, nil
}

// Application shows an application.
func (v *View) Application(name string) (out *sluicev1.Application, err error) {
	r := v.begin()
	defer r.end(&err)
	a, err := r.application(name)
	if err != nil {
		return nil, err
	}
	return a.answer(), nil
}

// Applications shows every application, in the order of their names.
func (v *View) Applications() (out []*sluicev1.Application, err error) {
	s := v.m.shared.Load()
	for _, name := range sorted(s.applications) {
		out = append(out, s.applications[name].Load().answer())
	}
	return out, nil
}

// Instance shows an instance; whether it is quiesced is the leader's to say.
func (v *View) Instance(id InstanceID) (out *sluicev1.Instance, err error) {
	r := v.begin()
	defer r.end(&err)
	i, err := r.instance(id)
	if err != nil {
		return nil, err
	}
	return r.show(i)
}

func (r *reading) show(i *instance) (*sluicev1.Instance, error) {
	back, err := r.letBack(i)
	if err != nil {
		return nil, err
	}
	out := i.answer()
	if i.rec.DeferredMessages == 0 {
		return out, nil
	}
	oldest := back
	err = queue.Messages(r, i.rec.Uid, normalLane, max(i.rec.DeferredFrom, i.rec.Normal.Front), func(m *logv1.MessageRecord) bool {
		if m.Disposition == deferred && (oldest == nil || m.Seq < oldest.Seq) {
			oldest = m
		}
		return m.Disposition != deferred
	})
	if oldest != nil {
		out.OldestDeferredTime = timestamp(oldest.TimeMs)
	}
	return out, err
}

// letBack counts in, as catching up will, the dead letters that wait to be put back into an instance whose application has
// entered recovery since, and answers the first of them that is deferred. The header is the reader's own.
func (r *reading) letBack(i *instance) (first *logv1.MessageRecord, err error) {
	if i.rec.PutBackWaiting == 0 || i.rec.Mode != recoveryMode {
		return nil, nil
	}
	meta, err := r.moment()
	if err != nil {
		return nil, err
	}
	err = scan(r, numbered(tablePutBack, i.rec.Uid), func(k, _ []byte) error {
		m, err := returnable(r, i, normalLane, beUint64(k[9:]), meta.ClockMs)
		if _, refused := fault(err); err != nil {
			return refused
		}
		i.countIn(m)
		if first == nil && m.Disposition == deferred {
			first = m
		}
		return nil
	})
	return first, err
}

// Page sizes of lists.
const (
	defaultPage = 100
	mostPage    = 1000
)

func pageSize(n uint32) (int, error) {
	if n > mostPage {
		return 0, reason.BadField.Errorf("page_size is %d; allowed are 1 to %d", n, mostPage)
	}
	if n == 0 {
		return defaultPage, nil
	}
	return int(n), nil
}

// Instances lists instances in the order of their keys. The page token is the last key of the page before.
func (v *View) Instances(q *sluicev1.ListInstancesRequest) (out *sluicev1.ListInstancesResponse, err error) {
	r := v.begin()
	defer r.end(&err)
	a, err := r.application(q.Application)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(q.PageSize)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkText("prefix", q.Prefix, maxKeyBytes), checkText("page_token", q.PageToken, maxKeyBytes)); err != nil {
		return nil, err
	}
	return r.page(a, q, size)
}

// mostLooked bounds how many instances one page looks at: a page may hold fewer than asked for, and none.
const mostLooked = 20_000

func (r *reading) page(a *application, q *sluicev1.ListInstancesRequest, size int) (out *sluicev1.ListInstancesResponse, err error) {
	out = &sluicev1.ListInstancesResponse{}
	base := named(tableInstance, a.name(), "")
	lower := append(append([]byte(nil), base...), max(q.Prefix, q.PageToken)...)
	it, err := r.NewIter(lower, queue.Successor(append(base, q.Prefix...)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	looked, last := 0, ""
	for ok := it.First(); ok; ok = it.Next() {
		i, err := r.decode(a, it)
		if err != nil {
			return nil, err
		}
		if i.rec.Key == q.PageToken {
			continue
		}
		if len(out.Instances) == size || looked == mostLooked {
			out.NextPageToken = last
			return out, nil
		}
		looked, last = looked+1, i.rec.Key
		if !matches(i, q) {
			continue
		}
		shown, err := r.show(i)
		if err != nil {
			return nil, err
		}
		out.Instances = append(out.Instances, shown)
	}
	return out, it.Error()
}

func (r *reading) decode(a *application, it queue.Iterator) (*instance, error) {
	b, err := it.Value()
	if err != nil {
		return nil, err
	}
	rec := &logv1.InstanceRecord{}
	if err := proto.Unmarshal(b, rec); err != nil {
		return nil, errors.Join(queue.ErrCorrupt, err)
	}
	i := &instance{rec: rec, app: a}
	_, err = r.project(i)
	return i, err
}

func matches(i *instance, q *sluicev1.ListInstancesRequest) bool {
	if q.Mode != sluicev1.Mode_MODE_UNSPECIFIED && (i.rec.Mode != q.Mode || i.rec.Terminated) {
		return false
	}
	return i.rec.DeferredMessages >= q.MinDeferred
}

// History lists an instance's transitions, oldest first, at most as many as the application keeps.
func (v *View) History(id InstanceID) (out *sluicev1.HistoryResponse, err error) {
	r := v.begin()
	defer r.end(&err)
	i, err := r.unprojected(id)
	if err != nil {
		return nil, err
	}
	out = &sluicev1.HistoryResponse{}
	err = scan(r, numbered(tableHistory, i.rec.Uid), func(_, b []byte) error {
		h := &logv1.HistoryRecord{}
		out.Transitions = append(out.Transitions, nil)
		err := proto.Unmarshal(b, h)
		out.Transitions[len(out.Transitions)-1] = h.Transition
		return err
	})
	if err != nil {
		return nil, err
	}
	trs, err := r.project(i)
	out.Transitions = append(out.Transitions, trs...)
	if over := len(out.Transitions) - int(i.app.settings.history); over > 0 {
		out.Transitions = out.Transitions[over:]
	}
	return out, err
}

// unprojected reads an instance as it is written.
func (r *reading) unprojected(id InstanceID) (*instance, error) {
	i, err := r.instance(id)
	if err != nil {
		return nil, err
	}
	rec := &logv1.InstanceRecord{}
	err = queue.Load(r, instanceKey(id), rec)
	return &instance{rec: rec, app: i.app}, err
}

// Transaction shows a transaction of an instance.
func (v *View) Transaction(id InstanceID, transaction string) (out *sluicev1.Transaction, err error) {
	r := v.begin()
	defer r.end(&err)
	i, err := r.instance(id)
	if err != nil {
		return nil, err
	}
	if err := checkKey("transaction", transaction, reason.BadName); err != nil {
		return nil, err
	}
	if transaction == i.rec.Key && !i.rec.DefaultTransaction {
		return i.newTransaction(transaction, i.app.firstPattern(), i.rec.CreatedTimeMs), nil
	}
	rec := &logv1.TransactionRecord{}
	err = queue.Load(r, transactionKey(i.rec.Uid, transaction), rec)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, reason.UnknownTransaction.Errorf("there is no transaction %q in %s", cut(transaction), id)
	}
	return rec.Transaction, err
}

// Transactions lists the transactions of an instance that are on record, in the order of their ids.
func (v *View) Transactions(q *sluicev1.ListTransactionsRequest) (out *sluicev1.ListTransactionsResponse, err error) {
	r := v.begin()
	defer r.end(&err)
	i, err := r.instance(InstanceID{q.Application, q.Instance})
	if err != nil {
		return nil, err
	}
	size, err := pageSize(q.PageSize)
	if err != nil {
		return nil, err
	}
	out = &sluicev1.ListTransactionsResponse{}
	err = scan(r, numbered(tableTransaction, i.rec.Uid), func(k, b []byte) error {
		if string(k[9:]) <= q.PageToken && q.PageToken != "" {
			return nil
		}
		if n := len(out.Transactions); n == size {
			out.NextPageToken = out.Transactions[n-1].Id
			return errEnough
		}
		rec := &logv1.TransactionRecord{}
		if err := proto.Unmarshal(b, rec); err != nil {
			return err
		}
		out.Transactions = append(out.Transactions, rec.Transaction)
		return nil
	})
	return out, ignore(err, errEnough)
}

// Operation shows an operation.
func (v *View) Operation(id string) (out *sluicev1.Operation, err error) {
	r := v.begin()
	defer r.end(&err)
	rec, err := r.operation(id)
	if err != nil {
		return nil, err
	}
	return rec.Operation, nil
}

// Operations lists operations, oldest first; of one application, or of all.
func (v *View) Operations(application string) (out []*sluicev1.Operation, err error) {
	r := v.begin()
	defer r.end(&err)
	err = scan(r, []byte{tableOperation}, func(_, b []byte) error {
		rec := &logv1.OperationRecord{}
		if err := proto.Unmarshal(b, rec); err != nil {
			return err
		}
		if application == "" || rec.Operation.Application == application {
			out = append(out, rec.Operation)
		}
		return nil
	})
	return out, err
}

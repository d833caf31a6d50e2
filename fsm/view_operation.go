package fsm

import (
	"errors"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// Selection is the set that a selector chose, in the order of the keys, and the log index of the state it chose from.
type Selection struct {
	Instances []string
	Index     uint64
}

// Select chooses the set of an operation, at most MaxSet instances, from one moment of the state. Instances that are
// named one by one are taken as they are unless the rest of the selector speaks against them: what became of each is
// told by the operation. It looks at every instance of the application that the prefix leaves.
func (v *View) Select(q *sluicev1.StartOperationRequest) (out *Selection, err error) {
	if err := checkStart(q); err != nil {
		return nil, err
	}
	r := v.begin()
	defer r.end(&err)
	if _, err := r.application(q.Application); err != nil {
		return nil, err
	}
	meta, rec := &logv1.MetaRecord{}, &logv1.ApplicationRecord{}
	if err := errors.Join(queue.Load(r, []byte{tableMeta}, meta), queue.Load(r, named(tableApplication, q.Application), rec)); err != nil {
		return nil, err
	}
	out = &Selection{Index: meta.AppliedIndex}
	choose := r.chooseScanned
	if len(q.Selector.Instances) > 0 {
		choose = r.chooseNamed
	}
	if out.Instances, err = choose(loadApplication(rec), q.Selector); err != nil {
		return nil, err
	}
	return out, checkTotal(uint64(len(out.Instances)))
}

// chooseScanned chooses among all instances; one too many ends it.
func (r *reading) chooseScanned(a *application, s *sluicev1.Selector) (set []string, err error) {
	prefix := append(named(tableInstance, a.name(), ""), s.Prefix...)
	it, err := r.NewIter(prefix, queue.Successor(prefix))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok && len(set) <= MaxSet; ok = it.Next() {
		i, err := r.decode(a, it)
		if err != nil {
			return nil, err
		}
		if chosen(i, s) {
			set = append(set, i.rec.Key)
		}
	}
	return set, it.Error()
}

// chooseNamed chooses among the instances that the selector names. What is unknown or terminated has no mode, no
// owner and nothing deferred.
func (r *reading) chooseNamed(a *application, s *sluicev1.Selector) (set []string, err error) {
	named := slices.Clone(s.Instances)
	slices.Sort(named)
	unasked := s.Mode == 0 && s.Owner == "" && s.MinDeferred == 0
	for _, key := range slices.Compact(named) {
		if len(key) < len(s.Prefix) || key[:len(s.Prefix)] != s.Prefix {
			continue
		}
		if unasked {
			set = append(set, key)
			continue
		}
		rec := &logv1.InstanceRecord{}
		err := queue.Load(r, instanceKey(InstanceID{a.name(), key}), rec)
		if errors.Is(err, queue.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		i := &instance{rec: rec, app: a}
		if _, err := r.project(i); err != nil {
			return nil, err
		}
		if chosen(i, s) {
			set = append(set, key)
		}
	}
	return set, nil
}

func chosen(i *instance, s *sluicev1.Selector) bool {
	return !i.rec.Terminated && (s.Mode == 0 || i.rec.Mode == s.Mode) && (s.Owner == "" || i.rec.Owner == s.Owner) && i.rec.DeferredMessages >= s.MinDeferred
}

func (r *reading) operation(id string) (*logv1.OperationRecord, error) {
	rec := &logv1.OperationRecord{}
	err := queue.Load(r, named(tableOperation, id), rec)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, reason.UnknownOperation.Errorf("there is no operation %q", cut(id))
	}
	return rec, err
}

// Running lists the operations that a leader is to go on with, oldest first.
func (v *View) Running() ([]*sluicev1.Operation, error) {
	all, err := v.Operations("")
	return slices.DeleteFunc(all, func(o *sluicev1.Operation) bool { return o.State != sluicev1.OperationState_OPERATION_RUNNING }), err
}

// Ahead lists the instances that the next step of an operation may complete, at most as many as one step looks at.
func (v *View) Ahead(operation string) (ids []InstanceID, err error) {
	r := v.begin()
	defer r.end(&err)
	o, err := r.operation(operation)
	if err != nil || o.Operation.State != sluicev1.OperationState_OPERATION_RUNNING || o.Request.GetKind() == sluicev1.OperationKind_OPERATION_KIND_ENTER_RECOVERY {
		return nil, err
	}
	a, err := r.application(o.Operation.Application)
	if err != nil {
		return nil, err
	}
	var keys []string
	if o.Request == nil {
		keys, _, err = keysAfter(r, a, o.Cursor, stepLooks)
	} else {
		err = r.items(o, o.At, func(_ uint64, i *sluicev1.OperationItem) bool {
			keys = append(keys, i.Instance)
			return len(keys) < stepLooks
		})
	}
	for _, k := range keys {
		ids = append(ids, InstanceID{a.name(), k})
	}
	return ids, err
}

// Recovering tells by whom, and under which epoch, the recovery of an instance may be handled now; an epoch of 0: by
// nobody, for it is not in recovery, has no owner, or waits until its recovery is delivered again.
func (v *View) Recovering(id InstanceID) (owner string, epoch uint64, err error) {
	r := v.begin()
	defer r.end(&err)
	i, err := r.instance(id)
	if err != nil || i.rec.Terminated || i.rec.Mode != recoveryMode || i.rec.Owner == "" || i.rec.RecoveryWaitMs != 0 {
		return "", 0, err
	}
	return i.rec.Owner, i.rec.Epoch, nil
}

// items hands the items of a set to visit, from a place on, until it answers false.
func (r *reading) items(o *logv1.OperationRecord, from uint64, visit func(place uint64, i *sluicev1.OperationItem) bool) (err error) {
	prefix := itemPrefix(o.Operation.Id)
	it, err := r.NewIter(itemKey(o.Operation.Id, from), queue.Successor(prefix))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		b, err := it.Value()
		if err != nil {
			return err
		}
		rec := &logv1.OperationItemRecord{}
		if err := proto.Unmarshal(b, rec); err != nil {
			return errors.Join(queue.ErrCorrupt, err)
		}
		if !visit(beUint64(it.Key()[len(prefix):]), rec.Item) {
			return nil
		}
	}
	return it.Error()
}

// OperationItems lists what became of each instance of an operation's set, in the order of the set. An operation
// without a set has none. The page token is the place to go on at; a page may hold fewer than asked for, and none.
func (v *View) OperationItems(q *sluicev1.ListOperationItemsRequest) (out *sluicev1.ListOperationItemsResponse, err error) {
	size, err := pageSize(q.PageSize)
	if err != nil {
		return nil, err
	}
	from := uint64(0)
	if q.PageToken != "" {
		if from, err = strconv.ParseUint(q.PageToken, 10, 64); err != nil {
			return nil, reason.BadField.Errorf("page_token %q was given by no page of items", cut(q.PageToken))
		}
	}
	if _, ok := sluicev1.ItemState_name[int32(q.State)]; !ok {
		return nil, reason.BadField.Errorf("state is %d; allowed are ITEM_PENDING, ITEM_DONE, ITEM_PASSED_OVER and ITEM_FAILED", q.State)
	}
	r := v.begin()
	defer r.end(&err)
	o, err := r.operation(q.Id)
	if err != nil {
		return nil, err
	}
	out = &sluicev1.ListOperationItemsResponse{}
	err = r.items(o, from, func(place uint64, i *sluicev1.OperationItem) bool {
		if len(out.Items) == size || place == from+mostLooked {
			out.NextPageToken = strconv.FormatUint(place, 10)
			return false
		}
		if q.State == 0 || i.State == q.State {
			out.Items = append(out.Items, i)
		}
		return true
	})
	return out, err
}

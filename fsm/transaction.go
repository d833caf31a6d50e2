package fsm

import (
	"errors"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// step is what accepting a message does to its transaction.
type step struct {
	class class
	i     *instance
	// tx is written if it is set; begun tells that it was not on record.
	tx    *sluicev1.Transaction
	begun bool
}

// maxTransactions bounds the transactions on record of an instance.
const maxTransactions = 100_000

// transaction reads a transaction of an instance; nil when it is not on record.
func (t *txn) transaction(i *instance, id string) (*sluicev1.Transaction, error) {
	if i.fresh || id == i.rec.Key && !i.rec.DefaultTransaction {
		return nil, nil
	}
	rec := &logv1.TransactionRecord{}
	err := queue.Load(t, transactionKey(i.rec.Uid, id), rec)
	return rec.Transaction, ignore(err, queue.ErrNotFound)
}

func (i *instance) newTransaction(id, pattern string, now int64) *sluicev1.Transaction {
	return &sluicev1.Transaction{Application: i.rec.Application, Instance: i.rec.Key, Id: id, Pattern: pattern, BeginTime: timestamp(now)}
}

// step judges a message by the pattern of its transaction.
func (t *txn) step(i *instance, m *sluicev1.Message) (step, error) {
	id := m.Transaction
	if id == "" {
		id = i.rec.Key
	}
	tx, err := t.transaction(i, id)
	if err != nil {
		return step{}, err
	}
	if len(i.app.patterns) == 0 {
		return t.freeStep(i, tx, id, m.Type)
	}
	known := tx != nil
	tx, p, err := t.bound(i, tx, id, m.Type)
	if err != nil {
		return step{}, err
	}
	ty, err := p.judge(m.Type, tx.LastType)
	if err != nil {
		return step{}, err
	}
	if len(ty.after) > 0 {
		tx.LastType = ty.name
	}
	if ty.closes {
		tx.Closed, tx.EndTime = true, timestamp(t.now)
	}
	return step{class: ty.class, i: i, tx: tx, begun: !known}, i.mayBegin(known)
}

// mayBegin refuses one more transaction than an instance may have on record.
func (i *instance) mayBegin(known bool) error {
	if !known && i.rec.TransactionsOpen >= maxTransactions {
		return reason.Rate.Errorf("%s has %d transactions on record, which is the limit", i.id(), maxTransactions)
	}
	return nil
}

// freeStep is a step where no pattern is declared: any type, and the first message of a transaction begins it.
// The default transaction is put on record only when it is ended.
func (t *txn) freeStep(i *instance, tx *sluicev1.Transaction, id, typ string) (step, error) {
	s := step{class: classByName(typ), i: i}
	switch {
	case tx == nil && id != i.rec.Key:
		s.tx, s.begun = i.newTransaction(id, "", t.now), true
		return s, i.mayBegin(false)
	case tx != nil && tx.Closed && id == i.rec.Key:
		s.tx = i.newTransaction(id, "", t.now)
	case tx != nil && tx.Closed:
		return step{}, over(tx)
	}
	return s, nil
}

func over(tx *sluicev1.Transaction) error {
	return reason.OutOfPattern.Errorf("transaction %q has ended; begin another one", cut(tx.Id))
}

// bound finds the transaction and the pattern that a type is judged by. A type that opens begins an unknown
// transaction, and begins the default one anew after its end.
func (t *txn) bound(i *instance, tx *sluicev1.Transaction, id, typ string) (*sluicev1.Transaction, *pattern, error) {
	byDefault := id == i.rec.Key
	if tx == nil && byDefault {
		tx = i.newTransaction(id, i.app.patterns[0].name, t.now)
	}
	if tx == nil {
		p := i.app.opening(typ)
		if p == nil {
			return nil, nil, reason.UnknownTransaction.Errorf("there is no transaction %q in %s, and %q does not open one", cut(id), i.id(), cut(typ))
		}
		return i.newTransaction(id, p.name, t.now), p, nil
	}
	p := i.app.pattern(tx.Pattern)
	if p == nil {
		return nil, nil, reason.OutOfPattern.Errorf("transaction %q follows pattern %q, which application %s no longer declares", cut(id), tx.Pattern, i.app.name())
	}
	if !tx.Closed {
		return tx, p, nil
	}
	if ty := p.types[typ]; byDefault && ty != nil && ty.opens {
		return i.newTransaction(id, p.name, t.now), p, nil
	}
	return nil, nil, over(tx)
}

// take carries out a step.
func (t *txn) take(s step) error {
	if s.tx == nil {
		return nil
	}
	if s.begun {
		s.i.rec.TransactionsOpen++
	}
	return t.putTransaction(s.i, s.tx)
}

func (t *txn) putTransaction(i *instance, tx *sluicev1.Transaction) error {
	if tx.Id == i.rec.Key && !i.rec.DefaultTransaction {
		i.rec.DefaultTransaction = true
		t.change(i)
	}
	if tx.Closed {
		if err := t.forgetLater(i, tx); err != nil {
			return err
		}
	}
	return queue.Put(t, transactionKey(i.rec.Uid, tx.Id), &logv1.TransactionRecord{Transaction: tx})
}

// forgetLater has a transaction that has ended forgotten after the deduplication window, as settled messages are. The
// default transaction stays on record: it is one, and begins anew.
func (t *txn) forgetLater(i *instance, tx *sluicev1.Transaction) error {
	if tx.Id == i.rec.Key {
		return nil
	}
	d := due{at: ceilMS(tx.EndTime) + i.app.settings.dedupWindow, kind: dueTransaction, uid: i.rec.Uid, extra: t.mint()}
	t.fx.deadline(d.at)
	t.m.lows.due.lower(uint64(d.at))
	return t.Set(d.key(), named(0, i.rec.Application, i.rec.Key, tx.Id)[1:])
}

// transactionDue forgets a transaction, or puts that off if the window has grown since.
func (t *txn) transactionDue(i *instance, id string) error {
	tx, err := t.transaction(i, id)
	if err != nil || tx == nil || !tx.Closed {
		return err
	}
	if ceilMS(tx.EndTime)+i.app.settings.dedupWindow > t.now {
		return t.forgetLater(i, tx)
	}
	i.rec.TransactionsOpen--
	t.change(i)
	return t.Delete(transactionKey(i.rec.Uid, id))
}

func (t *txn) beginTransaction(r *sluicev1.BeginTransactionRequest) (*logv1.Outcome, error) {
	a, err := t.application(r.Application)
	if err == nil {
		err = errors.Join(checkKey("instance", r.Instance, reason.BadName), checkKey("transaction", r.Transaction, reason.BadName),
			checkText("client", r.Client, maxKeyBytes), checkRequestID(r.RequestId), checkPatternName(a, r.Pattern))
	}
	if err != nil {
		return refused(err)
	}
	i, err := t.findOrBear(a, r.Instance)
	if err != nil {
		return nil, err
	}
	return t.once(call{a: a, i: i, method: "BeginTransaction", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		if err := i.stands(); err != nil {
			return refused(err)
		}
		tx, err := t.transaction(i, r.Transaction)
		if err != nil {
			return nil, err
		}
		if tx != nil && !(tx.Closed && tx.Id == i.rec.Key) {
			return beginAgain(tx, r)
		}
		known := tx != nil
		if err := i.mayBegin(known); err != nil {
			return refused(err)
		}
		t.keep(i)
		tx = i.newTransaction(r.Transaction, r.Pattern, t.now)
		tx.Client = r.Client
		if tx.Pattern == "" && len(a.patterns) > 0 {
			tx.Pattern = a.patterns[0].name
		}
		return transactionOutcome(tx), t.take(step{i: i, tx: tx, begun: !known})
	})
}

// beginAgain answers a Begin of a transaction that exists: the same one again is a duplicate.
func beginAgain(tx *sluicev1.Transaction, r *sluicev1.BeginTransactionRequest) (*logv1.Outcome, error) {
	if tx.Closed || tx.Client != r.Client || r.Pattern != "" && tx.Pattern != r.Pattern {
		return refused(reason.IDReused.Errorf("transaction %q exists already, with pattern %q and client %q (ended: %v)", cut(tx.Id), tx.Pattern, tx.Client, tx.Closed))
	}
	tx.Duplicate = true
	return transactionOutcome(tx), nil
}

func checkPatternName(a *application, name string) error {
	if name == "" || a.pattern(name) != nil {
		return nil
	}
	names := make([]string, 0, len(a.patterns))
	for _, p := range a.patterns {
		names = append(names, p.name)
	}
	return reason.BadField.Errorf("application %s declares no pattern %q; it declares %s", a.name(), cut(name), list(names))
}

func transactionOutcome(tx *sluicev1.Transaction) *logv1.Outcome {
	return &logv1.Outcome{Result: &logv1.Outcome_Transaction{Transaction: proto.Clone(tx).(*sluicev1.Transaction)}}
}

func (t *txn) endTransaction(r *sluicev1.EndTransactionRequest) (*logv1.Outcome, error) {
	i, err := t.known(InstanceID{r.Application, r.Instance})
	if err == nil {
		err = errors.Join(checkKey("transaction", r.Transaction, reason.BadName), checkRequestID(r.RequestId))
	}
	if err != nil {
		return refused(err)
	}
	return t.once(call{a: i.app, i: i, method: "EndTransaction", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		if err := i.stands(); err != nil {
			return refused(err)
		}
		tx, err := t.transaction(i, r.Transaction)
		if err != nil {
			return nil, err
		}
		begun := tx == nil
		switch {
		case tx == nil && r.Transaction != i.rec.Key:
			return refused(reason.UnknownTransaction.Errorf("there is no transaction %q in %s", cut(r.Transaction), i.id()))
		case tx == nil:
			tx = i.newTransaction(r.Transaction, i.app.firstPattern(), t.now)
		case tx.Closed:
			tx.Duplicate = true
			return transactionOutcome(tx), nil
		}
		tx.Closed, tx.EndTime = true, timestamp(t.now)
		return transactionOutcome(tx), t.take(step{i: i, tx: tx, begun: begun})
	})
}

func (a *application) firstPattern() string {
	if len(a.patterns) == 0 {
		return ""
	}
	return a.patterns[0].name
}

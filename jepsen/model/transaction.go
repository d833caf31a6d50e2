package model

import (
	"fmt"
	"slices"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// transaction is an exchange of messages; last is the last type that moved its step.
type transaction struct {
	pattern, client, last string
	closed                bool
}

// step judges a message by the pattern of its transaction, and tells how that stands once the message is accepted. An
// empty name: nothing is put on record, for without patterns the default transaction is so only by its name.
func (i *Instance) step(message *sluicev1.Message) (name string, after transaction, suitable sluicev1.Suitability, refusal reason.Reason) {
	name = message.Transaction
	if name == "" {
		name = i.ID.Key
	}
	t, known := i.transactions[name]
	byDefault := name == i.ID.Key
	if len(i.app.patterns) == 0 {
		switch {
		case known && t.closed && !byDefault:
			return name, t, 0, reason.OutOfPattern
		case byDefault && !known:
			name = ""
		case t.closed:
			t = transaction{}
		}
		return name, t, byName(message.Type), ""
	}
	if t, refusal = i.app.bound(t, known, byDefault, message.Type); refusal != "" {
		return name, t, 0, refusal
	}
	p := i.app.pattern(t.pattern)
	if p == nil {
		return name, t, 0, reason.OutOfPattern
	}
	typ := p.types[message.Type]
	switch {
	case typ == nil:
		return name, t, 0, reason.UnknownType
	case len(typ.After) > 0 && !slices.Contains(typ.After, t.last):
		return name, t, 0, reason.OutOfPattern
	case len(typ.After) > 0:
		t.last = typ.Name
	}
	t.closed = typ.Closes
	return name, t, typ.Suitable, ""
}

// bound finds the transaction that a type belongs to: the one that is known and open, or one that it begins.
func (a *application) bound(t transaction, known, byDefault bool, typ string) (transaction, reason.Reason) {
	switch {
	case known && !t.closed:
		return t, ""
	case known && byDefault && a.pattern(t.pattern) != nil && a.pattern(t.pattern).types[typ].GetOpens():
		return transaction{pattern: t.pattern}, ""
	case known:
		return t, reason.OutOfPattern
	case byDefault:
		return transaction{pattern: a.patterns[0].name}, ""
	}
	p := a.opening(typ)
	if p == nil {
		return t, reason.UnknownTransaction
	}
	return transaction{pattern: p.name}, ""
}

func (m *Machine) beginTransaction(c *sluicev1.BeginTransactionRequest, o *logv1.Outcome) error {
	id, what := ID{c.Application, c.Instance}, fmt.Sprintf("beginning of transaction %q of %s/%s", c.Transaction, c.Application, c.Instance)
	a := m.applications[c.Application]
	switch {
	case a == nil:
		m.judged(what, reason.UnknownApplication, o.Fault)
		return nil
	case c.Pattern != "" && a.pattern(c.Pattern) == nil:
		m.judged(what, reason.BadField, o.Fault)
		return nil
	}
	return m.once("BeginTransaction", id, c.RequestId, c, o, func() error {
		i := m.find(id)
		before, known := i.transactions[c.Transaction]
		again := known && !(before.closed && c.Transaction == c.Instance)
		refusal := reason.Reason("")
		switch {
		case i.Terminated:
			refusal = reason.Terminated
		case again && (before.closed || before.client != c.Client || c.Pattern != "" && c.Pattern != before.pattern):
			refusal = reason.IDReused
		}
		if !m.judged(what, refusal, o.Fault) {
			return nil
		}
		if !again {
			before = transaction{pattern: c.Pattern, client: c.Client}
			if c.Pattern == "" && len(a.patterns) > 0 {
				before.pattern = a.patterns[0].name
			}
			m.keep(i)
			i.transactions[c.Transaction] = before
			m.changed(i)
		}
		m.sameTransaction(what, before, again, o)
		return nil
	})
}

func (m *Machine) endTransaction(c *sluicev1.EndTransactionRequest, o *logv1.Outcome) error {
	id, what := ID{c.Application, c.Instance}, fmt.Sprintf("end of transaction %q of %s/%s", c.Transaction, c.Application, c.Instance)
	i := m.instances[id]
	if refusal := m.unknown(id); refusal != "" {
		m.judged(what, refusal, o.Fault)
		return nil
	}
	return m.once("EndTransaction", id, c.RequestId, c, o, func() error {
		t, known := i.transactions[c.Transaction]
		refusal := reason.Reason("")
		switch {
		case i.Terminated:
			refusal = reason.Terminated
		case !known && c.Transaction != c.Instance:
			refusal = reason.UnknownTransaction
		}
		if !m.judged(what, refusal, o.Fault) {
			return nil
		}
		if !known && len(i.app.patterns) > 0 {
			t.pattern = i.app.patterns[0].name
		}
		again := t.closed
		t.closed = true
		i.transactions[c.Transaction] = t
		m.sameTransaction(what, t, again, o)
		return nil
	})
}

// sameTransaction holds an answer about a transaction against how it stands.
func (m *Machine) sameTransaction(what string, t transaction, duplicate bool, o *logv1.Outcome) {
	if o.Fault != nil {
		return
	}
	told := o.GetTransaction()
	if told.GetDuplicate() != duplicate {
		m.wrong("I10", "%s: promised is duplicate=%v, the cluster answered duplicate=%v", what, duplicate, told.GetDuplicate())
	}
	if now := (transaction{told.GetPattern(), told.GetClient(), told.GetLastType(), told.GetClosed()}); now != t {
		m.wrong("I9", "%s: promised is %+v, the cluster answered %+v", what, t, now)
	}
}

// unknown refuses an instance, or its application, that does not exist.
func (m *Machine) unknown(id ID) reason.Reason {
	switch {
	case m.applications[id.Application] == nil:
		return reason.UnknownApplication
	case m.instances[id] == nil:
		return reason.UnknownInstance
	}
	return ""
}

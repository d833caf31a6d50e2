package client

import (
	"slices"

	sluicev1 "sluice/api/sluice/v1"
)

// settling is one settlement on its way.
type settling struct {
	hd  *hosted
	d   *Delivery // nil: the report that a recovery failed
	err error     // the handler's
	// wire is sent again unchanged until it is answered, so that a repetition is known as one.
	wire *sluicev1.Settlement
	// barrier: the next handler of the instance waits for the answer.
	barrier bool
	// done gets the answer, if someone waits for it: nil or an *Error.
	done chan error
}

func (s *settling) current() bool { return s.hd.epoch == Epoch(s.wire.GetEpoch()) && !s.hd.fenced }

// outbox keeps settlements in order until they are answered. It is guarded by host.mu.
type outbox struct {
	pending []*settling
	flights []flight // in order of sending
	lastID  uint64
}

// flight is a batch that was sent and not answered.
type flight struct {
	id    uint64
	batch []*settling
}

func (o *outbox) put(s *settling) { o.pending = append(o.pending, s) }

func (o *outbox) empty() bool { return len(o.pending) == 0 && len(o.flights) == 0 }

// take makes the next batch, if fewer than most are under way; nil: none.
func (o *outbox) take(most int) (uint64, []*settling) {
	if len(o.pending) == 0 || len(o.flights) >= most {
		return 0, nil
	}
	n, bytes := 0, 0
	for n < len(o.pending) && n < MaxBatch {
		bytes += settlementBytes(o.pending[n].wire)
		if n > 0 && bytes > maxBatchBytes {
			break
		}
		n++
	}
	batch := slices.Clone(o.pending[:n])
	o.pending = slices.Delete(o.pending, 0, n)
	o.lastID++
	o.flights = append(o.flights, flight{o.lastID, batch})
	return o.lastID, batch
}

// answered removes a batch that was answered; nil: it is not known.
func (o *outbox) answered(id uint64) []*settling {
	at := slices.IndexFunc(o.flights, func(f flight) bool { return f.id == id })
	if at < 0 {
		return nil
	}
	batch := o.flights[at].batch
	o.flights = slices.Delete(o.flights, at, at+1)
	return batch
}

// again puts settlements at the front, in their order.
func (o *outbox) again(s []*settling) { o.pending = append(s, o.pending...) }

// broken puts all that was not answered back, in the order in which it was sent.
func (o *outbox) broken() {
	var all []*settling
	for _, f := range o.flights {
		all = append(all, f.batch...)
	}
	o.flights = nil
	o.again(all)
}

// clear drops everything and returns it.
func (o *outbox) clear() []*settling {
	o.broken()
	all := o.pending
	o.pending = nil
	return all
}

func settlementBytes(s *sluicev1.Settlement) int {
	n := len(s.GetState()) + len(s.GetReply()) + len(s.GetErrorText()) + 64
	for _, m := range s.GetOutgoing() {
		n += len(m.GetData()) + 64
	}
	return n
}

package client

import "testing"

// TestALaneWaitsForWhatDidNotArrive: what was handled ahead of its turn is forgotten with what stands before it, which is
// handled once it arrives; until then nothing is.
func TestALaneWaitsForWhatDidNotArrive(t *testing.T) {
	t.Parallel()
	at := func(seq Seq) *Delivery { return &Delivery{Seq: seq, Attempt: 1} }
	handle := func(l *lane) *Delivery {
		d := l.begin()
		l.end(false)
		return d
	}
	early := func() *lane {
		l := &lane{}
		l.add(at(36))
		handle(l)     // its settlement is still on its way
		l.add(at(38)) // 37 was lost
		l.add(at(39))
		l.forget(handle(l))
		l.missing = 38
		if l.ready() != nil {
			t.Fatal("39 may be handled, and 37 and 38 are not over")
		}
		return l
	}
	l := early()
	if l.add(at(36)) || !l.add(at(37)) || l.ready().Seq != 37 {
		t.Fatal("37 came, and is not what may be handled")
	}
	handle(l)
	if !l.add(at(38)) || l.ready().Seq != 38 {
		t.Fatal("38 came again, and is not what may be handled next")
	}
	l = early() // 37 was settled by an operator meanwhile
	if !l.add(at(38)) || l.ready().Seq != 38 {
		t.Fatal("38 came again as the head, and is not what may be handled")
	}
}

package fsm

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// BenchmarkWholeJob measures what a replica does for one message, sent and settled, in entries of 256 commands over
// 1,000 instances that are all owned; 256 bytes of data.
func BenchmarkWholeJob(b *testing.B) {
	for _, kind := range []string{"memory", "pebble", "write-back"} {
		b.Run(kind, func(b *testing.B) {
			if kind == "memory" {
				wholeJob(b, queue.NewMemoryStore())
				return
			}
			var store queue.Store
			store, err := queue.OpenPebble(b.TempDir(), queue.PebbleConfig{})
			if err != nil {
				b.Fatal(err)
			}
			if kind == "write-back" {
				store = queue.NewWriteBack(store, 0)
			}
			defer store.Close()
			wholeJob(b, store)
		})
	}
}

func wholeJob(b *testing.B, store queue.Store) {
	const instances, batch = 1000, 256
	apply := applying(b, store)
	apply([]*logv1.Command{
		{Kind: &logv1.Command_ApplyApplication{ApplyApplication: &sluicev1.Application{Name: "app"}}},
		{Kind: &logv1.Command_OpenSession{OpenSession: &logv1.OpenSession{SessionId: "s", Application: "app", Capacity: instances}}},
	})
	key := func(n int) string { return fmt.Sprint("instance-", n%instances) }
	payload := make([]byte, 256)
	sends := func(from int) (cs []*logv1.Command) {
		for n := range batch {
			msg := &sluicev1.Message{Application: "app", Instance: key(from + n), Id: fmt.Sprint("message-", from+n), Type: "step", Data: payload}
			cs = append(cs, &logv1.Command{Kind: &logv1.Command_Send{Send: &logv1.Send{Messages: []*sluicev1.Message{msg}}}})
		}
		return cs
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		out := apply(sends(n))
		var give []*logv1.Assignment
		var settles []*logv1.Command
		for k, o := range out {
			r := o.GetSend().Results[0].Receipt
			if r == nil {
				b.Fatal(o)
			}
			give = append(give, &logv1.Assignment{Application: "app", Instance: key(n + k), SessionId: "s"})
			settles = append(settles, &logv1.Command{Kind: &logv1.Command_Settle{Settle: &sluicev1.SettleRequest{SessionId: "s", Settlements: []*sluicev1.Settlement{
				{Application: "app", Instance: key(n + k), Epoch: r.Epoch, Seq: r.Seq, Lane: normalLane, Outcome: sluicev1.Outcome_OUTCOME_COMPLETED}}}}})
		}
		if n < instances {
			apply([]*logv1.Command{{Kind: &logv1.Command_Assign{Assign: &logv1.Assign{Assignments: give}}}})
		}
		for _, o := range apply(settles) {
			if f := o.GetSettle().Results[0].Error; f != nil {
				b.Fatal(f)
			}
		}
		n += batch
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/job")
}

// BenchmarkSend measures what a replica does for one message that is accepted, or deferred, and stays there, in entries of 256
// commands over 1,000 instances; 256 bytes of data.
func BenchmarkSend(b *testing.B) {
	for _, held := range []bool{false, true} {
		b.Run(map[bool]string{false: "accepted", true: "deferred"}[held], func(b *testing.B) {
			disk, err := queue.OpenPebble(b.TempDir(), queue.PebbleConfig{})
			if err != nil {
				b.Fatal(err)
			}
			store := queue.NewWriteBack(disk, 0)
			defer store.Close()
			sendAlone(b, store, held)
		})
	}
}

func sendAlone(b *testing.B, store queue.Store, held bool) {
	const instances, batch = 1000, 256
	apply := applying(b, store)
	unlimited := uint64(0)
	apply([]*logv1.Command{{Kind: &logv1.Command_ApplyApplication{ApplyApplication: &sluicev1.Application{Name: "app", Limits: &sluicev1.Limits{
		MaxInboxMessages: &unlimited, MaxInboxBytes: &unlimited, MaxDeferredMessages: &unlimited, MaxDeferredBytes: &unlimited,
	}}}}})
	key := func(n int) string { return fmt.Sprint("instance-", n%instances) }
	for n := 0; held && n < instances; n++ {
		apply([]*logv1.Command{{Kind: &logv1.Command_EnterRecovery{EnterRecovery: &sluicev1.EnterRecoveryRequest{Application: "app", Instance: key(n), Cause: "measured"}}}})
	}
	payload := make([]byte, 256)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		var sends []*logv1.Command
		for k := n; k < n+batch; k++ {
			msg := &sluicev1.Message{Application: "app", Instance: key(k), Id: fmt.Sprint("message-", k), Type: "step", Data: payload}
			sends = append(sends, &logv1.Command{Kind: &logv1.Command_Send{Send: &logv1.Send{Messages: []*sluicev1.Message{msg}}}})
		}
		for _, o := range apply(sends) {
			if r := o.GetSend().Results[0].Receipt; r == nil || (r.Disposition == deferred) != held {
				b.Fatal(o)
			}
		}
		n += batch
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/message")
}

// applying gives what applies commands as the next entry to a state machine over a store.
func applying(b *testing.B, store queue.Store) func([]*logv1.Command) []*logv1.Outcome {
	m, err := Open(store, Options{})
	if err != nil {
		b.Fatal(err)
	}
	index := uint64(0)
	return func(cs []*logv1.Command) []*logv1.Outcome {
		index++
		data, err := proto.Marshal(&logv1.Entry{TimeMs: int64(index), Commands: cs})
		if err != nil {
			b.Fatal(err)
		}
		r, _, err := m.Apply([]Entry{{Index: index, Term: 1, Data: data}})
		if err != nil {
			b.Fatal(err)
		}
		return r[0].Outcomes
	}
}

// BenchmarkDecodeEntry is what every replica does first with an entry of 256 sends of 256 bytes.
func BenchmarkDecodeEntry(b *testing.B) {
	const batch = 256
	entry := &logv1.Entry{TimeMs: 1}
	for n := range batch {
		m := &sluicev1.Message{Application: "app", Instance: fmt.Sprint("instance-", n), Id: fmt.Sprint("message-", n), Type: "step", Data: make([]byte, 256)}
		entry.Commands = append(entry.Commands, &logv1.Command{Kind: &logv1.Command_Send{Send: &logv1.Send{Messages: []*sluicev1.Message{m}}}})
	}
	data, err := proto.Marshal(entry)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if e, err := decodeEntry(data); err != nil || len(e.Commands) != batch {
			b.Fatal(err)
		}
	}
}

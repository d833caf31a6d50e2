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
	m, err := Open(store, Options{})
	if err != nil {
		b.Fatal(err)
	}
	index := uint64(0)
	apply := func(cs []*logv1.Command) []*logv1.Outcome {
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

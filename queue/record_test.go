package queue

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
)

// anything fills messages by chance: fields set or not, at their bounds and in between, with fields nobody knows.
type anything struct{ *rand.Rand }

func (r anything) message(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if r.IntN(3) == 0 || depth == 0 && f.Message() != nil {
			continue
		}
		switch {
		case f.IsMap():
			for range r.IntN(5) {
				m.Mutable(f).Map().Set(r.scalar(f.MapKey()).MapKey(), r.scalar(f.MapValue()))
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range r.IntN(4) {
				if f.Message() != nil {
					r.message(list.AppendMutable().Message(), depth-1)
				} else {
					list.Append(r.scalar(f))
				}
			}
		case f.Message() != nil:
			r.message(m.Mutable(f).Message(), depth-1)
		default:
			m.Set(f, r.scalar(f))
		}
	}
	if r.IntN(4) == 0 {
		m.SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 20_000, protowire.BytesType), r.text()))
	}
}

func (r anything) scalar(f protoreflect.FieldDescriptor) protoreflect.Value {
	bits := r.Uint64() >> r.IntN(64) // of every length
	if r.IntN(8) == 0 {
		bits = 0
	}
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(bits%2 == 1)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(r.text())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(r.text()))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(bits)))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(bits))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(bits))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(bits))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(bits)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64([]float64{math.Copysign(0, -1), 0.1, math.Inf(1)}[bits%3])
	}
	panic(fmt.Sprintf("nothing is known of %v", f.Kind()))
}

func (r anything) text() string { return strings.Repeat("aé€", r.IntN(4)*r.IntN(30)) }

// storedRecords makes one empty record of every type of the file of stored records.
func storedRecords(t *testing.T) (records []proto.Message) {
	messages := logv1.File_log_v1_record_proto.Messages()
	for i := range messages.Len() {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(messages.Get(i).FullName())
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, kind.New().Interface())
	}
	return records
}

// TestRecordsAreWrittenAsByTheLibrary holds every type of stored record against the library's deterministic encoding:
// a node whose version writes with other code must have the same data and digests.
func TestRecordsAreWrittenAsByTheLibrary(t *testing.T) {
	t.Parallel()
	for _, empty := range storedRecords(t) {
		t.Run(string(empty.ProtoReflect().Descriptor().Name()), func(t *testing.T) {
			t.Parallel()
			r := anything{rand.New(rand.NewPCG(1, 2))}
			for n := range 3000 {
				m := empty.ProtoReflect().New().Interface()
				r.message(m.ProtoReflect(), n%6)
				want, err := encoding.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				w := &oneValue{}
				if err := Put(w, nil, m); err != nil || !bytes.Equal(w.value, want) {
					t.Fatalf("%v\nwritten %x, %v\nwant    %x", m, w.value, err, want)
				}
				into := empty.ProtoReflect().New().Interface()
				if err := Load(w, nil, into); err != nil || !proto.Equal(into, m) {
					t.Fatalf("read %v, %v\nwant %v", into, err, m)
				}
			}
		})
	}
}

// oneValue is a Writer whose store holds one value.
type oneValue struct {
	Writer
	value []byte
}

func (n *oneValue) Get([]byte) ([]byte, error) { return n.value, nil }

func (n *oneValue) Set(_, value []byte) error {
	n.value = value
	return nil
}

// BenchmarkPut encodes the records that every message writes.
func BenchmarkPut(b *testing.B) {
	at := int64(1_800_000_000_000)
	message := &sluicev1.Message{Application: "orders", Instance: "instance-417", Id: "message-1234567", Type: "step", Source: "shop", Data: make([]byte, 256)}
	for _, m := range []proto.Message{
		&logv1.MessageRecord{Message: message, Seq: 1 << 20, Disposition: sluicev1.Disposition_DISPOSITION_ACCEPTED, TimeMs: at, Mode: sluicev1.Mode_MODE_NORMAL, Epoch: 1 << 21,
			Ahead: 1, Index: 1 << 22, Digest: make([]byte, 16), Bytes: 300, Lane: sluicev1.Lane_LANE_NORMAL},
		&logv1.InstanceRecord{Uid: 1 << 20, Application: "orders", Key: "instance-417", Mode: sluicev1.Mode_MODE_NORMAL, Epoch: 1 << 21, Owner: "9f2c41d0-5ae8-4c53-b1cf-3b1cf5ae8c53", Window: 1,
			NextSeq: 1 << 20, Normal: &logv1.LaneRecord{Messages: 2, Bytes: 600, Tail: 1 << 20, Front: 1<<20 - 2}, Recovery: &logv1.LaneRecord{}, ModeTimeMs: at, ModeIndex: 1 << 22,
			Memory: []int64{at, at + 1, at + 2}, Transitions: 1, CreatedTimeMs: at},
		&logv1.SettledRecord{Id: "message-1234567", Seq: 1 << 20, Lane: sluicev1.Lane_LANE_NORMAL, Disposition: sluicev1.Disposition_DISPOSITION_ACCEPTED, Mode: sluicev1.Mode_MODE_NORMAL,
			Epoch: 1 << 21, Index: 1 << 22, Digest: make([]byte, 16), Settlement: sluicev1.SettlementKind_SETTLEMENT_COMPLETED, TimeMs: at, Attempts: 1, SettleEpoch: 1 << 21, SettleAttempt: 1,
			SettleOutcome: sluicev1.Outcome_OUTCOME_COMPLETED, SettleDigest: make([]byte, 16)},
	} {
		b.Run(string(m.ProtoReflect().Descriptor().Name()), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Put(&oneValue{}, nil, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

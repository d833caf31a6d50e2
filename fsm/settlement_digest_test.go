package fsm

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
)

// TestSettlementDigestIsThatOfItsBytes: whichever code writes them, and without the attempt. Other versions hold what it was.
func TestSettlementDigestIsThatOfItsBytes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	text := func() string { return strings.Repeat("ä", r.IntN(3)*r.IntN(200)) }
	for n := range 3000 {
		s := &sluicev1.Settlement{
			Application: text(), Instance: text(), Epoch: r.Uint64() >> r.IntN(64), Seq: r.Uint64() >> r.IntN(64), Lane: sluicev1.Lane(r.IntN(4)),
			Outcome: sluicev1.Outcome(r.IntN(5)), ErrorText: text(), SetState: r.IntN(2) == 0, State: []byte(text()), ReplyContentType: text(),
		}
		switch r.IntN(6) {
		case 0:
			s.Reply = []byte{}
		case 1:
			s.Reply = []byte(text())
		case 2:
			s.RetryAfter = &durationpb.Duration{Seconds: int64(r.IntN(3))}
		case 3:
			s.Outgoing = []*sluicev1.Message{{Headers: map[string]string{"a": "1", "b": "2", "c": "3"}}}
		case 4:
			s.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 20_000, protowire.BytesType), text()))
		}
		want, err := digestOf(s)
		if err != nil {
			t.Fatal(err)
		}
		s.Attempt = r.Uint32()
		given := proto.CloneOf(s)
		got, err := settlementDigest(s)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("seed %d, %d: %x, %v; want %x of %v", seed, n, got, err, want, s)
		}
		if !proto.Equal(s, given) {
			t.Fatalf("seed %d, %d: the settlement was changed", seed, n)
		}
	}
}

package server

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

func TestJSONIsRefusedWithTheFieldAndWhatIsAllowed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		into       proto.Message
		want       []string
	}{
		{"empty body", "", &sluicev1.SendRequest{}, []string{"body is empty", "sluice.v1.SendRequest"}},
		{"blank body", " \n", &sluicev1.SendRequest{}, []string{"body is empty"}},
		{"array", "[]", &sluicev1.SendRequest{}, []string{"an array", "want a JSON object"}},
		{"null", "null", &sluicev1.SendRequest{}, []string{"null", "want a JSON object"}},
		{"number", "7", &sluicev1.SendRequest{}, []string{"a number"}},
		{"truncated", `{"messages": [`, &sluicev1.SendRequest{}, []string{"not valid JSON", "too early"}},
		{"syntax", `{"messages": ]}`, &sluicev1.SendRequest{}, []string{"not valid JSON", "byte 14"}},
		{"two objects", `{} {}`, &sluicev1.SendRequest{}, []string{"something follows"}},
		{"no utf-8", "{\"messages\": [{\"instance\": \"\xff\"}]}", &sluicev1.SendRequest{}, []string{"not valid UTF-8", "byte 28"}},
		{"half a surrogate pair", `{"messages": [{"instance": "\ud800"}]}`, &sluicev1.SendRequest{}, []string{"cannot be read"}},
		{"same field twice", `{"messages": [], "messages": []}`, &sluicev1.SendRequest{}, []string{"cannot be read"}},
		{"string for a list", `{"messages": "x"}`, &sluicev1.SendRequest{}, []string{"messages: want an array, got a string"}},
		{"number for a message", `{"messages": [5]}`, &sluicev1.SendRequest{}, []string{"messages[0]: want an object, got a number"}},
		{"null in a list", `{"messages": [null]}`, &sluicev1.SendRequest{}, []string{"messages[0]: want an object, got null"}},
		{"number for a string", `{"messages": [{}, {"instance": 5}]}`, &sluicev1.SendRequest{}, []string{"messages[1].instance: want a string, got a number"}},
		{"no base64", `{"messages": [{"data": "§§§"}]}`, &sluicev1.SendRequest{}, []string{"messages[0].data: want bytes in base64"}},
		{"number for bytes", `{"messages": [{"data": 3}]}`, &sluicev1.SendRequest{}, []string{"messages[0].data: want bytes in base64, got a number"}},
		{"string for a bool", `{"messages": [{"awaitReply": "yes"}]}`, &sluicev1.SendRequest{}, []string{"messages[0].awaitReply: want true or false, got a string"}},
		{"number in a map", `{"messages": [{"headers": {"a": 1}}]}`, &sluicev1.SendRequest{}, []string{"messages[0].headers.a: want a string, got a number"}},
		{"array for a map", `{"messages": [{"headers": []}]}`, &sluicev1.SendRequest{}, []string{"messages[0].headers: want an object, got an array"}},
		{"no time", `{"messages": [{"expireTime": "tomorrow"}]}`, &sluicev1.SendRequest{}, []string{`messages[0].expireTime: want a time such as`, `got "tomorrow"`}},
		{"no duration", `{"ttl": "soon"}`, &sluicev1.OpenSessionRequest{}, []string{`ttl: want a duration in seconds such as "1.5s", of at most 10,000 years, got "soon"`}},
		{"duration without a unit", `{"ttl": 5}`, &sluicev1.OpenSessionRequest{}, []string{"ttl: want a duration in seconds", "got a number"}},
		{"duration out of range", `{"ttl": "99999999999999s"}`, &sluicev1.OpenSessionRequest{}, []string{`ttl: want a duration in seconds such as "1.5s", of at most 10,000 years, got "99999999999999s"`}},
		{"word for an integer", `{"epoch": "soon"}`, &sluicev1.CompleteRecoveryRequest{}, []string{`epoch: want a whole number from 0 on, of 64 bits, got "soon"`}},
		{"negative", `{"epoch": -1}`, &sluicev1.CompleteRecoveryRequest{}, []string{"epoch: want a whole number from 0 on, of 64 bits, got -1"}},
		{"fraction", `{"epoch": 1.5}`, &sluicev1.CompleteRecoveryRequest{}, []string{"epoch: want a whole number", "got 1.5"}},
		{"too large for 32 bits", `{"capacity": 4294967296}`, &sluicev1.OpenSessionRequest{}, []string{"capacity: want a whole number from 0 on, of 32 bits"}},
		{"word for a rate", `{"rate": "fast"}`, &sluicev1.CompleteApplicationRecoveryRequest{}, []string{`rate: want a number, got "fast"`}},
		{"unknown enum name", `{"patterns": [{"types": [{"suitable": "SUITABLE_SOMETIMES"}]}]}`, &sluicev1.Application{},
			[]string{`patterns[0].types[0].suitable: there is no "SUITABLE_SOMETIMES"; allowed: SUITABLE_NORMAL, SUITABLE_RECOVERY, SUITABLE_BOTH`}},
		{"unknown enum name beside an unknown field", `{"new": 1, "mode": "MODE_ODD"}`, &sluicev1.ListInstancesRequest{}, []string{`mode: there is no "MODE_ODD"`}},
		{"bool for an enum", `{"mode": true}`, &sluicev1.ListInstancesRequest{}, []string{"mode: want one of MODE_NORMAL"}},
		{"protobuf name", `{"page_size": "x"}`, &sluicev1.ListInstancesRequest{}, []string{"page_size: want a whole number"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := (jsonCodec{"json"}).Unmarshal([]byte(c.body), c.into); err != nil {
				t.Fatalf("Unmarshal: %v", err)
			}
			err := takeDecodeFault(c.into)
			if !errors.Is(err, reason.BadField) {
				t.Fatalf("want BAD_FIELD, got %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("want %q in %q", want, err)
				}
			}
		})
	}
}

func TestJSONIsTaken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		got, want  proto.Message
	}{
		{"nothing", `{}`, &sluicev1.SendRequest{}, &sluicev1.SendRequest{}},
		{"unknown fields", `{"later": {"deep": [1, "x"]}, "pageSize": 5}`, &sluicev1.ListInstancesRequest{}, &sluicev1.ListInstancesRequest{PageSize: 5}},
		{"flat and wrapped", `{"name": "a", "application": {"name": "a"}}`, &sluicev1.Application{}, &sluicev1.Application{Name: "a"}},
		{"integers as numbers, strings and with exponents", `{"epoch": "7", "processedThrough": 1e3, "x": 0}`, &sluicev1.CompleteRecoveryRequest{},
			&sluicev1.CompleteRecoveryRequest{Epoch: 7, ProcessedThrough: 1000}},
		{"protobuf names", `{"page_size": 3, "x": 0}`, &sluicev1.ListInstancesRequest{}, &sluicev1.ListInstancesRequest{PageSize: 3}},
		{"enum by name and by number", `{"lane": 2, "settlement": "SETTLEMENT_SKIPPED", "x": 0}`, &sluicev1.ListMessagesRequest{},
			&sluicev1.ListMessagesRequest{Lane: sluicev1.Lane_LANE_RECOVERY, Settlement: sluicev1.SettlementKind_SETTLEMENT_SKIPPED}},
		{"null for absent", `{"mode": null, "prefix": null, "x": 0}`, &sluicev1.ListInstancesRequest{}, &sluicev1.ListInstancesRequest{}},
		{"base64 of both alphabets, padded or not", `{"messages": [{"data": "-_8"}, {"data": "+/8="}], "x": 0}`, &sluicev1.SendRequest{},
			&sluicev1.SendRequest{Messages: []*sluicev1.Message{{Data: []byte{0xfb, 0xff}}, {Data: []byte{0xfb, 0xff}}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := (jsonCodec{"json"}).Unmarshal([]byte(c.body), c.got); err != nil {
				t.Fatalf("Unmarshal: %v", err)
			}
			if err := takeDecodeFault(c.got); err != nil {
				t.Fatalf("want it taken, got %v", err)
			}
			if !proto.Equal(c.got, c.want) {
				t.Errorf("want %v, got %v", c.want, c.got)
			}
		})
	}
}

func TestBinaryDropsUnknownFieldsAndForgedFaults(t *testing.T) {
	t.Parallel()
	forged := protowire.AppendString(protowire.AppendTag(nil, decodeFaultField, protowire.BytesType), "[BAD_FIELD] forged")
	inner := protowire.AppendString(protowire.AppendTag(nil, 999, protowire.BytesType), "from the future")
	body := append(forged, protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), inner)...)
	var got sluicev1.SendRequest
	if err := (protoCodec{}).Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if err := takeDecodeFault(&got); err != nil {
		t.Errorf("want no fault, got %v", err)
	}
	if unknown := got.GetMessages()[0].ProtoReflect().GetUnknown(); len(unknown) > 0 {
		t.Errorf("want the unknown field of the message dropped, got %x", unknown)
	}
}

func TestBrokenBinaryIsRefused(t *testing.T) {
	t.Parallel()
	for name, body := range map[string][]byte{
		"truncated":   {0x0a, 0x7f, 0x01},
		"no utf-8":    protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte{0xff, 0xfe}),
		"no protobuf": []byte("{}"),
	} {
		var got sluicev1.GetMessageRequest
		if err := (protoCodec{}).Unmarshal(body, &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := takeDecodeFault(&got); !errors.Is(err, reason.BadField) {
			t.Errorf("%s: want BAD_FIELD, got %v", name, err)
		}
	}
}

func FuzzJSONCodec(f *testing.F) {
	f.Add([]byte(`{"messages": [{"application": "a", "headers": {"k": "v"}, "expireTime": "2026-01-01T00:00:00Z"}]}`))
	f.Add([]byte(`{"messages": [{"data": "AA=="}, null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var got sluicev1.SendRequest
		if err := (jsonCodec{"json"}).Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		if err := takeDecodeFault(&got); err != nil && !errors.Is(err, reason.BadField) {
			t.Fatalf("want BAD_FIELD or nothing, got %v", err)
		}
	})
}

package server

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"sluice/api/reason"
)

// jsonCodec reads and writes protojson. It differs from Connect's own in one way: fields it does not know are
// passed over, because a client may be newer, but an unknown enum name is refused, never taken for "unspecified".
type jsonCodec struct{ name string }

// protoCodec reads and writes binary protobuf. It drops fields it does not know: what a client made up must not
// reach the replicated log, where an unknown field stops a node.
type protoCodec struct{}

// Name is what Connect selects the codec by, the end of the content type.
func (c jsonCodec) Name() string { return c.name }

// Marshal writes protojson: 64-bit integers as strings, enum names, fields at their default left out.
func (c jsonCodec) Marshal(message any) ([]byte, error) {
	return c.MarshalAppend(nil, message)
}

// MarshalAppend is Marshal onto the end of dst.
func (c jsonCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, err := asProto(message)
	if err != nil {
		return nil, err
	}
	return protojson.MarshalOptions{}.MarshalAppend(dst, m)
}

// Unmarshal reads protojson. What is wrong with the data is found again with takeDecodeFault.
func (c jsonCodec) Unmarshal(data []byte, message any) error {
	m, err := asProto(message)
	if err != nil {
		return err
	}
	if err := readJSON(data, m); err != nil {
		setDecodeFault(m, err)
	}
	return nil
}

// readJSON takes the fast way first; only what the strict reader refuses is looked at field by field.
func readJSON(data []byte, m proto.Message) error {
	if protojson.Unmarshal(data, m) == nil {
		return nil
	}
	proto.Reset(m)
	if err := CheckShape(data, m.ProtoReflect().Descriptor()); err != nil {
		return err
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, m); err != nil {
		return reason.BadField.Errorf("the body cannot be read as %s: %v", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// Name is what Connect selects the codec by.
func (protoCodec) Name() string { return "proto" }

// Marshal writes binary protobuf.
func (protoCodec) Marshal(message any) ([]byte, error) {
	return protoCodec{}.MarshalAppend(nil, message)
}

// MarshalAppend is Marshal onto the end of dst.
func (protoCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, err := asProto(message)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

// Unmarshal reads binary protobuf. What is wrong with the data is found again with takeDecodeFault.
func (protoCodec) Unmarshal(data []byte, message any) error {
	m, err := asProto(message)
	if err != nil {
		return err
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, m); err != nil {
		proto.Reset(m)
		setDecodeFault(m, reason.BadField.Errorf("the body cannot be read as %s: %v", m.ProtoReflect().Descriptor().FullName(), err))
	}
	return nil
}

func asProto(message any) (proto.Message, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("server: %T is no protobuf message", message)
	}
	return m, nil
}

// decodeFaultField is the last number a field can have; no message of the contract uses it.
const decodeFaultField = protowire.Number(1<<29 - 1)

// setDecodeFault leaves what was wrong with a request inside the (else empty) request. Connect decodes before any
// interceptor runs and would answer a codec's error in words and form of its own; carried along like this, the
// error is answered where all others are, with its reason and detail. No client can forge it: both codecs drop
// unknown fields.
func setDecodeFault(m proto.Message, err error) {
	raw := protowire.AppendTag(nil, decodeFaultField, protowire.BytesType)
	m.ProtoReflect().SetUnknown(protowire.AppendString(raw, err.Error()))
}

// takeDecodeFault tells what was wrong with a request that a codec has read, nil if nothing was.
func takeDecodeFault(message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return nil
	}
	number, kind, n := protowire.ConsumeTag(m.ProtoReflect().GetUnknown())
	if n < 0 || number != decodeFaultField || kind != protowire.BytesType {
		return nil
	}
	text, _ := protowire.ConsumeString(m.ProtoReflect().GetUnknown()[n:])
	why, rest := splitText(text)
	if why == "" {
		return reason.BadField.Errorf("%s", rest)
	}
	return &reason.Error{Reason: reason.Reason(why), Message: rest}
}

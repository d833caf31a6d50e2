package queue

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
)

// encoding is deterministic: replicas must write the same bytes.
var encoding = proto.MarshalOptions{Deterministic: true}

// Put writes a record under a key. Equal records give the same bytes on every replica.
func Put(w Writer, key []byte, m proto.Message) error {
	v, err := encode(scratchOf(w), m)
	if err != nil {
		return fmt.Errorf("%w: encode %x: %v", ErrCorrupt, key, err)
	}
	return w.Set(key, v)
}

// encode gives the bytes of encoding. The records that every message writes, and events, have code of their own for
// them, which takes a third of the time. Unlike encoding it does not look whether text is UTF-8: what a record holds came in an
// entry, where that was looked at.
func encode(s *Scratch, m proto.Message) ([]byte, error) {
	own, ok := m.(interface {
		SizeVT() int
		MarshalToSizedBufferVT([]byte) (int, error)
	})
	if !ok || !exact(m) {
		return encoding.Marshal(m)
	}
	v := s.value(own.SizeVT())
	_, err := own.MarshalToSizedBufferVT(v)
	return v, err
}

// exact tells that a record's own code writes the very bytes of encoding. It does not sort the keys of a map, and drops
// what this version does not know of a timestamp.
func exact(m proto.Message) bool {
	switch m := m.(type) {
	case *logv1.InstanceRecord:
		return true
	case *logv1.EventRecord:
		return m.Event.GetOperation() == nil && len(m.Event.GetTime().ProtoReflect().GetUnknown()) == 0
	case *logv1.SettledRecord:
		return m.DeadLetter == nil && len(m.Edits) == 0
	case *logv1.MessageRecord:
		if m.DeadLetter != nil || len(m.Edits) > 0 || len(m.Message.GetHeaders()) > 1 {
			return false
		}
		expires := m.Message.GetExpireTime()
		return expires == nil || len(expires.ProtoReflect().GetUnknown()) == 0
	}
	return false
}

// Load reads the record under a key into m; ErrNotFound when there is none.
func Load(r Reader, key []byte, m proto.Message) error {
	v, err := r.Get(key)
	if err != nil {
		return err
	}
	return decode(key, v, m)
}

func decode(key, value []byte, m proto.Message) error {
	if err := proto.Unmarshal(value, m); err != nil {
		return fmt.Errorf("%w: key %x: %v", ErrCorrupt, key, err)
	}
	return nil
}

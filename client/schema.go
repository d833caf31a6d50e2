package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// Codec makes bytes of a state and a state of bytes. The same state must always give the same bytes, because that is
// how a state that did not change is known.
type Codec[S any] interface {
	// Encode makes bytes of a state.
	Encode(state *S) ([]byte, error)
	// Decode fills a zero state in from what Encode made.
	Decode(data []byte, state *S) error
}

// JSON is the Codec that a Schema has if it is given none: encoding/json.
type JSON[S any] struct{}

// Encode is json.Marshal.
func (JSON[S]) Encode(state *S) ([]byte, error) { return json.Marshal(state) }

// Decode is json.Unmarshal.
func (JSON[S]) Decode(data []byte, state *S) error { return json.Unmarshal(data, state) }

// Schema says how a typed state is stored: by which codec, in which version, and how older versions become this one.
//
// A state is stored as one line that tells the version, and the codec's bytes:
//
//	sluice-state 3
//	{"total":12}
//
// A state without that line was set by SetState of a Delivery, Recovery or CompleteRecovery: it is of version 0.
type Schema[S any] struct {
	// Version of the states that are written, from 1. Default 1. Raise it when a worker that knows only the version
	// before must not write the state any more.
	Version uint32
	// Codec. Default JSON.
	Codec Codec[S]
	// Upgrades make the bytes of version n+1 of those of version n, by n. Older states go through them one after the
	// other; they are written in the new version when a handler changes them. Upgrades[0] is for states without a
	// version; without it they are refused.
	Upgrades map[uint32]func([]byte) ([]byte, error)
}

const stateMark = "sluice-state "

func (s Schema[S]) withDefaults() Schema[S] {
	s.Version = orDefault(s.Version, 1)
	if s.Codec == nil {
		s.Codec = JSON[S]{}
	}
	return s
}

// Encode makes a state as it is stored: for CompleteRecovery.State, and for tests.
func (s Schema[S]) Encode(state *S) ([]byte, error) {
	s = s.withDefaults()
	payload, err := s.Codec.Encode(state)
	if err != nil {
		return nil, fmt.Errorf("client: encode the state: %w", err)
	}
	return append(fmt.Appendf(nil, "%s%d\n", stateMark, s.Version), payload...), nil
}

// Decode reads a stored state, of this or an older version, and tells the version that it was stored in. No stored
// state at all is the zero state of version 0. Errors wrap ErrStateNewer or ErrStateUnreadable.
func (s Schema[S]) Decode(stored []byte) (state *S, version uint32, err error) {
	s, state = s.withDefaults(), new(S)
	if len(stored) == 0 {
		return state, 0, nil
	}
	version, payload, err := openState(stored)
	if err != nil {
		return nil, 0, err
	}
	if version > s.Version {
		return nil, version, refuse(ErrStateNewer, "the state is of version %d; this worker knows versions up to %d", version, s.Version)
	}
	for v := version; v < s.Version; v++ {
		upgrade := s.Upgrades[v]
		if upgrade == nil {
			return nil, version, refuse(ErrStateUnreadable, "the state is of version %d, and the schema has no upgrade from version %d", version, v)
		}
		if payload, err = upgrade(payload); err != nil {
			return nil, version, unreadable(err, "upgrade the state from version %d", v)
		}
	}
	if err := s.Codec.Decode(payload, state); err != nil {
		return nil, version, unreadable(err, "decode the state of version %d", version)
	}
	return state, version, nil
}

// openState takes the version's line off.
func openState(stored []byte) (version uint32, payload []byte, err error) {
	rest, marked := bytes.CutPrefix(stored, []byte(stateMark))
	if !marked {
		return 0, stored, nil
	}
	number, payload, ended := bytes.Cut(rest, []byte("\n"))
	v, err := strconv.ParseUint(string(number), 10, 32)
	if err != nil || !ended || v == 0 {
		return 0, nil, refuse(ErrStateUnreadable, "the state begins with %q, but no version from 1 to 4294967295 and a line's end follow", stateMark)
	}
	return uint32(v), payload, nil
}

func unreadable(err error, format string, args ...any) *Error {
	e := refuse(ErrStateUnreadable, format+": %v", append(args, err)...)
	e.cause = err
	return e
}

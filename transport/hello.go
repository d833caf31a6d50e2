package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// kind is the first byte of a node's connection in plain mode; with TLS the protocol name tells the same.
type kind byte

const (
	kindRaft kind = 1
	kindPeer kind = 2
	// tlsRecord is how a TLS handshake begins.
	tlsRecord = 0x16
)

// The protocol names of nodes in TLS.
const (
	alpnRaft = "sluice-raft/1"
	alpnPeer = "sluice-peer/1"
)

func (k kind) alpn() string {
	if k == kindRaft {
		return alpnRaft
	}
	return alpnPeer
}

// hello is how a node's connection begins: in plain mode the kind; for raft the group (4 bytes, big endian); then the
// length of the caller's node id in one byte, and the id.
type hello struct {
	kind   kind
	group  uint32
	nodeID string
}

func (h hello) encode(plain bool) []byte {
	var out []byte
	if plain {
		out = append(out, byte(h.kind))
	}
	if h.kind == kindRaft {
		out = binary.BigEndian.AppendUint32(out, h.group)
	}
	out = append(out, byte(len(h.nodeID)))
	return append(out, h.nodeID...)
}

// readHello reads what follows the kind.
func readHello(r io.Reader, k kind) (hello, error) {
	h := hello{kind: k}
	var buf [NodeIDBytesMax]byte
	if k == kindRaft {
		if _, err := io.ReadFull(r, buf[:4]); err != nil {
			return h, err
		}
		h.group = binary.BigEndian.Uint32(buf[:4])
	}
	if _, err := io.ReadFull(r, buf[:1]); err != nil {
		return h, err
	}
	size := int(buf[0])
	if size == 0 || size > NodeIDBytesMax {
		return h, fmt.Errorf("a node id of %d bytes, 1 to %d are allowed", size, NodeIDBytesMax)
	}
	_, err := io.ReadFull(r, buf[:size])
	h.nodeID = string(buf[:size])
	return h, err
}

// The one byte that answers a hello.
const (
	welcomed byte = iota
	refusedBusy
	refusedGroup
	refusedIdentity
)

var refusals = map[byte]error{
	refusedBusy:     errors.New("the node has no place for another connection"),
	refusedGroup:    errors.New("the node does not serve this raft group now"),
	refusedIdentity: errors.New("the node does not believe our node id: our certificate must name it and be signed for server and client use"),
}

// readWelcome waits for the answer to a hello.
func readWelcome(r io.Reader) error {
	var answer [1]byte
	if _, err := io.ReadFull(r, answer[:]); err != nil {
		return fmt.Errorf("no welcome: %w", err)
	}
	if answer[0] == welcomed {
		return nil
	}
	if err, ok := refusals[answer[0]]; ok {
		return err
	}
	return fmt.Errorf("a strange welcome (%d): is it a node of this version?", answer[0])
}

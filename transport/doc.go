// Package transport carries: one TCP port for raft, peers and clients. It knows nothing of what is carried.
//
// Plain text is for loopback addresses: the first byte of a connection tells whose it is, 0x01 raft, 0x02 a peer,
// anything else HTTP. With certificates the port speaks TLS, and ALPN tells: "sluice-raft/1" and "sluice-peer/1" need
// TLS 1.3 and a certificate that the CA signed for both server and client use and that names the caller's node id;
// "h2" and "http/1.1" are clients, whose certificate is verified if they show one.
//
// After that a node's connection begins with a short hello (for raft the group, then the caller's node id) that the
// accepting side answers with one byte. So a refusal is known before anything is sent that could have an effect.
//
// Calls between nodes run as HTTP/2 streams over one connection per peer, with pings that notice a dead one. The
// two errors of CallPeer keep apart what callers must know: ErrUnreachable, surely not done, and ErrLost, unknown.
package transport
